"""What a session shows in a terminal and in a browser while it runs, and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from envs.objective import USUAL_MERIT, Merit
from tuner.cli.options import stderr
from tuner.display.columns import Column, remark, trial_columns
from tuner.display.live import LiveTable
from tuner.display.progress import Progress
from tuner.session.trial import Trial

if TYPE_CHECKING:
    from tuner.session.budget import Budget

__all__ = ["display", "print_stopped", "progress_printer", "trial_printer"]

Told = Callable[[int, int], None]
"""Takes how much of something is done, and how much there is."""

SECONDS_OF_SILENCE = 60.0


@contextmanager
def display(
    tuned: Sequence[str],
    budget: Budget,
    output: Path,
    *,
    resume: bool = False,
    port: int | None = None,
) -> Iterator[tuple[Callable[[Trial], None], Told, Told]]:
    """Show the session: a live table on a terminal, lines in a log, and a dashboard if asked for.

    Yields what is to be called with each trial, and with the progress of an evaluation and of a
    look at the frames.
    """
    merit: Merit = USUAL_MERIT
    trials: list[Trial] = []
    if resume:
        from tuner.session.store import SessionStore

        store = SessionStore.open(output)
        merit, trials = store.config.merit, store.trials
    progress = Progress(budget, trials)
    with ExitStack() as stack:
        show_trial: Callable[[Trial], None] = trial_printer(tuned, merit)
        show_progress: Callable[[int, int], None] = progress_printer()
        show_look = progress_printer("frames looked at", 10.0)
        dashboard = None
        if port is not None:
            from tuner.display.dashboard import Dashboard

            dashboard = stack.enter_context(Dashboard(output, port, progress))
            stderr.print(f"dashboard: {dashboard.address}", highlight=False, soft_wrap=True)
            if resume:
                dashboard.update()
        if stderr.is_terminal:
            stack.enter_context(LiveTable(stderr, tuned, progress, merit))

        def on_trial(trial: Trial) -> None:
            progress.show_trial(trial)
            if not stderr.is_terminal:
                show_trial(trial)
            if dashboard is not None:
                dashboard.update()

        def on_progress(done: int, total: int) -> None:
            progress.show_progress(done, total)
            if not stderr.is_terminal:
                show_progress(done, total)

        def on_look(done: int, total: int) -> None:
            progress.show_progress(done, total, "frames looked at")
            if not stderr.is_terminal:
                show_look(done, total)

        yield on_trial, on_progress, on_look


def progress_printer(
    what: str = "frames and decoys", silence: float = SECONDS_OF_SILENCE
) -> Callable[[int, int], None]:
    """Return a function that says now and then on stderr how far an evaluation has come."""
    told = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() > told + silence:
            stderr.print(f"{'':15} {done} of {total} {what}", style="dim")
            told = time.monotonic()

    return show


def trial_printer(tuned: Sequence[str], merit: Merit = USUAL_MERIT) -> Callable[[Trial], None]:
    """Return a function that prints a trial on stderr, a header before the first.

    Numbers have a line, and a remark one of its own.
    """
    printed = False

    def line(texts: Sequence[str], columns: Sequence[Column], style: str = "") -> None:
        cells = [
            text.ljust(column.least) if column.left else text.rjust(column.least)
            for text, column in zip(texts, columns, strict=True)
        ]
        stderr.print(
            "  ".join(cells).rstrip(), highlight=False, markup=False, soft_wrap=True, style=style
        )

    def show(trial: Trial) -> None:
        nonlocal printed
        columns = trial_columns([trial], tuned, merit)
        if not printed:
            line([column.name for column in columns], columns, "bold")
            printed = True
        line([column.cells[0] for column in columns], columns)
        if note := remark(trial):
            stderr.print(
                f"{'':7}{note}", highlight=False, markup=False, soft_wrap=True, style="dim"
            )

    return show


def print_stopped(directory: Path) -> None:
    """Say on stderr what a session that was stopped has left, and how it goes on."""
    best = directory / "recommended.toml"
    kept = f"; the best so far is in {best}, unconfirmed" if best.exists() else ""
    stderr.print(
        f"stopped{kept}; sfx-tuner tune --resume {directory} goes on", markup=False, soft_wrap=True
    )
