"""What probixi's peak finder, which has no settings, finds in a run of the study."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from experiments.other_indexers import PYTHON
from experiments.spot_runs import StudyRun
from tuner.cli.options import stderr
from wrappers.peaks import PeakList

__all__ = ["ProbixiPeaks", "ask_probixi", "plain_geometry", "probixi_python"]

WORKER = Path(__file__).with_name("probixi_peaks_worker.py")


@dataclasses.dataclass(frozen=True, eq=False)
class ProbixiPeaks:
    """The peaks of each frame of a run, and the milliseconds that a megapixel took."""

    lists: list[PeakList]
    ms: float


def probixi_python() -> tuple[str | None, list[str]]:
    """Return the Python that has probixi, and what is to be said where there is none."""
    python = os.environ.get(PYTHON, sys.executable)
    try:
        subprocess.run([python, "-c", "import probixi"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None, [f"probixi is not installed for {python}: pip install it, or set {PYTHON}"]
    return python, []


def plain_geometry(study: StudyRun) -> str:
    """Return the geometry with plain numbers and the older names of masks, as probixi reads it."""
    text = study.geometry.read_text()
    energy = float(np.median([study.run.photon_energy(i) for i in range(len(study.run))]))
    offset = float(np.mean([panel.coffset for panel in study.run.geometry.panels]))
    masks = {"mask0_data": "mask", "mask0_goodbits": "mask_good", "mask0_badbits": "mask_bad"}
    lines = []
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition("="))
        if name == "photon_energy":
            line = f"photon_energy = {energy:.6g}"
        elif name == "clen":
            line = f"clen = {study.run.nominal_clen - offset:.9g}"
        elif name == "mask0_file":
            line = f"mask_file = {(study.geometry.parent / value).absolute()}"
        elif name in masks:
            line = f"{masks[name]} = {value}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def ask_probixi(python: str, study: StudyRun) -> ProbixiPeaks | None:
    """Return what probixi finds in a run; None where it cannot read it."""
    with tempfile.TemporaryDirectory() as folder:
        answered, geometry = Path(folder) / "answered.npz", Path(folder) / "plain.geom"
        geometry.write_text(plain_geometry(study))
        files = (str(study.data), str(geometry), str(answered))
        done = subprocess.run(
            [python, str(WORKER), *files],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            stderr.print(f"probixi failed on {study.name}: {' '.join(words)}", highlight=False)
            return None
        with np.load(answered) as file:
            rows, seconds, n_frames = file["peaks"], float(file["seconds"]), int(file["n_frames"])
    if n_frames != len(study.run):
        stderr.print(f"probixi read {n_frames} frames of {study.name}", highlight=False)
        return None
    panels = study.run.geometry.panels
    owner = np.full(study.run.geometry.slab_shape, -1, np.int32)
    for number, panel in enumerate(panels):
        owner[panel.rectangle] = number
    lists = []
    for index in range(n_frames):
        _, row, column, intensity = rows[rows[:, 0] == index].T
        panel = owner[np.rint(row).astype(int), np.rint(column).astype(int)]
        zeros = np.zeros(len(row))
        every = PeakList(
            column + 0.5, row + 0.5, intensity, zeros, panel, zeros.astype(np.int32), zeros
        )
        on = np.flatnonzero(panel >= 0)
        kept = {f.name: getattr(every, f.name)[on] for f in dataclasses.fields(every)}
        lists.append(PeakList(**kept))
    megapixels = np.prod(study.run.geometry.slab_shape) / 1e6
    return ProbixiPeaks(lists, 1e3 * seconds / float(megapixels))
