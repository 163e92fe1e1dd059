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

All kernels take flat arrays and plain tuples, and both ways are in one module: Numba's cache
notices neither changes in other files nor classes that are gone.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["keep_tails", "limits_and_bright_pixels", "limits_from_tails"]

N_PASSES = 5
"""How often the radial statistics are taken, each time without the last time's outliers."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
START = np.float32(1e9)
INFINITE = np.float32(np.inf)
OUTSIDE, PARTLY, WHOLLY = 0, 1, 2

BLOCK = 32
"""Running sums are kept for each so many values of a tail."""


@njit(cache=True, nogil=True)
def limits_and_bright_pixels(values, rings, clipping, bright):
    """Find each ring's limits, and the pixels at or above them.

    Parameters
    ----------
    values : float32 array (n + 1,)
        Of `ring_order.sort_into_rings`; those at unsuitable radii are overwritten by NaN.
    rings : tuple
        `radius` (flat), `start` and `pixel` of a `radial_layout.RadialLayout`.
    clipping : tuple of float
        min_snr, threshold, min_res and max_res (infinite for no limit).
    bright : int32 array
        Written; as long as `pixel`.

    Returns
    -------
    mean, upper : float32 array (n_rings,)
    n_bright : int
        So many flat indices were written, ring by ring: p where the pixel is above its ring's
        upper limit, ~p where it is just on the limit.
    """
    radius, start, pixel = rings
    min_snr, threshold, min_res, max_res = clipping
    n_rings = len(start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, INFINITE, np.float32)
    n_bright = 0
    for ring in range(n_rings):
        inside = _ring_inside(ring, min_res, max_res)
        if inside == OUTSIDE:
            continue
        pixels = pixel[start[ring] : start[ring + 1]]
        ring_values = values[start[ring] : start[ring + 1]]
        if inside == PARTLY:
            _drop_radii(ring_values, pixels, radius, min_res, max_res)
        mean[ring], upper[ring] = _clip_ring(ring_values, min_snr, threshold)
        n_bright = _collect_bright(ring_values, pixels, upper[ring], bright, n_bright)
    return mean, upper, n_bright


@njit(cache=True, nogil=True)
def _ring_inside(ring, min_res, max_res):
    """Whether a ring lies between min_res and max_res: `OUTSIDE`, `PARTLY` or `WHOLLY`."""
    if ring + 0.5 < min_res or ring - 0.5 > max_res:
        return OUTSIDE
    if ring - 0.5 <= min_res or ring + 0.5 >= max_res:
        return PARTLY
    return WHOLLY


@njit(cache=True, nogil=True)
def _drop_radii(values, pixels, radius, min_res, max_res):
    """Overwrite the values of pixels that are not strictly between the radii by NaN."""
    for k in range(len(values)):
        if not (min_res < radius[pixels[k]] < max_res):
            values[k] = np.nan


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
def _collect_bright(values, pixels, upper, bright, n_bright):
    """Append the pixels at or above the upper limit to `bright`; return their new number."""
    step = 64
    for begin in range(0, len(values), step):
        if _count_from(values[begin : begin + step], upper):
            for k in range(begin, min(begin + step, len(values))):
                if upper <= values[k] <= FLOAT_MAX:
                    bright[n_bright] = pixels[k] if values[k] > upper else ~pixels[k]
                    n_bright += 1
    return n_bright


@njit(cache=True, nogil=True)
def _count_from(values, limit):
    """Return how many values are not below a limit: without branches, so in vectors."""
    n = 0
    for k in range(len(values)):
        n += values[k] >= limit
    return n


@njit(cache=True, nogil=True)
def keep_tails(values, start, min_snr, kept, places):
    """Reduce a frame to the tails of its rings' values.

    Parameters
    ----------
    values : float32 array (n + 1,)
        Of `ring_order.sort_into_rings`.
    start : int64 array (n_rings + 1,)
        As in `radial_layout.RadialLayout`.
    min_snr : float
        The smallest that the tails are to suffice for.
    kept, places : empty array
        In the types in which the tails' values and their places are kept.

    Returns
    -------
    everything, core : float64 array (n_rings, 3)
        Number, sum and sum of squares of all values of a ring, and of those in its core.
    window : float32 array (n_rings, 2)
        The core lies strictly between these.
    faint, bright : tuple
        The values on either side of the cores:
        `values`, array (n,), ring by ring, each ring's sorted outwards;
        `start`, int64 array (n_rings + 1,), where each ring's values begin;
        `sums`, float64 array (n_blocks, 2), sum and sum of squares of a ring's values before
        each `BLOCK` of them;
        `first_sum`, int64 array (n_rings,), each ring's first row of `sums`.
    place : unsigned array (n,)
        Place within its ring of each value of the bright tail.
    """
    n_rings = len(start) - 1
    everything = np.zeros((n_rings, 3))
    core = np.zeros((n_rings, 3))
    window = np.zeros((n_rings, 2), np.float32)
    faint = np.empty(start[n_rings], np.float32)
    bright = np.empty(start[n_rings], np.float32)
    place = np.empty(start[n_rings], np.uint32)
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
    return (
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
    """Return a tail with its running sums."""
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
    return values, start, sums, first_sum[:n_rings]


@njit(cache=True, nogil=True)
def limits_from_tails(tails, data, mask, rings, clipping, found):
    """Do as `limits_and_bright_pixels`, from what `keep_tails` returned where that suffices.

    The flat frame is read, and pixels are written to `found`, as there.
    """
    radius, start, pixel = rings
    min_snr, threshold, min_res, max_res = clipping
    bright_values, bright_start, _, _ = tails[4]
    place = tails[5]
    n_rings = len(start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, INFINITE, np.float32)
    n_found = 0
    for ring in range(n_rings):
        inside = _ring_inside(ring, min_res, max_res)
        if inside == OUTSIDE:
            continue
        pixels = pixel[start[ring] : start[ring + 1]]
        known = False
        if inside == WHOLLY:
            known, mean[ring], upper[ring], first = _clip_tails(tails, ring, min_snr, threshold)
        if known:
            for k in range(first, bright_start[ring + 1]):
                p = pixels[place[k]]
                found[n_found] = p if bright_values[k] > upper[ring] else ~p
                n_found += 1
        else:
            values = np.empty(len(pixels), np.float32)
            for k in range(len(pixels)):
                p = pixels[k]
                values[k] = np.float32(data[p]) if mask[p] else np.float32(np.nan)
            _drop_radii(values, pixels, radius, min_res, max_res)
            mean[ring], upper[ring] = _clip_ring(values, min_snr, threshold)
            n_found = _collect_bright(values, pixels, upper[ring], found, n_found)
    return mean, upper, n_found


@njit(cache=True, nogil=True)
def _clip_tails(tails, ring, min_snr, threshold):
    """Do as `_clip_ring` for one ring.

    Returns
    -------
    known : bool
        False where a limit cuts into the core, so that the rest means nothing.
    mean, upper : float32
    first : int
        The first value of the bright tail that is not below the upper limit.
    """
    everything, core, window, faint_tail, bright_tail, _ = tails
    core_lower, core_upper = window[ring, 0], window[ring, 1]
    faint = faint_tail[0][faint_tail[1][ring] : faint_tail[1][ring + 1]]
    bright = bright_tail[0][bright_tail[1][ring] : bright_tail[1][ring + 1]]
    n_faint, n_bright = len(faint), len(bright)
    n, total, squares = everything[ring, 0], everything[ring, 1], everything[ring, 2]
    mean, lower, upper = _next_window(n, total, squares, min_snr, threshold)
    summed = False
    for _ in range(N_PASSES - 1):
        if lower > core_lower or upper < core_upper:
            return False, mean, upper, 0
        new_faint = _walk(faint, n_faint, lower, True)
        new_bright = _walk(bright, n_bright, upper, False)
        if summed and new_faint == n_faint and new_bright == n_bright:
            break
        n_faint, n_bright, summed = new_faint, new_bright, True
        faint_total, faint_squares = _tail_sums(faint_tail, ring, n_faint)
        bright_total, bright_squares = _tail_sums(bright_tail, ring, n_bright)
        n = core[ring, 0] + (n_faint + n_bright)
        total = core[ring, 1] + (faint_total + bright_total)
        squares = core[ring, 2] + (faint_squares + bright_squares)
        mean, lower, upper = _next_window(n, total, squares, min_snr, threshold)
    if upper < core_upper:
        return False, mean, upper, 0
    n_bright = _walk(bright, n_bright, upper, False)
    return True, mean, upper, bright_tail[1][ring] + n_bright


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
    values, start, sums, first_sum = tail
    n_blocks = n // BLOCK
    row = first_sum[ring] + n_blocks
    total, squares = sums[row, 0], sums[row, 1]
    for k in range(start[ring] + n_blocks * BLOCK, start[ring] + n):
        value = np.float64(values[k])
        total += value
        squares += value * value
    return total, squares
