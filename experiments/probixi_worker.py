"""Indexes peak lists with probixi; run by `other_indexers` in a Python that has it.

    python probixi_worker.py GIVEN.npz ANSWERED.npz

It imports nothing of this project.
"""

import math
import sys
import time

import numpy as np
import torch
from probixi.indexer import Indexer  # type: ignore[import-not-found,unused-ignore]
from probixi.io.cell import CellParams  # type: ignore[import-not-found,unused-ignore]


def main(given: str, answered: str) -> None:
    """Read the lists, write a lattice a list (rows a*, b*, c*; NaN for none) and the seconds."""
    torch.set_num_threads(1)
    with np.load(given) as file:
        data = dict(file)
    edges, angles = data["cell"][:3].tolist(), data["cell"][3:].tolist()
    axis = str(data["unique_axis"])
    cell = CellParams(
        *edges,
        *(math.radians(angle) for angle in angles),
        lattice_type=str(data["lattice_type"]),
        unique_axis=None if axis == "*" else axis,
        centering=str(data["centering"]),
    )
    n = len(data["start"]) - 1
    lattices, seconds = np.full((n, 3, 3), np.nan), np.zeros(n)
    for i in (0, *range(n)):  # the first one twice, to warm up
        part = slice(data["start"][i], data["start"][i + 1])
        geometry = {
            "beam_center": (0.0, 0.0),
            "clen": float(data["camera_length"]),
            "pixel_size": float(data["pixel"]),
            "wavelength": float(data["wavelength"][i]),
        }
        indexer = Indexer(geometry, cell)
        started = time.process_time()
        found = indexer.index_frames(
            {0: torch.tensor(data["row_column"][part], dtype=torch.float32)},
            intensities_by_frame={0: torch.tensor(data["strength"][part], dtype=torch.float32)},
        )
        seconds[i] = time.process_time() - started
        if 0 in found:
            lattices[i] = found[0].A.numpy().T
    np.savez(answered, lattice=lattices, seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
