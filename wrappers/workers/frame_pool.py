"""Processes of this machine that hold the frames of a sample."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexer, Indexing, Pattern, unheard
from wrappers.lattices.own_peaks import FrameLattices, FrameSplit
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import FrameCounts, FramePeaks
from wrappers.settings import Settings
from wrappers.workers.frame_worker import FrameWorker
from wrappers.workers.pool import KILLED
from wrappers.workers.processor_time import processor_seconds
from wrappers.workers.worker_processes import Processes

__all__ = ["FramePool"]

R = TypeVar("R")
T = TypeVar("T")


class FramePool:
    """Finds peaks and indexes in several processes; a `pool.Pool`.

    A frame always goes to the process that read it before. Where a process dies its frames are
    done again one by one; only what kills the next one too goes without an answer.

    Parameters
    ----------
    run : FrameSource
    indexer : Indexer or None
        Runs in the processes unless it uses the cores by itself; None where only peaks are
        wanted.
    jobs : int
        Processes; with 1 everything runs in this one.
    memory : int
        Bytes that all processes together may take to keep frames ready for further settings;
        frames beyond that are read anew each time. 0 where each frame is searched once.
    """

    def __init__(
        self, run: FrameSource, indexer: Indexer | None, jobs: int, memory: int = 0
    ) -> None:
        self._indexer = indexer
        self._home: dict[int, int] = {}
        finder = NamedFinder(run.geometry)
        make = functools.partial(FrameWorker, run, finder, indexer, memory / jobs)
        self._processes = Processes(make, jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._processes.close()

    def core_seconds(self) -> float:
        """Return the processor time of this process and all that it has started."""
        return processor_seconds()

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FramePeaks]:
        """Return, by frame, the peaks for each parameter set, or why there are none.

        Raises
        ------
        ProgramError
            If the processes die again and again.
        """
        for frame in frames:
            self._home.setdefault(frame, len(self._home) % len(self._processes))
        found = self._ask(functools.partial(FrameWorker.search, settings=settings), frames, frames)
        return {frame: found[frame] or FramePeaks(frame, (), KILLED) for frame in frames}

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        """Return, by frame, the number of peaks for each parameter set; none is kept for it.

        Raises
        ------
        ProgramError
            If the processes die again and again.
        """
        found = self._ask(functools.partial(FrameWorker.count, settings=settings), frames, frames)
        return {frame: found[frame] or FrameCounts(frame, None, KILLED) for frame in frames}

    def split(
        self, lattices: Sequence[FrameLattices], settings: Sequence[Settings]
    ) -> dict[int, FrameSplit]:
        """Return, by frame, how many of the peaks of each parameter set are on its lattices.

        Raises
        ------
        ProgramError
            If the processes die again and again.
        """
        frames = [each.frame for each in lattices]
        found = self._ask(functools.partial(FrameWorker.split, settings=settings), frames, lattices)
        return {frame: found[frame] or FrameSplit(frame, None, KILLED) for frame in frames}

    def _ask(
        self,
        task: Callable[[FrameWorker, Sequence[T]], list[R]],
        frames: Sequence[int],
        items: Sequence[T],
    ) -> dict[int, R | None]:
        """Return what the processes say of frames' items, by frame.

        Each frame is asked of the process that holds it, if any does.
        """
        shares: list[list[int]] = [[] for _ in range(len(self._processes))]
        for number, frame in enumerate(frames):
            shares[self._home.get(frame, number % len(shares))].append(number)
        tasks = [[items[number] for number in share] for share in shares]
        return {
            frames[number]: answer
            for share, answers in zip(shares, self._processes.share(task, tasks), strict=True)
            for number, answer in zip(share, answers, strict=True)
        }

    def index(
        self, patterns: Sequence[Pattern], done: Done = unheard, indexer: Indexer | None = None
    ) -> list[Indexing]:
        """Index the patterns, in order, with another indexer than the pool's if one is given.

        Raises
        ------
        ProgramError
            If the indexer cannot be run at all, or the processes die again and again.
        """
        alone = indexer or self._indexer
        if alone is not None and alone.parallel:
            return alone.index(patterns, done)
        n = len(self._processes)
        # Only this process can tell of its progress.
        task = functools.partial(
            FrameWorker.index, done=done if n == 1 else unheard, indexer=indexer
        )
        answers = [Indexing(failure=KILLED)] * len(patterns)
        shares = [patterns[first::n] for first in range(n)]
        for first, share in enumerate(self._processes.share(task, shares)):
            for number, answer in zip(range(first, len(patterns), n), share, strict=True):
                if answer is not None:
                    answers[number] = answer
        return answers
