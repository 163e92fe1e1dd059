"""Linear algebra of small matrices by one thread."""

from __future__ import annotations

import threading
from functools import cached_property

from threadpoolctl import ThreadpoolController

__all__ = ["ONE_THREAD"]


class _OneThread:
    """A context in which BLAS uses one thread, for the whole process; many threads may be inside.

    On small matrices threads that wait for each other take some thirty times as long as one alone
    where others use the machine, too.
    """

    def __init__(self) -> None:
        self._lock, self._n_inside = threading.Lock(), 0

    @cached_property
    def _libraries(self) -> ThreadpoolController:
        return ThreadpoolController()

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._limits = self._libraries.limit(limits=1, user_api="blas")
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._limits.restore_original_limits()


ONE_THREAD = _OneThread()
"""``with ONE_THREAD:`` around what multiplies small matrices."""
