"""The plain path: what `vectors` offers, in ordinary Numba.

It says what the vector path does, and takes its place where that cannot be compiled. Sums are kept
lane by lane and added up half to half, so that they are equal to the vector path's to the last
bit, for floats as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = [
    "BITS",
    "LANES",
    "add_pixels",
    "add_values",
    "bits_at",
    "bits_false",
    "bits_nonzero",
    "bits_outside",
    "columns",
    "itemsize",
    "lanes_of",
    "larger",
    "matrix",
    "no_pixels",
    "no_sums",
    "no_wide_pixels",
    "nothing_like",
    "packed",
    "prefetch",
    "smaller",
    "total_sums",
    "trailing_zeros",
    "views",
    "width",
]

LANES = 16
"""So many values are taken at once."""
BITS = 64
"""So many values' bits are in a word."""

_FLOAT_MAX = np.float32(np.finfo(np.float32).max)
_ONE, _ALL = np.uint64(1), ~np.uint64(0)


def packed(arrays: Any) -> Any:
    """Return arrays, a tuple with tuples in it, as Python hands them to a kernel for `views`."""
    return arrays


@njit
def views(arrays):
    """Return arrays, a tuple of them or one, as kernels hand them to each other.

    Whoever made them keeps them: an array that is made in a kernel is not kept by its view. Indices
    do not count from the end.
    """
    return arrays


@njit
def matrix(rows, columns):
    """Return numbers (float64) of so many rows and columns, with anything in them."""
    return np.empty((rows, columns))


@njit
def columns(array, first, stop):
    """Return the columns of an array of two dimensions from `first` to before `stop`."""
    return array[:, first:stop]


@njit
def width(array):
    """Return the number of columns of an array of two dimensions."""
    return array.shape[1]


@njit
def itemsize(array):
    """Return the bytes of an element."""
    return array.itemsize


@njit
def smaller(one, other):
    """Return the smaller of two numbers; the first where none is."""
    return min(one, other)


@njit
def larger(one, other):
    """Return the larger of two numbers; the first where none is."""
    return max(one, other)


@njit
def no_sums():
    """Return sums over nothing, for `add_values`: numbers, sums, squares and largest by lane."""
    return np.zeros((4, LANES))


@njit
def no_pixels(data):
    """Return sums over nothing, for `add_pixels` with such data, 16,384 times at most."""
    return no_sums()


@njit
def no_wide_pixels(data):
    """Do as `no_pixels` for more pixels at once, if there are vectors of so many."""
    return no_sums()


@njit
def nothing_like(sums):
    """Return sums over nothing, of the kind of others."""
    return no_sums()


@njit
def lanes_of(sums):
    """Return how many pixels `add_pixels` adds to such sums at once."""
    return LANES


@njit
def _add(sums, lane, value):
    sums[0, lane] += 1
    sums[1, lane] += np.float64(value)
    sums[2, lane] += np.float64(value) * np.float64(value)
    sums[3, lane] = max(sums[3, lane], np.float64(value))


@njit
def add_values(sums, values, first, n, lower, upper):
    """Return sums with n values added, those strictly between limits; `LANES` may be read.

    The sums that were given are not to be used again.
    """
    for lane in range(n):
        value = np.float32(values[first + lane])
        if lower < value < upper:
            _add(sums, lane, value)
    return sums


@njit
def add_pixels(sums, data, first, chosen):
    """Return sums with `lanes_of` elements added: those finite and with a bit in `chosen`.

    The sums that were given are not to be used again.
    """
    for lane in range(LANES):
        value = np.float32(data[first + lane])
        if chosen >> np.uint64(lane) & _ONE and abs(value) <= _FLOAT_MAX:
            _add(sums, lane, value)
    return sums


@njit
def total_sums(sums):
    """Return number, sum, sum of squares, and the largest value or 0 (float32)."""
    left = sums.copy()  # further values may be added to the sums themselves
    half = LANES
    while half > 1:
        half //= 2
        for lane in range(half):
            for row in range(3):
                left[row, lane] += left[row, lane + half]
            left[3, lane] = max(left[3, lane], left[3, lane + half])
    return np.int64(left[0, 0]), left[1, 0], left[2, 0], np.float32(left[3, 0])


@njit
def bits_outside(values, first, lower, upper):
    """Return which of `BITS` float32 are not strictly between limits; NaN never."""
    word = np.uint64(0)
    for k in range(BITS):
        value = values[first + k]
        word |= np.uint64((value <= lower) | (value >= upper)) << np.uint64(k)
    return word


@njit
def bits_false(flags, first):
    """Return which of `BITS` elements of a bool array are False."""
    word = np.uint64(0)
    for k in range(BITS):
        word |= np.uint64(not flags[first + k]) << np.uint64(k)
    return word


@njit
def bits_nonzero(words, first):
    """Return which of `BITS` elements of an array of words are not 0."""
    word = np.uint64(0)
    for k in range(BITS):
        word |= np.uint64(words[first + k] != 0) << np.uint64(k)
    return word


@njit
def bits_at(bits, p):
    """Return the bits of an array of words from bit `p` on, at least 57 of them, then zeros.

    Eight bytes from the one with `p` on must be there. (Bytes are in the order of x86 and ARM.)
    """
    by = np.uint64(p & 63)
    word = bits[p >> 6] >> by
    if p & 63 > 7:
        word |= bits[(p >> 6) + 1] << (np.uint64(64) - by)
    return word & (_ALL >> np.uint64(p & 7))


@njit
def trailing_zeros(word):
    """Return the place of a word's lowest bit; 64 if none is set."""
    place = 0
    while place < BITS and not word >> np.uint64(place) & _ONE:
        place += 1
    return place


@njit
def prefetch(array, index):
    """Ask for the memory of an array's element, counted flat, which is needed soon."""
