"""Processor time of this process and everything it has started."""

from __future__ import annotations

import psutil

__all__ = ["processor_seconds"]


def processor_seconds() -> float:
    """Return the processor time, in seconds, of this process and all below it.

    Programs that still run count like those that have ended, so what one call cost is the
    difference between two of these, whether or not it started its program.
    """
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it has ended meanwhile
        total += times.user + times.system + times.children_user + times.children_system
    return total
