"""What a session shows in a terminal and in a browser while it runs, and at its end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.table import Table

from envs.evaluation import wilson_interval
from envs.objective import USUAL_MERIT, Merit
from tuner.cli.options import stderr
from tuner.display.columns import Column, remark, trial_columns
from tuner.display.dashboard import Dashboard
from tuner.display.live import LiveTable
from tuner.display.terminal import Terminal
from tuner.recommendation import Recommendation, shown
from tuner.report.findings import find
from tuner.session.loop import Budget
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.statistics import SIGNIFICANT
from wrappers.settings import ABOUT

__all__ = ["display", "print_recommendation", "print_stopped", "progress_printer", "trial_printer"]

SECONDS_OF_SILENCE = 60.0


@contextmanager
def display(
    tuned: Sequence[str],
    budget: Budget,
    output: Path,
    *,
    resume: bool = False,
    port: int | None = None,
) -> Iterator[tuple[Callable[[Trial], None], Callable[[int, int], None]]]:
    """Show the session: a live table on a terminal, lines in a log, and a dashboard if asked for.

    Yields what is to be called with each trial and with the progress of an evaluation.
    """
    earlier = SessionStore.open(output) if resume else None
    merit = USUAL_MERIT if earlier is None else earlier.config.merit
    with ExitStack() as stack:
        show_trial: Callable[[Trial], None] = trial_printer(tuned, merit)
        show_progress: Callable[[int, int], None] = progress_printer()
        dashboard = stack.enter_context(Dashboard(output, port)) if port is not None else None
        if dashboard is not None:
            stderr.print(f"dashboard: {dashboard.address}", highlight=False, soft_wrap=True)
            if resume:
                dashboard.update()
        if stderr.is_terminal:
            begun = earlier.trials if earlier is not None else []
            live = stack.enter_context(LiveTable(stderr, tuned, budget, begun, merit))
            show_trial, show_progress = live.show_trial, live.show_progress

        def on_trial(trial: Trial) -> None:
            show_trial(trial)
            if dashboard is not None:
                dashboard.update()

        yield on_trial, show_progress


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


def print_recommendation(recommendation: Recommendation, directory: Path) -> None:
    """Print the recommended settings and what they gain, on stdout."""
    evidence = recommendation.evidence
    table = Table("setting", "recommended", "unit", title="Recommended settings")
    for name, value in recommendation.as_dict()["settings"].items():
        error = evidence.get(f"{name}_se")
        known = f" ± {error:.1g}" if error is not None else ""
        table.add_row(name, shown(value) + known, ABOUT[name].unit)
    console = Terminal(width=max(70, min(100, shutil.get_terminal_size().columns)))
    console.print(table)
    low, high = evidence["ci95"]
    fresh = recommendation.provenance.get("measured_on_fresh_frames")
    where = "on frames that the search never saw" if fresh else "on the frames of the search"
    if "cross_validated_rate" in evidence:
        where += f", cross-validated {evidence['cross_validated_rate']:.1%}"
    hits = f", {evidence['n_hits']} hits" if recommendation.settings.min_peaks else ""
    counted, whole = f"{evidence['n_indexed']} of {evidence['n_frames']} frames", ""
    if "strata" in evidence:
        counted, whole = f"{counted} drawn by promise", " of the run"
    console.print(
        f"indexing rate {evidence['indexing_rate']:.1%}{whole} [{low:.1%}, {high:.1%}]: "
        f"{counted}{hits},\n"
        f"  measured {where}\n{_held_against(recommendation)}",
        markup=False,
    )
    for statement in find(SessionStore.open(directory), recommendation).detector:
        text = f"warning: {statement}" if statement.warning else str(statement)
        console.print(text, markup=False, style="bold" if statement.warning else "")
    if "stopped" in recommendation.provenance:
        console.print(
            f"stopped early: {recommendation.provenance['stopped']} (tune --resume {directory} "
            "--whole-budget goes on)"
        )
    if "choice" in recommendation.provenance:
        console.print(f"not what measured best: {recommendation.provenance['choice']}")
    if "geometry_start" in evidence:
        console.print(evidence["geometry_start"], markup=False)
    if "cell_check" in evidence:
        verdict, wrong = evidence["cell_check"], evidence["cell_check"] == "contradicted"
        text = f"the given cell: {verdict}: {evidence['cell_check_reason']}"
        console.print(text, markup=False, style="bold" if wrong else "")
    own = evidence.get("crystfel_own_search", {})
    if "not_done" in own:
        console.print(f"CrystFEL's own peak search was not compared: {own['not_done']}")
    elif own:
        console.print(
            f"CrystFEL's own peak search, same settings: the same number of peaks in "
            f"{own['same_peaks']} of {own['n_frames']} frames, {own['n_indexed']} indexed"
        )
    n, k = evidence["n_decoys"], evidence["n_decoys_indexed"]
    if n:
        console.print(
            f"decoys: {k} of {n} scrambled peak lists indexed: chance indexes "
            f"< {wilson_interval(k, n)[1]:.0%} of the hits"
        )
    console.print(f"written: {directory / 'recommended.toml'}")


def _held_against(recommendation: Recommendation) -> str:
    """Return the rates of what is in use today and of the defaults, and the gain over the first."""
    evidence = recommendation.evidence
    low, high = evidence["gain_ci95"]
    gain = f"gain {evidence['gain']:+.1%} [{low:+.1%}, {high:+.1%}], p = {evidence['gain_p']:.1g}"
    defaults = f"CrystFEL's defaults {evidence['baseline_rate']:.1%}"
    if "start_rate" not in evidence:
        return f"{defaults}, same frames: {gain}"
    start = recommendation.provenance.get("start", "what is in use")
    nothing = (
        ""
        if evidence["gain_p"] < SIGNIFICANT
        else f"\nnothing clearly better than {start} was found"
    )
    return f"{start} {evidence['start_rate']:.1%}, same frames: {gain}\n  ({defaults}){nothing}"
