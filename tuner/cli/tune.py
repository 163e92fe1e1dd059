"""``sfx-tuner tune``: the main job."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from envs.evaluation import Evaluation, wilson_interval
from envs.parameter_space import CLEN_RANGE, DEFAULT_TUNED
from tuner.cli.options import (
    PEAK_FINDER_FLAGS,
    RegistryChoice,
    cell_option,
    data_argument,
    geometry_option,
    indexer_choice,
    indexer_options,
    jobs_option,
    json_option,
    peak_finder_help,
    print_json,
    say_notes,
    seed_option,
    stderr,
)
from tuner.cluster import connect
from tuner.display.dashboard import Dashboard
from tuner.display.live import LiveTable
from tuner.display.terminal import Terminal
from tuner.recommendation import Recommendation, shown
from tuner.report.findings import find
from tuner.searchers import SEARCHERS
from tuner.session.loop import Budget
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.tuning import Request, tune
from wrappers.cell import Cell
from wrappers.errors import InputError, ProgramError
from wrappers.frames.opening import Address
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT, Settings

__all__ = ["command", "display", "print_recommendation", "trial_printer"]

SECONDS_OF_SILENCE = 60.0


@click.command(short_help="Find the settings that index most frames.")
@data_argument
@geometry_option
@cell_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Session directory: recommended.toml, trials.csv, report.html.",
)
@click.option("--searcher", type=click.Choice(SEARCHERS.names()), default="gp", show_default=True)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Directory of another policy (sfx-tuner train) for the ppo searcher.  [default: the "
    "shipped one]",
)
@indexer_options
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Size of the tuning sample.",
)
@click.option(
    "--evaluations", type=click.IntRange(min=2), help="Budget in evaluations.  [default: 30]"
)
@click.option("--minutes", type=click.FloatRange(0, 1e5, min_open=True), help="Budget in minutes.")
@click.option(
    "--tune",
    "tuned",
    default=",".join(DEFAULT_TUNED),
    show_default=True,
    help="Settings to tune, separated by commas.",
)
@click.option(
    *PEAK_FINDER_FLAGS,
    type=RegistryChoice(PEAK_FINDERS),
    default=Settings.peak_finder,
    show_default=True,
    help=peak_finder_help(),
)
@click.option(
    "--clen-range",
    type=click.FloatRange(0.001, 0.3),
    default=CLEN_RANGE,
    show_default=True,
    help="Seek clen within this fraction of the geometry's.",
)
@click.option("--stop-early", is_flag=True, help="Stop once no tried settings can be much better.")
@click.option(
    "--cluster",
    metavar="local|slurm|ADDRESS",
    help="Let the workers of a Dask cluster evaluate.  [default: processes of this machine]",
)
@click.option(
    "--dashboard",
    is_flag=False,
    flag_value=0,
    type=click.IntRange(0, 65535),
    metavar="[PORT]",
    help="Show the running session in a browser, at this port of 127.0.0.1 or at any free one. "
    "Whoever is logged in to this machine can see it.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted session.")
@seed_option
@jobs_option
@json_option
def command(
    data: Address,
    geometry: Path,
    cell: Path,
    output: Path,
    searcher: str,
    policy: Path | None,
    frames: int,
    evaluations: int | None,
    minutes: float | None,
    tuned: str,
    peak_finder: str,
    clen_range: float,
    stop_early: bool,
    cluster: str | None,
    dashboard: int | None,
    resume: bool,
    seed: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the settings that index most frames of a run.

    Each evaluation finds peaks with one set of settings in the same random sample of frames
    and indexes the hits. The session can be stopped with Ctrl-C and resumed. When the budget
    is spent, up to three more evaluations confirm the winner, on fresh frames where there are.

    \b
    Example:
      sfx-tuner tune run.h5 -g run.geom -p protein.cell -o session
    """
    request = Request(
        data=data,
        geometry=geometry,
        cell=cell,
        searcher=searcher,
        n_frames=frames,
        tuned=tuple(name.strip() for name in tuned.split(",")),
        peak_finder=peak_finder,
        clen_range=clen_range,
        seed=seed,
        indexer=indexer_choice(options),
        stop_early=stop_early,
        policy=policy,
    )
    if minutes is not None and math.isnan(minutes):
        raise InputError("--minutes is not a number: give a time such as 20")
    if evaluations is None and minutes is None:
        evaluations = 30
    budget = Budget(evaluations, minutes)

    try:
        with (
            connect(cluster, jobs, _warn) as client,
            display(request.tuned, budget, output, resume=resume, port=dashboard) as (
                on_trial,
                on_progress,
            ),
        ):
            recommendation = tune(
                request,
                output,
                budget=budget,
                jobs=jobs,
                cluster=client,
                resume=resume,
                on_inputs=_say_inputs,
                on_indexer=lambda name: stderr.print(f"indexer: {name}", highlight=False),
                on_trial=on_trial,
                on_progress=on_progress,
            )
    except (KeyboardInterrupt, SystemExit):
        stderr.print(f"stopped; the same command with --resume goes on with {output}")
        raise
    except ProgramError as error:
        raise ProgramError(
            f"{error}; nothing measured is lost: the same command with --resume goes on"
        ) from error
    if recommendation is None:
        raise InputError(
            f"no settings indexed any frame of {data}: look at the peaks and hits in "
            f"{output / 'trials.csv'}, then check the cell, the geometry and the photon energy"
        )
    if as_json:
        print_json({**recommendation.as_dict(), "session": str(output)})
    else:
        print_recommendation(recommendation, output)
    if "ended_by" in recommendation.provenance:
        raise ProgramError(
            "the session ended before its budget was spent, and recommends the best of what it "
            f"had measured: {recommendation.provenance['ended_by']}; --resume goes on"
        )


def _warn(sentence: str) -> None:
    stderr.print(f"warning: {sentence}", markup=False, highlight=False, soft_wrap=True)


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
    with ExitStack() as stack:
        show_trial: Callable[[Trial], None] = trial_printer(tuned)
        show_progress: Callable[[int, int], None] = progress_printer()
        dashboard = stack.enter_context(Dashboard(output, port)) if port is not None else None
        if dashboard is not None:
            stderr.print(f"dashboard: {dashboard.address}", highlight=False, soft_wrap=True)
            if resume:
                dashboard.update()
        if stderr.is_terminal:
            earlier = SessionStore.open(output).trials if resume else []
            live = stack.enter_context(LiveTable(stderr, tuned, budget, earlier))
            show_trial, show_progress = live.show_trial, live.show_progress

        def on_trial(trial: Trial) -> None:
            show_trial(trial)
            if dashboard is not None:
                dashboard.update()

        yield on_trial, show_progress


def progress_printer() -> Callable[[int, int], None]:
    """Return a function that says once a minute on stderr how far an evaluation has come."""
    told = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() > told + SECONDS_OF_SILENCE:
            stderr.print(f"{'':15} {done} of {total} frames and decoys", style="dim")
            told = time.monotonic()

    return show


def trial_printer(tuned: Sequence[str]) -> Callable[[Trial], None]:
    """Return a function that prints a line about a trial on stderr, a header before the first."""
    widths = {name: max(len(name), 9) for name in tuned}
    header = "trial stage     " + " ".join(f"{name:>{widths[name]}}" for name in tuned)
    header += "  hits indexed frames   rate     95 % interval  false    time"
    printed = False

    def show(trial: Trial) -> None:
        nonlocal printed
        if not printed:
            stderr.print(header, highlight=False, markup=False, soft_wrap=True, style="bold")
            printed = True
        evaluation = trial.evaluation
        values = " ".join(
            f"{getattr(evaluation.settings, name):{widths[name]}.6g}" for name in tuned
        )
        stderr.print(
            f"{trial.number:5d} {trial.stage:9s} {values} {_measured(evaluation)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if trial.reason:
            stderr.print(f"{'':15}{trial.reason}", highlight=False, markup=False, style="dim")

    return show


def _measured(evaluation: Evaluation) -> str:
    if evaluation.failure:
        return f"failed: {evaluation.failure}"
    low, high = evaluation.ci95
    false = "" if math.isnan(evaluation.false_rate) else f"{evaluation.false_rate:.1%}"
    remarks = "; ".join(evaluation.remarks)
    return (
        f"{evaluation.n_hits:5d} {evaluation.n_indexed:7d} {evaluation.n_frames:6d} "
        f"{evaluation.rate:6.1%}  [{low:6.1%}, {high:6.1%}] {false:>6} "
        f"{evaluation.seconds:6.1f}s{f'  {remarks}' if remarks else ''}"
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
    gain_low, gain_high = evidence["gain_ci95"]
    fresh = recommendation.provenance.get("measured_on_fresh_frames")
    where = "on frames that the search never saw" if fresh else "on the frames of the search"
    console.print(
        f"indexing rate {evidence['indexing_rate']:.1%} [{low:.1%}, {high:.1%}]: "
        f"{evidence['n_indexed']} of {evidence['n_frames']} frames, {evidence['n_hits']} hits,\n"
        f"  measured {where}\n"
        f"CrystFEL's defaults {evidence['baseline_rate']:.1%}, same frames: "
        f"gain {evidence['gain']:+.1%} [{gain_low:+.1%}, {gain_high:+.1%}], p = "
        f"{evidence['gain_p']:.1g}"
    )
    for statement in find(SessionStore.open(directory), recommendation).detector:
        text = f"warning: {statement}" if statement.warning else str(statement)
        console.print(text, markup=False, style="bold" if statement.warning else "")
    if "choice" in recommendation.provenance:
        console.print(f"not what measured best: {recommendation.provenance['choice']}")
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


def _say_inputs(cell: Cell, notes: Sequence[str]) -> None:
    """Say with which cell the session begins, and what is odd about what was given."""
    stderr.print(f"cell: {cell.summary}", markup=False, highlight=False, soft_wrap=True)
    say_notes(notes)
