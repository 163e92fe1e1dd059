"""Work that is divided into units, each for itself, over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from wrappers.processes import serve_parent

__all__ = ["each_done"]

Job = TypeVar("Job")
Unit = TypeVar("Unit")
Found = TypeVar("Found")


def each_done(
    run_unit: Callable[[Unit], Found],
    units: Sequence[Unit],
    *,
    prepare: Callable[[Job], None],
    job: Job,
    processes: int,
) -> Iterator[tuple[Unit, Found]]:
    """Yield each unit with what came of it, in their order.

    Parameters
    ----------
    run_unit, prepare : callable
        Functions of a module; each process is prepared once with the job.
    units : sequence
    job : object
        What a process needs beside the unit.
    processes : int
        With one, all is done in this process.
    """
    if processes == 1:
        prepare(job)
        yield from ((unit, run_unit(unit)) for unit in units)
        return
    # Spawned, not forked: a forked PyTorch may hang on the threads of its parent.
    with ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_begin, initargs=(prepare, job)
    ) as pool:
        try:
            yield from zip(units, pool.map(run_unit, units), strict=True)
        except BaseException:
            # Or the pool would go through all that was asked before it ends.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(prepare: Callable[[Job], None], job: Job) -> None:
    serve_parent()
    prepare(job)
