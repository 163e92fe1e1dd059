"""The runs that `spot_finders` compares peak finders on, with the truth where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from numpy.typing import NDArray

from envs.simulation.families import Draw, draw_experiments
from envs.simulation.simulator import read_truth, simulate_run
from experiments.shared_runs import SHARED_RUNS
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource

__all__ = ["StudyRun", "study_runs"]

SEED = 21_000_003
MOST_PIXELS = 1.1e6
N_TEST, N_UNSEEN = 3, 2
LEAST_HITS = 0.3
"""Experiments with crystals in fewer frames say little about spots."""

UNSEEN = ("PILATUS", "ePix100")
"""Makes of detector that the train family has none of."""

NAMES = {"crystfel_simulated": "jf1m_lyso_60"}


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A run.

    Attributes
    ----------
    name : str
    data, geometry : Path
    run : FrameSource
    cell : Cell
    spots : tuple of float64 array (n, 3), or None
        fs, ss and photons of each frame's true spots; None where nobody knows.
    place : dict of str to float
        Where the detector truly is: settings of the geometry.
    """

    name: str
    data: Path
    geometry: Path
    run: FrameSource
    cell: Cell
    spots: tuple[NDArray[np.float64], ...] | None
    place: dict[str, float]


@contextmanager
def study_runs(shared: Path, n_frames: int, begins: str = "") -> Iterator[list[StudyRun]]:
    """Render what is to be rendered, and yield the runs that are there and whose name begins so."""
    with TemporaryDirectory() as folder:
        runs = [
            _rendered(name, draw, Path(folder), n_frames)
            for family, number, draw in _chosen()
            if (name := f"{family}_{number}_{draw.kind}").startswith(begins)
        ]
        for name, files in SHARED_RUNS.items():
            data, geometry, cell = (shared / file for file in files)
            name = NAMES.get(name, name)
            if data.exists() and name.startswith(begins):
                runs.append(_shared(name, data, geometry, cell))
        yield runs
        for each in runs:
            each.run.close()


def _chosen() -> list[tuple[str, int, Draw]]:
    """Return experiments of the test family, and of the shifted one with detectors unseen."""
    test = _some("test", N_TEST, tuple(dict.fromkeys(d.kind for d in _drawn("test"))))
    return test + _some("shifted", N_UNSEEN, UNSEEN)


def _drawn(family: str) -> list[Draw]:
    return draw_experiments(family, 40, SEED, most_pixels=MOST_PIXELS)


def _some(family: str, most: int, kinds: tuple[str, ...]) -> list[tuple[str, int, Draw]]:
    """Return the first experiments of a family with enough crystals, each of another kind."""
    found: dict[str, tuple[str, int, Draw]] = {}
    for number, draw in enumerate(_drawn(family)):
        enough = draw.experiment.crystals.hit_fraction >= LEAST_HITS
        if enough and draw.kind in kinds and draw.kind not in found and len(found) < most:
            found[draw.kind] = family, number, draw
    return list(found.values())


def _rendered(name: str, draw: Draw, folder: Path, n_frames: int) -> StudyRun:
    experiment = draw.experiment
    paths = simulate_run(experiment, folder / name, n_frames)
    geometry = Geometry.read(paths.geometry)
    spots = tuple(truth.spots for truth in read_truth(paths.truth))
    place = {
        "clen": experiment.clen,
        "shift_x": experiment.shift_x,
        "shift_y": experiment.shift_y,
    }
    run = open_source(paths.data, geometry)
    return StudyRun(name, paths.data, paths.geometry, run, Cell.read(paths.cell), spots, place)


def _shared(name: str, data: Path, geometry: Path, cell: Path) -> StudyRun:
    panels = Geometry.read(geometry)
    truth = data.with_name(f"{data.stem}_truth.h5")
    spots = None
    if truth.exists():
        with h5py.File(truth) as file:
            spots = tuple(
                np.asarray(
                    file[f"frame/{i:04d}"].get("spots_fs_ss_photons", np.empty((0, 3))), float
                )
                for i in range(len(file["class"]))
            )
    run = open_source(data, panels)
    return StudyRun(name, data, geometry, run, Cell.read(cell), spots, {})
