"""A running session on a terminal: the trials as a table, and how far it has come."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from envs.evaluation import Evaluation
from tuner.recommendation import shown
from tuner.session.loop import Budget
from tuner.session.trial import Trial, tuning_trials

__all__ = ["LiveTable"]

BAR, WORDS = 30, 60
"""Widths of a progress bar, at most, and of what stands around it."""

NOTE = " "
"""Head of the column of remarks."""

LEAST_NOTE = 13
"""Narrower a remark says nothing."""

REFRESHES = 4
"""Pictures a second."""

FEWEST_ROWS = 4
LONG_NAME = 9
"""Longer heads take two lines."""

LINES_AROUND = 6
"""Lines that the table's head and the progress take."""


@dataclass(frozen=True)
class _Column:
    """A column; those with the greatest `expendable` go first where the terminal is narrow."""

    name: str
    cells: list[str]
    expendable: int = 0

    @property
    def width(self) -> int:
        lines = (line for text in (self.name, *self.cells) for line in text.split("\n"))
        return min(max(map(cell_len, lines)), LEAST_NOTE if self.name == NOTE else BAR)


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
    budget : Budget
    earlier : sequence of Trial
        Of the session that is resumed.
    """

    def __init__(
        self,
        console: Console,
        tuned: Sequence[str],
        budget: Budget,
        earlier: Sequence[Trial] = (),
    ) -> None:
        self._console, self._tuned, self._budget = console, tuple(tuned), budget
        self._trials = list(earlier)
        self._n_earlier = len(tuning_trials(earlier))
        self._spent_earlier = sum(trial.evaluation.seconds for trial in earlier)
        self._started = self._trial_started = time.monotonic()
        self._done = self._total = 0
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

    def show_trial(self, trial: Trial) -> None:
        """Add a new trial."""
        self._trials.append(trial)
        self._done = self._total = 0
        self._trial_started = time.monotonic()

    def show_progress(self, done: int, total: int) -> None:
        """Say how many frames and decoys of the evaluation under way are done."""
        # A later look at more frames begins with what is no hit, again.
        self._done, self._total = max(done, self._done), total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        trials = list(self._trials)
        if self._over:
            if trials:
                yield self._table(trials, len(trials), options.max_width)
            return
        room = max(console.height - LINES_AROUND, FEWEST_ROWS)
        yield Group(
            self._table(trials, room, options.max_width), self._progress(trials, options.max_width)
        )

    def _table(self, trials: Sequence[Trial], room: int, width: int) -> Table:
        leader = trials[-1].best if trials else -1
        rows = list(trials[-room:])
        # The leader stays in sight.
        if leader >= 0 and trials[leader] not in rows:
            rows = [trials[leader], *rows[1:]]
        columns, gap = _fitting(self._columns(rows, leader), width)
        table = Table(box=None, padding=(0, gap, 0, 0), header_style="bold", pad_edge=False)
        for column in columns:
            left = column.name in ("stage", NOTE)
            table.add_column(
                column.name,
                justify="left" if left else "right",
                no_wrap=True,
                overflow="ellipsis",
                style="dim" if column.name == NOTE else "",
            )
        for trial, *cells in zip(rows, *(column.cells for column in columns), strict=True):
            leads = trial.number == leader
            style = "bold green" if leads else "red" if trial.evaluation.failure else ""
            table.add_row(*map(Text, cells), style=style)
        return table

    def _columns(self, trials: Sequence[Trial], leader: int) -> list[_Column]:
        evaluations = [trial.evaluation for trial in trials]
        intervals = [(100 * low, 100 * high) for low, high in (each.ci95 for each in evaluations)]
        return [
            _Column("", [f"{'★' * (t.number == leader)}{t.number}" for t in trials]),
            _Column("stage", [trial.stage for trial in trials], 1),
            *(_tuned_column(name, evaluations) for name in self._tuned),
            _Column("hits", [str(each.n_hits) for each in evaluations], 4),
            _Column("indexed", [f"{each.n_indexed}/{each.n_frames}" for each in evaluations]),
            _Column("rate", [_rate(each) for each in evaluations]),
            _Column("95 %", [f"{low:.0f}–{high:.0f}" for low, high in intervals], 2),
            _Column("false", [_share(each.false_rate) for each in evaluations], 3),
            _Column("time", [f"{each.seconds:.1f}s" for each in evaluations], 5),
            _Column(NOTE, [_note(trial, trial.number == leader) for trial in trials], 6),
        ]

    def _progress(self, trials: Sequence[Trial], width: int) -> Table:
        now, bar = time.monotonic(), min(max(width - WORDS, 5), BAR)
        n_done = len(tuning_trials(trials))
        lines = Table.grid(padding=(0, 1))
        if self._total:
            doing = f"{self._done}/{self._total} frames and decoys"
        else:
            doing = "finding peaks" if trials else "compiling, half a minute, once"
        spent = self._spent_earlier + now - self._started
        share, left = _budget_left(
            self._budget, n_done, n_done - self._n_earlier, spent, now - self._started
        )
        lines.add_row(
            self._spinner,
            f"evaluation {len(trials)}" if share < 1 else "confirming, reporting",
            ProgressBar(max(self._total, 1), self._done, width=bar),
            f"{doing}, {_clock(now - self._trial_started)}",
        )
        lines.add_row("", "budget", ProgressBar(1.0, min(share, 1.0), width=bar), left)
        return lines


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], int]:
    """Return the columns that a terminal has room for, and the space between them."""
    for gap in (2, 1):
        if sum(column.width + gap for column in columns) <= width:
            return columns, gap
    columns = list(columns)
    while sum(column.width + 1 for column in columns) > width:
        worst = max(columns, key=lambda column: column.expendable)
        if not worst.expendable:
            break
        columns.remove(worst)
    return columns, 1


def _tuned_column(name: str, evaluations: Sequence[Evaluation]) -> _Column:
    values = [evaluation.settings.as_dict()[name] for evaluation in evaluations]
    head = "\n".join(name.rsplit("_", 1)) if len(name) > LONG_NAME else name
    return _Column(head, ["" if value is None else shown(value) for value in values])


def _rate(evaluation: Evaluation) -> str:
    return "failed" if evaluation.failure else _share(evaluation.rate)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _note(trial: Trial, leads: bool) -> str:
    evaluation = trial.evaluation
    notes = ["best so far" if leads else ""]
    notes += evaluation.remarks
    notes.append(f"failed: {evaluation.failure}" if evaluation.failure else trial.reason)
    return "; ".join(note for note in notes if note)


def _budget_left(
    budget: Budget, n_done: int, n_new: int, spent: float, running: float
) -> tuple[float, str]:
    """Return the share that is spent, and what is left in words.

    Parameters
    ----------
    budget : Budget
    n_done, n_new : int
        Evaluations, and how many of them since the session was begun or resumed.
    spent, running : float
        Seconds, and how many of them since then.
    """
    shares, words, seconds = [0.0], [], []
    if budget.evaluations is not None:
        shares.append(n_done / budget.evaluations)
        words.append(f"{n_done}/{budget.evaluations} evaluations")
        if n_new:
            seconds.append((budget.evaluations - n_done) * running / n_new)
    if budget.minutes is not None:
        shares.append(spent / (60 * budget.minutes))
        words.append(f"{spent / 60:.1f}/{budget.minutes:g} minutes")
        seconds.append(60 * budget.minutes - spent)
    if seconds:
        words.append(f"about {_clock(max(min(seconds), 0.0))} left")
    return max(shares), ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
