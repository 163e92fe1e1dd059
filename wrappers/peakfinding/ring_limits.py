"""The rings' limits, and the pixels above them: the statistics of peakfinder8.

Written from the description of the algorithm (Barty et al., J. Appl. Cryst. 47 (2014) 1118, as
CrystFEL runs it in 2026), its corners settled by feeding made-up frames to ``indexamajig``.

Where CrystFEL adds in float32, sums here are in double precision, which makes them exact for
integer data and so the same in whatever order they are taken; limits and means are rounded to
float32 at the end as there.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.compiling import inlined, inner_kernel
from wrappers.peakfinding.vectors import (
    BITS,
    LANES,
    add_values,
    bits_outside,
    larger,
    no_sums,
    smaller,
    total_sums,
    trailing_zeros,
)

__all__ = [
    "INFINITE",
    "N_PASSES",
    "OUTSIDE",
    "START",
    "WHOLLY",
    "clip_ring",
    "collect_bright",
    "drop_radii",
    "limits_and_bright_pixels",
    "mean_and_variance",
    "moments",
    "next_window",
    "ring_inside",
]

N_PASSES = 5
"""How often the radial statistics are taken, each time without the last time's outliers."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
START = np.float32(1e9)
INFINITE = np.float32(np.inf)
OUTSIDE, PARTLY, WHOLLY = 0, 1, 2
ONE = np.uint64(1)
NEAR = 0.8
"""A window of so many times a ring's limits is hoped to lie within the next ring's."""


@inlined
def limits_and_bright_pixels(values, rings, clipping, memory):
    """Find each ring's limits, and the pixels at or above them.

    Arrays are views here and in all that follows.

    Parameters
    ----------
    values : float32 array (n + LANES,)
        Of `ring_order.sort_into_rings`; those at unsuitable radii are overwritten by NaN.
    rings : Rings
    clipping : Clipping
    memory : Memory
        Its `limits` and `bright` are written.

    Returns
    -------
    int
        So many flat indices were written to `bright`, ring by ring: p where the pixel is above its
        ring's upper limit, ~p where it is just on the limit.
    """
    radius, start, pixel = rings
    min_snr, threshold, min_res, max_res = clipping
    mean, upper, _ = memory.limits
    bright, place, far = memory.bright, memory.place, memory.far
    lower = INFINITE
    n_bright = np.int64(0)
    for ring in range(len(mean)):
        mean[ring], upper[ring] = np.float32(0), INFINITE
        inside = ring_inside(ring, min_res, max_res)
        if inside == OUTSIDE:
            continue
        begin, stop = start[ring], start[ring + 1]
        if inside == PARTLY:
            drop_radii(values[begin:stop], pixel[begin:stop], radius, min_res, max_res)
        known = False
        if lower < INFINITE:
            # Rings are like their neighbours.
            guess, width = mean[ring - 1], NEAR * (mean[ring - 1] - lower)
            window = np.float32(guess - width), np.float32(guess + width)
            known, mean[ring], lower, upper[ring], n_far = _clip_around(
                values, begin, stop, window, min_snr, threshold, place, far
            )
        if known:
            for k in range(n_far):
                if far[k] >= upper[ring]:
                    p = pixel[begin + place[k]]
                    bright[n_bright] = p if far[k] > upper[ring] else ~p
                    n_bright += 1
        else:
            mean[ring], lower, upper[ring] = clip_ring(values, begin, stop, min_snr, threshold)
            n_bright = collect_bright(
                values[begin:stop], pixel[begin:stop], upper[ring], bright, n_bright
            )
    return n_bright


@inner_kernel
def ring_inside(ring, min_res, max_res):
    """Whether a ring lies between min_res and max_res: `OUTSIDE`, `PARTLY` or `WHOLLY`."""
    if ring + 0.5 < min_res or ring - 0.5 > max_res:
        return OUTSIDE
    if ring - 0.5 <= min_res or ring + 0.5 >= max_res:
        return PARTLY
    return WHOLLY


@inner_kernel
def drop_radii(values, pixels, radius, min_res, max_res):
    """Overwrite the values of pixels that are not strictly between the radii by NaN."""
    for k in range(len(values)):
        if not (min_res < radius[pixels[k]] < max_res):
            values[k] = np.nan


@inner_kernel
def moments(values, begin, stop, lower, upper):
    """Return number, sum and sum of squares of the values strictly between the limits.

    Values are read, but do not count, up to `LANES` beyond `stop`.
    """
    sums = no_sums()
    for k in range(begin, stop, LANES):
        sums = add_values(sums, values, k, smaller(stop - k, LANES), lower, upper)
    n, total, squares, _ = total_sums(sums)
    return n, total, squares


@inner_kernel
def mean_and_variance(n, total, squares):
    """Return mean and variance of values, given their number, sum and sum of squares."""
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@inlined
def next_window(n, total, squares, min_snr, threshold):
    """Return mean, lower and upper limit (float32) from the moments of a ring, all floats.

    Where no value is left, nothing is found (unless a later pass finds values above 0): the
    upper limit is infinite, mean and lower limit are 0.
    """
    if n == 0:
        return np.float32(0), np.float32(0), INFINITE
    mean, variance = mean_and_variance(n, total, squares)
    sigma = math.sqrt(variance) if variance >= 0 else variance
    lower = np.float32(mean - min_snr * sigma)
    upper = np.float32(larger(mean + min_snr * sigma, threshold))
    return np.float32(mean), lower, upper


@inner_kernel
def clip_ring(values, begin, stop, min_snr, threshold):
    """Return mean, lower and upper limit (float32) of a ring after the iterated clipping."""
    mean, lower, upper = np.float32(0), -START, START
    for _ in range(N_PASSES):
        n, total, squares = moments(values, begin, stop, lower, upper)
        mean, new_lower, new_upper = next_window(float(n), total, squares, min_snr, threshold)
        if new_lower == lower and new_upper == upper:
            break
        lower, upper = new_lower, new_upper
    return mean, lower, upper


@inlined
def _clip_around(values, begin, stop, window, min_snr, threshold, place, far):
    """Do as `clip_ring`, given a window that none of the limits is expected to cut into.

    Then one pass over the values is enough, and the others see only those outside.

    Parameters
    ----------
    window : tuple
        Two float32.
    place, far : int32 array, float32 array
        Written: the places in the ring of the finite values that are not strictly within the
        window, and these values.

    Returns
    -------
    known : bool
        Whether all limits are outside of the window. If not, the rest means nothing.
    mean, lower, upper : float32
    n_far : int
        So many values were written.
    """
    near_n, near_total, near_squares = moments(values, begin, stop, window[0], window[1])
    n_far = _find_outside(values, begin, stop, window[0], window[1], place, far)
    mean, lower, upper = np.float32(0), -START, START
    known = True
    for _ in range(N_PASSES):
        n, total, squares = moments(far, np.int64(0), n_far, lower, upper)
        mean, new_lower, new_upper = next_window(
            float(near_n + n), near_total + total, near_squares + squares, min_snr, threshold
        )
        known = new_lower <= window[0] and new_upper >= window[1]
        if not known or (new_lower == lower and new_upper == upper):
            break
        lower, upper = new_lower, new_upper
    return known, mean, lower, upper, n_far


@inlined
def _find_outside(values, begin, stop, lower, upper, place, far):
    """Write the finite values not strictly between limits, and where; return their number."""
    n = 0
    whole = stop - (stop - begin) % BITS
    for first in range(begin, whole, BITS):
        word = bits_outside(values, first, lower, upper)
        while word:
            k = first + trailing_zeros(word)
            word &= word - ONE
            place[n], far[n] = k - begin, values[k]
            n += abs(values[k]) <= FLOAT_MAX
    for k in range(whole, stop):
        if (values[k] <= lower or values[k] >= upper) and abs(values[k]) <= FLOAT_MAX:
            place[n], far[n] = k - begin, values[k]
            n += 1
    return n


@inner_kernel
def collect_bright(values, pixels, upper, bright, n_bright):
    """Append the pixels at or above the upper limit to `bright`; return their new number."""
    for k in range(len(values)):
        if upper <= values[k] <= FLOAT_MAX:
            bright[n_bright] = pixels[k] if values[k] > upper else ~pixels[k]
            n_bright += 1
    return n_bright
