"""How long an indexing program may take, on a busy machine as on an idle one."""

from __future__ import annotations

import time

from wrappers.crystfel.supervision import Supervised

__all__ = ["TimeLimit"]

BETWEEN_READINGS = 0.25
"""Seconds between two looks at the processor time of a program's processes."""

SHORTEST_REST, LONGEST_REST = 5.0, 120.0
"""Seconds; between them it is the limit: what takes no processor time for so long hangs."""

A_LITTLE = 0.02
"""Seconds of processor time that a program at work takes before long."""


class TimeLimit:
    """A limit of the processor time of one call, which may start several programs.

    Wall time would cut calls on a machine that others use, too, and the rates would depend on who.

    Parameters
    ----------
    seconds : float
        Of processor time for each of the program's processes, on the average.
    jobs : int
        Its processes.
    """

    def __init__(self, seconds: float, jobs: int) -> None:
        self.seconds = seconds
        self._jobs = jobs
        self._spent = self._marked = 0.0
        self._moved = time.monotonic()
        self._program: Supervised | None = None
        self._read, self._last = -1.0, 0.0
        self.is_over = False

    def watch(self, program: Supervised) -> None:
        """Count the processor time that a program takes from now on."""
        self._program, self._last = program, program.core_seconds()

    def check(self) -> bool:
        """Whether the time is over; once it is, it stays over."""
        now = time.monotonic()
        if self.is_over or now < self._read + BETWEEN_READINGS:
            return self.is_over
        self._read = now
        if self._program is not None:
            seconds = self._program.core_seconds()
            # A program that has ended reads 0.
            self._spent += max(seconds - self._last, 0.0)
            self._last = max(seconds, self._last)
        if self._spent > self._marked + A_LITTLE:
            self._marked, self._moved = self._spent, now
        hangs = now > self._moved + min(max(self.seconds, SHORTEST_REST), LONGEST_REST)
        self.is_over = hangs or self._spent > self.seconds * self._jobs
        return self.is_over

    def __str__(self) -> str:
        return (
            f"its time limit of {self.seconds:.0f} s of processor time for each of {self._jobs} "
            "processes (--timeout)"
        )
