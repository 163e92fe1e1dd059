"""A frame made ready to be searched for peaks with one settings after another.

The settings that a session tunes act on the *tails* of each ring's values: even at the smallest
min_snr the clipping hardly ever cuts into the values near the mean. So that core is summed up
once, only the tails are kept, sorted outwards with running sums, and a pass of clipping becomes
a short walk along them. The pixels above a limit are then an end piece of the bright tail.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wrappers.frames import Frame
from wrappers.peak_kernels import (
    FLOAT_MAX,
    N_PASSES,
    OUTSIDE,
    START,
    WHOLLY,
    clip_ring,
    collect_bright,
    drop_radii,
    moments,
    next_window,
    ring_inside,
)
from wrappers.peakfinder8 import MAX_N_PEAKS, PeakFinder, native, search_of
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["PreparedFrame"]

BLOCK = 32
"""Running sums are kept for each so many values of a tail."""


class Tail(NamedTuple):
    """The values on one side of the rings' cores, ring by ring, sorted outwards.

    Attributes
    ----------
    values : array (n,)
    start : int64 array (n_rings + 1,)
        Where each ring's values begin.
    sums : float64 array (n_blocks, 2)
        Sum and sum of squares of a ring's values before each `BLOCK` of them.
    first_sum : int64 array (n_rings,)
        Each ring's first row of `sums`.
    """

    values: NDArray[np.generic]
    start: NDArray[np.int64]
    sums: NDArray[np.float64]
    first_sum: NDArray[np.int64]


class Rings(NamedTuple):
    """What is kept of a frame's values.

    Attributes
    ----------
    everything, core : float64 array (n_rings, 3)
        Number, sum and sum of squares of all values, and of those in the core.
    window : float32 array (n_rings, 2)
        The core lies strictly between these.
    faint, bright : Tail
    place : unsigned array (n,)
        Place within its ring of each value of the bright tail.
    """

    everything: NDArray[np.float64]
    core: NDArray[np.float64]
    window: NDArray[np.float32]
    faint: Tail
    bright: Tail
    place: NDArray[np.unsignedinteger]


class PreparedFrame:
    """A frame whose peaks for any further settings cost next to nothing.

    Parameters
    ----------
    finder : PeakFinder
    frame : Frame
        Its data and mask are kept by reference (they may be memory maps) and must not change.
    min_snr : float
        The smallest min_snr that is to be fast. The smaller it is, the longer are the tails:
        an eighth of all pixels for 2, less than a hundredth for 3.

    Notes
    -----
    `find` returns the lists that `PeakFinder.find` does: identical for integer data, whose sums
    are exact. For other data the order of summation may tip the float32 rounding of a limit,
    once in some 1e8 limits. A smaller `min_snr`, and single rings whose clipping cuts into the
    core all the same, take the full path by themselves.
    """

    def __init__(self, finder: PeakFinder, frame: Frame, min_snr: float = 2.0) -> None:
        self._finder = finder
        self._min_snr = min_snr
        self._data = native(frame.data)
        self._mask = frame.mask
        largest_ring = np.diff(finder.layout.start).max(initial=0)
        self._rings = _keep_tails(
            finder.ring_values(self._data, self._mask),
            finder.layout.start,
            min_snr,
            # Two bytes do for most detectors' values, and for the places within any ring.
            np.empty(0, self._data.dtype if self._data.dtype.itemsize <= 2 else np.float32),
            np.empty(0, np.uint16 if largest_ring <= 1 << 16 else np.uint32),
        )

    @property
    def nbytes(self) -> int:
        """Memory in bytes beyond the frame and the finder."""
        everything, core, window, faint, bright, place = self._rings
        return sum(array.nbytes for array in (everything, core, window, *faint, *bright, place))

    def find(self, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return what ``finder.find(frame, settings, max_n_peaks)`` does."""
        if settings.min_snr < self._min_snr:
            return self._finder.find_in_arrays(self._data, self._mask, settings, max_n_peaks)
        search = search_of(settings, max_n_peaks)
        mean, upper, bright = _limits_and_bright_pixels(
            self._rings, self._data, self._mask, self._finder.layout, search
        )
        return self._finder.peaks_among(self._data, self._mask, search, mean, upper, bright)


@njit(cache=True, nogil=True)
def _keep_tails(values, start, min_snr, kept, places):
    """Return the `Rings`, values and places in the types of two empty arrays."""
    n_rings = len(start) - 1
    everything = np.zeros((n_rings, 3))
    core = np.zeros((n_rings, 3))
    window = np.zeros((n_rings, 2), np.float32)
    faint = np.empty(len(values), np.float32)
    bright = np.empty(len(values), np.float32)
    place = np.empty(len(values), np.uint32)
    faint_start = np.zeros(n_rings + 1, np.int64)
    bright_start = np.zeros(n_rings + 1, np.int64)
    n_faint = n_bright = 0
    for ring in range(n_rings):
        ring_values = values[start[ring] : start[ring + 1]]
        everything[ring] = np.array(moments(ring_values, -START, START))
        lower, upper = _core_window(ring_values, min_snr)
        core[ring] = np.array(moments(ring_values, lower, upper))
        window[ring] = np.array((lower, upper))
        for k in range(len(ring_values)):
            value = ring_values[k]
            if -FLOAT_MAX <= value <= lower:
                faint[n_faint] = value
                n_faint += 1
            elif upper <= value <= FLOAT_MAX:
                bright[n_bright] = value
                place[n_bright] = k
                n_bright += 1
        faint_start[ring + 1], bright_start[ring + 1] = n_faint, n_bright
        new = faint[faint_start[ring] : n_faint]
        new[:] = np.sort(new)[::-1]
        new = bright[bright_start[ring] : n_bright]
        outwards = np.argsort(new)
        new[:] = new[outwards]
        new_places = place[bright_start[ring] : n_bright]
        new_places[:] = new_places[outwards]
    return Rings(
        everything,
        core,
        window,
        _tail(faint[:n_faint].astype(kept.dtype), faint_start),
        _tail(bright[:n_bright].astype(kept.dtype), bright_start),
        place[:n_bright].astype(places.dtype),
    )


@njit(cache=True, nogil=True)
def _core_window(values, min_snr):
    """Return the limits of the last clipping, at no threshold, that leaves any value."""
    lower, upper = -START, START
    n, total, squares = moments(values, lower, upper)
    for _ in range(N_PASSES):
        _, new_lower, new_upper = next_window(n, total, squares, min_snr, -math.inf)
        n, total, squares = moments(values, new_lower, new_upper)
        if n == 0:
            break
        lower, upper = new_lower, new_upper
    return lower, upper


@njit(cache=True, nogil=True)
def _tail(values, start):
    """Return a `Tail` with its running sums."""
    n_rings = len(start) - 1
    first_sum = np.zeros(n_rings + 1, np.int64)
    for ring in range(n_rings):
        n_blocks = (start[ring + 1] - start[ring]) // BLOCK + 1
        first_sum[ring + 1] = first_sum[ring] + n_blocks
    sums = np.zeros((first_sum[n_rings], 2))
    for ring in range(n_rings):
        k = start[ring]
        for row in range(first_sum[ring] + 1, first_sum[ring + 1]):
            sums[row] = sums[row - 1]
            for value in values[k : k + BLOCK]:
                sums[row, 0] += np.float64(value)
                sums[row, 1] += np.float64(value) ** 2
            k += BLOCK
    return Tail(values, start, sums, first_sum[:n_rings])


@njit(cache=True, nogil=True)
def _limits_and_bright_pixels(rings, data, mask, layout, search):
    """Do as `peak_kernels.limits_and_bright_pixels`, from the tails where they suffice."""
    n_rings = len(layout.start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, np.float32(np.inf), np.float32)
    found = np.empty(len(layout.pixel), np.int32)
    n_found = 0
    for ring in range(n_rings):
        inside = ring_inside(ring, search)
        if inside == OUTSIDE:
            continue
        pixels = layout.pixel[layout.start[ring] : layout.start[ring + 1]]
        known = False
        if inside == WHOLLY:
            known, mean[ring], upper[ring], n_below = _clip_tails(rings, ring, search)
        if known:
            for k in range(rings.bright.start[ring] + n_below, rings.bright.start[ring + 1]):
                found[n_found] = pixels[rings.place[k]]
                n_found += 1
        else:
            values = _values_at(data, mask, pixels)
            drop_radii(values, pixels, layout.radius, search)
            mean[ring], upper[ring] = clip_ring(values, search.min_snr, search.threshold)
            n_found = collect_bright(values, pixels, upper[ring], found, n_found)
    return mean, upper, found[:n_found]


@njit(cache=True, nogil=True)
def _clip_tails(rings, ring, search):
    """Do as `clip_ring` for one ring.

    Returns
    -------
    known : bool
        False where a limit cuts into the core, so that the rest means nothing.
    mean, upper : float32
    n_below : int
        Number of values of the bright tail that are not above the upper limit.
    """
    core_lower, core_upper = rings.window[ring, 0], rings.window[ring, 1]
    faint = rings.faint.values[rings.faint.start[ring] : rings.faint.start[ring + 1]]
    bright = rings.bright.values[rings.bright.start[ring] : rings.bright.start[ring + 1]]
    n_faint, n_bright = len(faint), len(bright)
    mean, lower, upper = _next_window(rings.everything[ring], 0, 0.0, 0.0, search)
    for _ in range(N_PASSES - 1):
        if lower > core_lower or upper < core_upper:
            return False, mean, upper, 0
        n_faint = _walk(faint, n_faint, lower, True)
        n_bright = _walk(bright, n_bright, upper, False)
        faint_total, faint_squares = _tail_sums(rings.faint, ring, n_faint)
        bright_total, bright_squares = _tail_sums(rings.bright, ring, n_bright)
        mean, new_lower, new_upper = _next_window(
            rings.core[ring],
            n_faint + n_bright,
            faint_total + bright_total,
            faint_squares + bright_squares,
            search,
        )
        if new_lower == lower and new_upper == upper:
            break
        lower, upper = new_lower, new_upper
    if upper < core_upper:
        return False, mean, upper, 0
    while n_bright < len(bright) and bright[n_bright] <= upper:
        n_bright += 1
    while n_bright > 0 and bright[n_bright - 1] > upper:
        n_bright -= 1
    return True, mean, upper, n_bright


@njit(cache=True, nogil=True)
def _next_window(sums, n, total, squares, search):
    """Return the limits from a row of sums and what is to be added to it."""
    return next_window(
        sums[0] + n, sums[1] + total, sums[2] + squares, search.min_snr, search.threshold
    )


@njit(cache=True, nogil=True)
def _walk(values, n, limit, descending):
    """Return how many values of a tail lie strictly within `limit`, starting from a guess."""
    if descending:
        while n > 0 and values[n - 1] <= limit:
            n -= 1
        while n < len(values) and values[n] > limit:
            n += 1
    else:
        while n > 0 and values[n - 1] >= limit:
            n -= 1
        while n < len(values) and values[n] < limit:
            n += 1
    return n


@njit(cache=True, nogil=True)
def _tail_sums(tail, ring, n):
    """Return sum and sum of squares of the first `n` values of a ring's tail."""
    n_blocks = n // BLOCK
    row = tail.first_sum[ring] + n_blocks
    total, squares = tail.sums[row, 0], tail.sums[row, 1]
    for k in range(tail.start[ring] + n_blocks * BLOCK, tail.start[ring] + n):
        value = np.float64(tail.values[k])
        total += value
        squares += value * value
    return total, squares


@njit(cache=True, nogil=True)
def _values_at(data, mask, pixels):
    """Return the values of pixels as `sort_into_rings` does."""
    values = np.empty(len(pixels), np.float32)
    for k in range(len(pixels)):
        ss, fs = pixels[k] // data.shape[1], pixels[k] % data.shape[1]
        values[k] = np.float32(data[ss, fs]) if mask[ss, fs] else np.nan
    return values
