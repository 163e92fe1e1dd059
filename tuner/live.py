"""A running session on a terminal: the trials as a table, and how far it has come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tuner.report.findings import leaders
from tuner.session import Budget, tuning_trials
from tuner.store import Trial

__all__ = ["LiveTable"]

BAR = 30
"""Width of a progress bar."""

REFRESHES = 4
"""Pictures a second."""

FEWEST_ROWS = 4
LINES_AROUND = 5
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
        """Say how many frames of the evaluation under way are done."""
        # A later look at more frames begins with those that are hits again.
        self._done, self._total = max(done, self._done), total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        trials = list(self._trials)
        if self._over:
            if trials:
                yield self._table(trials, len(trials))
            return
        room = max(console.height - LINES_AROUND, FEWEST_ROWS)
        yield Group(self._table(trials, room), self._progress(trials))

    def _table(self, trials: Sequence[Trial], room: int) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        for name in ("", "stage", *self._tuned, "hits", "indexed", "rate", "95 %", "false", "time"):
            table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
        table.add_column("", no_wrap=True, overflow="ellipsis", style="dim")
        leader = leaders(trials)[-1] if trials else -1
        shown = list(trials[-room:])
        # The leader stays in sight.
        if leader >= 0 and trials[leader] not in shown:
            shown = [trials[leader], *shown[1:]]
        for trial in shown:
            leads = trial.number == leader
            style = "bold green" if leads else "red" if trial.evaluation.failure else ""
            table.add_row(*self._cells(trial, "★ best so far" if leads else ""), style=style)
        return table

    def _cells(self, trial: Trial, mark: str) -> list[Text]:
        evaluation = trial.evaluation
        values = evaluation.settings.as_dict()
        low, high = evaluation.ci95
        notes = [mark, f"{evaluation.n_failed} without an answer" if evaluation.n_failed else ""]
        notes.append(f"failed: {evaluation.failure}" if evaluation.failure else trial.reason)
        cells = [
            str(trial.number),
            trial.stage,
            *("" if values[name] is None else f"{values[name]:.6g}" for name in self._tuned),
            str(evaluation.n_hits),
            f"{evaluation.n_indexed}/{evaluation.n_frames}",
            f"{evaluation.rate:.1%}",
            f"{100 * low:.0f}–{100 * high:.0f}",
            f"{evaluation.false_rate:.1%}",
            f"{evaluation.seconds:.1f}s",
            "; ".join(note for note in notes if note),
        ]
        return [Text(cell) for cell in cells]

    def _progress(self, trials: Sequence[Trial]) -> Table:
        now = time.monotonic()
        n_done = len(tuning_trials(trials))
        lines = Table.grid(padding=(0, 1))
        if self._total:
            doing = f"{self._done}/{self._total} frames"
        else:
            doing = "finding peaks" if trials else "compiling for half a minute, the first time"
        spent = self._spent_earlier + now - self._started
        share, left = _budget_left(
            self._budget, n_done, n_done - self._n_earlier, spent, now - self._started
        )
        lines.add_row(
            self._spinner,
            f"evaluation {len(trials)}" if share < 1 else "confirming, reporting",
            ProgressBar(max(self._total, 1), self._done, width=BAR),
            f"{doing}, {_clock(now - self._trial_started)}",
        )
        lines.add_row("", "budget", ProgressBar(1.0, min(share, 1.0), width=BAR), left)
        return lines


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
