"""A comparison on runs on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tuner.comparison.statistics import told_after
from tuner.comparison.words import about, headline, methods_of
from tuner.display.terminal import Terminal

__all__ = ["print_figures"]


def print_figures(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table and a sentence for each run; 80 columns are enough."""
    console = Terminal()
    for name, found in figures.items():
        console.print(f"{name}: {about(found)}", style="bold")
        console.print("indexed of the scoring frames, less what chance would index")
        console.print(_run_table(found))
        console.print(f"best of all that was tried: {100 * found['reference_rate']:.0f}%")
        console.print(headline(found), end="\n\n")


def _run_table(found: Mapping[str, Any]) -> Table:
    after, paired = told_after(found["evaluations"]), found["paired"]
    n = found["paired_after"]
    table = _empty_table(
        [*_headings("after", after), f"regret\nafter {n}"],
        [f"agent's lead after {n},\npoints [95%]", "p\n(Holm)"] if paired else [],
    )
    for method in methods_of(found):
        row = found[method]
        cells = []
        if method in paired:
            pair = paired[method]
            low, high = (100 * end for end in pair["rate_ci95"])
            cells = [f"{100 * pair['rate_difference']:+.1f} [{low:+.1f}, {high:+.1f}]"]
            cells.append(f"{pair['p_sign_holm']:.1g}")
        rates = [f"{100 * row[f'rate_{k}']:.0f}%" for k in after]
        table.add_row(method, *rates, f"{row[f'regret_{n}']:.3f}", *cells)
    return table


def _headings(first: str, after: Sequence[int]) -> list[str]:
    return [f"{first}\n{after[0]}", *(f"\n{n}" for n in after[1:])]


def _empty_table(numbers: Sequence[str], pairs: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for heading in (*numbers, *pairs):
        table.add_column(heading, justify="right", no_wrap=True)
    return table
