"""The closed loop: what `rules` decides is done here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Self

from tuner.closed_loop.events import (
    Begun,
    Block,
    Ended,
    Event,
    Noted,
    Resumed,
    Tuned,
    Tuning,
    append_event,
    read_events,
)
from tuner.closed_loop.feed import (
    RunInOrder,
    Tap,
    block_file,
    forget_blocks,
    list_of_blocks,
    open_frames,
)
from tuner.closed_loop.measuring import FIRST, NightSet, compared, indexed_frames
from tuner.closed_loop.retuning import NICENESS, Order, Session
from tuner.closed_loop.rules import CUSTOMARY, Rules, State, after, beam_of, due, replayed
from tuner.live.sampling import PeakSample
from tuner.recommendation import write_recommendation
from tuner.session.ownership import owned
from wrappers.errors import InputError, ProgramError
from wrappers.frames.memory import MemoryFrames
from wrappers.frames.opening import Address, is_address
from wrappers.frames.sampling import sample_frames
from wrappers.frames.source import FrameSource
from wrappers.indexers import make_indexer
from wrappers.indexing import Indexer
from wrappers.streams.protocols import is_stream
from wrappers.streams.receiver import BUFFER
from wrappers.streams.reducing import reduce_arriving

__all__ = ["LOG", "Loop", "begun_of"]

LOG = "night.jsonl"
POLL = 0.5
"""Seconds between two looks at a session, where there are no frames to go on with."""
PATIENCE = 5.0
"""Seconds without a frame after which a block is closed, and a session is looked at."""
SILENCE = 60.0
"""Seconds without a frame that are worth a word."""


class Loop:
    """Runs a night; used as a context manager.

    Parameters
    ----------
    night : Path
        Folder of all that it writes.
    begun : Begun or None
        What is asked for; None goes on with the night in the folder.
    jobs : int
        Processes.
    buffer : int
        Images of a stream that wait in memory.
    idle : float, optional
        Seconds without a frame after which the loop ends.
    on_event : callable
        Called with each event and the state behind it.
    on_wait : callable
        Called now and then while there is nothing to do but wait, with a line of words.

    Raises
    ------
    InputError
        If the folder holds a night already, or none where one is to be resumed; if another process
        writes it; or if the source cannot be opened.
    """

    def __init__(
        self,
        night: Path,
        begun: Begun | None,
        *,
        jobs: int = 1,
        buffer: int = BUFFER,
        idle: float | None = None,
        rules: Rules = Rules(),  # noqa: B008 (frozen)
        on_event: Callable[[Event, State], None] = lambda event, state: None,
        on_wait: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._night, self._log = night, night / LOG
        self._jobs, self._buffer, self._idle = jobs, buffer, idle
        self._on_event, self._on_wait = on_event, on_wait
        self.events: list[Event] = []
        self.state = State()
        self._sets: dict[int, NightSet] = {CUSTOMARY: NightSet(CUSTOMARY)}
        self._session: Session | None = None
        self._indexers: dict[int, Indexer | None] = {}
        self._said: set[str] = set()
        self._stack = ExitStack()
        earlier = self._earlier(resume=begun is None)
        self.begun = begun or begun_of(earlier, self._log)
        self._rules = replace(rules, n_tuning=self.begun.n_tuning)
        self.events, self.state = earlier, replayed(earlier, self._rules)

    def _earlier(self, resume: bool) -> list[Event]:
        if self._log.exists() and not resume:
            raise InputError(
                f"{self._night} holds a night already: --resume {self._night} goes on with it, or "
                "name another folder"
            )
        if resume and not self._log.exists():
            raise InputError(
                f"{self._night} holds no night that could be gone on with: there is no {LOG}"
            )
        return read_events(self._log) if resume else []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(owned(self._night))
            (self._night / "hits").mkdir(exist_ok=True)
            if self.events:
                read_events(self._log, mend=True)
                self._look_for_orphans()
            self._take(Resumed() if self.events else self.begun)
            (self._night / "frames").mkdir(exist_ok=True)
            self._frames = stack.enter_context(
                open_frames(
                    *(self._source, Path(self.begun.geometry), self.state.next_frame, self._buffer)
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._session is not None:
            self._session.close()
        self._stack.close()

    @property
    def _source(self) -> Address:
        name = self.begun.source
        return name if is_address(name) else Path(name)

    def run(self) -> None:
        """Go on until no more frames come.

        Raises
        ------
        InputError, ProgramError
            If the first session cannot be run, or a file cannot be written.
        """
        idle, last, silent = self._idle, time.monotonic(), False
        if self.state.phase == "tuning":
            self._start(next(e for e in reversed(self.events) if isinstance(e, Tuning)))
        self._decide()
        while not self._run_ended:
            self._wait_for_session()
            patience = PATIENCE if idle is None else min(PATIENCE, idle)
            block = self._block(patience)
            if block is not None:
                if silent:
                    self._take(Noted(f"frames come again, after {time.monotonic() - last:.0f} s"))
                silent = False
                self._take(block)
                last = time.monotonic()
            elif not silent and time.monotonic() - last >= SILENCE:
                silent = True
                self._take(Noted(f"no frame has come for {SILENCE:g} s: no beam, or no sender"))
            self._decide()
            forget_blocks(self._night / "frames", self._kept_blocks())
            if block is None and idle is not None and time.monotonic() - last >= idle:
                self._take(Ended(f"no frame has come for {idle:g} s"))
                return
            if self._session is not None:
                self._on_wait(f"tuning: {self._session.n_evaluations} evaluations")
        self._take(Ended("all frames of the run are done"))

    def _wait_for_session(self) -> None:
        """Wait where frames wait, too."""
        while self._session is not None and self._waits:
            self._session.wait(POLL)
            self._decide()

    def _ended(self) -> Tuned | None:
        """Return what became of the session; None while there is none, or it runs."""
        tuned = None if self._session is None else self._session.ended()
        if tuned is not None:
            self._session = None
        return tuned

    def _take(self, event: Event) -> None:
        append_event(self._log, event)
        self.events.append(event)
        self.state = after(self.state, event, self._rules)
        self._on_event(event, self.state)

    def _note(self, text: str) -> None:
        """Have something in the log, once."""
        if text not in self._said:
            self._said.add(text)
            self._take(Noted(text))

    def _decide(self) -> None:
        """Do what is due."""
        while True:
            if (tuned := self._ended()) is not None:
                self._take(tuned)
                if tuned.number == self.state.used:
                    self._publish()
            event = due(self.state, self._rules)
            if event is None:
                return
            self._take(event)
            if isinstance(event, Tuning):
                self._start(event)
            elif event.kind == "returned":
                self._publish()

    def _publish(self) -> None:
        """Have the set in force in the night's folder, for other programs."""
        recommendation = self._set(self.state.used).recommendation
        if recommendation is not None:
            write_recommendation(recommendation, self._night / "recommended.toml")

    def _set(self, number: int) -> NightSet:
        if number not in self._sets:
            self._sets[number] = NightSet.read(number, self._session_folder(number))
        return self._sets[number]

    def _session_folder(self, number: int) -> Path:
        return self._night / f"tuning-{number}"

    def _kept_blocks(self) -> set[int]:
        sessions = [event for event in self.events if isinstance(event, Tuning)]
        kept = {number for event in sessions for number in event.blocks}
        return kept | {each.number for each in self.state.kept}

    def _start(self, tuning: Tuning) -> None:
        """Begin a session, or go on with it."""
        used = self.state.used
        folder, names = self._session_folder(tuning.number), self._night / "frames"
        data = folder.with_name(f"{folder.name}.lst")
        list_of_blocks(names, tuning.blocks, data)
        beside = not self._waits and used != CUSTOMARY
        self._session = Session(
            Order(
                number=tuning.number,
                data=str(data),
                geometry=str(block_file(names, tuning.blocks[0])) + ".geom",
                session=str(folder),
                outcome=str(folder.with_name(f"{folder.name}.json")),
                options=self.begun.tune,
                used=used,
                against=None if used == CUSTOMARY else str(self._session_folder(used)),
                jobs=self._jobs,
                niceness=NICENESS if beside else 0,
            )
        )

    def _block(self, patience: float) -> Block | None:
        """Search the next frames; return what became of them, or None where none come."""
        state, begun, frames = self.state, self.begun, self._frames
        used, recorded = self._set(state.used), state.phase in ("collecting", "proving")
        path = block_file(self._night / "frames", state.next_block) if recorded else None
        with Tap(frames, path) as tap:
            n = FIRST if state.used == CUSTOMARY else 1
            first = tap.first(n, patience, lambda: self._run_ended)
            for note in frames.notes:
                self._note(note)
            if not first:
                return None
            nominal = MemoryFrames(frames.geometry, first)
            settings = used.of(nominal)
            sample = self._sample(used)
            reductions = reduce_arriving(
                tap,
                lambda: settings,
                self._night / "hits",
                nominal_clen=nominal.nominal_clen,
                bad_pixels=used.bad_pixels(frames.geometry),
                batch=begun.size,
                seconds=begun.seconds,
                idle=patience,
                jobs=self._jobs,
                stopped=lambda: self._run_ended and not tap.has_first,
                on_frame=(lambda placed: None) if sample is None else sample.add,
            )
            with closing(reductions):
                reduction = next(reductions)
            kept = tap.finish()
            taken = frames.place if isinstance(frames, RunInOrder) else None
            beam = beam_of(state.level, tap.levels, reduction.n_hits, reduction.n_frames)
            block = Block(
                number=state.next_block,
                first=state.next_frame,
                n_frames=reduction.n_frames,
                n_unreadable=0 if taken is None else taken - state.next_frame - reduction.n_frames,
                n_hits=reduction.n_hits,
                used=state.used,
                hits=f"hits/{reduction.hits.name}",
                beam=beam,
                level=median(tap.levels) if tap.levels else None,
                received=frames.counts.received,
                dropped=frames.counts.dropped,
                damaged=frames.counts.damaged,
                other=frames.counts.other,
            )
            return block if beam != "on" else self._indexed(block, sample, kept)

    def _sample(self, used: NightSet) -> PeakSample | None:
        """Return what keeps some of a block's frames to be indexed, where that tells something."""
        if self.state.phase != "watching" or not self.begun.n_sample:
            return None
        if used.number not in self._indexers:
            self._indexers = {used.number: None}
            try:
                known = used.indexing
                if known is None:
                    self._note("nothing is indexed: the session's cell is gone")
                else:
                    made = make_indexer(known[1], self._frames.geometry, known[0], jobs=self._jobs)
                    self._indexers[used.number] = self._stack.enter_context(closing(made))
            except ProgramError as error:
                self._note(f"nothing is indexed: {error}")
        indexer = self._indexers[used.number]
        return None if indexer is None else PeakSample(indexer, self.begun.n_sample)

    def _indexed(self, block: Block, sample: PeakSample | None, kept: FrameSource | None) -> Block:
        """Index some of a block's frames: with the set in force, or also with the one before."""
        try:
            if sample is not None:
                check = sample.check()
                return replace(block, n_sampled=check.n_frames, n_indexed=check.n_kept)
            if kept is None or self.state.phase != "proving":
                return block
            with kept:
                frames, _ = sample_frames(kept, 2 * self.begun.n_sample or None, block.number)
                sets = [self._set(self.state.before), self._set(self.state.used)]
                before, now = indexed_frames(kept, sets, frames, jobs=1)
        except (InputError, ProgramError) as error:
            self._note(f"nothing is indexed: {error}")
            return block
        pairs = compared(before, now, len(frames))
        return replace(block, n_sampled=len(frames), n_indexed=len(now), pairs=pairs)

    @property
    def _run_ended(self) -> bool:
        return isinstance(self._frames, RunInOrder) and self._frames.ended

    @property
    def _waits(self) -> bool:
        """Whether frames wait until they are asked for."""
        return isinstance(self._frames, RunInOrder)

    def _look_for_orphans(self) -> None:
        """Remove hits that were written, but not told, before a kill: their frames come again.

        Those of a stream do not, and stay.
        """
        told = {Path(event.hits).name for event in self.events if isinstance(event, Block)}
        for path in (self._night / "hits").glob("*.cxi"):
            if path.name in told:
                continue
            if is_stream(self._source):
                self._note(f"{path} was written before the program was killed: it is of no block")
            else:
                path.unlink()


def begun_of(events: Sequence[Event], log: Path) -> Begun:
    """Return what a night was begun with.

    Raises
    ------
    InputError
        If its log does not say so.
    """
    if not events or not isinstance(events[0], Begun):
        raise InputError(f"{log} does not say how the night began: begin another one")
    return events[0]
