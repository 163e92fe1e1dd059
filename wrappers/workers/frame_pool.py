"""Worker processes that hold the frames of a sample."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, Self, TypeVar

from wrappers.errors import ProgramError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexer, Indexing, Pattern, unheard
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import FramePeaks, PeakBatch
from wrappers.processes import serve_parent
from wrappers.settings import Settings
from wrappers.workers.processor_time import processor_seconds

__all__ = ["KILLED", "FramePool", "FrameWorker", "Pool", "batches"]

FRAMES_PER_BATCH = 50
"""Frames a process gets at once where a whole run is worked through."""

MOST_DEATHS = 3
"""Worker processes that one call may lose before it gives up."""

KILLED = "the process that worked on this frame was killed, for want of memory perhaps"

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    """Processes that find peaks in the frames of a sample and index them."""

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FramePeaks]:
        """Return, by frame, the peaks for each settings, or why there are none."""
        ...

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index the patterns, in order."""
        ...

    def core_seconds(self) -> float:
        """Return the processor time spent so far, here and by all processes at work."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


def batches(n_frames: int, jobs: int) -> Iterator[range]:
    """Return ranges of frames to hand to a pool one after the other, to bound its memory."""
    size = FRAMES_PER_BATCH * jobs
    for first in range(0, n_frames, size):
        yield range(first, min(first + size, n_frames))


class FramePool:
    """Finds peaks and indexes in several processes.

    Each worker is a pool of its own with one process, so that a frame always goes to the
    process that read it before. A worker that dies is replaced, and its frames are done again
    one by one; only what kills the new one too goes without an answer.

    Parameters
    ----------
    run : FrameSource
    indexer : Indexer or None
        Runs in the workers unless it uses the cores by itself; None where only peaks are
        wanted.
    jobs : int
        Worker processes; with 1 everything runs in this process.
    memory : int
        Bytes that all processes together may take to keep frames ready for further settings;
        frames beyond that are read anew each time. 0 where each frame is searched once.
    """

    def __init__(
        self,
        run: FrameSource,
        indexer: Indexer | None,
        jobs: int,
        memory: int = 0,
    ) -> None:
        self._indexer = indexer
        self._local: FrameWorker | None = None
        self._workers: list[ProcessPoolExecutor] = []
        self._home: dict[int, int] = {}
        finder = NamedFinder(run.geometry)
        if jobs == 1:
            self._local = FrameWorker(run, indexer, finder, memory)
            return
        self._start_arguments = (run, indexer, finder, memory / jobs)
        self._workers = [self._start() for _ in range(jobs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self) -> ProcessPoolExecutor:
        # Forking would copy the threads' locks of HDF5 and Numba in whatever state they are.
        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(1, context, _start_worker, self._start_arguments)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.shutdown(cancel_futures=True)
        self._workers = []

    def core_seconds(self) -> float:
        """Return the processor time of this process and all that it has started."""
        return processor_seconds()

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FramePeaks]:
        """Return, by frame, the peaks for each settings, or why there are none.

        Raises
        ------
        ProgramError
            If the workers die again and again.
        """
        if self._local is not None:
            return dict(zip(frames, self._local.search(frames, settings), strict=True))
        shares: list[list[int]] = [[] for _ in self._workers]
        for frame in frames:
            shares[self._home.setdefault(frame, len(self._home) % len(shares))].append(frame)
        found: dict[int, FramePeaks] = {}
        for share, answers in zip(shares, self._spread(_search, shares, settings), strict=True):
            found.update(
                (frame, FramePeaks(frame, (), KILLED) if answer is None else answer)
                for frame, answer in zip(share, answers, strict=True)
            )
        return {frame: found[frame] for frame in frames}

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index the patterns, in order.

        Raises
        ------
        ProgramError
            If the indexer cannot be run at all, or the workers die again and again.
        """
        if self._local is not None:
            return self._local.index(patterns, done)
        if self._indexer is not None and self._indexer.parallel:
            return self._indexer.index(patterns, done)
        n = len(self._workers)
        answers = [Indexing(failure=KILLED)] * len(patterns)
        shares = [patterns[first::n] for first in range(n)]
        for first, share in enumerate(self._spread(_index, shares)):
            for number, answer in zip(range(first, len(patterns), n), share, strict=True):
                if answer is not None:
                    answers[number] = answer
        return answers

    def _spread(
        self, task: Callable[..., list[R]], shares: Sequence[Sequence[T]], *arguments: Any
    ) -> list[list[R | None]]:
        """Give each worker its share; None stands for what killed its worker twice."""
        futures = [
            self._submit(number, task, share, *arguments) for number, share in enumerate(shares)
        ]
        deaths = 0
        results: list[list[R | None]] = []
        for number, (share, future) in enumerate(zip(shares, futures, strict=True)):
            whole = _result(future)
            if whole is not None:
                results.append([*whole])
                continue
            one_by_one: list[R | None] = []
            for item in share:
                single = _result(self._submit(number, task, [item], *arguments))
                one_by_one.append(None if single is None else single[0])
                deaths += single is None
                if deaths == MOST_DEATHS:
                    raise ProgramError(
                        "the worker processes are killed again and again, for want of memory "
                        "perhaps: use fewer jobs (-j)"
                    )
            results.append(one_by_one)
        return results

    def _submit(
        self, number: int, task: Callable[..., list[R]], share: Sequence[T], *arguments: Any
    ) -> Future[list[R]]:
        """Hand a share to a worker, or to its successor if it has died."""
        try:
            return self._workers[number].submit(task, share, *arguments)
        except BrokenProcessPool:
            self._workers[number] = self._start()
            return self._workers[number].submit(task, share, *arguments)


def _result(future: Future[T]) -> T | None:
    """Return a future's result, or None if its process was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None


class FrameWorker:
    """What one process holds."""

    def __init__(
        self, run: FrameSource, indexer: Indexer | None, finder: NamedFinder, memory: float
    ) -> None:
        self._indexer = indexer
        mask = SettingsMask(run.geometry, run.bad_pixels)
        self._batch = PeakBatch(finder, run, memory=memory, masked=mask.on)

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> list[FramePeaks]:
        """Return, frame by frame, the peaks for each settings, or why there are none."""
        return list(self._batch.search(settings, frames))

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index the patterns, in order."""
        if self._indexer is None:
            raise ValueError("this pool was made without an indexer")
        return self._indexer.index(patterns, done)


_make_worker: Callable[[], FrameWorker]


def _start_worker(*arguments: Any) -> None:
    global _make_worker
    serve_parent()
    # Made by the first task, whose caller then hears what went wrong.
    _make_worker = functools.cache(functools.partial(FrameWorker, *arguments))


def _search(frames: Sequence[int], settings: Sequence[Settings]) -> list[FramePeaks]:
    return _make_worker().search(frames, settings)


def _index(patterns: Sequence[Pattern]) -> list[Indexing]:
    return _make_worker().index(patterns)
