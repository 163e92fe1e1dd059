"""``sfx-tuner tune``: the main job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from envs.parameter_space import DEFAULT_TUNED
from tuner.cli.live import buffer_option, recorded
from tuner.cli.night import is_night, read_night, tune_night
from tuner.cli.options import (
    PEAK_FINDER_FLAGS,
    RegistryChoice,
    SourceName,
    existing,
    indexer_options,
    jobs_option,
    json_option,
    memory_option,
    peak_finder_help,
    print_json,
    say_notes,
    seed_option,
    stderr,
)
from tuner.cli.tune_request import asked, asked_like, others_given, resumed
from tuner.cluster import connect
from tuner.searchers import SEARCHERS
from tuner.session.budget import USUAL_EVALUATIONS, Budget
from tuner.session.config import Sampling
from tuner.session.request import FEWEST_FRAMES, USUAL, Request
from wrappers.cell import Cell
from wrappers.errors import ContradictedError, InputError, NothingFoundError, ProgramError
from wrappers.frames.address import Address
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT, Settings
from wrappers.streams.protocols import is_stream

__all__ = ["command"]


class _Command(click.Command):
    """Says how a setting is fixed to whoever gives it as an option, as `peaks` has it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            if name not in ABOUT:
                raise
            raise InputError(
                f"tune has no {error.option_name}: --set {name}=VALUE fixes it, "
                f"--range {name}=LOW:HIGH bounds it"
            ) from None


@click.command(cls=_Command)
@click.argument("data", type=SourceName(), metavar="DATA", required=False)
@click.option("-g", "--geometry", type=existing, help="CrystFEL geometry file (.geom).")
@click.option(
    "-p",
    "--cell",
    type=existing,
    help="Unit cell: CrystFEL .cell or PDB.  [default: found from the frames]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Session directory: recommended.toml, trials.csv, report.html.",
)
@click.option(
    "--searcher",
    type=RegistryChoice(SEARCHERS),
    help=f"Who proposes parameter sets.  [default: {USUAL}, the agent on the frames' response map; "
    f"gp with another peak finder or fewer than {FEWEST_FRAMES} frames]",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help=f"Directory of another policy (sfx-tuner train) for the searcher {USUAL}.  "
    "[default: the shipped one]",
)
@indexer_options
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=Request.n_frames,
    show_default=True,
    help="Size of the tuning sample.",
)
@click.option(
    "--sampling",
    type=click.Choice(get_args(Sampling)),
    default=Request.sampling,
    show_default=True,
    help="How the frames are drawn: at random; by strata of what their peaks promise (rates are "
    "weighted, and remain those of the whole run); auto: by strata where a random sample would "
    "hold few promising frames.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(min=2),
    help=f"Budget in evaluations.  [default: {USUAL_EVALUATIONS}]",
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
    "--set",
    "fixed",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Settings that keep this value, such as min_peaks=15,max_res=800 or clen=80mm.",
)
@click.option(
    "--range",
    "bounds",
    multiple=True,
    metavar="NAME=LOW:HIGH,...",
    help="Tune within this range instead of the usual one, such as min_snr=3:7.",
)
@click.option(
    "--start",
    metavar="NAME=VALUE,...|FILE",
    help="What you use today, which is measured first and is the bar to beat: settings such as "
    "min_snr=4.5,threshold=60, a recommended.toml or session, a CrystFEL command line (in a script "
    "or stream) or project, an EXtra-Xwiz, OM or Cheetah configuration.  [default: what is "
    "customary for the detector]",
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
    default=Request.clen_range,
    show_default=True,
    help="Seek clen within this fraction of the geometry's.",
)
@click.option(
    "--stop-early/--whole-budget",
    default=Request.stop_early,
    show_default=True,
    help="Stop once there is nothing to gain, or go on while the searcher has more to propose.",
)
@click.option(
    "--cell-check/--no-cell-check",
    default=True,
    show_default=True,
    help="In the end, hold the cell against the one on which the clearest frames agree.",
)
@click.option(
    "--find-geometry/--no-find-geometry",
    default=True,
    show_default=True,
    help="Begin where the clearest frames put the detector, and mend a shift that lattices show.",
)
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
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[SESSION]",
    help="Go on with an interrupted session. Its directory says everything else; a budget that is "
    "given here replaces its own.",
)
@click.option(
    "--from",
    "earlier",
    type=click.Path(path_type=Path),
    metavar="SESSION",
    help="Begin like an earlier session of the same detector: its geometry, cell and options, save "
    "what is given here, and with what it recommends as the start.",
)
@buffer_option
@seed_option
@jobs_option
@memory_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    data: Address | None,
    output: Path | None,
    minutes: float | None,
    cell_check: bool,
    find_geometry: bool,
    buffer: int,
    cluster: str | None,
    dashboard: int | None,
    resume: str | None,
    earlier: Path | None,
    jobs: int,
    memory: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the settings that index most frames of a run.

    Each evaluation finds peaks with one parameter set in the same sample of frames
    and indexes the hits. The session can be stopped with Ctrl-C and resumed. When the budget
    is spent, up to four more evaluations confirm the winner, on fresh frames where there are.

    DATA may be the address of a stream, such as dectris+tcp://HOST:31001: its next frames, twice
    --frames, are kept with the session.

    DATA may be a TOML file of several samples, one [[sample]] with run, output and options of
    this command each; what they share stands in [all]. They are tuned one after the other.

    \b
    Example:
      sfx-tuner tune run.h5 -g run.geom -p protein.cell -o session
      sfx-tuner tune --resume session
      sfx-tuner tune night.toml
    """
    if minutes is not None and math.isnan(minutes):
        raise InputError("--minutes is not a number: give a time such as 20")
    if is_night(data):
        assert isinstance(data, Path)
        context.exit(_night(data, context.command, as_json))
    if resume and output is not None:
        # Before it took the session's directory, --resume was a flag in front of anything.
        data, resume = data or SourceName().convert(resume, None, None), ""
    how = jobs, memory, cluster, dashboard, as_json, cell_check, find_geometry, buffer
    if resume:
        output = Path(resume)
        request, budget = resumed(output, context.params)
        _run(request, budget, output, True, *how)
        return
    for value, words in (
        (data, "the run: a file of frames, DATA"),
        (options["geometry"] or earlier, "the detector's geometry: -g FILE"),
        (output, "a directory for the session: -o DIRECTORY"),
    ):
        if value is None:
            raise InputError(f"tune lacks {words} (or go on with a session: --resume SESSION)")
    assert output is not None
    values = {**context.params, "data": data}
    request, budget = asked(values) if earlier is None else asked_like(earlier, values)
    _run(request, budget, output, resume is not None, *how)


OF_A_NIGHT = {"data", "jobs", "memory", "as_json"}
"""What may be given beside a night's file."""


def _night(path: Path, command: click.Command, as_json: bool) -> int:
    """Tune the samples of a night's file; return the exit code."""
    others = others_given(OF_A_NIGHT)
    if others:
        raise InputError(f"{path} says how its samples are tuned: put {others} into the file")
    params = click.get_current_context().params
    further = ["--jobs", str(params["jobs"])]
    if params["memory"] is not None:
        further += ["--memory", f"{params['memory'] // 1000}KB"]
    return tune_night(path, read_night(path, command), command, further, as_json)


def _run(
    request: Request,
    budget: Budget,
    output: Path,
    resume: bool,
    jobs: int,
    memory: int | None,
    cluster: str | None,
    dashboard: int | None,
    as_json: bool,
    cell_check: bool,
    find_geometry: bool,
    buffer: int,
) -> None:
    """Run or resume a session, show it, and print what it recommends."""
    if is_stream(request.data):
        request = recorded(request, output, buffer)
    # What tuning needs takes a second to import, which whoever asks for help should not wait for.
    from tuner.cli.session_display import display, print_stopped

    try:
        with (
            connect(cluster, jobs, _warn) as client,
            display(request.tuned, budget, output, resume=resume, port=dashboard) as (
                on_trial,
                on_progress,
                on_look,
            ),
        ):
            # It takes seconds to import, and the dashboard is there meanwhile.
            from tuner.tuning import tune

            recommendation = tune(
                request,
                output,
                budget=budget,
                jobs=jobs,
                memory=memory,
                cluster=client,
                resume=resume,
                cell_check=cell_check,
                find_geometry=find_geometry,
                on_inputs=_say_inputs,
                on_indexer=lambda name: stderr.print(f"indexer: {name}", highlight=False),
                on_trial=on_trial,
                on_progress=on_progress,
                on_look=on_look,
                on_sample=lambda words: stderr.print(words, markup=False, highlight=False),
                on_geometry=lambda words: stderr.print(
                    words, markup=False, highlight=False, soft_wrap=True
                ),
                on_recommended=click.get_current_context().obj or (lambda: None),
            )
    except (KeyboardInterrupt, SystemExit):
        print_stopped(output)
        raise
    except ProgramError as error:
        if not (output / "session.json").exists():
            raise
        raise ProgramError(
            f"{error}; nothing measured is lost: sfx-tuner tune --resume {output} goes on"
        ) from error
    if recommendation is None:
        from tuner.session.nothing import read_nothing

        why = read_nothing(output)
        if as_json:
            print_json({"recommended": None, "why": why, "session": str(output)})
        raise NothingFoundError(
            f"nothing to recommend: {why} What was measured is in {output / 'trials.csv'} and "
            f"{output / 'report.html'}"
        )
    if as_json:
        print_json({**recommendation.as_dict(), "session": str(output)})
    else:
        from tuner.cli.recommendation_display import print_recommendation

        print_recommendation(recommendation, output)
    if recommendation.evidence.get("cell_check") == "contradicted":
        raise ContradictedError(str(recommendation.evidence["cell_check_reason"]))
    if "ended_by" in recommendation.provenance:
        raise ProgramError(
            "the session ended before its budget was spent, and recommends the best of what it "
            f"had measured: {recommendation.provenance['ended_by']}; --resume goes on"
        )


def _warn(sentence: str) -> None:
    stderr.print(f"warning: {sentence}", markup=False, highlight=False, soft_wrap=True)


def _say_inputs(cell: Cell, notes: Sequence[str]) -> None:
    """Say with which cell the session begins, and what is odd about what was given."""
    stderr.print(f"cell: {cell.summary}", markup=False, highlight=False, soft_wrap=True)
    say_notes(notes)
