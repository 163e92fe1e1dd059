"""Sessions whose geometry is wrong: what they index and recommend, with and without asking frames.

The run's own geometry is taken for right. In copies of it the camera length is off by so many per
cent, or the beam centre by so many pixels (at 37° to x). ``before`` is a session with
``--no-find-geometry``, ``now`` one without. Where true lattices are known (``truth.json`` beside
the run, as the make.py of the shared cases writes it, or a ``*_truth.h5`` of the shared data), the
lattices of the recommended set are held against them.

    python -m experiments.geometry_sessions RUN.h5 RUN.geom RUN.cell -o FOLDER
        [--clen-error -8 --clen-error 0 …] [--shift 0 --shift 4 …] [--indexer fast] [--json]

Sessions that the folder has are not run again.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray

from envs.evaluators.live import LiveEvaluator
from envs.simulation.stills import is_same_lattice
from tuner.cli.options import print_json, stderr
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geom_file import write_geometry
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.settings import Settings

Floats = NDArray[np.float64]
DIRECTION = (0.8, -0.6)


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("geometry", type=click.Path(exists=True, path_type=Path))
@click.argument("cell", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--folder", type=click.Path(path_type=Path), required=True)
@click.option("--shift", "shifts", multiple=True, type=float, help="Pixels.  [default: 0 2 4 8]")
@click.option(
    "--clen-error", "errors", multiple=True, type=float, help="Percent.  [default: -8 -4 0 4 8]"
)
@click.option("--indexer", default="fast", show_default=True)
@click.option("--evaluations", default=8, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    data: Path,
    geometry: Path,
    cell: Path,
    folder: Path,
    shifts: tuple[float, ...],
    errors: tuple[float, ...],
    indexer: str,
    evaluations: int,
    as_json: bool,
) -> None:
    """Print the table: shifts at the right camera length, camera lengths at the right centre."""
    shifts, errors = shifts or (0, 2, 4, 8), errors or (-8, -4, 0, 4, 8)
    points = [(shift, 0.0) for shift in shifts] + [(0.0, e) for e in errors if e]
    rows = []
    for (shift, error), now in itertools.product(points, (False, True)):
        place = folder / f"{'now' if now else 'before'}_{shift:g}px_{error:g}percent"
        if not (place / "row.json").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            request = Request(
                data, place / "wrong.geom", cell, "gp", indexer=IndexerChoice(indexer)
            )
            row = session(request, geometry, place, (shift, error), now, evaluations)
            write_whole(place / "row.json", json.dumps(row) + "\n")
            stderr.print(row_words(row), highlight=False, soft_wrap=True)
        rows.append(json.loads((place / "row.json").read_text()))
    if as_json:
        print_json({"rows": rows})
        return
    for row in rows:
        print(row_words(row))


def session(
    request: Request,
    right: Path,
    place: Path,
    off: tuple[float, float],
    now: bool,
    evaluations: int,
) -> dict[str, Any]:
    """Run a session whose geometry is off by pixels and percent, and say what came of it."""
    whole = Geometry.read(right)
    assert isinstance(request.data, Path) and request.cell is not None
    run = open_source(request.data, whole)
    pixel = 1 / whole.panels[0].res
    true_clen = run.nominal_clen
    x, y = (off[0] * pixel * part for part in DIRECTION)
    change = true_clen * off[1] / 100
    write_geometry(right, request.geometry, clen_change=change, shift_x=-x, shift_y=-y)
    row: dict[str, Any] = {"shift_px": off[0], "clen_percent": off[1], "now": now}
    started = time.perf_counter()
    try:
        found = tune(
            request,
            place / "session",
            budget=Budget(evaluations),
            find_geometry=now,
        )
    except (InputError, ProgramError) as error:
        return {**row, "failure": str(error)}
    row["seconds"] = round(time.perf_counter() - started, 1)
    if found is None:
        return {**row, "indexed": 0, "n_frames": len(run)}
    settings, evidence = found.settings, found.evidence
    clen = settings.clen or run.nominal_clen
    return {
        **row,
        "indexed": evidence["n_indexed"],
        "n_frames": evidence["n_frames"],
        "decoys": [evidence["n_decoys_indexed"], evidence["n_decoys"]],
        "clen_left_percent": round(100 * (clen / true_clen - 1), 3),
        "shift_left_px": round(math.hypot(settings.shift_x - x, settings.shift_y - y) / pixel, 3),
        "cell_check": evidence["cell_check"],
        "joined": sorted({*found.provenance["tuned"]} - {*request.tuned}),
        "said": evidence.get("geometry_start", ""),
        **lattices(request, settings, truth_of(request.data)),
    }


def lattices(
    request: Request, settings: Settings, truth: Mapping[int, Sequence[Floats]]
) -> dict[str, int]:
    """Return how many frames the recommended set indexes with a lattice that is not there."""
    if not truth:
        return {}
    assert request.cell is not None
    geometry, cell = Geometry.read(request.geometry), Cell.read(request.cell)
    run = open_source(request.data, geometry)
    indexer = make_indexer(request.indexer, geometry, cell, jobs=1)
    with (
        closing(indexer),
        LiveEvaluator(run, cell, indexer, range(len(run)), max_decoys=0) as live,
    ):
        _, _, answers = live.inspect(settings)
    found = {frame: answer.lattices for frame, answer in answers.items() if answer.indexed}
    right = [
        frame
        for frame, several in found.items()
        if any(
            is_same_lattice(one.reciprocal, true, cell)
            for one in several
            for true in truth.get(frame, ())
        )
    ]
    return {"of_all_frames": len(found), "wrong_lattices": len(found) - len(right)}


def truth_of(data: Path) -> dict[int, Sequence[Floats]]:
    """Return the reciprocal bases (1/Å) of the crystals in each frame, where they are known."""
    listed, stored = data.parent / "truth.json", data.with_name(f"{data.stem}_truth.h5")
    if listed.exists():
        frames = json.loads(listed.read_text())
        return {i: [np.array(one) for one in several] for i, several in enumerate(frames)}
    if not stored.exists():
        return {}
    with h5py.File(stored) as file:
        bases = {int(i): group.get("astar_bstar_cstar_invnm") for i, group in file["frame"].items()}
        return {i: list(np.asarray(each) / 10) for i, each in bases.items() if each is not None}


def row_words(row: Mapping[str, Any]) -> str:
    """Return a row of the table for people."""
    case = (
        f"{row['shift_px']:3g} px {row['clen_percent']:+3g} % {'now' if row['now'] else 'before':6}"
    )
    if "failure" in row:
        return f"{case}  {row['failure']}"
    if not row["indexed"]:
        return f"{case}  nothing recommended"
    wrong = f", {row['wrong_lattices']} wrong" if "wrong_lattices" in row else ""
    return (
        f"{case}  {row['indexed']:3d} of {row['n_frames']}{wrong}; left {row['clen_left_percent']} "
        f"% and {row['shift_left_px']} px; cell {row['cell_check']}; decoys {row['decoys'][0]} of "
        f"{row['decoys'][1]}; {row['seconds']} s"
    )


if __name__ == "__main__":
    main()
