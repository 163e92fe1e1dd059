"""What the commands do with a stream: wait for frames, and reduce them as they come."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import say_notes, stderr, with_bad_pixels
from tuner.display.terminal import echo
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.streams.protocols import parse_address
from wrappers.streams.receiver import BUFFER, IDLE

if TYPE_CHECKING:
    from tuner.recommendation import Recommendation
    from tuner.session.request import Request

__all__ = ["apply_live", "buffer_option", "play", "recorded"]

BATCH, SECONDS = 1000, 30.0
"""Frames that one file's hits are of, or as many as come in so many seconds."""

buffer_option = click.option(
    "--buffer",
    type=click.IntRange(min=1),
    default=BUFFER,
    show_default=True,
    help="Of a stream: frames that wait in memory; what there is no room for is dropped.",
)


def recorded(request: Request, directory: Path, buffer: int) -> Request:
    """Record frames of a stream into a session's directory, and show how many there are."""
    from tuner.live.recording import Seen, with_recorded_frames

    seen: list[Seen] = []
    with stderr.status(f"waiting for frames of {request.data}") as status:

        def show(now: Seen) -> None:
            seen[:] = [now]
            status.update(f"waiting for frames of {request.data}: {now}")

        found = with_recorded_frames(
            request,
            directory,
            buffer=buffer,
            on_seen=show,
            on_note=lambda note: say_notes([note]),
        )
    kept = f"{seen[0]} of {request.data} are kept" if seen else "frames were kept before"
    stderr.print(f"{kept} in {found.data}", markup=False, highlight=False, soft_wrap=True)
    return found


def apply_live(
    recommendation: Recommendation,
    name: str,
    geometry: Path,
    output: Path,
    *,
    mask: Path | None,
    idle: float | None,
    buffer: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Reduce a stream until no more frames come, or Ctrl-C; print a line for each file of hits."""
    from tuner.apply.applying import named_set, rate_alarms
    from tuner.live.applying import apply_stream

    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the hits of a stream")
    address = parse_address(name)
    stderr.print(
        f"reducing {name}; Ctrl-C or {IDLE if idle is None else idle:g} s without a frame end it",
        highlight=False,
        soft_wrap=True,
    )
    n_frames = n_hits = 0
    started = time.perf_counter()
    for part in apply_stream(
        address,
        Geometry.read(geometry),
        lambda run: named_set(recommendation, run),
        lambda run, used: with_bad_pixels(run, used.settings, mask, jobs),
        output,
        batch=min(BATCH, buffer),
        seconds=SECONDS,
        idle=IDLE if idle is None else idle,
        buffer=buffer,
        jobs=jobs,
    ):
        found, counts = part.reduction, part.counts
        n_frames += found.n_frames
        n_hits += found.n_hits
        alarms = [str(each) for each in rate_alarms(recommendation, n_hits, n_frames, None)]
        if as_json:
            line = {
                "output": str(found.hits),
                "geometry": str(found.geometry),
                "n_frames": found.n_frames,
                "n_hits": found.n_hits,
                "n_received": counts.received,
                "n_dropped": counts.dropped,
                "n_damaged": counts.damaged,
                "alarms": alarms,
            }
            click.echo(json.dumps(line))
            continue
        lost = f"; {counts.dropped} of {counts.received} frames dropped" if counts.dropped else ""
        echo(f"{found.n_hits} hits in {found.n_frames} frames{lost} → {found.hits}")
        for alarm in alarms:
            echo(f"warning: {alarm}")
    seconds = time.perf_counter() - started
    if not as_json:
        echo(f"{n_hits} hits in {n_frames} frames, {n_frames / seconds:.0f} frames/s in all")


def play(data: Path, geometry: Path, name: str, *, rate: float, loops: int, algorithm: str) -> None:
    """Play a run as a stream."""
    from wrappers.frames.opening import open_source
    from wrappers.streams.player import Player, messages_of

    address = parse_address(name)
    with open_source(data, Geometry.read(geometry)) as run, Player(address) as player:
        stderr.print(f"playing {len(run)} frames at {name}; Ctrl-C ends it", highlight=False)
        started, loop = time.perf_counter(), 0
        while loop < loops or not loops:
            messages = messages_of(run, address.scheme, algorithm, series=str(loop + 1))
            player.play(messages, rate, patience=600.0)
            loop += 1
        seconds = time.perf_counter() - started
    lost = f", {player.n_dropped} dropped, as nobody took them in time" if player.n_dropped else ""
    echo(f"{player.n_sent} messages in {seconds:.1f} s{lost}")
