"""What the commands do with a stream: wait for frames, and reduce them as they come."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.interrupt import ended_by_interrupt
from tuner.cli.options import say_notes, stderr
from tuner.cli.tune_request import given
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.outputs import check_outputs, companion
from wrappers.streams.protocols import asked_frames, is_stream, parse_address
from wrappers.streams.receiver import BUFFER, IDLE

if TYPE_CHECKING:
    from tuner.apply.applying import VetoCheck
    from tuner.apply.by_kind import ByKind
    from tuner.live.sampling import PeakSample
    from tuner.recommendation import Recommendation
    from tuner.session.request import Request
    from wrappers.detector.geometry import Geometry
    from wrappers.reduction.placed import Placed
    from wrappers.streams.faults import Faults
    from wrappers.streams.serving import HitServer

__all__ = [
    "apply_live",
    "buffer_option",
    "kind_counts",
    "kinds_line",
    "parts_options",
    "play",
    "recorded",
    "refuse_what_is_not_for",
    "sample_line",
    "serve_option",
    "serving",
    "wait_until_served",
]

REMEMBERED = 512_000_000
"""Bytes of messages that are kept to be played again."""
BATCH, SECONDS = 1000, 30.0
"""Frames that one file's hits are of, or as many as come in so many seconds."""

OF_STREAM = {"size": "block", "seconds": "seconds", "buffer": "buffer"}
"""Parameters of ``apply`` that a stream alone has, and their options."""

buffer_option = click.option(
    "--buffer",
    type=click.IntRange(min=1),
    default=BUFFER,
    show_default=True,
    help="Of a stream: frames that wait in memory; what there is no room for is dropped.",
)


def parts_options(function: Any) -> Any:
    """Add the options that say how the hits of a stream are shared out to files."""
    function = click.option(
        "--seconds",
        type=click.FloatRange(min=0.1),
        default=SECONDS,
        show_default=True,
        help="Or as many as come in so long (s).",
    )(function)
    return click.option(
        "--block",
        "size",
        type=click.IntRange(min=1),
        default=BATCH,
        show_default=True,
        help="Of a stream: frames of a file of hits, which can be read once it is whole.",
    )(function)


serve_option = click.option(
    "--serve",
    metavar="ADDRESS",
    help="Hand the hits to a running indexamajig that asks for them here, such as at "
    "tcp://127.0.0.1:5555.",
)


def recorded(request: Request, directory: Path, buffer: int) -> Request:
    """Record frames of a stream into a session's directory, and show how many there are."""
    from tuner.live.recording import Seen, with_recorded_frames

    if asked_frames(str(request.data)) is not None:
        raise InputError(
            f"tune says with --frames how many frames it takes: leave frames= out of {request.data}"
        )
    seen: list[Seen] = []
    waiting = f"waiting for frames of {request.data}"
    with stderr.status(waiting) as status, ended_by_interrupt() as stopped:

        def show(now: Seen) -> None:
            seen[:] = [now]
            status.update(f"{waiting} (Ctrl-C: begin with these): {now}")

        found = with_recorded_frames(
            request,
            directory,
            buffer=buffer,
            stopped=stopped,
            on_seen=show,
            on_note=lambda note: say_notes([note]),
        )
    kept = f"{seen[0]} of {request.data} are kept" if seen else "frames were kept before"
    _say(f"{kept} in {found.data}")
    return found


@contextmanager
def serving(
    address: str | None,
    output: Path,
    geometry: Geometry,
    inputs: Iterable[str | os.PathLike[str] | None],
    force: bool,
) -> Iterator[HitServer | None]:
    """Serve hits at an address, if there is one; say what to type, and what became of them."""
    if address is None:
        yield None
        return
    from wrappers.crystfel.messages import message_geometry_text
    from wrappers.streams.serving import HitServer, serving_endpoint

    endpoint, is_ours = serving_endpoint(address)
    if not is_ours:
        say_notes([f"whoever reaches {address} gets the hits: it is not of this machine alone"])
    file, text = companion(output, ".served.geom"), message_geometry_text(geometry, images=True)
    check_outputs(
        file,
        inputs=inputs,
        force=force,
        ours=lambda path: path.is_file() and path.read_bytes() == text.encode(),
    )
    with HitServer(endpoint) as server:
        write_whole(file, text)
        _say(
            f"hits are served; index them with\n  indexamajig --zmq-input={endpoint} "
            "--zmq-request=next --data-format=msgpack --peaks=msgpack --no-revalidate "
            f"--copy-header=event -g {file} -p CELL -o live.stream -j 4"
        )
        yield server
        counts = server.counts
        lost = f", {counts.dropped} were dropped: {counts.reason}"
        left = f", {server.n_waiting} were not taken" if server.n_waiting else ""
        _say(
            f"{counts.taken} of {counts.offered} hits served{lost if counts.dropped else ''}{left}"
        )


def wait_until_served(server: HitServer, idle: float | None = None) -> None:
    """Wait until all hits were taken, or none was for so many seconds; Ctrl-C ends it."""
    with stderr.status("serving") as status, ended_by_interrupt() as stopped:
        before, last = server.n_waiting, time.monotonic()
        if before:
            until = "" if idle is None else f" or {idle:g} s in which none is taken"
            _say(f"{before} hits wait to be asked for; Ctrl-C{until} ends it")
        while (n := server.n_waiting) and server.answers and not stopped():
            if n != before:
                before, last = n, time.monotonic()
            if idle is not None and time.monotonic() - last >= idle:
                return
            status.update(f"{n} hits wait to be indexed (Ctrl-C: end)")
            time.sleep(0.1)


def refuse_what_is_not_for(
    data: str | os.PathLike[str] | None, watch: Path | None, serve: str | None
) -> None:
    """Refuse options of ``apply`` that would be passed over in silence."""
    of_stream = [f"--{words}" for name, words in OF_STREAM.items() if given(name)]
    if of_stream and not is_stream(data):
        what = "one run" if watch is None else "--watch"
        raise InputError(f"leave out {' and '.join(of_stream)} with {what}: that is of a stream")
    if data is None:
        return
    if words := [f"--{name}" for name in ("pattern", "settle") if given(name)]:
        raise InputError(f"leave out {' and '.join(words)} with one run: only --watch goes by that")
    # A geometry for --serve is the one file that a stream may find there already.
    names = ("resume", "virtual", *([] if serve else ["force"]))
    if is_stream(data) and (words := [f"--{name}" for name in names if given(name)]):
        raise InputError(
            f"leave out {' and '.join(words)} with a stream, whose hits go into files of new names"
        )


def apply_live(
    recommendation: Recommendation,
    name: str,
    geometry: Path,
    output: Path,
    *,
    mask: Path | None,
    idle: float | None,
    size: int,
    seconds: float,
    buffer: int,
    jobs: int,
    serve: str | None,
    force: bool,
    sampling: PeakSample | None,
    by_kind: ByKind | None,
    kinds_file: Path | None,
    as_json: bool,
) -> None:
    """Reduce a stream until no more frames come, or Ctrl-C; print a line for each file of hits."""
    from tuner.apply.applying import named_set, rate_alarms
    from tuner.live.applying import apply_arriving
    from wrappers.detector.geometry import Geometry
    from wrappers.masks.bad_pixel_map import BadPixelMap
    from wrappers.streams.sources import open_arriving

    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the hits of a stream")
    read = Geometry.read(geometry)
    n_frames = n_hits = 0
    started = time.perf_counter()
    wait = IDLE if idle is None else idle
    with (
        open_arriving(name, read, buffer, every_series=True) as frames,
        serving(serve, output, read, [geometry, mask], force) as server,
        ended_by_interrupt() as stopped,
    ):
        takers = [
            *([] if sampling is None else [sampling.add]),
            *([] if server is None else [server.offer]),
        ]

        def on_frame(placed: Placed) -> None:
            for take in takers:
                take(placed)

        said = frames.notes
        say_notes(said)
        _say(f"reducing {name}; Ctrl-C or {wait:g} s without a frame end it")
        for part in apply_arriving(
            frames,
            lambda run: named_set(recommendation, run),
            output,
            bad_pixels=None if mask is None else BadPixelMap.load(mask, read),
            batch=size,
            seconds=seconds,
            idle=wait,
            n_frames=asked_frames(name),
            jobs=jobs,
            by_kind=by_kind,
            stopped=stopped,
            on_frame=on_frame,
        ):
            found, counts = part.reduction, part.counts
            n_frames += found.n_frames
            n_hits += found.n_hits
            say_notes(note for note in frames.notes if note not in said)
            said = frames.notes
            alarms = [str(each) for each in rate_alarms(recommendation, n_hits, n_frames, None)]
            if by_kind is not None:
                alarms += by_kind.finish_file(kinds_file)
            if as_json:
                line = {
                    "output": str(found.hits),
                    "geometry": str(found.geometry),
                    "n_frames": found.n_frames,
                    "n_hits": found.n_hits,
                    "kinds": None if by_kind is None else kind_counts(found.kinds),
                    "n_vetoed": found.n_vetoed,
                    "n_received": counts.received,
                    "n_dropped": counts.dropped,
                    "n_damaged": counts.damaged,
                    "n_other": counts.other,
                    "alarms": alarms,
                }
                click.echo(json.dumps(line))
                continue
            echo(f"{found.n_hits} hits in {found.n_frames} frames{counts} → {found.hits}")
            if by_kind is not None:
                echo(kinds_line(found.kinds, found.n_vetoed if by_kind.veto else None))
            for alarm in alarms:
                echo(f"warning: {alarm}")
        took = time.perf_counter() - started
        # Frames that nobody has asked for were not read, and that is no fault.
        if frames.unread and n_frames < (asked_frames(name) or math.inf):
            say_notes([frames.unread])
        if server is not None and server.asked:
            wait_until_served(server)
    if not as_json:
        echo(
            f"{n_hits} hits in {n_frames} frames{frames.counts}, {n_frames / took:.0f} frames/s in "
            "all"
        )
    if sampling is not None:
        _report_sample(recommendation, sampling, n_hits, n_frames, as_json)


def _report_sample(
    recommendation: Recommendation,
    sampling: PeakSample,
    n_hits: int,
    n_frames: int,
    as_json: bool,
) -> None:
    """Index the sample of all frames, and say what the veto kept and lost."""
    from tuner.apply.applying import rate_alarms

    with stderr.status("indexing a sample of all frames (Ctrl-C: leave it out)"):
        check = sampling.check()
    alarms = [str(each) for each in rate_alarms(recommendation, n_hits, n_frames, check)]
    if as_json:
        click.echo(json.dumps({"sample": asdict(check), "alarms": alarms}))
        return
    echo(sample_line(check))
    for alarm in alarms:
        echo(f"warning: {alarm}")


def sample_line(check: VetoCheck) -> str:
    """Return what an indexed sample of all frames says of the veto."""
    return (
        f"of {check.n_frames} frames taken at random {check.n_kept + check.n_lost} index with "
        f"{check.indexer}: {check.n_kept} kept, {check.n_lost} lost"
    )


def kind_counts(names: Sequence[str]) -> dict[str, int]:
    """Return how many frames there are of each kind, in the order of `KINDS`."""
    from wrappers.frame_kinds import KINDS

    return {name: n for name in KINDS if (n := names.count(name))}


def kinds_line(names: Sequence[str], n_vetoed: int | None) -> str:
    """Return what the kinds of some frames are, and how many were left out, if any could be."""
    each = ", ".join(f"{n} {name}" for name, n in kind_counts(names).items())
    left_out = "" if n_vetoed is None else f"; {n_vetoed} of them were left out"
    return f"kinds of frames: {each}{left_out}"


def _say(words: str) -> None:
    stderr.print(words, markup=False, highlight=False, soft_wrap=True)


def play(
    data: Path,
    geometry: Path,
    name: str,
    *,
    rate: float,
    loops: int,
    algorithm: str,
    faults: Faults,
    seed: int,
) -> None:
    """Play a run as a stream."""
    from wrappers.detector.geometry import Geometry
    from wrappers.frames.opening import open_source
    from wrappers.streams.faults import Faults, damaged, segments
    from wrappers.streams.player import Player, Remembered, messages_of

    address, rng = parse_address(name), random.Random(seed)
    with open_source(data, Geometry.read(geometry)) as run, Player(address) as player:
        stderr.print(f"playing {len(run)} frames at {name}; Ctrl-C ends it", highlight=False)
        started, loop, series = time.perf_counter(), 0, 0
        # A detector takes no processor time for it: what fits in memory is packed once.
        kept = Remembered(REMEMBERED) if loops != 1 and faults == Faults() else None
        while loop < loops or not loops:
            if kept is not None and kept.is_whole:
                player.play(kept.messages, rate, patience=600.0)
                loop += 1
                continue
            for piece, restarts in segments(run, faults, loop * len(run)):
                series += 1
                messages = messages_of(piece, address.scheme, algorithm, series=str(series))
                if kept is not None:
                    messages = kept.of(messages)
                player.play(damaged(messages, faults, rng), rate, patience=600.0)
                if restarts:
                    player.restart()
            loop += 1
        seconds = time.perf_counter() - started
    lost = f", {player.n_dropped} dropped, as nobody took them in time" if player.n_dropped else ""
    echo(f"{player.n_sent} messages in {seconds:.1f} s{lost}")
