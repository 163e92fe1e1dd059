"""A night in a browser of this machine: rates over time, alarms, sets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from markupsafe import Markup
from matplotlib.figure import Figure

from envs.evaluation import wilson_interval
from tuner.closed_loop.events import Alarmed, Block, Event, Kept, Returned, Rose, Tuned
from tuner.closed_loop.kinds import kind_rows
from tuner.closed_loop.rules import State
from tuner.closed_loop.words import in_words, set_words
from tuner.display.dashboard import PageServer, renewed_page
from tuner.report.drawing import TOKENS, svg
from tuner.report.page import render
from tuner.report.words import percent

__all__ = ["NightPage"]

POINTS = 120
"""Of the figure, at most about."""
EVENTS = 100
"""That are told, the last ones."""
REST = 10.0
"""How much longer than a drawing took is waited before the next: the frames need the cores."""

PHASES = {
    "collecting": "keeping frames for a session",
    "tuning": "tuning",
    "proving": "the new set is being proved",
    "watching": "watching the rates",
}


class NightPage:
    """Serves a night's page on 127.0.0.1; used as a context manager.

    It is drawn when it is asked for and something is new, a tenth of the time at most.

    Parameters
    ----------
    night : Path
    port : int
        0 takes a free one.

    Attributes
    ----------
    address : str

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    def __init__(self, night: Path, port: int = 0) -> None:
        self._night, self._lock = night, threading.Lock()
        self._events: Sequence[Event] = ()
        self._n, self._state, self.line = 0, State(), ""
        self._drawing = threading.Lock()
        self._drawn: tuple[int, bytes] = (-1, b"")
        self._rested = 0.0
        self._server = PageServer(self, port)
        self.address = self._server.address

    def __enter__(self) -> Self:
        self._server.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.end()

    def show(self, events: Sequence[Event], state: State) -> None:
        """Take up what has happened; `events` only ever grows."""
        with self._lock:
            self._events, self._n, self._state = events, len(events), state

    def page(self) -> tuple[str, bytes]:
        """Return a tag that tells one state from others, and the page as it was last drawn."""
        with self._drawing:  # while the night goes on
            with self._lock:
                n, state, events = self._n, self._state, self._events[: self._n]
            began = time.monotonic()
            if n != self._drawn[0] and began >= self._rested:
                end = (
                    "The night has ended, or was stopped: this is what it last showed. "
                    f"All of it is in {self._night.absolute() / 'night.jsonl'}."
                )
                main = night_content(self._night.name, events, state)
                content = renewed_page(
                    f'"{n}"', f"sfx-tuner run: {self._night.name}", "Running.", main, end
                )
                self._drawn = n, content
                self._rested = time.monotonic() + REST * (time.monotonic() - began)
            return f'"{self._drawn[0]}"', self._drawn[1]

    def status(self) -> bytes:
        """Return what is under way, as JSON."""
        line = self.line or PHASES[self._state.phase]
        return json.dumps({"line": line}).encode()

    def given(self, tag: str) -> None:
        """Do nothing: there is no end that a page is waited for."""


@dataclass(frozen=True)
class _Point:
    """Blocks that follow each other, with one set."""

    place: float
    hits: tuple[int, int]
    indexed: tuple[int, int]
    on: bool


def night_content(name: str, events: Sequence[Event], state: State) -> Markup:
    """Return what a page shows of a night."""
    blocks = [event for event in events if isinstance(event, Block)]
    lit = [block for block in blocks if block.beam == "on"]
    n_frames, n_hits = (sum(getattr(b, what) for b in lit) for what in ("n_frames", "n_hits"))
    last = blocks[-1] if blocks else None
    facts: list[tuple[str, str]] = [
        (f"{sum(b.n_frames for b in blocks):,}", "frames searched"),
        (f"{sum(b.n_hits for b in blocks):,}", "hits"),
        (percent(n_hits / n_frames) if n_frames else "–", "hit rate, with beam"),
        (str(sum(isinstance(e, Alarmed) for e in events)), "alarms"),
        (str(state.n_sessions), "sessions"),
    ]
    if last is not None and last.received:
        facts.append((f"{last.dropped:,}", f"of {last.received:,} frames dropped"))
    if last is not None:
        facts += [(f"{n:,}", what) for n, what in _left_out(last) if n]
    told = [e for e in events if not isinstance(e, Block)][-EVENTS:]
    return render(
        "night.html.j2",
        title=f"sfx-tuner run: {name}",
        headline=f"T{set_words(state.used)[1:]} is in force; {PHASES[state.phase]}.",
        facts=facts,
        figures=[_figure(events, blocks, width) for width in (900, 360)] if blocks else None,
        kinds=kind_rows(blocks),
        sets=[_set_row(used, blocks) for used in sorted({b.used for b in blocks})],
        happened=[
            (time.strftime("%H:%M:%S", time.localtime(event.time)), in_words(event))
            for event in reversed(told)
        ],
    )


def _left_out(last: Block) -> tuple[tuple[int, str], ...]:
    return (last.damaged, "damaged messages"), (last.other, "frames not of the geometry")


def _set_row(used: int, blocks: Sequence[Block]) -> dict[str, Any]:
    own = [block for block in blocks if block.used == used]
    ranges = []
    for is_own, several in groupby(blocks, key=lambda block: block.used == used):
        if is_own:
            run = [*several]
            end = run[-1].first + run[-1].n_frames + run[-1].n_unreadable - 1
            ranges.append(f"{run[0].first}–{end}")
    n, hits = sum(b.n_frames for b in own), sum(b.n_hits for b in own)
    return {
        "name": set_words(used),
        "n_frames": n,
        "hits": f"{hits} ({percent(hits / n)})" if n else hits,
        "indexed": f"{sum(b.n_indexed for b in own)} of {sum(b.n_sampled for b in own)}",
        "ranges": ", ".join(ranges),
    }


def _points(blocks: Sequence[Block]) -> list[_Point]:
    most = max(1, -(-len(blocks) // POINTS))
    points = []
    for (_, beam), several in groupby(blocks, key=lambda block: (block.used, block.beam)):
        run = [*several]
        for start in range(0, len(run), most):
            own = run[start : start + most]
            first, last = own[0].first, own[-1].first + own[-1].n_frames
            hits = sum(b.n_hits for b in own), sum(b.n_frames for b in own)
            indexed = sum(b.n_indexed for b in own), sum(b.n_sampled for b in own)
            points.append(_Point((first + last) / 2, hits, indexed, beam == "on"))
    return points


def _figure(events: Sequence[Event], blocks: Sequence[Block], width: int) -> Markup:
    points = _points(blocks)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name, marker, what in (("blue", "o", "hits"), ("green", "^", "indexed")):
            own = [(p, *getattr(p, what)) for p in points if getattr(p, what)[1]]
            for on, colour in ((True, TOKENS[name]), (False, TOKENS["grey"])):
                drawn = [(p.place, k, n) for p, k, n in own if p.on is on]
                if not drawn:
                    continue
                rates = [k / n for _, k, n in drawn]
                ends = [wilson_interval(k, n) for _, k, n in drawn]
                error = [
                    [max(rate - low, 0) for rate, (low, _) in zip(rates, ends, strict=True)],
                    [max(high - rate, 0) for rate, (_, high) in zip(rates, ends, strict=True)],
                ]
                places = [place for place, _, _ in drawn]
                axes.errorbar(
                    *(places, rates, error), fmt=marker, ms=4, color=colour, elinewidth=0.9
                )
        place = 0
        for event in events:
            match event:
                case Block():
                    place = event.first + event.n_frames
                case Alarmed():
                    axes.axvline(place, color=TOKENS["vermilion"], linestyle="--", linewidth=1)
                case Rose():
                    axes.axvline(
                        event.since, color=TOKENS["vermilion"], linestyle=":", linewidth=1.4
                    )
                case Tuned(outcome="first" | "better" | "moved") | Returned():
                    axes.axvline(place, color=TOKENS["ink"], linewidth=1)
                case Kept():
                    axes.axvline(place, color=TOKENS["green"], linewidth=1)
        axes.set(ylim=(-0.02, 1.02), xlabel="frame of the night", ylabel="share of the frames")

    words = "Hit and indexing rate over the night"
    return svg(draw, size=(width, 300), name=f"night{width}", alternative=words)
