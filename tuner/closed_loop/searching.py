"""A night's blocks: frames are searched with the set in force, and some of them indexed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Self

from tuner.closed_loop.events import Beam, Begun, Block, Pairs
from tuner.closed_loop.evidence import beam_of, of_other_light
from tuner.closed_loop.feed import Ahead, Tap, block_file, note_taken
from tuner.closed_loop.kinds import some_told, teller_of
from tuner.closed_loop.measuring import FIRST, NightSet
from tuner.closed_loop.rules import CUSTOMARY, State
from tuner.closed_loop.sampled import BlockSample, Sampled
from wrappers.cell import Cell
from wrappers.errors import InputError, ProgramError
from wrappers.frame_kinds import KindTeller, Told
from wrappers.frames.frame import Frame
from wrappers.frames.memory import MemoryFrames
from wrappers.frames.source import FrameSource
from wrappers.indexers import make_indexer
from wrappers.indexing import Indexer
from wrappers.reduction.placed import Placed, place
from wrappers.streams.protocols import is_growing
from wrappers.streams.reducing import FrameSearch, reduce_arriving

__all__ = ["BlockSearch", "session_folder"]


def session_folder(night: Path, number: int) -> Path:
    """Return where a session of a night is."""
    return night / f"tuning-{number}"


class BlockSearch:
    """Searches blocks of frames, one after the other; used as a context manager.

    Parameters
    ----------
    night : Path
    frames : Ahead
    begun : Begun
        Says how large a block is, and how many of its frames are indexed.
    n_frames : int, optional
        Of the night, which has no further ones.
    jobs : int
        Threads that search, and as many that index, or processes of the indexer.
    on_note : callable
        Called with what is odd about the frames, a sentence each, again and again.
    stopped : callable
        Says that a block is to end with the frames that it has.
    """

    def __init__(
        self,
        night: Path,
        frames: Ahead,
        begun: Begun,
        *,
        n_frames: int | None = None,
        jobs: int,
        on_note: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._night, self._frames, self._begun = night, frames, begun
        self._jobs, self._on_note, self._stopped = jobs, on_note, stopped
        self._sets: dict[int, NightSet] = {CUSTOMARY: NightSet(CUSTOMARY)}
        self._indexers: dict[int, tuple[Cell | None, Indexer | None]] = {}
        self._tellers: dict[int, KindTeller | None] = {CUSTOMARY: None}
        self._last_size, self._n_changes = begun.size, 0
        self._most: float = math.inf if n_frames is None else n_frames
        self._keeps_names = is_growing(begun.source)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

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
        if frames.waits:
            patience = seconds = math.inf  # frames of a run are never late
        used = self.set_of(state.used)
        path = self._night / "frames" if state.phase == "collecting" else None
        path = None if path is None else block_file(path, state.next_block)
        n = FIRST if state.used == CUSTOMARY else 1
        first = frames.look(int(min(n, self._most - state.next_frame)), patience, self._stopped)
        for note in frames.notes:
            self._on_note(note)
        if not first:
            return None
        begins_series = frames.n_changes != self._n_changes
        self._n_changes = frames.n_changes
        with Tap(frames, path) as tap:
            nominal = MemoryFrames(frames.geometry, first)
            settings = used.of(nominal)
            kinds: Counter[str] = Counter()
            with self._sample(state, nominal) as sample:

                def decided(placed: Placed) -> None:
                    kinds.update([] if placed.told is None else [placed.told.name])
                    if sample is not None:
                        sample.add(placed)

                reductions = reduce_arriving(
                    tap,
                    lambda: settings,
                    self._night / "hits",
                    nominal_clen=nominal.nominal_clen,
                    bad_pixels=used.bad_pixels(frames.geometry),
                    batch=self._size(state),
                    seconds=seconds,
                    idle=patience,
                    jobs=self._jobs,
                    stopped=lambda: (
                        frames.ended or (self._stopped() and not frames.has_looked_ahead)
                    ),
                    on_frame=decided,
                    beside=(lambda frame: None) if sample is None else sample.beside,
                    tell=self._tells(state),
                )
                with closing(reductions):
                    reduction = next(reductions)
                tap.finish()
                beam = beam_of(state.level, tap.levels, reduction.n_hits, reduction.n_frames)
                sampled = self._result(state, sample, reduction.n_frames, beam)
            if self._keeps_names:
                note_taken(self._night, state.next_block, tap.names)
            self._last_size = reduction.n_frames
            taken = frames.place
            brighter, darker = of_other_light(state.level, tap.levels)
            return Block(
                number=state.next_block,
                first=state.next_frame,
                n_frames=reduction.n_frames,
                n_unreadable=0 if taken is None else taken - state.next_frame - reduction.n_frames,
                n_hits=reduction.n_hits,
                used=state.used,
                hits=f"hits/{reduction.hits.name}",
                beam=beam,
                level=median(tap.levels) if tap.levels else None,
                n_sampled=sampled.n,
                n_indexed=sampled.n_indexed,
                n_light=len(tap.levels) if state.level else 0,
                n_brighter=brighter,
                n_darker=darker,
                n_placed=sampled.n_placed,
                n_elsewhere=sampled.n_elsewhere,
                pairs=sampled.pairs,
                kinds=dict(kinds),
                received=frames.counts.received,
                dropped=frames.counts.dropped,
                damaged=frames.counts.damaged,
                other=frames.counts.other,
                photon_energy=first[0].photon_energy,
                camera_length=first[0].camera_length,
                begins_series=begins_series,
            )

    def _size(self, state: State) -> int:
        """Return how many frames the next block may have: a session waits for no further ones."""
        wanted = self._begun.n_tuning - sum(each.n_frames for each in state.kept)
        is_last = state.phase == "collecting" and state.n_let_go <= 0 < wanted
        size = min(self._begun.size, wanted) if is_last else self._begun.size
        return int(min(size, self._most - state.next_frame))

    def _tells(self, state: State) -> Callable[[Frame], Told | None]:
        """Return what tells the kinds of some of the next frames; none before the first session."""
        if state.first not in self._tellers:
            session, self._tellers[state.first] = session_folder(self._night, state.first), None
            try:
                self._tellers[state.first] = teller_of(session, self._frames.geometry)
            except InputError as error:
                self._on_note(f"frames are not told by kind: {error}")
        teller = self._tellers[state.first]
        if teller is None:
            return lambda frame: None
        return some_told(teller, self._expected)

    @property
    def _expected(self) -> int:
        """Frames that the next block will have, as the last one had."""
        return min(self._begun.size, self._last_size)

    @contextmanager
    def _sample(self, state: State, nominal: FrameSource) -> Iterator[BlockSample | None]:
        """Yield what indexes some of a block's frames, where that tells something."""
        n = self._begun.n_sample
        if state.phase not in ("watching", "proving") or (not n and state.phase == "watching"):
            yield None
            return
        cell, indexer = self._indexer(self.set_of(state.used))
        if cell is None or indexer is None:
            yield None
            return
        other = None
        if state.phase == "proving":
            other, n = self._search_with(self.set_of(state.before), nominal), 2 * n
        expected = self._expected
        with BlockSample(
            indexer,
            self._frames.geometry,
            cell,
            share=n / expected if n else 1.0,
            most=2 * n or expected,
            jobs=self._jobs,
            seed=state.next_block,
            other=other,
        ) as sample:
            yield sample

    def _indexer(self, used: NightSet) -> tuple[Cell | None, Indexer | None]:
        """Return a set's cell and indexer; None where there is none, which is said."""
        if used.number not in self._indexers:
            self._indexers = {used.number: (None, None)}
            try:
                known = used.indexing
                if known is None:
                    self._on_note("nothing is indexed: the session's cell is gone")
                else:
                    cell, choice = known
                    made = make_indexer(choice, self._frames.geometry, cell, jobs=self._jobs)
                    self._indexers[used.number] = cell, self._stack.enter_context(closing(made))
            except (InputError, ProgramError) as error:
                self._on_note(f"nothing is indexed: {error}")
        return self._indexers[used.number]

    def _search_with(self, used: NightSet, nominal: FrameSource) -> Callable[[Frame], Placed]:
        """Return what a set makes of a frame."""
        geometry, settings = self._frames.geometry, used.of(nominal).settings
        search = FrameSearch(geometry, used.bad_pixels(geometry))
        clen_change = settings.clen_change(nominal.nominal_clen)
        return lambda frame: place(*search(frame, settings), settings, clen_change)

    def _result(
        self, state: State, sample: BlockSample | None, n_frames: int, beam: Beam
    ) -> Sampled:
        """Return what became of the frames that were drawn."""
        if beam != "on":
            return Sampled()
        try:
            if sample is not None:
                return sample.result()
        except (InputError, ProgramError) as error:
            self._on_note(f"nothing is indexed: {error}")
        # Frames without a gain: a proof ends in any case.
        return Sampled(pairs=Pairs(n_frames)) if state.phase == "proving" else Sampled()
