"""Worker processes that hold the frames of a sample."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Self, TypeVar

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.run import Run
from wrappers.indexing import Indexer, Indexing, Pattern
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.prepared_frame import PreparedFrame
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["FramePool", "batches"]

T = TypeVar("T")

FRAMES_PER_BATCH = 50
"""Frames a process gets at once where a whole run is worked through."""


def batches(n_frames: int, jobs: int) -> Iterator[range]:
    """Return ranges of frames to hand to a pool one after the other, to bound its memory."""
    size = FRAMES_PER_BATCH * jobs
    for first in range(0, n_frames, size):
        yield range(first, min(first + size, n_frames))


class FramePool:
    """Finds peaks and indexes in several processes.

    Each worker is a pool of its own with one process, so that a frame always goes to the
    process that read it before.

    Parameters
    ----------
    run : Run
    geometry : Geometry
    indexer : Indexer or None
        Runs in the workers unless it uses the cores by itself; None where only peaks are
        wanted.
    jobs : int
        Worker processes; with 1 everything runs in this process.
    memory : int
        Bytes that all processes together may take to keep frames ready for further settings;
        frames beyond that are read anew each time. 0 where each frame is searched once.

    Attributes
    ----------
    core_seconds : float
        Processor time that the worker processes have spent for answers so far.
    """

    def __init__(
        self,
        run: Run,
        geometry: Geometry,
        indexer: Indexer | None,
        jobs: int,
        memory: int = 0,
    ) -> None:
        self.core_seconds = 0.0
        self._indexer = indexer
        self._local: _Worker | None = None
        self._workers: list[ProcessPoolExecutor] = []
        self._home: dict[int, int] = {}
        if jobs == 1:
            self._local = _Worker(run, geometry, indexer, memory)
            return
        # Forking would copy the threads' locks of HDF5 and Numba in whatever state they are.
        context = multiprocessing.get_context("forkserver")
        self._workers = [
            ProcessPoolExecutor(1, context, _start_worker, (run, geometry, indexer, memory / jobs))
            for _ in range(jobs)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.shutdown(cancel_futures=True)
        self._workers = []

    def search(self, frames: Sequence[int], settings: Settings) -> dict[int, Pattern | str]:
        """Return the peaks of each frame as a pattern, or why the frame cannot be read."""
        if self._local is not None:
            return self._local.search(frames, settings)
        shares: list[list[int]] = [[] for _ in self._workers]
        for frame in frames:
            shares[self._home.setdefault(frame, len(self._home) % len(shares))].append(frame)
        futures = [
            worker.submit(_search, share, settings)
            for worker, share in zip(self._workers, shares, strict=True)
        ]
        found: dict[int, Pattern | str] = {}
        for future in futures:
            part, core_seconds = _result(future)
            found.update(part)
            self.core_seconds += core_seconds
        return {frame: found[frame] for frame in frames}

    def index(self, patterns: Sequence[Pattern]) -> list[Indexing]:
        """Index the patterns, in order."""
        if self._indexer is None:
            raise ValueError("this pool was made without an indexer")
        if self._local is not None or self._indexer.parallel:
            return self._indexer.index(patterns)
        n = len(self._workers)
        shares = [range(worker, len(patterns), n) for worker in range(n)]
        futures = [
            worker.submit(_index, [patterns[i] for i in share])
            for worker, share in zip(self._workers, shares, strict=True)
        ]
        answers: dict[int, Indexing] = {}
        for share, future in zip(shares, futures, strict=True):
            part, core_seconds = _result(future)
            answers.update(zip(share, part, strict=True))
            self.core_seconds += core_seconds
        return [answers[i] for i in range(len(patterns))]


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ProgramError(
            "a worker process was killed, for want of memory perhaps: use fewer jobs"
        ) from error


class _Worker:
    """What one process holds."""

    def __init__(
        self, run: Run, geometry: Geometry, indexer: Indexer | None, memory: float
    ) -> None:
        self._run, self._finder, self.indexer = run, PeakFinder(geometry), indexer
        self._room = memory
        self._held: dict[int, tuple[PreparedFrame, Pattern]] = {}

    def search(self, frames: Sequence[int], settings: Settings) -> dict[int, Pattern | str]:
        return {frame: self._search_one(frame, settings) for frame in frames}

    def _search_one(self, index: int, settings: Settings) -> Pattern | str:
        if index in self._held:
            prepared, empty = self._held[index]
            return replace(empty, peaks=prepared.find(settings))
        try:
            frame = self._run[index]
        except InputError as error:
            return str(error)
        pattern = Pattern(
            PeakList.empty(),
            frame.photon_energy,
            frame.camera_length,
            frame.shift_x,
            frame.shift_y,
        )
        # A mask of the frame's own counts too; one shared by all frames costs nothing.
        size = 1.5 * frame.data.nbytes + frame.mask.nbytes
        if size > self._room:
            return replace(pattern, peaks=self._finder.find(frame, settings))
        self._room -= size
        prepared = PreparedFrame(self._finder, frame)
        self._held[index] = prepared, pattern
        return replace(pattern, peaks=prepared.find(settings))


_worker: _Worker


def _start_worker(run: Run, geometry: Geometry, indexer: Indexer | None, memory: float) -> None:
    global _worker
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = _Worker(run, geometry, indexer, memory)


def _search(frames: Sequence[int], settings: Settings) -> tuple[dict[int, Pattern | str], float]:
    started = time.process_time()
    return _worker.search(frames, settings), time.process_time() - started


def _index(patterns: Sequence[Pattern]) -> tuple[list[Indexing], float]:
    assert _worker.indexer is not None, "FramePool.index checks it"
    started = time.process_time()
    return _worker.indexer.index(patterns), time.process_time() - started
