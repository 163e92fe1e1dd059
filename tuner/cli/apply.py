"""``sfx-tuner apply``: the recommended set, fed back to the reduction core."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.apply_report import report_reduction
from tuner.cli.live import (
    apply_live,
    buffer_option,
    parts_options,
    refuse_what_is_not_for,
    serve_option,
    serving,
    wait_until_served,
)
from tuner.cli.options import (
    SourceName,
    force_option,
    jobs_option,
    json_option,
    mask_option,
    memory_option,
    open_run,
    progress_bar,
    say_notes,
    stderr,
    with_bad_pixels,
    within_memory,
)
from tuner.display.terminal import echo
from tuner.recommendation import (
    Recommendation,
    files_of_session,
    read_recommendation,
    session_geometry,
)
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.address import Address
from wrappers.frames.source import FrameSource
from wrappers.indexers import make_indexer
from wrappers.indexing import Indexer
from wrappers.outputs import check_outputs
from wrappers.streams.protocols import is_stream

if TYPE_CHECKING:
    from tuner.apply.by_kind import ByKind
    from tuner.apply.watching import WatchRequest
    from wrappers.reduction import Reduction, SettingsSet

__all__ = ["command"]

POLL = 1.0
"""Seconds between two looks at a watched folder."""


@click.command()
@click.argument("recommended", type=click.Path(path_type=Path), metavar="RECOMMENDED")
@click.argument("data", type=SourceName(), required=False, metavar="[DATA]")
@click.option(
    "-g",
    "--geometry",
    type=click.Path(path_type=Path),
    help="Geometry file.  [default: the session's]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="CXI file to write; with --watch or a stream, the folder for them.",
)
@click.option("--virtual", is_flag=True, help="Leave the images where they are, do not copy them.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted reduction.")
@mask_option
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Index so many of all frames, to say what the veto keeps and loses.",
)
@click.option(
    "-p", "--cell", type=click.Path(path_type=Path), help="Unit cell.  [default: the session's]"
)
@click.option(
    "--veto",
    type=click.Choice(["kinds"]),
    help="Leave out frames by their kind, unsearched: those without the beam, and those of a "
    "detector at fault, where no spots are seen.",
)
@click.option(
    "--kinds",
    "kinds_file",
    type=click.Path(path_type=Path),
    help="Tell the frames' kinds, and when one has become more frequent or is new. The kinds are "
    "read from this file, and it is written with this run's frames learnt; where there is none, "
    "it begins with the session's, or else with this run's own (a stream's first 200).  [default: "
    "none; with --veto the session's, or this run's own, and with --watch kinds.json in the folder "
    "of the hits]",
)
@click.option(
    "--watch",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Reduce the runs of this folder as they appear, with what RECOMMENDED says then.",
)
@click.option(
    "--pattern", default="*.h5", show_default=True, help="Which files of that folder are runs."
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    help="A file is complete when it has not changed for so long (s).",
)
@click.option(
    "--retune",
    is_flag=True,
    help="With --watch: where a re-tune is due, begin it beside the watch, on the run that said "
    "so, and take its set up if it is better there. RECOMMENDED must be a session.",
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    help="End when no run, or no frame of a stream, has come, or no hit that --serve has of a run "
    "was taken for so long (s).",
)
@parts_options
@buffer_option
@serve_option
@force_option
@jobs_option
@memory_option
@json_option
def command(
    recommended: Path,
    data: Address | None,
    geometry: Path | None,
    output: Path,
    virtual: bool,
    resume: bool,
    mask: Path | None,
    sample: int,
    cell: Path | None,
    veto: str | None,
    kinds_file: Path | None,
    watch: Path | None,
    pattern: str,
    settle: float,
    retune: bool,
    idle: float | None,
    size: int,
    seconds: float,
    buffer: int,
    serve: str | None,
    force: bool,
    jobs: int,
    memory: int | None,
    as_json: bool,
) -> None:
    """Find peaks with the recommended set, drop the non-hits, write the hits.

    RECOMMENDED is a recommended.toml or the directory of a session. The hits go to a CXI file
    with their peak lists, and a geometry file for it beside it. With --watch, runs are reduced as
    they appear until Ctrl-C; --json then prints a line a run. With --veto kinds, frames without the
    beam or of a detector at fault are left out.

    \b
    Example:
      sfx-tuner apply session run.h5 -o hits.cxi
      sfx-tuner apply session --watch /data/raw -o /data/hits
      sfx-tuner apply session dectris+tcp://detector:31001 -o /data/hits
      sfx-tuner apply session run.h5 -o hits.cxi --serve tcp://127.0.0.1:5555
    """
    from tuner.apply.applying import (
        changed_model,
        check_outputs_of,
        check_veto,
        named_set,
        rate_alarms,
    )
    from tuner.apply.by_kind import ByKind, known_kinds
    from tuner.apply.watching import WatchRequest
    from tuner.live.sampling import PeakSample
    from wrappers.frames.sampling import sample_frames

    if retune and watch is None:
        raise InputError("--retune goes with --watch; sfx-tuner run does it on one run or a stream")
    if (data is None) == (watch is None):
        raise InputError("give either DATA, one run, or --watch with the folder where runs appear")
    refuse_what_is_not_for(data, watch, serve)
    recommendation = read_recommendation(recommended)
    say_notes([*filter(None, (recommendation.caution, changed_model(recommendation)))])
    geometry_file = session_geometry(recommendation, geometry)
    read = Geometry.read(geometry_file)
    if watch is not None and serve is not None:
        raise InputError("--serve is for DATA, a run or a stream: leave it out with --watch")
    with ExitStack() as stack:
        unit, indexer = _indexer(recommendation, read, cell, jobs) if sample else (None, None)
        if indexer is not None:
            stack.enter_context(closing(indexer))
        by_kind: ByKind | None = None
        if is_stream(data):
            if veto or kinds_file:
                session = [*files_of_session(recommendation), recommended]
                check_outputs(kinds_file, inputs=[*session, geometry_file, cell, mask], force=True)
                known = known_kinds(kinds_file, recommended, read)
                by_kind = ByKind(known, veto is not None)
            apply_live(
                *(recommendation, str(data), geometry_file, output),
                mask=mask,
                idle=idle,
                size=size,
                seconds=seconds,
                buffer=buffer,
                jobs=jobs,
                serve=serve,
                force=force,
                sampling=None if indexer is None else PeakSample(indexer, sample),
                by_kind=by_kind,
                kinds_file=kinds_file,
                as_json=as_json,
            )
            return
        if watch is not None:
            request = WatchRequest(
                *(recommended, watch, pattern, output, settle, sample, jobs, virtual, mask, force),
                kinds=kinds_file,
                veto=veto is not None,
            )
            _watch(request, read, unit, indexer, idle, as_json, retune)
            return
        assert data is not None
        run = open_run(data, geometry_file)
        jobs = within_memory(run, jobs, memory)
        check_outputs_of(
            *(output, recommendation, run),
            *(recommended, data, geometry_file, cell, mask),
            kinds=kinds_file,
        )
        server = stack.enter_context(
            serving(serve, output, read, [data, geometry_file, cell, mask], force)
        )
        used = named_set(recommendation, run)
        run = with_bad_pixels(run, used.settings, mask, jobs)
        if veto or kinds_file:
            with stderr.status("telling kinds of frames"):
                by_kind = ByKind.of(run, kinds_file, recommended, veto is not None, jobs=jobs)
        started = time.perf_counter()
        reduction = _reduce(
            run, used, output, by_kind, jobs=jobs, virtual=virtual, resume=resume, force=force
        )
        seconds = time.perf_counter() - started
        changed = [] if by_kind is None else by_kind.finish(kinds_file)
        if server is not None:
            server.offer_file(reduction)
        check = None
        if unit is not None and indexer is not None:
            frames, _ = sample_frames(run, sample, seed=0)
            with stderr.status("indexing a sample of all frames"):
                check = check_veto(run, used.settings, unit, indexer, frames, jobs=jobs)
        alarms = rate_alarms(recommendation, reduction.n_hits, reduction.n_frames, check)
        said = [*map(str, alarms), *changed]
        report_reduction(reduction, check, by_kind, said, seconds, as_json)
        if server is not None:
            wait_until_served(server, idle)


def _indexer(
    recommendation: Recommendation, geometry: Geometry, cell: Path | None, jobs: int
) -> tuple[Cell | None, Indexer | None]:
    """Return the session's cell and indexer, or None and why nothing is indexed."""
    from tuner.apply.applying import session_cell, session_indexer

    file = cell or session_cell(recommendation)
    if file is None:
        stderr.print("nothing is indexed: the session's cell is gone, name it with -p")
        return None, None
    unit = Cell.read(file)
    try:
        return unit, make_indexer(session_indexer(recommendation), geometry, unit, jobs=jobs)
    except ProgramError as error:
        stderr.print(f"nothing is indexed: {error}", markup=False, highlight=False)
        return None, None


def _reduce(
    run: FrameSource,
    used: SettingsSet,
    output: Path,
    by_kind: ByKind | None,
    *,
    jobs: int,
    virtual: bool,
    resume: bool,
    force: bool,
) -> Reduction:
    from wrappers.peakfinding.finders import NamedFinder
    from wrappers.reduction import reduce_run

    try:
        with progress_bar("reducing", len(run)) as show:
            reduction = reduce_run(
                run,
                NamedFinder(run.geometry),
                used,
                output,
                jobs=jobs,
                virtual=virtual,
                resume=resume,
                replace=force,
                progress=lambda done, hits: show(done),
                **({} if by_kind is None else by_kind.options),
            )
    except (KeyboardInterrupt, SystemExit):
        stderr.print("stopped; the same command with --resume goes on")
        raise
    for sentence in reduction.unreadable:
        stderr.print(f"left out: {sentence}", markup=False, highlight=False)
    return reduction


def _watch(
    request: WatchRequest,
    geometry: Geometry,
    cell: Cell | None,
    indexer: Indexer | None,
    idle: float | None,
    as_json: bool,
    retune: bool,
) -> None:
    from tuner.apply.watching import Watch

    def say(sentence: str) -> None:
        stderr.print(sentence, markup=False, highlight=False, soft_wrap=True)

    watch = Watch(request, geometry, cell, indexer, say=say)
    retuning = None
    if retune:
        from tuner.closed_loop.watched import WatchedRetuning

        retuning = WatchedRetuning(
            request.recommended, geometry.path, request.out, jobs=request.jobs, say=say
        )
        click.get_current_context().call_on_close(retuning.close)
        watch.take_up(retuning.used)
    say(f"watching {request.folder} for {request.pattern}; Ctrl-C ends it, and it can be resumed")
    last = time.monotonic()
    while (
        idle is None
        or time.monotonic() - last < idle
        or (retuning is not None and retuning.under_way)
    ):
        lines = watch.step()
        if retuning is not None:
            retuning.step(lines)
            watch.take_up(retuning.used)
        for line in lines:
            last = time.monotonic()
            if as_json:
                click.echo(json.dumps(line))
                continue
            sample = line["sample"]
            indexed = (
                f"; {sample['n_kept']} of {sample['n_frames']} sampled frames index"
                if sample
                else ""
            )
            sets = f", {len(line['sets'])} sets" if len(line["sets"]) > 1 else ""
            echo(
                f"{Path(line['file']).name}: {line['n_hits']} hits in {line['n_frames']} frames"
                f"{sets}{indexed} → {line['hits']}"
            )
        time.sleep(POLL)
