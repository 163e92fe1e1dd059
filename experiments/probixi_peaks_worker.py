"""Finds peaks with probixi; run by `spot_finders` in a Python that has it.

    python probixi_peaks_worker.py DATA GEOMETRY ANSWERED.npz

It imports nothing of this project.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from probixi import Probixi  # type: ignore[import-not-found,unused-ignore]


def main(data: str, geometry: str, answered: str) -> None:
    """Write the peaks (frame, row, column, intensity) and the seconds a frame, calibrated."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "files.lst"
        names.write_text(f"{Path(data).absolute()}\n")
        pipeline = Probixi(list_file=names, geometry_file=geometry, device=torch.device("cpu"))
        pipeline.calibrate()
        rows = []
        started = time.process_time()
        stream = pipeline.peak_stream(pipeline.frames(), estimate_scale=False)
        n = 0
        for index, result in enumerate(stream):
            rows += [(index, p.row, p.col, p.intensity) for p in result.to_peaks()]
            n += 1
        seconds = (time.process_time() - started) / max(n, 1)
    np.savez(answered, peaks=np.array(rows, float).reshape(-1, 4), seconds=seconds, n_frames=n)


if __name__ == "__main__":
    main(*sys.argv[1:])
