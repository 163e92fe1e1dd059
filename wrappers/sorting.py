"""Sorting within kernels: Numba's own sort takes seconds to compile."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["DEPTH", "make_sort"]

SHORT = 16
"""Shorter pieces are sorted by insertion."""
DEPTH = 64
"""More pieces are never put off: of two, the longer one is."""


def make_sort() -> Callable[..., None]:
    """Return ``sort(values, n, waiting)``, for whoever compiles it.

    It sorts the first `n` values of an array in place, ascending, by quicksort with the median of
    three; none may be NaN. `waiting` (`DEPTH`, 2), int64, is overwritten.
    """

    def sort(values, n, waiting):
        n_waiting = 1
        waiting[0, 0], waiting[0, 1] = 0, n - 1
        while n_waiting:
            n_waiting -= 1
            first, last = waiting[n_waiting, 0], waiting[n_waiting, 1]
            while last - first >= SHORT:
                low, high = values[first], values[last]
                middle = values[(first + last) >> 1]
                if high < low:
                    low, high = high, low
                pivot = low if middle < low else high if high < middle else middle
                i, j = first, last
                while i <= j:
                    while values[i] < pivot:
                        i += 1
                    while pivot < values[j]:
                        j -= 1
                    if i <= j:
                        values[i], values[j] = values[j], values[i]
                        i += 1
                        j -= 1
                if j - first < last - i:
                    waiting[n_waiting, 0], waiting[n_waiting, 1] = i, last
                    last = j
                else:
                    waiting[n_waiting, 0], waiting[n_waiting, 1] = first, j
                    first = i
                n_waiting += 1
            for i in range(first + 1, last + 1):
                value = values[i]
                j = i - 1
                while j >= first and value < values[j]:
                    values[j + 1] = values[j]
                    j -= 1
                values[j + 1] = value

    return sort
