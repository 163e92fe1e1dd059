"""The comparison on the frozen frames, on the terminal and for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tuner.comparison.frames_benchmark import RETIRED, RIVAL, TOLD
from tuner.display.terminal import Terminal

__all__ = ["frames_markdown", "methods_of", "print_frames", "winner"]

Found = Mapping[str, Any]

HEADINGS = ("method", *map(str, TOLD), "core-s to best", "lead at 3 on warm_gp_locked at 10")


def methods_of(found: Found) -> list[str]:
    """Return the methods that a family has figures of."""
    return [name for name, row in found.items() if isinstance(row, dict)]


def winner(found: Found, full: int = 3) -> str:
    """Return the method with the least regret after the frames of so many full evaluations."""
    return min(methods_of(found), key=lambda method: found[method][f"regret_{full}"])


def print_frames(figures: Found) -> None:
    """Print a table and a sentence for each family, and of several; 80 columns are enough."""
    console = Terminal()
    for family, found in figures["families"].items():
        console.print(f"{family}: {found['n_tasks']} experiments × {found['n_seeds']} seeds",
                      style="bold")  # fmt: skip
        console.print(
            "regret in points of merit on the scoring frames, when the frames of so many\n"
            "full evaluations are indexed"
        )
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("method", no_wrap=True)
        for heading in (*map(str, TOLD), "core-s\nto best", "at 3: lead on the\nrival at 10 [95%]"):
            table.add_column(heading, justify="right", no_wrap=True)
        for method in methods_of(found):
            table.add_row(*_cells(method, found[method]))
        console.print(table)
        console.print(_sentence(found), end="\n\n")
    if about := _retired(figures):
        console.print(about, end="\n\n")
    for name, found in figures["together"].items():
        console.print(_together(name, found), end="\n\n")


def frames_markdown(figures: Found) -> str:
    """Return the tables for a document."""
    parts = []
    for family, found in figures["families"].items():
        rows = [_cells(f"`{method}`", found[method]) for method in methods_of(found)]
        lines = [f"| {' | '.join(row)} |" for row in (HEADINGS, *rows)]
        lines.insert(1, "|---" * len(HEADINGS) + "|")
        about = f"**{family}** ({found['n_tasks']} experiments × {found['n_seeds']} seeds)"
        parts += [about, "\n".join(lines), _sentence(found)]
    if said := _retired(figures):
        parts.append(said)
    parts += [_together(name, found) for name, found in figures["together"].items()]
    return "\n\n".join(parts) + "\n"


def _cells(name: str, row: Found) -> list[str]:
    cells = [f"{100 * row[f'regret_{full}']:.1f}" for full in TOLD]
    seconds = row["core_seconds_to_best"]
    cells.append("never" if seconds is None else f"{seconds:.2g}")
    lead = row.get(f"lead_3_against_{RIVAL}_10")
    if lead is None:
        return [name, *cells, ""]
    low, high = (100 * end for end in row[f"lead_3_against_{RIVAL}_10_ci95"])
    return [name, *cells, f"{100 * lead:+.1f} [{low:+.1f}, {high:+.1f}]"]


def _sentence(found: Found) -> str:
    """Return who is ahead after three full evaluations, and what an exhaustive grid misses."""
    first = winner(found)
    grid = 100 * found[first]["grid_regret"]
    words = (
        f"After the frames of three full evaluations {first} misses least, "
        f"{100 * found[first]['regret_3']:.1f} points; the whole grid, measured on the frames that "
        f"were searched on, misses {grid:.1f}."
    )
    row = found[first]
    if RIVAL in found and first != RIVAL:
        low, high = (100 * end for end in row[f"lead_3_against_{RIVAL}_3_ci95"])
        words += (
            f" It is {100 * row[f'lead_3_against_{RIVAL}_3']:.1f} points ahead of {RIVAL} there "
            f"[{low:.1f}, {high:.1f}]."
        )
    return words


def _retired(figures: Found) -> str:
    """Return which methods of the tables can no longer be run, and who recorded them; or ""."""
    shown = {method for found in figures["families"].values() for method in methods_of(found)}
    return " ".join(
        f"{method} is retired: its figures are those that the last version that had it, {version}, "
        "recorded."
        for method, version in RETIRED.items()
        if method in shown
    )


def _together(name: str, found: Found) -> str:
    """Return what the agent leads by over several families."""
    regrets = ", ".join(
        f"{method} {100 * found['regret'][method]['3']:.2f}"
        for method in sorted(found["regret"], key=lambda each: float(found["regret"][each]["3"]))
    )
    words = [
        f"{name.capitalize()}, {found['n_tasks']} experiments: points missed after the frames of "
        f"three full evaluations: {regrets}."
    ]
    for other, after in found["lead"].items():
        leads = ", ".join(f"{_points(lead)} after {full}" for full, lead in after.items())
        at_ten = _points(found["lead_3_against_10"][other])
        words.append(
            f"The agent's lead on {other}: {leads} full evaluations; at 3 on it at 10: {at_ten}."
        )
    return " ".join(words)


def _points(lead: Sequence[float]) -> str:
    mean, low, high = (100 * each for each in lead)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
