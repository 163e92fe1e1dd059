"""What the embedded indexer finds in recorded peak lists, and in the same lists scrambled.

For each set of lists (`real_peak_lists`): in how many a lattice is accepted, and where the truth is
known, how often it is the true one, whatever axes it is described by. Each list is then scrambled
several times, every peak turned about the beam by an angle of its own: resolutions and intensities
stay, the lattice goes, and whatever is accepted is false. The arcs are scrambles of another kind,
which keep crowds of peaks together (`wrappers.lattices.decoys`). Milliseconds are of one core, the
median over the lists as recorded, after a first list to warm up.

probixi and CrystFEL's xgandalf and asdf get the same lists and some scrambles of them, where they
are installed (`other_indexers`); their milliseconds are probixi's median and CrystFEL's mean,
or a dash where CrystFEL ran out of its time.

    python -m experiments.indexer_benchmark [--lists FILE.npz] [--json]
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.simulation.stills import is_same_lattice, turn_along_arcs, turn_around
from experiments.other_indexers import Program, find_programs
from experiments.real_peak_lists import RecordedList, read_lists
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.errors import InputError, ProgramError
from wrappers.lattices.fast_indexer import LatticeFinder

Floats = NDArray[np.float64]

LISTS = Path(__file__).parents[2] / "shared" / "data" / "peaks" / "real_peaks_q.npz"


@click.command()
@click.option(
    "--lists",
    type=click.Path(path_type=Path),
    default=LISTS,
    show_default="the shared data beside the repository",
    help="Peak lists.",
)
@click.option("--scrambles", default=10, show_default=True, help="Scrambles of each list.")
@click.option("--false-accept", default=0.01, show_default=True, help="Of the embedded indexer.")
@click.option(
    "--others-scrambles",
    default=2,
    show_default=True,
    help="Scrambles of each list that the other programs get; they are slow.",
)
@click.option("--others/--no-others", default=True, show_default=True, help="Ask them at all.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(
    lists: Path,
    scrambles: int,
    false_accept: float,
    others_scrambles: int,
    others: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Print the table."""
    try:
        recorded = read_lists(lists)
    except InputError as error:
        raise click.UsageError(str(error)) from None
    programs, lacking = find_programs() if others else ({}, [])
    for reason in lacking:
        stderr.print(f"left out: {reason}", highlight=False, soft_wrap=True)
    result = {}
    for name in dict.fromkeys(one.name for one in recorded):
        of_set = [one for one in recorded if one.name == name]
        stderr.print(f"{name} ...", highlight=False)
        row = measure_ours(of_set, scrambles, false_accept, np.random.default_rng(seed))
        for program, ask in programs.items():
            rng = np.random.default_rng(seed)
            row[program] = measure_other(ask, of_set, others_scrambles, rng)
        result[name] = row
    if as_json:
        print_json({"sets": result})
    else:
        print_table(result)


def measure_ours(
    lists: Sequence[RecordedList], scrambles: int, false_accept: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the row of one set for the embedded indexer."""
    finders: dict[Cell, LatticeFinder] = {}
    for one in lists:
        if one.cell not in finders:
            finders[one.cell] = LatticeFinder(one.cell, false_accept=false_accept)

    def find(one: RecordedList) -> Floats | None:
        found = finders[one.cell].find(one.q, one.wavenumber, one.strength)
        return found[0].reciprocal if found else None

    find(max(lists, key=lambda one: len(one.q)))
    milliseconds: dict[str, list[float]] = {"recorded": [], "scrambled": []}

    def timed(one: RecordedList, kind: str) -> Floats | None:
        started = time.thread_time()
        found = find(one)
        milliseconds[kind].append(1e3 * (time.thread_time() - started))
        return found

    row = count(lists, [timed(one, "recorded") for one in lists])
    scrambled = scramble(lists, turn_all_around, scrambles, rng)
    along_arcs = scramble(lists, turn_along_arcs, scrambles, rng)
    return row | {
        "scrambled_tried": len(scrambled),
        "scrambled_accepted": sum(timed(one, "scrambled") is not None for one in scrambled),
        "ms_median": median(milliseconds["recorded"]),
        "arcs_tried": len(along_arcs),
        "arcs_accepted": sum(find(one) is not None for one in along_arcs),
        "scrambled_ms_median": median(milliseconds["scrambled"]),
    }


def measure_other(
    ask: Program, lists: Sequence[RecordedList], scrambles: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the row of one set for another program."""
    found, milliseconds = ask_by_cell(ask, lists)
    scrambled = scramble(lists, turn_all_around, scrambles, rng)
    accepted, scrambled_milliseconds = ask_by_cell(ask, scrambled)
    return count(lists, found) | {
        "scrambled_tried": len(scrambled),
        "scrambled_accepted": sum(lattice is not None for lattice in accepted),
        "ms": milliseconds,
        "scrambled_ms": scrambled_milliseconds,
    }


def ask_by_cell(
    ask: Program, lists: Sequence[RecordedList]
) -> tuple[list[Floats | None], float | None]:
    """Ask once for each cell; a program that fails has found nothing, and says so."""
    answers: list[Floats | None] = [None] * len(lists)
    milliseconds: list[float | None] = []
    for cell in dict.fromkeys(one.cell for one in lists):
        numbers = [i for i, one in enumerate(lists) if one.cell == cell and len(one.q)]
        if not numbers:
            continue
        try:
            found, each = ask([lists[i] for i in numbers])
        except ProgramError as error:
            stderr.print(f"failed: {error}", highlight=False, soft_wrap=True)
            continue
        milliseconds += [each] * len(numbers)
        for i, lattice in zip(numbers, found, strict=True):
            answers[i] = lattice
    return answers, median(milliseconds)


def count(lists: Sequence[RecordedList], found: Sequence[Floats | None]) -> dict[str, Any]:
    """Return how many lattices there are, and how many of them agree with the truth."""
    pairs = [
        (one, lattice) for one, lattice in zip(lists, found, strict=True) if one.truth is not None
    ]
    return {
        "lists": len(lists),
        "with_truth": len(pairs),
        "agree": sum(
            lattice is not None and is_same_lattice(lattice, one.truth, one.cell)
            for one, lattice in pairs
            if one.truth is not None
        ),
        "accepted": sum(lattice is not None for lattice in found),
    }


def turn_all_around(q: Floats, cell: Cell, rng: np.random.Generator) -> Floats:
    """As `turn_around`, which needs no cell."""
    return turn_around(q, rng)


def scramble(
    lists: Sequence[RecordedList],
    turn: Callable[[Floats, Cell, np.random.Generator], Floats],
    times: int,
    rng: np.random.Generator,
) -> list[RecordedList]:
    """Return fresh scrambles of each list."""
    return [
        dataclasses.replace(one, q=turn(one.q, one.cell, rng), truth=None)
        for one in lists
        for _ in range(times)
    ]


def median(values: Sequence[float | None]) -> float | None:
    """Return the median; None of nothing, or where a value is not known."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known and len(known) == len(values) else None


def print_table(result: dict[str, dict[str, Any]]) -> None:
    """Print the rows for people, as a table in Markdown."""
    print("| set (lists) | indexer | right | accepted | scrambled | arcs | ms | ms scrambled |")
    print("|---|---|---|---|---|---|---|---|")
    for name, ours in result.items():
        rows = {"ours": ours} | {key: row for key, row in ours.items() if isinstance(row, dict)}
        for program, row in rows.items():
            first = f"{name} ({row['lists']})" if program == "ours" else ""
            arcs = f"{row['arcs_accepted']} of {row['arcs_tried']}" if "arcs_tried" in row else "–"
            times = [row.get(f"{key}_median", row.get(key)) for key in ("ms", "scrambled_ms")]
            shown = ("–" if ms is None else f"{ms:.{1 if ms < 100 else 0}f}" for ms in times)
            print(
                f"| {first} | {program} | {row['agree']} of {row['with_truth']} | "
                f"{row['accepted']} | {row['scrambled_accepted']} of {row['scrambled_tried']} | "
                f"{arcs} | {' | '.join(shown)} |"
            )


if __name__ == "__main__":
    main()
