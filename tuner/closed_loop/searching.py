"""A night's blocks: frames are searched with the set in force, and some of them indexed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Self

from tuner.closed_loop.events import Begun, Block, Pairs
from tuner.closed_loop.feed import RunInOrder, Tap, block_file
from tuner.closed_loop.measuring import FIRST, NightSet, compared, indexed_frames
from tuner.closed_loop.rules import CUSTOMARY, State, beam_of
from tuner.live.sampling import PeakSample
from wrappers.errors import InputError, ProgramError
from wrappers.frames.memory import MemoryFrames
from wrappers.frames.sampling import sample_frames
from wrappers.frames.source import FrameSource
from wrappers.indexers import make_indexer
from wrappers.indexing import Indexer
from wrappers.streams.arriving import ArrivingFrames
from wrappers.streams.reducing import reduce_arriving

__all__ = ["BlockSearch", "session_folder"]


def session_folder(night: Path, number: int) -> Path:
    """Return where a session of a night is."""
    return night / f"tuning-{number}"


class BlockSearch:
    """Searches blocks of frames, one after the other; used as a context manager.

    Parameters
    ----------
    night : Path
    frames : ArrivingFrames
    begun : Begun
        Says how large a block is, and how many of its frames are indexed.
    jobs : int
        Threads that search, and processes of the indexer.
    on_note : callable
        Called with what is odd about the frames, a sentence each, again and again.
    stopped : callable
        Says that a block is to end with the frames that it has.
    """

    def __init__(
        self,
        night: Path,
        frames: ArrivingFrames,
        begun: Begun,
        *,
        jobs: int,
        on_note: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._night, self._frames, self._begun = night, frames, begun
        self._jobs, self._on_note, self._stopped = jobs, on_note, stopped
        self._sets: dict[int, NightSet] = {CUSTOMARY: NightSet(CUSTOMARY)}
        self._indexers: dict[int, Indexer | None] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def waits(self) -> bool:
        """Whether frames wait until they are asked for."""
        return isinstance(self._frames, RunInOrder)

    @property
    def ended(self) -> bool:
        """Whether no more frames can come."""
        return isinstance(self._frames, RunInOrder) and self._frames.ended

    def set_of(self, number: int) -> NightSet:
        """Return the set of a session."""
        if number not in self._sets:
            self._sets[number] = NightSet.read(number, session_folder(self._night, number))
        return self._sets[number]

    def next(self, state: State, patience: float) -> Block | None:
        """Search the next frames; return what became of them, or None where none come.

        Parameters
        ----------
        state : State
            Says with which set, and what else is to be known of them.
        patience : float
            Seconds without a frame that end the block.

        Raises
        ------
        InputError
            If what comes first is not of the geometry, or a file cannot be written.
        """
        begun, frames = self._begun, self._frames
        seconds = begun.seconds
        if self.waits:
            patience = seconds = math.inf  # frames of a run are never late
        used, recorded = self.set_of(state.used), state.phase in ("collecting", "proving")
        path = block_file(self._night / "frames", state.next_block) if recorded else None
        with Tap(frames, path) as tap:
            n = FIRST if state.used == CUSTOMARY else 1
            first = tap.first(n, patience, lambda: self.ended or self._stopped())
            for note in frames.notes:
                self._on_note(note)
            if not first:
                return None
            nominal = MemoryFrames(frames.geometry, first)
            settings = used.of(nominal)
            sample = self._sample(state, used)
            reductions = reduce_arriving(
                tap,
                lambda: settings,
                self._night / "hits",
                nominal_clen=nominal.nominal_clen,
                bad_pixels=used.bad_pixels(frames.geometry),
                batch=begun.size,
                seconds=seconds,
                idle=patience,
                jobs=self._jobs,
                stopped=lambda: (self.ended or self._stopped()) and not tap.has_first,
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
            return block if beam != "on" else self._indexed(state, block, sample, kept)

    def _sample(self, state: State, used: NightSet) -> PeakSample | None:
        """Return what keeps some of a block's frames to be indexed, where that tells something."""
        if state.phase != "watching" or not self._begun.n_sample:
            return None
        if used.number not in self._indexers:
            self._indexers = {used.number: None}
            try:
                known = used.indexing
                if known is None:
                    self._on_note("nothing is indexed: the session's cell is gone")
                else:
                    made = make_indexer(known[1], self._frames.geometry, known[0], jobs=self._jobs)
                    self._indexers[used.number] = self._stack.enter_context(closing(made))
            except ProgramError as error:
                self._on_note(f"nothing is indexed: {error}")
        indexer = self._indexers[used.number]
        return None if indexer is None else PeakSample(indexer, self._begun.n_sample)

    def _indexed(
        self, state: State, block: Block, sample: PeakSample | None, kept: FrameSource | None
    ) -> Block:
        """Index some of a block's frames: with the set in force, or also with the one before."""
        try:
            if sample is not None:
                check = sample.check()
                return replace(block, n_sampled=check.n_frames, n_indexed=check.n_kept)
            if kept is None or state.phase != "proving":
                return block
            with kept:
                frames, _ = sample_frames(kept, 2 * self._begun.n_sample or None, block.number)
                sets = [self.set_of(state.before), self.set_of(state.used)]
                before, now = indexed_frames(kept, sets, frames, jobs=1)
        except (InputError, ProgramError) as error:
            self._on_note(f"nothing is indexed: {error}")
            if state.phase == "proving":  # frames without a gain: a proof ends in any case
                return replace(block, pairs=Pairs(block.n_frames))
            return block
        pairs = compared(before, now, len(frames))
        return replace(block, n_sampled=len(frames), n_indexed=len(now), pairs=pairs)
