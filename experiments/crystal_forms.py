"""How often a second crystal form is found, and how often one is claimed where there is none.

Simulated lists (`envs.simulation.stills`): 12 to 90 peaks, 10 to 60 % of them astray, the beam up
to 1 px and the camera length 0.2 % off, cells that differ by 0.3 % between crystals. A pure run has
30 frames of one cell, of which three in ten have a second crystal, and 12 frames without a crystal:
noise, ice rings and scrambled lists. A mixture has 30 frames of two cells and 4 of noise.

    python -m experiments.crystal_forms [--pure 60] [--log forms.jsonl] [--json]

Runs that the log has are not done again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from envs.simulation.stills import WAVENUMBER, simulate_still
from experiments.cell_consensus import CELLS, rate, without_crystal
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.lattices.cell_relation import relate
from wrappers.lattices.crystal_forms import find_other_form
from wrappers.lattices.peak_vectors import PeakVectors

NAMES = (
    *("tetragonal P 79, 38 Å", "tetragonal P 58, 152 Å"),
    *("orthorhombic P 40, 60, 90 Å", "monoclinic P 57, 43, 88 Å"),
)
SHARES = (20, 10, 6)
"""Frames of the second form, of 30."""


@click.command()
@click.option("--pure", default=60, show_default=True, help="Runs of one form.")
@click.option("--log", type=click.Path(path_type=Path), help="JSON lines of what was done.")
@click.option("--json", "as_json", is_flag=True)
def main(pure: int, log: Path | None, as_json: bool) -> None:
    """Print how many pure runs and mixtures were said to have a second form."""
    known: dict[str, Any] = {}
    if log is not None and log.exists():
        known = dict(map(json.loads, log.read_text().splitlines()))

    def done(key: str, first: str, lists: Sequence[PeakVectors], second: Cell | None) -> str:
        if key not in known:
            found = find_other_form(lists, CELLS[first])
            known[key] = "none"
            if found is not None:
                same = second is not None and relate(second, found.other.cell).kind == "same"
                known[key] = "right" if same else "wrong"
            stderr.print(f"{key}: {known[key]}", highlight=False)
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps([key, known[key]]) + "\n")
        return str(known[key])

    claimed = 0
    for seed in range(pure):
        name = NAMES[seed % len(NAMES)]
        claimed += done(f"pure {name} {seed}", name, pure_run(CELLS[name], seed), None) != "none"
    mixed: dict[int, list[str]] = {n: [] for n in SHARES}
    for n, (first, second) in itertools.product(SHARES, itertools.permutations(NAMES, 2)):
        lists = mixture(CELLS[first], CELLS[second], n, seed=n)
        mixed[n].append(done(f"{first} + {n} of {second}", first, lists, CELLS[second]))
    rows = [
        {"second": n, "runs": len(each), **{kind: each.count(kind) for kind in ("right", "wrong")}}
        for n, each in mixed.items()
    ]
    if as_json:
        print_json({"pure": rate(claimed, pure), "mixed": rows})
        return
    low, high = rate(claimed, pure)["ci95"]
    print(f"pure runs said to have a second form: {claimed} of {pure} ({low:.1%} to {high:.1%})")
    for row in rows:
        print(
            f"{row['second']} of 30 frames of a second form: right in {row['right']}, wrong in "
            f"{row['wrong']} of {row['runs']} runs"
        )


def pure_run(cell: Cell, seed: int) -> list[PeakVectors]:
    """Return the lists of a run of one form, those with the most peaks first."""
    rng = np.random.default_rng(seed)
    lists = [still(cell, rng, double=rng.uniform() < 0.3) for _ in range(30)]
    for number, kind in enumerate(("noise", "ice rings", "scrambled")):
        lists += without_crystal(kind, 4, 3 * seed + number)
    return sorted(lists, key=lambda one: -len(one.q))


def mixture(first: Cell, second: Cell, n_second: int, seed: int) -> list[PeakVectors]:
    """Return the lists of a run of two forms, those with the most peaks first."""
    rng = np.random.default_rng(seed)
    lists = [still(first, rng) for _ in range(30 - n_second)]
    lists += [still(second, rng) for _ in range(n_second)]
    return sorted(lists + without_crystal("noise", 4, seed), key=lambda one: -len(one.q))


def still(cell: Cell, rng: np.random.Generator, *, double: bool = False) -> PeakVectors:
    """Return a frame of one crystal, or of two."""
    size = 1 + rng.normal(scale=0.003)
    cell = replace(cell, a=size * cell.a, b=size * cell.b, c=size * cell.c)
    n, astray, shift = int(rng.integers(12, 90)), rng.uniform(0.1, 0.6), rng.uniform(0, 1)
    q, _ = simulate_still(cell, rng, n, astray, shift_px=shift, clen_error=0.002)
    if double:
        q = np.vstack((q, simulate_still(cell, rng, 40, 0.2)[0]))
    return PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER)


if __name__ == "__main__":
    main()
