"""The rings' limits, and the pixels above them: the statistics of peakfinder8.

Written from the description of the algorithm (Barty et al., J. Appl. Cryst. 47 (2014) 1118, as
CrystFEL runs it in 2026), its corners settled by feeding made-up frames to ``indexamajig``.

Where CrystFEL adds in float32, sums here are in double precision, which makes them exact for
integer data and so the same in whatever order they are taken; limits and means are rounded to
float32 at the end as there.

There are two ways to the limits: from all values (`limits_and_bright_pixels`), and for further
settings from the *tails* of each ring's values (`keep_tails`, `limits_from_tails`). Even at the
smallest min_snr the clipping hardly ever cuts into the values near the mean. So that core is
summed up once, only the tails are kept, sorted outwards with running sums, and a pass of
clipping becomes a short walk along them. The pixels above a limit are then an end piece of the
bright tail.

Both are in one module because Numba's cache does not notice changes in other files.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "Rings",
    "Tail",
    "keep_tails",
    "limits_and_bright_pixels",
    "limits_from_tails",
    "sort_into_rings",
]

N_PASSES = 5
"""How often the radial statistics are taken, each time without the last time's outliers."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
START = np.float32(1e9)
INFINITE = np.float32(np.inf)
OUTSIDE, PARTLY, WHOLLY = 0, 1, 2

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


@njit(cache=True, nogil=True)
def sort_into_rings(data, mask, place, values):
    """Write each usable pixel's value, as float32, to its place in the ring order.

    Unusable pixels become NaN there, which no comparison lets through.

    Parameters
    ----------
    data : array (ss, fs)
        Any integer or float type.
    mask : bool array (ss, fs)
        True where usable.
    place : int32 array (ss, fs)
        As in `wrappers.radial_layout.RadialLayout`.
    values : float32 array (n + 1,)
        Written; the last one belongs to all pixels without a ring.
    """
    for ss in range(data.shape[0]):
        for fs in range(data.shape[1]):
            value = np.float32(data[ss, fs])
            values[place[ss, fs]] = value if mask[ss, fs] else np.float32(np.nan)


# Sums over integers are exact in any order, so the compiler may reorder them into vectors
# (which it does for a loop over an index, and not for one over the values).
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _moments(values, lower, upper):
    """Return number, sum and sum of squares of the values strictly between the limits."""
    n = 0
    total = 0.0
    squares = 0.0
    for k in range(len(values)):
        value = values[k]
        if (value > lower) & (value < upper):
            wide = np.float64(value)
            n += 1
            total += wide
            squares += wide * wide
    return n, total, squares


@njit(cache=True, nogil=True)
def _mean_and_variance(n, total, squares):
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@njit(cache=True, nogil=True)
def _next_window(n, total, squares, min_snr, threshold):
    """Return mean, lower and upper limit (float32) from the moments of a ring.

    Where no value is left, nothing is found (unless a later pass finds values above 0): the
    upper limit is infinite, mean and lower limit are 0.
    """
    if n == 0:
        return np.float32(0), np.float32(0), INFINITE
    mean, variance = _mean_and_variance(n, total, squares)
    sigma = math.sqrt(variance) if variance >= 0 else variance
    lower = np.float32(mean - min_snr * sigma)
    upper = np.float32(max(mean + min_snr * sigma, threshold))
    return np.float32(mean), lower, upper


@njit(cache=True, nogil=True)
def _clip_ring(values, min_snr, threshold):
    """Return mean and upper limit (float32) of a ring after the iterated clipping."""
    mean, lower, upper = np.float32(0), -START, START
    for _ in range(N_PASSES):
        n, total, squares = _moments(values, lower, upper)
        mean, new_lower, new_upper = _next_window(n, total, squares, min_snr, threshold)
        if new_lower == lower and new_upper == upper:
            break
        lower, upper = new_lower, new_upper
    return mean, upper


@njit(cache=True, nogil=True)
def limits_and_bright_pixels(values, layout, search):
    """Find each ring's limits, and the pixels above them.

    Parameters
    ----------
    values : float32 array (n + 1,)
        Of `sort_into_rings`; those at unsuitable radii are overwritten by NaN.
    layout : wrappers.radial_layout.RadialLayout
    search : wrappers.peakfinder8.Search

    Returns
    -------
    mean, upper : float32 array (n_rings,)
    bright : int32 array
        Flat indices of the pixels above their ring's upper limit, ring by ring.
    """
    n_rings = len(layout.start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, INFINITE, np.float32)
    bright = np.empty(len(layout.pixel), np.int32)
    n_bright = 0
    for ring in range(n_rings):
        inside = _ring_inside(ring, search)
        if inside == OUTSIDE:
            continue
        pixels = layout.pixel[layout.start[ring] : layout.start[ring + 1]]
        ring_values = values[layout.start[ring] : layout.start[ring + 1]]
        if inside == PARTLY:
            _drop_radii(ring_values, pixels, layout.radius, search)
        mean[ring], upper[ring] = _clip_ring(ring_values, search.min_snr, search.threshold)
        n_bright = _collect_bright(ring_values, pixels, upper[ring], bright, n_bright)
    return mean, upper, bright[:n_bright]


@njit(cache=True, nogil=True)
def _ring_inside(ring, search):
    """Whether a ring lies between min_res and max_res: `OUTSIDE`, `PARTLY` or `WHOLLY`."""
    if ring + 0.5 < search.min_res or ring - 0.5 > search.max_res:
        return OUTSIDE
    if ring - 0.5 <= search.min_res or ring + 0.5 >= search.max_res:
        return PARTLY
    return WHOLLY


@njit(cache=True, nogil=True)
def _drop_radii(values, pixels, radius, search):
    """Overwrite the values of pixels that are not strictly between the radii by NaN."""
    for k in range(len(values)):
        r = radius[pixels[k] // radius.shape[1], pixels[k] % radius.shape[1]]
        if not (search.min_res < r < search.max_res):
            values[k] = np.nan


@njit(cache=True, nogil=True)
def _collect_bright(values, pixels, upper, bright, n_bright):
    """Append the pixels above the upper limit to `bright`; return their new number."""
    step = 32  # a count over so many has no branches and is done in vectors
    for begin in range(0, len(values), step):
        end = min(begin + step, len(values))
        n_above = 0
        for k in range(begin, end):
            n_above += values[k] > upper
        if n_above:
            for k in range(begin, end):
                if upper < values[k] <= FLOAT_MAX:
                    bright[n_bright] = pixels[k]
                    n_bright += 1
    return n_bright


@njit(cache=True, nogil=True)
def keep_tails(values, start, min_snr, kept, places):
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
        everything[ring] = np.array(_moments(ring_values, -START, START))
        lower, upper = _core_window(ring_values, min_snr)
        core[ring] = np.array(_moments(ring_values, lower, upper))
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
    n, total, squares = _moments(values, lower, upper)
    for _ in range(N_PASSES):
        _, new_lower, new_upper = _next_window(n, total, squares, min_snr, -math.inf)
        n, total, squares = _moments(values, new_lower, new_upper)
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
def limits_from_tails(rings, data, mask, layout, search):
    """Do as `limits_and_bright_pixels`, from the tails where they suffice."""
    n_rings = len(layout.start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, np.float32(np.inf), np.float32)
    found = np.empty(len(layout.pixel), np.int32)
    n_found = 0
    for ring in range(n_rings):
        inside = _ring_inside(ring, search)
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
            _drop_radii(values, pixels, layout.radius, search)
            mean[ring], upper[ring] = _clip_ring(values, search.min_snr, search.threshold)
            n_found = _collect_bright(values, pixels, upper[ring], found, n_found)
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
    mean, lower, upper = _window_of(rings.everything[ring], 0, 0.0, 0.0, search)
    for _ in range(N_PASSES - 1):
        if lower > core_lower or upper < core_upper:
            return False, mean, upper, 0
        n_faint = _walk(faint, n_faint, lower, True)
        n_bright = _walk(bright, n_bright, upper, False)
        faint_total, faint_squares = _tail_sums(rings.faint, ring, n_faint)
        bright_total, bright_squares = _tail_sums(rings.bright, ring, n_bright)
        mean, new_lower, new_upper = _window_of(
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
def _window_of(sums, n, total, squares, search):
    """Return the limits from a row of sums and what is to be added to it."""
    return _next_window(
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
