"""A running session on a terminal: the trials as a table, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from envs.objective import USUAL_MERIT, Merit
from tuner.display.columns import Column, remark, trial_columns
from tuner.display.progress import Progress
from tuner.session.trial import Trial

__all__ = ["LiveTable"]

BAR, WORDS = 30, 60
"""Widths of a progress bar, at most, and of what stands around it."""

INDENT = 4
"""Of a remark, which has a line of its own."""

REFRESHES = 4
"""Pictures a second."""

FEWEST_ROWS = 4
LONG_NAME = 9
"""Longer heads take two lines."""

LINES_AROUND = 6
"""Lines that the table's head and the progress take."""


class LiveTable:
    """Shows a session while it runs; used as a context manager.

    The table holds as many of the last trials as the terminal has room for, and all of them
    once it is over. However the block is left, the terminal is as it was.

    Parameters
    ----------
    console : Console
        Of a terminal.
    tuned : sequence of str
        The tuned settings.
    progress : Progress
        Of the session; what it knows is shown.
    merit : Merit
        What the session maximises.
    """

    def __init__(
        self,
        console: Console,
        tuned: Sequence[str],
        progress: Progress,
        merit: Merit = USUAL_MERIT,
    ) -> None:
        self._console, self._tuned, self._merit = console, tuple(tuned), merit
        self._progress = progress
        self._over = False
        self._spinner = Spinner("dots")
        self._live = Live(
            self, console=console, refresh_per_second=REFRESHES, vertical_overflow="visible"
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        trials = list(self._progress.trials)
        if self._over:
            if trials:
                yield self._table(trials, len(trials), options.max_width)
            return
        room = max(console.height - LINES_AROUND, FEWEST_ROWS)
        yield Group(
            self._table(trials, room, options.max_width), self._progress_lines(options.max_width)
        )

    def _table(self, trials: Sequence[Trial], room: int, width: int) -> Group:
        """Return a head, and a line for each trial with its numbers, one more with its remark."""
        leader = trials[-1].best if trials else -1
        rows = _fitting_rows(trials, leader, room)
        columns, gap = _fitting(trial_columns(rows, self._tuned, self._merit, leader), width)
        heads = [_head(column).split("\n") for column in columns]
        depth = max(map(len, heads))
        lines = [
            _line(columns, gap, [[""] * (depth - len(head)) + head for head in heads], i, "bold")
            for i in range(depth)
        ]
        for row, trial in enumerate(rows):
            leads = trial.number == leader
            style = "bold green" if leads else "red" if trial.evaluation.failure else ""
            lines.append(_line(columns, gap, [column.cells for column in columns], row, style))
            note = _note(trial, leads)
            if note:
                lines.append(Text(f"{' ' * INDENT}{note}", f"dim {style}".strip()))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _progress_lines(self, width: int) -> Table:
        bar = min(max(width - WORDS, 5), BAR)
        doing = self._progress.doing
        lines = Table.grid(padding=(0, 1))
        lines.add_row(
            self._spinner,
            doing.name,
            ProgressBar(max(doing.total, 1), doing.done, width=bar),
            doing.words,
        )
        share = min(self._progress.share, 1.0)
        lines.add_row("", "budget", ProgressBar(1.0, share, width=bar), self._progress.budget)
        return lines


def _fitting_rows(trials: Sequence[Trial], leader: int, room: int) -> list[Trial]:
    """Return as many of the last trials as there are lines for, and the leader in any case."""
    left, rows = room, []
    if leader >= 0:
        left -= _height(trials[leader], True)
    for trial in reversed(trials):
        if trial.number == leader:
            continue
        left -= _height(trial, False)
        if left < 0:
            break
        rows.append(trial)
    if leader >= 0:
        rows.append(trials[leader])
    return sorted(rows, key=lambda trial: trial.number)


def _height(trial: Trial, leads: bool) -> int:
    return 2 if _note(trial, leads) else 1


def _note(trial: Trial, leads: bool) -> str:
    return "; ".join(note for note in ("best so far" if leads else "", remark(trial)) if note)


def _head(column: Column) -> str:
    name = column.name if column.name != "trial" else ""
    return "\n".join(name.rsplit("_", 1)) if len(name) > LONG_NAME else name


def _width(column: Column) -> int:
    return max(cell_len(text) for text in (*_head(column).split("\n"), *column.cells))


def _line(
    columns: Sequence[Column], gap: int, cells: Sequence[Sequence[str]], row: int, style: str
) -> Text:
    """Return one line of a table; `cells` are by column."""
    parts = []
    for column, of_column in zip(columns, cells, strict=True):
        text = of_column[row]
        space = " " * (_width(column) - cell_len(text))
        parts.append(text + space if column.left else space + text)
    return Text((" " * gap).join(parts).rstrip(), style)


def _fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """Return the columns that a terminal has room for, and the space between them."""
    left = list(columns)
    while True:
        for gap in (2, 1):
            if sum(map(_width, left)) + gap * (len(left) - 1) <= width:
                return left, gap
        worst = max(left, key=lambda column: column.expendable)
        if not worst.expendable:
            return left, 1
        left.remove(worst)
