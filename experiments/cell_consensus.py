"""How often frames agree on the right cell, by their number, and how often on one without a cause.

Simulated stills (`envs.simulation.stills`) of the fourteen Bravais lattices, with the beam a pixel
off and a fifth of their peaks astray, and recorded lists (`experiments.real_peak_lists`). A cell is
right if it describes the true lattice, whatever its axes, and its size is within 3 %.

Nothing may be found in lists that no crystal made: scrambled ones (each peak turned about the beam
by an angle of its own, so the rings stay), rings of ice and silver behenate, and noise.

    python -m experiments.cell_consensus ../shared/data/peaks [--repeats 1] [--empty 20] [--json]
    python -m experiments.cell_consensus --repeats 0 --empty 100 --log empty.jsonl

The second leaves out the cells; runs without a crystal that the log has are not done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from envs.simulation.stills import WAVENUMBER, simulate_blank, simulate_still, turn_around
from experiments.real_peak_lists import RecordedList, read_lists
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.lattices.cell_consensus import PeakVectors, find_cell
from wrappers.lattices.cell_relation import relate

Floats = NDArray[np.float64]

CELLS = {
    "cubic P 96 Å": Cell(96.4, 96.4, 96.4, 90, 90, 90, "cubic", "P"),
    "cubic P 280 Å": Cell(280, 280, 280, 90, 90, 90, "cubic", "P"),
    "cubic I 79 Å": Cell(79, 79, 79, 90, 90, 90, "cubic", "I"),
    "cubic F 100 Å": Cell(100, 100, 100, 90, 90, 90, "cubic", "F"),
    "hexagonal P 60, 90 Å": Cell(60, 60, 90, 90, 90, 120, "hexagonal", "P", "c"),
    "hexagonal P 281, 165 Å": Cell(281, 281, 165.2, 90, 90, 120, "hexagonal", "P", "c"),
    "rhombohedral H 82, 195 Å": Cell(82, 82, 195, 90, 90, 120, "hexagonal", "H", "c"),
    "rhombohedral H 120, 60 Å": Cell(120, 120, 60, 90, 90, 120, "hexagonal", "H", "c"),
    "tetragonal P 79, 38 Å": Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c"),
    "tetragonal P 58, 152 Å": Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c"),
    "tetragonal I 100, 60 Å": Cell(100, 100, 60, 90, 90, 90, "tetragonal", "I", "c"),
    "tetragonal I 60, 150 Å": Cell(60, 60, 150, 90, 90, 90, "tetragonal", "I", "c"),
    "orthorhombic P 40, 60, 90 Å": Cell(40, 60, 90, 90, 90, 90, "orthorhombic", "P"),
    "orthorhombic C 61, 123, 168 Å": Cell(61.4, 122.6, 168, 90, 90, 90, "orthorhombic", "C"),
    "orthorhombic I 60, 80, 95 Å": Cell(60, 80, 95, 90, 90, 90, "orthorhombic", "I"),
    "orthorhombic F 110, 120, 135 Å": Cell(110, 120, 135, 90, 90, 90, "orthorhombic", "F"),
    "monoclinic P 57, 43, 88 Å": Cell(57, 43, 88, 90, 102, 90, "monoclinic", "P", "b"),
    "monoclinic C 120, 45, 80 Å": Cell(120, 45, 80, 90, 110, 90, "monoclinic", "C", "b"),
    "triclinic 35, 42, 51 Å": Cell(35, 42, 51, 82, 97, 104),
}
FRAMES = (3, 5, 10, 20)
EMPTY_FRAMES = 5
"""Frames of a run without a crystal."""
RECORDED = ("real_peaks_q.npz", "ffbidx_q.npz")
PEAKS, ASTRAY, SHIFT_PX = 70, 0.2, 1.0
RINGS = {
    "ice rings": (3.90, 3.67, 3.44, 2.67, 2.25),
    "silver behenate": tuple(58.38 / n for n in range(8, 24)),
}
"""Spacings of rings in Å."""
KINDS = ("scrambled", *RINGS, "noise")
SAME_SIZE = 0.03


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="../shared/data/peaks")
@click.option(
    "--repeats", default=1, show_default=True, help="Simulated runs for each point; 0: no cells."
)
@click.option("--empty", default=20, show_default=True, help="Runs of each kind without a crystal.")
@click.option("--log", type=click.Path(path_type=Path), help="JSON lines of what --empty gave.")
@click.option("--jobs", default=1, show_default=True, help="Threads.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path, repeats: int, empty: int, log: Path | None, jobs: int, as_json: bool
) -> None:
    """Print the tables; recorded lists are read from FOLDER where they are there."""
    rows: list[dict[str, Any]] = []
    for name, cell in CELLS.items() if repeats else ():
        runs = [simulated(cell, max(FRAMES), seed) for seed in range(repeats)]
        rows.append({"run": name, "repeats": repeats, "right": shares(cell, runs, jobs)})
        stderr.print(f"{name}: {rows[-1]['right']}", highlight=False)
    for file in RECORDED if repeats else ():
        if not (folder / file).is_file():
            stderr.print(f"{folder / file} is not there: left out", highlight=False)
            continue
        for name, cell, run in recorded(folder / file):
            rows.append({"run": name, "repeats": 1, "right": shares(cell, [run], jobs)})
            stderr.print(f"{name}: {rows[-1]['right']}", highlight=False)
    found = empty_runs(empty, jobs, log)
    nothing = [
        {"kind": kind, **rate(sum(found[kind, seed] for seed in range(empty)), empty)}
        for kind in KINDS
    ]
    total = sum(row["found"] for row in nothing), sum(row["runs"] for row in nothing)
    nothing.append({"kind": "all", **rate(*total)})
    if as_json:
        print_json({"rows": rows, "nothing": nothing})
    else:
        print_tables(rows, nothing)


def simulated(cell: Cell, n: int, seed: int) -> list[PeakVectors]:
    """Return the lists of a simulated run."""
    rng = np.random.default_rng(seed)
    run = []
    for _ in range(n):
        q, _ = simulate_still(cell, rng, PEAKS, ASTRAY, shift_px=SHIFT_PX)
        run.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return run


def recorded(path: Path) -> Iterator[tuple[str, Cell, list[PeakVectors]]]:
    """Yield name, cell and lists of each set of a file, the lists with the most peaks first."""
    lists = read_lists(path)
    for name in dict.fromkeys(one.name for one in lists):
        own = sorted((one for one in lists if one.name == name), key=lambda one: -len(one.q))
        yield (
            f"{path.stem}: {name}",
            own[0].cell,
            [PeakVectors(one.q, trust(one), one.wavenumber) for one in own],
        )


def trust(one: RecordedList) -> Floats:
    """Return the peaks' intensities, or, where none are recorded, the lowest resolution first."""
    return 1 / np.linalg.norm(one.q, axis=1) if one.strength is None else one.strength


def without_crystal(kind: str, n: int, seed: int) -> list[PeakVectors]:
    """Return lists that no crystal made."""
    rng = np.random.default_rng(seed)
    run = []
    for _ in range(n):
        if kind == "scrambled":
            cells = list(CELLS.values())
            q, _ = simulate_still(cells[seed % len(cells)], rng, PEAKS, ASTRAY)
            q = turn_around(q, rng)
        elif kind == "noise":
            q = simulate_blank(rng, PEAKS)
        else:
            q = on_rings(RINGS[kind], rng)
        run.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return run


def empty_runs(n: int, jobs: int, log: Path | None) -> dict[tuple[str, int], bool]:
    """Return in which of `n` runs of each kind a cell is found, by kind and seed.

    What is known is appended to the log, and not done again.
    """
    found: dict[tuple[str, int], bool] = {}
    if log is not None and log.exists():
        for kind, seed, cell in map(json.loads, log.read_text().splitlines()):
            found[kind, seed] = cell
    for seed in range(n):
        for kind in KINDS:
            if (kind, seed) in found:
                continue
            lists = without_crystal(kind, EMPTY_FRAMES, seed)
            found[kind, seed] = find_cell(lists, jobs=jobs) is not None
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps([kind, seed, found[kind, seed]]) + "\n")
        stderr.print(f"{seed + 1} of {n}: {sum(found.values())} cells found", highlight=False)
    return found


def on_rings(spacings: Sequence[float], rng: np.random.Generator) -> Floats:
    """Return peaks (n, 3) on the Ewald sphere, at random on rings of these spacings in Å."""
    length = 1 / rng.choice(spacings, PEAKS) + rng.normal(scale=3e-4, size=PEAKS)
    along = -(length**2) / 2 / WAVENUMBER
    across, turn = np.sqrt(length**2 - along**2), rng.uniform(0, 2 * np.pi, PEAKS)
    return np.column_stack((across * np.cos(turn), across * np.sin(turn), along))


def shares(cell: Cell, runs: Sequence[Sequence[PeakVectors]], jobs: int) -> dict[int, int | None]:
    """Return in how many runs the first frames agree on the right cell, by their number.

    None where a run has fewer frames.
    """
    return {
        n: sum(is_right(cell, run[:n], jobs) for run in runs) if len(runs[0]) >= n else None
        for n in FRAMES
    }


def is_right(cell: Cell, lists: Sequence[PeakVectors], jobs: int = 1) -> bool:
    """Return whether lists agree on a cell's lattice and size."""
    found = find_cell(lists, jobs=jobs)
    return found is not None and relate(cell, found.cell, SAME_SIZE).kind == "same"


def rate(found: int, runs: int) -> dict[str, Any]:
    """Return a share with the interval of Clopper and Pearson that covers it in 95 %."""
    low, high = binomtest(found, runs).proportion_ci(0.95, "exact") if runs else (0.0, 1.0)
    return {"found": found, "runs": runs, "ci95": [float(low), float(high)]}


def print_tables(rows: Sequence[dict[str, Any]], nothing: Sequence[dict[str, Any]]) -> None:
    """Print the tables for people, in Markdown."""
    print(f"| runs with the right cell after | {' | '.join(f'{n} frames' for n in FRAMES)} |")
    print("|---" * (len(FRAMES) + 1) + "|")
    for row in rows:
        each = ["–" if n is None else f"{n} of {row['repeats']}" for n in row["right"].values()]
        print(f"| {row['run']} | {' | '.join(each)} |")
    print(f"\n| {EMPTY_FRAMES} frames without a crystal | a cell is found | 95 % interval |")
    print("|---|---|---|")
    for row in nothing:
        low, high = row["ci95"]
        print(f"| {row['kind']} | {row['found']} of {row['runs']} | {low:.2%} to {high:.2%} |")


if __name__ == "__main__":
    main()
