"""Processes of this machine that each hold something, and do tasks with it.

Whatever works on many frames at once is built on these: the pool of a session, ``peaks``,
``index``, ``mask`` and the reduction core.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Self, TypeVar

from wrappers.errors import ProgramError
from wrappers.processes import require_main_guard, serve_parent

__all__ = ["MOST_DEATHS", "Processes", "kept_workers"]

MOST_DEATHS = 3
"""Processes that one call may lose before it gives up."""

AHEAD = 2
"""Tasks of a stream that are handed out beforehand, for each process."""

H = TypeVar("H")
R = TypeVar("R")
T = TypeVar("T")


_idle: ContextVar[list[ProcessPoolExecutor] | None] = ContextVar("idle", default=None)


@contextmanager
def kept_workers() -> Iterator[None]:
    """Let processes that are done be the next ones: what they imported and loaded took a second.

    Within another such block nothing changes: the outer one ends them.
    """
    if _idle.get() is not None:
        yield
        return
    idle: list[ProcessPoolExecutor] = []
    before = _idle.set(idle)
    try:
        yield
    finally:
        _idle.reset(before)
        _end(idle)


class Processes(Generic[H]):
    """Worker processes, each with one holder: a run opened, a peak finder made, and so on.

    A process that dies is replaced, and what it was doing is done again. Ctrl-C is answered by
    this process alone; if it is killed, the others end. See also `kept_workers`.

    Parameters
    ----------
    make : callable
        Makes a holder. It is pickled, and called by each process's first task, whose caller
        hears what went wrong.
    jobs : int
        Number of processes; with 1 everything is done in this one.

    Raises
    ------
    InputError
        In a script that begins its work whenever a process reads it.
    """

    def __init__(self, make: Callable[[], H], jobs: int) -> None:
        require_main_guard()
        self._make = functools.cache(make) if jobs == 1 else make
        self._local = jobs == 1
        self._idle = _idle.get()
        self._last: dict[ProcessPoolExecutor, Future[Any]] = {}
        self._workers = [] if self._local else [self._start() for _ in range(jobs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return 1 if self._local else len(self._workers)

    def _start(self) -> ProcessPoolExecutor:
        while self._idle:
            worker = self._idle.pop()
            try:
                self._last[worker] = worker.submit(_start_anew, self._make)
                self._last[worker].result()
                return worker
            except BaseException as error:
                worker.shutdown(wait=False)
                if not isinstance(error, BrokenProcessPool):
                    raise
        # Forking would copy the threads' locks of HDF5 and Numba in whatever state they are.
        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(1, context, _start_worker, (self._make,))

    def close(self) -> None:
        """End the processes, each after the task that it is at, or keep those that have none."""
        workers, self._workers = self._workers, []
        if self._idle is not None:
            kept = [worker for worker in workers if self._is_idle(worker)]
            self._idle += kept
            workers = [worker for worker in workers if worker not in kept]
        _end(workers)

    def _is_idle(self, worker: ProcessPoolExecutor) -> bool:
        """Whether a process has nothing to do any more; it forgets what it held then."""
        last = self._last.get(worker)
        if last is None or not last.done():
            return False
        try:
            worker.submit(_forget)
        except BrokenProcessPool:
            return False
        return True

    def share(
        self, task: Callable[[H, Sequence[T]], list[R]], shares: Sequence[Sequence[T]]
    ) -> list[list[R | None]]:
        """Give each process its share of some items, and return their results.

        Parameters
        ----------
        task : callable
            Takes a holder and items, and returns a result for each of them. It is pickled.
        shares : sequence of sequences
            One for each process.

        Returns
        -------
        list of lists
            None stands for an item that killed two processes in turn.

        Raises
        ------
        ProgramError
            If processes die again and again.
        """
        if self._local:
            return [[*task(self._make(), share)] for share in shares]
        futures = [self._submit(number, task, share) for number, share in enumerate(shares)]
        deaths = 0
        results: list[list[R | None]] = []
        for number, (share, future) in enumerate(zip(shares, futures, strict=True)):
            whole = _result(future)
            if whole is not None:
                results.append([*whole])
                continue
            one_by_one: list[R | None] = []
            for item in share:
                single = _result(self._submit(number, task, [item]))
                one_by_one.append(None if single is None else single[0])
                deaths += single is None
                if deaths == MOST_DEATHS:
                    raise ProgramError(
                        "the worker processes are killed again and again, for want of memory "
                        "perhaps: use fewer jobs (-j)"
                    )
            results.append(one_by_one)
        return results

    def stream(self, task: Callable[[H, T], R], items: Iterable[T]) -> Generator[R]:
        """Do a task with each item, and yield the results in the items' order.

        An item is taken when a process is soon free for it, so neither the items nor the results
        need fit into memory.

        Parameters
        ----------
        task : callable
            Takes a holder and an item. It is pickled.
        items : iterable

        Raises
        ------
        ProgramError
            If an item kills two processes in turn.
        """
        if self._local:
            for item in items:
                yield task(self._make(), item)
            return
        waiting: deque[tuple[T, int, Future[R]]] = deque()

        def next_result() -> R:
            item, number, future = waiting.popleft()
            result = _outcome(future)
            if result is None:
                result = _outcome(self._submit(number, task, item))
            if result is None:
                raise ProgramError(
                    "a process that worked on frames was killed twice, for want of memory "
                    f"perhaps: use fewer than {len(self)} jobs (-j)"
                )
            return result[0]

        for item in items:
            busy = [0] * len(self._workers)
            for _, number, future in waiting:
                busy[number] += not future.done()
            number = busy.index(min(busy))
            waiting.append((item, number, self._submit(number, task, item)))
            if len(waiting) > AHEAD * len(self._workers):
                yield next_result()
        while waiting:
            yield next_result()

    def _submit(self, number: int, task: Callable[..., R], *arguments: Any) -> Future[R]:
        """Hand a task to a process, or to its successor if it has died."""
        try:
            future = self._workers[number].submit(_do, task, *arguments)
        except BrokenProcessPool:
            self._workers[number] = self._start()
            future = self._workers[number].submit(_do, task, *arguments)
        # A process does its tasks in turn, so it has done all when it has done the last.
        self._last[self._workers[number]] = future
        return future


def _end(workers: Sequence[ProcessPoolExecutor]) -> None:
    """End processes, all at once, each after the task that it is at."""
    for worker in workers:
        worker.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.shutdown()


def _outcome(future: Future[R]) -> tuple[R] | None:
    """Return a future's result, or None if its process was killed."""
    try:
        return (future.result(),)
    except (BrokenProcessPool, CancelledError):
        return None


def _result(future: Future[R]) -> R | None:
    outcome = _outcome(future)
    return None if outcome is None else outcome[0]


_holder: Callable[[], Any]


def _start_worker(make: Callable[[], Any]) -> None:
    serve_parent()
    _start_anew(make)


def _start_anew(make: Callable[[], Any]) -> None:
    global _holder
    _holder = functools.cache(make)


def _forget() -> None:
    """Let go of the frames and files that are held."""
    global _holder
    del _holder
    gc.collect()


def _do(task: Callable[..., R], *arguments: Any) -> R:
    return task(_holder(), *arguments)
