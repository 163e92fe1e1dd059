"""A frame reduced to the tails of its rings' values, for `ring_tails`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wrappers.peakfinding.compiling import bare_kernel, inlined, inner_kernel
from wrappers.peakfinding.kernel_types import Tail, Tails
from wrappers.peakfinding.ring_limits import N_PASSES, START, moments, next_window
from wrappers.peakfinding.vectors import larger, views
from wrappers.sorting import DEPTH, make_sort

__all__ = ["BLOCK", "keep_tails"]

_sort = inner_kernel(make_sort())

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
BLOCK = 32
"""Running sums are kept for each so many values of a tail; a multiple of `vectors.LANES`."""
OUTER = 3.0
"""Of pixels so many of their core's standard deviations above it, the place is kept twice."""
PLACE = (1 << 32) - 1
BELOW_ZERO = 0x7FFFFFFF
"""The bits of a negative float that make its pattern larger the smaller the value is."""


def keep_tails(
    values: NDArray[np.float32],
    start: NDArray[np.int64],
    pixel: NDArray[np.int32],
    min_snr: float,
    kept: DTypeLike,
    places: DTypeLike,
) -> Tails:
    """Reduce a frame to the tails of its rings' values.

    Parameters
    ----------
    values : float32 array (n + LANES,)
        Of `ring_order.sort_into_rings`.
    start, pixel : array
        As in `radial_layout.RadialLayout`.
    min_snr : float
        The smallest that the tails are to suffice for.
    kept, places : dtype
        In which the tails' values and their places are kept.
    """
    n_rings, n = len(start) - 1, int(start[-1])
    largest = int(np.diff(start).max(initial=0))
    everything, core = np.zeros((n_rings, 3)), np.zeros((n_rings, 3))
    window = np.zeros((n_rings, 2), np.float32)
    faint, bright = np.empty(n + BLOCK, np.float32), np.empty(n + BLOCK, np.float32)
    starts = np.zeros((3, n_rings + 1), np.int64)
    place, outer = np.empty(n, np.uint32), np.empty(n, np.int32)
    keys = np.empty((2, largest), np.int64)
    _fill_tails(
        values,
        values.view(np.int32),
        (start, pixel),
        float(min_snr),
        (everything, core, window),
        (faint.view(np.int32), bright.view(np.int32), bright, place, outer),
        starts,
        (*keys, np.empty((DEPTH, 2), np.int64)),
    )
    n_faint, n_bright, n_outer = starts[:, -1]
    for tail, size in ((faint, n_faint), (bright, n_bright)):
        tail[size : size + BLOCK] = 0
    return Tails(
        everything,
        core,
        window,
        _tail(faint[: n_faint + BLOCK].astype(kept), starts[0]),
        _tail(bright[: n_bright + BLOCK].astype(kept), starts[1]),
        place[:n_bright].astype(places),
        outer[:n_outer].copy(),
        starts[2],
    )


def _tail(values: NDArray[Any], start: NDArray[np.int64]) -> Tail:
    """Return a tail with its running sums."""
    first_sum = np.zeros(len(start), np.int64)
    np.cumsum(np.diff(start) // BLOCK + 1, out=first_sum[1:])
    sums = np.zeros((int(first_sum[-1]), 2))
    _sum_blocks(values, start, first_sum, sums)
    return Tail(values, start, sums, first_sum[:-1])


@bare_kernel
def _fill_tails(values, patterns, layout, min_snr, rings, tails, starts, room):
    """Write the tails of a frame; see `keep_tails`.

    Parameters
    ----------
    values, patterns : array (n + LANES,)
        In ring order, as float32, and their bits as int32.
    layout : tuple
        start and pixel.
    min_snr : float
    rings : tuple
        everything, core and window; written.
    tails : tuple
        Bits of the faint and of the bright tails' values, the latter themselves, their places, and
        the pixels of the brightest; written.
    starts : int64 array (3, n_rings + 1)
        Of the faint and bright tails, and of the brightest; written, but for the zeros.
    room : tuple
        Scratch.
    """
    values, patterns, layout, rings, tails, starts, room = views(
        (values, patterns, layout, rings, tails, starts, room)
    )
    start, pixel = layout
    everything, core, window = rings
    faint_patterns, bright_patterns, bright, place, outer = tails
    faint_keys, bright_keys, waiting = room
    n_faint = n_bright = n_outer = np.int64(0)
    for ring in range(len(everything)):
        begin, stop = start[ring], start[ring + 1]
        n_faint_keys = n_bright_keys = np.int64(0)
        n, total, squares = moments(values, begin, stop, -START, START)
        everything[ring, 0], everything[ring, 1], everything[ring, 2] = n, total, squares
        lower, upper = _core_window(values, begin, stop, min_snr)
        n, total, squares = moments(values, begin, stop, lower, upper)
        core[ring, 0], core[ring, 1], core[ring, 2] = n, total, squares
        window[ring, 0], window[ring, 1] = lower, upper
        for k in range(stop - begin):
            value = values[begin + k]
            if -FLOAT_MAX <= value <= lower:
                faint_keys[n_faint_keys] = _key(patterns[begin + k], np.int64(0))
                n_faint_keys += 1
            elif upper <= value <= FLOAT_MAX:
                bright_keys[n_bright_keys] = _key(patterns[begin + k], k)
                n_bright_keys += 1
        middle = np.float32(total / n) if n else lower
        brightest = middle + larger(OUTER / min_snr, 1.0) * (upper - middle)
        _sort(faint_keys, n_faint_keys, waiting)
        for k in range(n_faint_keys):
            faint_patterns[n_faint] = _pattern_of(faint_keys[n_faint_keys - 1 - k])
            n_faint += 1
        _sort(bright_keys, n_bright_keys, waiting)
        for k in range(n_bright_keys):
            bright_patterns[n_bright] = _pattern_of(bright_keys[k])
            place[n_bright] = bright_keys[k] & PLACE
            if bright[n_bright] >= brightest:
                outer[n_outer] = pixel[begin + place[n_bright]]
                n_outer += 1
            n_bright += 1
        starts[0, ring + 1], starts[1, ring + 1] = n_faint, n_bright
        starts[2, ring + 1] = n_outer


@bare_kernel
def _sum_blocks(values, start, first_sum, sums):
    """Write the running sums of a `Tail`."""
    values, start, first_sum, sums = views((values, start, first_sum, sums))
    for ring in range(len(start) - 1):
        k = start[ring]
        for row in range(first_sum[ring] + 1, first_sum[ring + 1]):
            total, squares = sums[row - 1, 0], sums[row - 1, 1]
            for i in range(k, k + BLOCK):
                value = np.float64(values[i])
                total += value
                squares += value * value
            sums[row, 0], sums[row, 1] = total, squares
            k += BLOCK


@inlined
def _key(pattern, place):
    """Return an int64 that sorts by value, given a float32's bits, and holds a place as well."""
    bits = np.int64(pattern)
    return ((bits if bits >= 0 else bits ^ BELOW_ZERO) << 32) | place


@inlined
def _pattern_of(key):
    """Return the value's bits of a `_key`."""
    bits = key >> 32
    return np.int32(bits if bits >= 0 else bits ^ BELOW_ZERO)


@inlined
def _core_window(values, begin, stop, min_snr):
    """Return the limits of the last clipping, at no threshold, that leaves any value."""
    lower, upper = -START, START
    n, total, squares = moments(values, begin, stop, lower, upper)
    for _ in range(N_PASSES):
        _, new_lower, new_upper = next_window(float(n), total, squares, min_snr, -math.inf)
        n, total, squares = moments(values, begin, stop, new_lower, new_upper)
        if n == 0:
            break
        lower, upper = new_lower, new_upper
    return lower, upper
