"""Processor time of this process and everything it has started."""

from __future__ import annotations

import threading

import psutil

__all__ = ["processor_seconds", "tree_seconds"]

MOST_READINGS = 5
"""Of all processes, until none of them came or went meanwhile."""


class _Clock:
    """A sum that never falls.

    The kernel hands a process's time on to its parent when it ends. But a program that is killed
    with its workers at work has no use for theirs any more, and the sum would fall by that: what
    was read before is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._highest = self._lost = 0.0

    def read(self) -> float:
        with self._lock:
            total = _of_tree(psutil.Process()) + self._lost
            self._lost += max(self._highest - total, 0.0)
            self._highest = max(self._highest, total)
            return self._highest


_clock = _Clock()


def processor_seconds() -> float:
    """Return the processor time, in seconds, of this process and all below it.

    Programs that still run count like those that have ended, so what one call cost is the
    difference between two of these, whether or not it started its program. It never falls. Whoever
    kills a program reads it just before and just after, so that nothing is lost.
    """
    return _clock.read()


def tree_seconds(pid: int) -> float:
    """Return the processor time, in seconds, of a process and all below it; 0 if there is none."""
    try:
        return _of_tree(psutil.Process(pid))
    except psutil.Error:
        return 0.0


def _of_tree(this: psutil.Process) -> float:
    children = this.children(recursive=True)
    for _ in range(MOST_READINGS):
        total = sum(map(_of_one, (*children, this)))
        before, children = children, this.children(recursive=True)
        if children == before:
            break  # or one that has ended meanwhile would count twice, or not at all
    return total


def _of_one(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0  # it has ended meanwhile
    return float(times.user + times.system + times.children_user + times.children_system)
