"""Whether `apply --veto kinds` ever leaves out a frame that would index.

Runs of the test and shifted families in each of which a quarter of the frames was taken with the
beam off and another quarter with a detector at fault, whatever else would have been in them. The
frames that the veto leaves out are indexed with the sets of a look, by the embedded indexer and,
where it is installed, by CrystFEL, told the true cell and geometry. The embedded one is also given
those of the two kinds that are kept, and blank ones, which say how often that happens by chance
with so many sets. Whether the simulator has put a crystal into them is told, too: none with the
beam off. And real or recorded runs, of which nothing may be left out that indexes.

    python -m experiments.kind_veto [--runs 12] [--frames 40] [-o FOLDER] [--shared FOLDER] [--json]
"""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from envs.evaluation import wilson_interval
from envs.simulation.experiment import OddFrames
from experiments.frame_kinds import FAMILIES, hit_design, kept, lattices
from experiments.kind_runs import FEWEST_SPOTS, KindRun, kind_runs, visible_spots
from tuner.cli.options import print_json, progress_bar
from wrappers.detector.geometry import Geometry
from wrappers.errors import ProgramError
from wrappers.frame_kinds import VETOED, FrameKinds, tell_kinds
from wrappers.frame_kinds.features import Reference, features
from wrappers.frame_kinds.measures import Measurer
from wrappers.frame_kinds.naming import drops
from wrappers.frames.opening import open_source
from wrappers.indexers import IndexerChoice, make_indexer

SEED = 33
SHARES = OddFrames((("beam off", 0.25), ("detector fault", 0.25)))
INDEXERS = ("fast", "crystfel")
TOLD = (*VETOED, "blank")

REAL = (
    ("frames/thaumatin_p6m_crop1320_19.h5", "frames/thaumatin_p6m_crop1320.geom", 15),
    ("frames/thermolysin_cspad_4.h5", "frames/thermolysin_cspad.geom", 4),
    ("simulated/jf1m_lyso_60.h5", "simulated/jf1m.geom", 41),
)
"""Runs, their geometries, and how many frames CrystFEL indexes."""


@click.command()
@click.option("--runs", default=12, show_default=True, help="Of each family.")
@click.option("--frames", default=40, show_default=True, help="Of each run.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for each run's figures; what it has is not worked out again.",
)
@click.option("--shared", type=click.Path(path_type=Path, exists=True), help="Folder of real runs.")
@click.option("--json", "as_json", is_flag=True)
def main(runs: int, frames: int, output: Path | None, shared: Path | None, as_json: bool) -> None:
    """Print what is left out, and what of it would index."""
    drawn = [
        dataclasses.replace(run, draw=dataclasses.replace(run.draw, experiment=_odd(run)))
        for family in FAMILIES
        for run in kind_runs(family, runs, SEED)
    ]
    found = []
    with progress_bar("frames", len(drawn) * frames) as show:
        for place, run in enumerate(drawn):
            found.append({"run": run.name, **kept(veto_of_run, run, frames, output)})
            show((place + 1) * frames)
    document: dict[str, Any] = {"total": _total(found), "runs": found, "real": []}
    if shared is not None:
        document["real"] = [_real(shared, *each) for each in REAL]
    if as_json:
        print_json(document)
        return
    for kind, row in document["total"].items():
        words = "; ".join(
            f"with {name} {row[name]['dropped']} of them index (at most {row[name]['ci95'][1]:.1%})"
            + (f", and {n} of those kept" if (n := row[name]["kept"]) else "")
            for name in INDEXERS
            if name in row
        )
        print(
            f"{kind}: {row['n_dropped']} of {row['n']} frames dropped, "
            f"{row['n_dropped_with_crystal']} of {row['n_with_crystal']} with a crystal; {words}"
        )
    for row in document["real"]:
        print(f"{row['run']}: {len(row['dropped'])} of {row['n_frames']} frames dropped")


def _real(shared: Path, data: str, geometry: str, n_that_index: int) -> dict[str, Any]:
    with open_source(shared / data, Geometry.read(shared / geometry)) as source:
        dropped = tell_kinds(source, range(len(source))).dropped
        n = len(source)
    return {
        "run": Path(data).stem,
        "n_frames": n,
        "n_that_index": n_that_index,
        "dropped": list(dropped),
    }


def _odd(run: KindRun):  # type: ignore[no-untyped-def]
    return dataclasses.replace(run.experiment, odd=SHARES)


def veto_of_run(run: KindRun, n: int) -> dict[str, Any]:
    """Return by kind, as the simulator says, what the veto drops of `n` frames, and what indexes.

    Kind "other" is that of all frames that hold something to be indexed.
    """
    with tempfile.TemporaryDirectory() as folder:
        geometry = run.geometry(Path(folder))
    measurer = Measurer(geometry)
    measured, truth, crystal = [], [], []
    for frame, kind, whole in run.frames(n):
        measured.append(measurer.measure(frame))
        truth.append(kind if kind in TOLD else "other")
        most = max(visible_spots(run.experiment, whole), default=0)
        crystal.append(most >= FEWEST_SPOTS)
    reference = Reference.of(measured)
    points = np.array([features(each, reference) for each in measured])
    names = FrameKinds.of_run(points, reference, geometry).assign(points)
    dropped = [drops(name, point.tolist()) for name, point in zip(names, points, strict=True)]
    design, found = hit_design(run.experiment.detector.gain), {}
    for kind in (*TOLD, "other"):
        own = [place for place in range(n) if truth[place] == kind]
        row: dict[str, Any] = {
            "n": len(own),
            "n_dropped": sum(dropped[place] for place in own),
            "n_with_crystal": sum(crystal[place] for place in own),
            "n_dropped_with_crystal": sum(dropped[place] and crystal[place] for place in own),
        }
        for name in INDEXERS:
            try:
                made = make_indexer(
                    IndexerChoice(name), geometry, run.experiment.crystals.cell, jobs=1
                )
            except ProgramError:
                continue  # it is not installed
            with closing(made) as indexer:
                row[name] = {
                    which: sum(
                        each > 0
                        for each in lattices(
                            run, design, [p for p in own if dropped[p] is flag], indexer
                        )
                    )
                    for which, flag in (("dropped", True), ("kept", False))
                    if flag or (kind != "other" and name == "fast")
                }
        found[kind] = row
    return {"detector": run.draw.kind, "kinds": found}


def _total(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    total: dict[str, dict[str, Any]] = {}
    for kind in (*TOLD, "other"):
        rows = [each["kinds"][kind] for each in found]
        counts = ("n", "n_dropped", "n_with_crystal", "n_dropped_with_crystal")
        total[kind] = {what: sum(row[what] for row in rows) for what in counts}
        n_dropped = total[kind]["n_dropped"]
        for name in INDEXERS:
            if all(name in row for row in rows):
                lost = sum(row[name]["dropped"] for row in rows)
                of_kept = sum(row[name].get("kept", 0) for row in rows)
                interval = list(wilson_interval(lost, n_dropped))
                total[kind][name] = {"dropped": lost, "kept": of_kept, "ci95": interval}
    return total


if __name__ == "__main__":
    main()
