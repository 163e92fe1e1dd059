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
from wrappers.frame_kinds.features import Reference, features
from wrappers.frame_kinds.measures import Measurer
from wrappers.frame_kinds.naming import KINDS, UNNAMED

__all__ = ["features_of_run"]

MOST_PARTS = 4
"""Of each kind."""
USUAL = {"blank": 0.45, "single crystal": 0.3}
"""Shares of the frames that kinds are thought to have; the others share the rest."""


@click.command()
@click.option("--runs", default=21, show_default=True)
@click.option("--frames", default=60, show_default=True, help="Of each run.")
def main(runs: int, frames: int) -> None:
    """Fit the parts, and write them where the package reads them."""
    points, truth = [], []
    with progress_bar("runs", runs) as show:
        for done, run in enumerate(kind_runs("train", runs), start=1):
            found, names = features_of_run(run, frames)
            points.append(found)
            truth += names
            show(done)
    table, called = np.concatenate(points), np.array(truth)
    others = (1 - sum(USUAL.values())) / (len(KINDS) - 1 - len(USUAL))
    parts = [
        part
        for name in KINDS
        if name != UNNAMED
        for part in kinds.parts_of(
            table[called == name], name, USUAL.get(name, others), most=MOST_PARTS
        )
    ]
    path = Path(kinds.__file__).with_name(kinds.SHIPPED)
    write_whole(path, json.dumps([asdict(part) for part in parts], indent=None) + "\n")
    print(f"{len(parts)} parts of {len(table)} frames → {path}")


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
