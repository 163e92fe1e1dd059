"""Whether a session's check of the cell says that a wrong one is wrong, and a right one right.

Each run is drawn from several times (two thirds of its frames, by seeds); peaks are found with the
settings that a session starts from. The check is that of `tuner.cells.checking`, as at the end
of a session. RUN is a folder with ``run.h5``, ``run.geom`` and ``run.cell``, such as the make.py of
the shared cases writes, or the name of a run of the shared data.

    python -m experiments.wrong_cells -o checks.jsonl jf1m_lyso_60 thaumatin base/run [--json]

A log that is there is gone on with.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tuner.cells.checking import FRAMES, compare_cells
from tuner.cells.search import clear_frames, usual_settings
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import append_line
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.lattices.cell_consensus import find_cell

SHARED = {
    "jf1m_lyso_60": ("simulated/jf1m_lyso_60.h5", "simulated/jf1m.geom", "simulated/lyso.cell"),
    "thaumatin": (
        "frames/thaumatin_p6m_crop1320_19.h5",
        "frames/thaumatin_p6m_crop1320.geom",
        "cell/thaumatin.cell",
    ),
}
LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")
THAUMATIN = Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c")
SHARE = 2 / 3
RIGHT = "right"


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--log", type=click.Path(path_type=Path), required=True, help="JSON lines.")
@click.option(
    "--shared", type=click.Path(path_type=Path), default="../shared/data", show_default=True
)
@click.option("--seeds", default=10, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Threads.")
@click.option("--json", "as_json", is_flag=True)
def main(
    runs: tuple[str, ...], log: Path, shared: Path, seeds: int, jobs: int, as_json: bool
) -> None:
    """Print how many checks of each kind came to which verdict."""
    lines = log.read_text().splitlines() if log.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    done = {(row["run"], row["cell"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for name in runs:
            data, geom, cell_file = files_of(name, shared)
            right = Cell.read(cell_file)
            kinds = {RIGHT: right, **wrong_cells(right)}
            left = [kind for kind in kinds if (name, kind, seed) not in done]
            if not left:
                continue
            geometry = Geometry.read(geom)
            run = open_source(data, geometry)
            frames, _ = sample_frames(run, math.ceil(SHARE * len(run)), seed)
            clear = clear_frames(run, usual_settings(run, frames), frames, jobs=jobs)
            own = find_cell(clear.lists[:FRAMES], jobs=jobs)
            pixel = 1 / geometry.panels[0].res
            for kind in left:
                started = time.perf_counter()
                check = compare_cells(
                    *(clear, kinds[kind], own),
                    pixel_size=pixel,
                    nominal_clen=run.nominal_clen,
                    jobs=jobs,
                )
                row = {
                    "run": name,
                    "cell": kind,
                    "seed": seed,
                    "verdict": check.verdict,
                    "reason": check.reason,
                    "seconds": round(time.perf_counter() - started, 1),
                }
                append_line(log, json.dumps(row))
                rows.append(row)
                stderr.print(f"{name}, {seed}, {kind}: {check.verdict}", highlight=False)
    wanted = [row for row in rows if row["run"] in runs and row["seed"] < seeds]
    if as_json:
        print_json({"rows": wanted, "verdicts": verdicts(wanted)})
        return
    for table in verdicts(wanted):
        counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdicts"].items())
        print(f"{table['run']:14} {table['cell']:22} {counts}")


def files_of(name: str, shared: Path) -> tuple[Path, Path, Path]:
    """Return data, geometry and cell of a run."""
    if name in SHARED:
        data, geometry, cell = (shared / each for each in SHARED[name])
        return data, geometry, cell
    return Path(name, "run.h5"), Path(name, "run.geom"), Path(name, "run.cell")


def wrong_cells(right: Cell) -> dict[str, Cell]:
    """Return the wrong cells that a tetragonal one may be mistaken for, by what is wrong."""
    other = THAUMATIN if math.isclose(right.a, LYSOZYME.a, rel_tol=0.02) else LYSOZYME
    wide = math.sqrt(2) * right.a
    return {
        "another protein's": other,
        "c doubled": replace(right, c=2 * right.c),
        "c halved": replace(right, c=right.c / 2),
        "a, b × √2": replace(right, a=wide, b=wide),
        "wrong centring": replace(right, centering="P" if right.centering == "I" else "I"),
        "c 6 % long": replace(right, c=1.06 * right.c),
    }


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the number of each verdict, by run and cell."""
    keys = dict.fromkeys((row["run"], row["cell"]) for row in rows)
    return [
        {
            "run": run,
            "cell": cell,
            "verdicts": dict(
                Counter(r["verdict"] for r in rows if (r["run"], r["cell"]) == (run, cell))
            ),
        }
        for run, cell in keys
    ]


if __name__ == "__main__":
    main()
