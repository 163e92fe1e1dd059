"""``sfx-tuner tune``: the main job."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from rich.table import Table

from envs.parameter_space import DEFAULT_TUNED
from tuner.cli.options import (
    cell_option,
    choose_indexer,
    data_argument,
    geometry_option,
    indexer_options,
    jobs_option,
    json_option,
    print_json,
    stderr,
)
from tuner.recommendation import Recommendation
from tuner.searchers import SEARCHERS
from tuner.session import Budget
from tuner.store import Trial
from tuner.tuning import Request, tune
from wrappers.errors import InputError

__all__ = ["command", "print_recommendation", "print_trial"]


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
@click.option("--searcher", type=click.Choice(list(SEARCHERS)), default="gp", show_default=True)
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
@click.option("--minutes", type=click.FloatRange(min=0), help="Budget in minutes.")
@click.option(
    "--tune",
    "tuned",
    default=",".join(DEFAULT_TUNED),
    show_default=True,
    help="Settings to tune, separated by commas.",
)
@click.option(
    "--clen-range",
    type=click.FloatRange(0.001, 0.3),
    default=0.05,
    show_default=True,
    help="Seek clen within this fraction of the geometry's.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted session.")
@click.option("--seed", type=int, default=0, show_default=True)
@jobs_option
@json_option
def command(
    data: Path,
    geometry: Path,
    cell: Path,
    output: Path,
    searcher: str,
    indexer: str,
    timeout: float,
    frames: int,
    evaluations: int | None,
    minutes: float | None,
    tuned: str,
    clen_range: float,
    resume: bool,
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Find the settings that index most frames of a run.

    Each evaluation finds peaks with one set of settings in the same random sample of frames
    and indexes the hits. The session can be stopped with Ctrl-C and resumed.

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
        clen_range=clen_range,
        seed=seed,
    )
    if evaluations is None and minutes is None:
        evaluations = 30
    try:
        with stderr.status("evaluating settings; Ctrl-C stops, --resume goes on"):
            recommendation = tune(
                request,
                output,
                lambda read, unit: choose_indexer(indexer, read, unit, jobs, timeout),
                budget=Budget(evaluations, minutes),
                jobs=jobs,
                resume=resume,
                on_trial=print_trial,
            )
    except KeyboardInterrupt:
        stderr.print(f"stopped; the same command with --resume goes on with {output}")
        raise
    if recommendation is None:
        raise InputError(
            f"no settings indexed any frame of {data}: look at the peaks and hits in "
            f"{output / 'trials.csv'}, then check the cell, the geometry and the photon energy"
        )
    if as_json:
        print_json({**recommendation.as_dict(), "session": str(output)})
    else:
        print_recommendation(recommendation, output)


def print_trial(trial: Trial) -> None:
    """Print one line about a trial, on stderr."""
    evaluation = trial.evaluation
    settings = evaluation.settings
    if trial.number == 0:
        stderr.print(
            "trial stage     min_snr threshold pixels     clen    hits indexed   rate     "
            "95 % interval  false   time",
            highlight=False,
            markup=False,
            soft_wrap=True,
            style="bold",
        )
    low, high = evaluation.ci95
    failed = f"  {evaluation.n_failed} without an answer" if evaluation.n_failed else ""
    stderr.print(
        f"{trial.number:5d} {trial.stage:9s} {settings.min_snr:7.2f} {settings.threshold:9.5g} "
        f"{settings.min_pix_count:2d}-{settings.max_pix_count:<3d} "
        f"{1e3 * (settings.clen or float('nan')):8.3f}mm {evaluation.n_hits:5d} "
        f"{evaluation.n_indexed:7d} {evaluation.rate:6.1%}  [{low:6.1%}, {high:6.1%}] "
        f"{evaluation.false_rate:6.1%} {evaluation.seconds:5.1f}s{failed}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_recommendation(recommendation: Recommendation, directory: Path) -> None:
    """Print the recommended settings and what they gain, on stdout."""
    evidence = recommendation.evidence
    table = Table("setting", "recommended", title="Recommended settings")
    for name, value in recommendation.as_dict()["settings"].items():
        table.add_row(name, f"{value:.6g}")
    with_width = max(60, min(100, shutil.get_terminal_size().columns))
    from rich.console import Console

    console = Console(width=with_width, highlight=False)
    console.print(table)
    low, high = evidence["ci95"]
    gain_low, gain_high = evidence["gain_ci95"]
    console.print(
        f"indexing rate {evidence['indexing_rate']:.1%} [{low:.1%}, {high:.1%}]: "
        f"{evidence['n_indexed']} of {evidence['n_frames']} frames, {evidence['n_hits']} hits\n"
        f"CrystFEL's defaults {evidence['baseline_rate']:.1%} on the same frames: "
        f"gain {evidence['gain']:+.1%} [{gain_low:+.1%}, {gain_high:+.1%}]"
    )
    if "false_rate" in evidence:
        console.print(f"indexed by chance alone: about {evidence['false_rate']:.2%} of all frames")
    console.print(f"written: {directory / 'recommended.toml'}")
