"""The shipped parts of kinds of frames, fitted to runs of the train family.

Each kind's frames, of all runs together, make a mixture of their own; all kinds are thought to be
equally frequent but blank frames and single crystals, which most runs consist of.

    python -m experiments.fit_kinds [--runs 21] [--frames 60]
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from experiments.kind_runs import KindRun, kind_runs
from tuner.cli.options import progress_bar
from wrappers.files import write_whole
from wrappers.frame_kinds import kinds
from wrappers.frame_kinds.features import FEATURES, Reference, features
from wrappers.frame_kinds.kinds import Part
from wrappers.frame_kinds.measures import Measurer
from wrappers.frame_kinds.naming import KINDS

__all__ = ["RUNS_FRAMES", "features_of_run", "parts_of_kinds"]

RUNS_FRAMES = 21, 60
"""Runs of the train family, and frames of each."""

MOST_PARTS = 4
"""Of each kind."""
WITH_CRYSTALS = ("powder or ice ring", "jet streak")
OF_SPOTS = ("spots", "brightest", "innermost", "disorder")
USUAL = {"blank": 0.45, "single crystal": 0.3}
"""Shares of the frames that kinds are thought to have; the others share the rest."""


@click.command()
@click.option("--runs", default=RUNS_FRAMES[0], show_default=True)
@click.option("--frames", default=RUNS_FRAMES[1], show_default=True, help="Of each run.")
def main(runs: int, frames: int) -> None:
    """Fit the parts, and write them where the package reads them."""
    points, truth = [], []
    with progress_bar("runs", runs) as show:
        for done, run in enumerate(kind_runs("train", runs), start=1):
            found, names = features_of_run(run, frames)
            points.append(found)
            truth += names
            show(done)
    parts = parts_of_kinds(np.concatenate(points), np.array(truth))
    path = Path(kinds.__file__).with_name(kinds.SHIPPED)
    write_whole(path, json.dumps([asdict(part) for part in parts], indent=None) + "\n")
    print(f"{len(parts)} parts of {len(truth)} frames → {path}")


def parts_of_kinds(points: NDArray[np.float64], called: NDArray[np.str_]) -> list[Part]:
    """Return the parts that frames of known kinds make.

    Rings and streaks come with crystals as well as without: for each such frame there is another
    with the spots of a frame of a crystal.

    Parameters
    ----------
    points : float64 array (n, n_features)
        With the features of `FEATURES` in front, or without them all.
    called : str array (n,)
        The true kinds.
    """
    generator = np.random.default_rng(0)
    crystals = points[np.isin(called, ("single crystal", "several crystals"))]
    found: list[Part] = []
    for name in (name for name in KINDS if (called == name).any()):
        own = points[called == name]
        if name in WITH_CRYSTALS and points.shape[1] >= len(FEATURES):
            more = own.copy()
            drawn = crystals[generator.integers(len(crystals), size=len(own))]
            for column in map(FEATURES.index, OF_SPOTS):
                more[:, column] = drawn[:, column]
            most = FEATURES.index("spots")
            more[:, most] = np.maximum(more[:, most], own[:, most])
            own = np.concatenate([own, more])
        found += kinds.parts_of(own, name, prior_share(name), most=MOST_PARTS)
    return found


def prior_share(name: str) -> float:
    """Return the share of the frames that a kind is thought to have before any is seen."""
    others = (1 - sum(USUAL.values())) / (len(KINDS) - 1 - len(USUAL))
    return USUAL.get(name, others)


def features_of_run(run: KindRun, n: int) -> tuple[NDArray[np.float64], list[str]]:
    """Return the features of a run's first frames (n, n_features), and their true kinds."""
    with tempfile.TemporaryDirectory() as folder:
        measurer = Measurer(run.geometry(Path(folder)))
    measured, truth = [], []
    for frame, kind, _ in run.frames(n):
        measured.append(measurer.measure(frame))
        truth.append(kind)
    reference = Reference.of(measured)
    return np.array([features(each, reference) for each in measured]), truth


if __name__ == "__main__":
    main()
