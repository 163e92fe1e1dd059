"""The rings' limits for one parameter set after another, from the tails of each ring's values.

Even at the smallest min_snr the clipping hardly ever cuts into the values near the mean. So
that core is summed up once, only the tails are kept, sorted outwards with running sums, and a
pass of clipping becomes a look at one block of each. The pixels above a limit are then an end
piece of the bright tail.
"""

from __future__ import annotations

import numpy as np

from wrappers.peakfinding.compiling import inlined, inner_kernel
from wrappers.peakfinding.kept_tails import BLOCK
from wrappers.peakfinding.ring_limits import (
    INFINITE,
    N_PASSES,
    OUTSIDE,
    WHOLLY,
    clip_ring,
    collect_bright,
    drop_radii,
    next_window,
    ring_inside,
)
from wrappers.peakfinding.vectors import (
    LANES,
    add_values,
    itemsize,
    larger,
    no_sums,
    prefetch,
    smaller,
    total_sums,
)

__all__ = ["bright_from_tails", "limits_from_tails"]

UNKNOWN = -1
MINUS, PLUS = np.int64(-1), np.int64(1)
"""Signs. (Numba compiles a function apart for each plain number that it is called with.)"""
AHEAD = 16
"""The memory of a ring is asked for so many rings before it is needed ..."""
LINE = 64
"""... in pieces of so many bytes."""


@inlined
def limits_from_tails(tails, data, mask, rings, clipping, memory):
    """Do as `limits_and_bright_pixels`, from what `kept_tails` keeps, where that suffices.

    There, the bright pixels are left to `bright_from_tails`.

    Returns
    -------
    n_found : int
        So many pixels were written to `memory.bright`: those of the other rings.
    n_bright : int
        Number of all bright pixels.
    """
    radius, start, pixel = rings
    min_snr, threshold, min_res, max_res = clipping
    mean, upper, first = memory.limits
    n_bright = _clip_tails(tails, clipping, mean, upper, first)
    n_found = np.int64(0)
    for ring in range(len(mean)):
        if first[ring] != UNKNOWN:
            continue
        first[ring] = tails.bright.start[ring + 1]
        pixels = pixel[start[ring] : start[ring + 1]]
        values = memory.far
        for k in range(len(pixels)):
            p = pixels[k]
            values[k] = np.float32(data[p]) if mask[p] else np.float32(np.nan)
        drop_radii(values[: len(pixels)], pixels, radius, min_res, max_res)
        mean[ring], _, upper[ring] = clip_ring(values, np.int64(0), len(pixels), min_snr, threshold)
        n_found = collect_bright(values[: len(pixels)], pixels, upper[ring], memory.bright, n_found)
    return n_found, n_found + n_bright


@inner_kernel
def _clip_tails(tails, clipping, mean, upper, first):
    """Do as `clip_ring` for all rings.

    (In one function: at each call of another, the arrays' references would be counted.)

    Parameters
    ----------
    tails, clipping
        As for `limits_from_tails`.
    mean, upper, first
        Written. `first` is `UNKNOWN` where a limit cuts into the core, or the ring is not wholly
        between the radii; then the others mean nothing.

    Returns
    -------
    int
        Number of bright pixels.
    """
    min_snr, threshold, min_res, max_res = clipping
    everything, core, window = tails.everything, tails.core, tails.window
    faint, faint_start, faint_sums, faint_row = tails.faint
    bright, bright_start, bright_sums, bright_row = tails.bright
    all_bright = 0
    for ring in range(len(mean)):
        begin_faint, stop_faint = faint_start[ring], faint_start[ring + 1]
        begin_bright, stop_bright = bright_start[ring], bright_start[ring + 1]
        # Frames take turns, so a frame's tails are in no cache.
        later = smaller(ring + AHEAD, len(mean) - 1)
        for k in range(faint_start[later], faint_start[later + 1], LINE // itemsize(faint)):
            prefetch(faint, k)
        for k in range(bright_start[later], bright_start[later + 1], LINE // itemsize(bright)):
            prefetch(bright, k)
        n_blocks = (bright_start[later + 1] - bright_start[later]) // BLOCK + 1
        for k in range(0, n_blocks, LINE // 16):
            prefetch(bright_sums, 2 * (bright_row[later] + k))
        mean[ring], upper[ring] = np.float32(0), INFINITE
        inside = ring_inside(ring, min_res, max_res)
        first[ring] = stop_bright if inside == OUTSIDE else UNKNOWN
        if inside != WHOLLY:
            continue
        k_faint = stop_faint - (stop_faint - begin_faint) % BLOCK
        k_bright = stop_bright - (stop_bright - begin_bright) % BLOCK
        n, total, squares = everything[ring, 0], everything[ring, 1], everything[ring, 2]
        middle, lower, limit = next_window(n, total, squares, min_snr, threshold)
        for left in range(N_PASSES - 1, -1, -1):
            if limit < window[ring, 1] or (left and lower > window[ring, 0]):
                break
            # Whole blocks are summed up already; the next one has to be looked through.
            k_faint = _first_mixed_block(faint, begin_faint, k_faint, stop_faint, -lower, MINUS)
            k_bright = _first_mixed_block(bright, begin_bright, k_bright, stop_bright, limit, PLUS)
            sums = no_sums()
            for k in range(k_faint, smaller(k_faint + BLOCK, stop_faint), LANES):
                sums = add_values(sums, faint, k, smaller(stop_faint - k, LANES), lower, INFINITE)
            n_mixed = total_sums(sums)[0]
            n_faint = k_faint - begin_faint + n_mixed
            for k in range(k_bright, smaller(k_bright + BLOCK, stop_bright), LANES):
                n = smaller(stop_bright - k, LANES)
                sums = add_values(sums, bright, k, n, -INFINITE, limit)
            n, total, squares, _ = total_sums(sums)
            n_bright = k_bright - begin_bright + n - n_mixed
            dimmest = begin_bright + n_bright
            if left == 0:
                mean[ring], upper[ring], first[ring] = middle, limit, dimmest
                all_bright += stop_bright - dimmest
                break
            f = faint_row[ring] + (k_faint - begin_faint) // BLOCK
            b = bright_row[ring] + (k_bright - begin_bright) // BLOCK
            middle, lower, limit = next_window(
                core[ring, 0] + n_faint + n_bright,
                core[ring, 1] + (faint_sums[f, 0] + bright_sums[b, 0] + total),
                core[ring, 2] + (faint_sums[f, 1] + bright_sums[b, 1] + squares),
                min_snr,
                threshold,
            )
            # No further pass would find anything else.
            if (
                window[ring, 1] <= limit
                and lower <= window[ring, 0]
                and _is_split(faint, begin_faint, begin_faint + n_faint, stop_faint, -lower, MINUS)
                and _is_split(bright, begin_bright, dimmest, stop_bright, limit, PLUS)
            ):
                mean[ring], upper[ring], first[ring] = middle, limit, dimmest
                all_bright += stop_bright - dimmest
                break
    return all_bright


@inlined
def _is_split(values, start, k, stop, limit, sign):
    """Whether just a tail's values before `k` are within a limit, as in `_first_mixed_block`."""
    inside = k == start or sign * values[k - 1] < limit
    return inside and (k == stop or sign * values[k] >= limit)


@inlined
def _first_mixed_block(values, start, k, stop, limit, sign):
    """Return where the first block of a tail begins that is not wholly within a limit.

    From a guess `k`. The limit is an upper one for the values times `sign`.
    """
    while k > start and sign * values[k - 1] >= limit:
        k -= BLOCK
    while k + BLOCK <= stop and sign * values[k + BLOCK - 1] < limit:
        k += BLOCK
    return k


@inner_kernel
def bright_from_tails(tails, rings, upper, first, between, found, n_found):
    """Append the bright pixels of a part of the frame to `found`; return their new number.

    Parameters
    ----------
    tails, rings, upper, first, found, n_found
        As in `limits_from_tails`.
    between : tuple
        Two integer arrays (n_rings,): of each ring, the pixels from one place to before another.
    """
    _, start, pixel = rings
    values, bright_start, _, _ = tails.bright
    place, outer, outer_start = tails.place, tails.outer_pixel, tails.outer_start
    for ring in range(len(upper)):
        begin, stop = between[0][ring], between[1][ring]
        dimmest, last = first[ring], bright_start[ring + 1]
        if dimmest == last or begin == stop:
            continue
        later = smaller(ring + AHEAD, len(upper) - 1)
        prefetch(outer, outer_start[later + 1] + first[later] - bright_start[later + 1])
        n_before = n_found
        n_outer = outer_start[ring + 1] - outer_start[ring]
        brightest = larger(dimmest, last - n_outer)
        for k in range(dimmest, brightest):
            found[n_found] = pixel[start[ring] + place[k]]
            n_found += begin <= place[k] < stop
        shift = outer_start[ring + 1] - last
        if begin == 0 and stop == start[ring + 1] - start[ring]:
            # (Unsigned, so that several are copied at once.)
            there, here = np.uint64(n_found), np.uint64(brightest + shift)
            for k in range(np.uint64(last - brightest)):
                found[there + k] = outer[here + k]
            n_found += last - brightest
        else:
            for k in range(brightest, last):
                found[n_found] = outer[k + shift]
                n_found += begin <= place[k] < stop
        # The first ones may be just on the limit.
        for k in range(dimmest, last):
            if values[k] > upper[ring]:
                break
            if begin <= place[k] < stop:
                found[n_before] = ~found[n_before]
                n_before += 1
    return n_found
