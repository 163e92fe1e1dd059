"""``sfx-tuner run``: the closed loop."""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.interrupt import ended_by_interrupt
from tuner.cli.live import buffer_option
from tuner.cli.options import SourceName, jobs_option, memory_option, stderr
from tuner.cli.tune import command as tune_command
from tuner.cli.tune_request import asked, given, others_given
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.frames.address import Address, is_address
from wrappers.streams.protocols import absolute

if TYPE_CHECKING:
    from tuner.closed_loop.events import Begun, Event
    from tuner.closed_loop.rules import State

__all__ = ["command"]

OF_TUNE = (
    *("cell", "frames", "evaluations", "minutes", "searcher", "policy", "sampling"),
    *("indexer", "method", "effort", "timeout", "tuned", "fixed", "bounds", "start"),
    *("peak_finder", "clen_range", "stop_early", "cell_check", "find_geometry", "seed"),
)
"""Parameters of ``tune`` that a night's sessions may have."""

FREE_TO_CHANGE = {"resume", "idle", "buffer", "jobs", "memory", "as_json", "dashboard"}
"""Those that may differ when a night is resumed."""


def _options_of_tune(function: Any) -> Any:
    """Add the options of ``tune``."""
    known = {param.name: param for param in tune_command.params}
    function.__click_params__ += [known[name] for name in reversed(OF_TUNE)]
    return function


@click.command()
@click.argument("source", type=SourceName(), metavar="SOURCE", required=False)
@click.option(
    "-g",
    "--geometry",
    type=click.Path(path_type=Path),
    help="CrystFEL geometry file (.geom).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the night: hits, sessions, night.jsonl.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="NIGHT",
    help="Go on with a night that was ended or killed. Its folder says everything else.",
)
@click.option(
    "--block",
    "size",
    type=click.IntRange(min=10),
    default=500,
    show_default=True,
    help="Frames of a file of hits, which are searched with one set.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="Or as many as come in so long (s).",
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Index so many frames of a block, hits or not, to watch the indexing rate.",
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    help="End when no frame has come for so long (s).  [default: wait]",
)
@click.option(
    "--dashboard",
    is_flag=False,
    flag_value=0,
    type=click.IntRange(0, 65535),
    metavar="[PORT]",
    help="Show the night in a browser, at this port of 127.0.0.1 or at any free one. Whoever is "
    "logged in to this machine can see it.",
)
@_options_of_tune
@buffer_option
@jobs_option
@memory_option
@click.option("--json", "as_json", is_flag=True, help="One line of JSON an event on stdout.")
def command(
    source: Address | None,
    geometry: Path | None,
    output: Path | None,
    resume: Path | None,
    size: int,
    seconds: float,
    sample: int,
    idle: float | None,
    buffer: int,
    jobs: int,
    memory: int | None,
    as_json: bool,
    dashboard: int | None,
    **options: Any,
) -> None:
    """Tune on the first frames, write the hits of all, and re-tune when the rates change.

    SOURCE is the address of a stream, such as dectris+tcp://HOST:31001, or a run. Its first
    frames, twice --frames, are tuned on; until that is done hits are found with what is
    customary. Then the hit and the indexing rate are watched. When one leaves its interval, a
    session like the last one is begun beside the reduction, on frames that come then. A set that
    is better on those comes into force between two blocks; it stays if it is proved to be better
    on further frames, which are indexed with both sets, else the set before is taken back. Frames
    without beam count for nothing. Some frames are told by kind, and it is said since when there
    are more with a ring, say.

    Ctrl-C ends it when the block under way is written, and --resume NIGHT goes on, also after a
    kill.

    \b
    Example:
      sfx-tuner run dectris+tcp://detector:31001 -g run.geom -p protein.cell -o night
      sfx-tuner run --resume night
    """
    if resume is not None:
        if source is not None or (others := others_given(FREE_TO_CHANGE)):
            raise InputError(
                f"--resume {resume} goes on as the night was begun: leave out "
                f"{source if source is not None else others}, or begin another night"
            )
        begun, output = None, resume
    else:
        for value, words in (
            (source, "where frames come from: SOURCE, the address of a stream or a run"),
            (geometry, "the detector's geometry: -g FILE"),
            (output, "a folder for the night: -o NIGHT"),
        ):
            if value is None:
                raise InputError(f"run lacks {words} (or go on with a night: --resume NIGHT)")
        assert source is not None and geometry is not None
        begun = _begun(source, geometry, size, seconds, sample, options)
    assert output is not None
    _run(output, begun, idle, buffer, jobs, memory, as_json, dashboard)


def _begun(
    source: Address, geometry: Path, size: int, seconds: float, sample: int, options: dict[str, Any]
) -> Begun:
    from tuner.closed_loop.events import Begun
    from wrappers.cell import Cell
    from wrappers.detector.geometry import Geometry

    # What can be known to be wrong is said now, and not by a session in the middle of the night.
    Geometry.read(geometry)
    if options["cell"] is not None:
        Cell.read(options["cell"])
    asked({**options, "data": source, "geometry": geometry})
    return Begun(
        source=absolute(str(source)) if is_address(source) else str(Path(source).absolute()),
        geometry=str(geometry.absolute()),
        tune=tuple(_words_of_tune(options)),
        n_tuning=2 * options["frames"],
        size=size,
        seconds=seconds,
        n_sample=sample,
        version=metadata.version("sfx-tuner"),
    )


def _words_of_tune(options: dict[str, Any]) -> list[str]:
    """Return the options for ``tune`` as on its command line; those that nobody gave are its own.

    Names of files are absolute, as a night may be resumed from anywhere.
    """
    words: list[str] = []
    for param in tune_command.params:
        if param.name not in OF_TUNE or not given(param.name):
            continue
        value = options[param.name]
        if isinstance(param, click.Option) and param.is_flag:
            words += param.opts[-1:] if value else param.secondary_opts[-1:]
            continue
        for each in value if param.multiple else [value]:
            is_file = isinstance(each, Path) or (param.name == "start" and Path(each).exists())
            words += [param.opts[-1], str(Path(each).absolute() if is_file else each)]
    return words


def _run(
    night: Path,
    begun: Begun | None,
    idle: float | None,
    buffer: int,
    jobs: int,
    memory: int | None,
    as_json: bool,
    port: int | None,
) -> None:
    from tuner.closed_loop.events import Block, as_line
    from tuner.closed_loop.loop import Loop
    from tuner.closed_loop.words import in_words

    with ExitStack() as stack:
        page = None
        if port is not None:
            from tuner.closed_loop.page import NightPage

            page = stack.enter_context(NightPage(night, port))
            stderr.print(f"dashboard: {page.address}", highlight=False, soft_wrap=True)
        status = stack.enter_context(stderr.status(""))

        def show(event: Event, state: State) -> None:
            status.update(state.phase)
            if page is not None:
                page.line = ""
                page.show(loop.events, state)
            if as_json:
                click.echo(as_line(event))
                return
            words = f"{time.strftime('%H:%M:%S', time.localtime(event.time))}  {in_words(event)}"
            if isinstance(event, Block):
                echo(words)
            else:
                stderr.print(words, style="bold", markup=False, highlight=False, soft_wrap=True)

        def wait(words: str) -> None:
            status.update(words)
            if page is not None:
                page.line = words

        stopped = stack.enter_context(ended_by_interrupt())
        loop = Loop(
            *(night, begun),
            jobs=jobs,
            buffer=buffer,
            idle=idle,
            memory=memory,
            stopped=stopped,
            on_event=show,
            on_wait=wait,
        )
        try:
            with loop:
                loop.run()
            if stopped():
                raise KeyboardInterrupt
        except (KeyboardInterrupt, SystemExit):
            words = f"stopped; sfx-tuner run --resume {night} goes on"
            stderr.print(words, markup=False, highlight=False, soft_wrap=True)
            raise
        if (failure := loop.failure) is not None:
            raise failure
