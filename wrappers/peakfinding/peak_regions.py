"""From bright pixels to regions: joined by edges and corners, with a bit for each pixel.

Bits, because 64 pixels fit in a word: rows without bright pixels, and pixels that have no
neighbour, are passed over a word at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wrappers.peakfinding.compiling import bare_kernel, inlined, inner_kernel
from wrappers.peakfinding.kernel_types import Regions
from wrappers.peakfinding.vectors import (
    BITS,
    bits_at,
    bits_false,
    bits_nonzero,
    bits_outside,
    larger,
    smaller,
    trailing_zeros,
    views,
)

__all__ = [
    "EVERYTHING",
    "ONE",
    "join_pixels",
    "join_regions",
    "mark_outside",
    "no_bits",
    "pack_outside",
    "pack_unusable",
    "panel_bounds",
    "possible_seeds",
    "room_for_regions",
    "set_bit",
]

ONE = np.uint64(1)
ALL = ~np.uint64(0)
SQUARE = np.uint64(0x070707)
RIM = np.uint64(0xFF818181818181FF)
"""Nine pixels, and the outer ones, of the 8 x 8 in a word."""
EVERYTHING = np.int64(1 << 62)
"""Rows that are ready where all are. (Numba compiles a plain number apart from others.)"""


def no_bits(n_pixels: int) -> NDArray[np.uint64]:
    """Return an unset bit for each pixel, and for some more: the kernels read beyond the end."""
    return np.zeros(n_pixels // BITS + BITS + 2, np.uint64)


@bare_kernel
def pack_unusable(mask, bits):
    """Set the bits of the pixels that are not usable.

    Parameters
    ----------
    mask : bool array (n_pixels,)
        True where usable.
    bits : uint64 array
        Written.
    """
    mask, bits = views((mask, bits))
    n_words = len(mask) // BITS
    for k in range(n_words):
        bits[k] = bits_false(mask, k * BITS)
    for k in range(n_words, len(bits)):
        bits[k] = 0
    for p in range(n_words * BITS, len(mask)):
        if not mask[p]:
            set_bit(bits, p)


@bare_kernel
def pack_outside(radius, min_res, max_res, bits):
    """Set the bits of the pixels that are not strictly between two radii; clear the others."""
    mark_outside(views(radius), min_res, max_res, views(bits))


@inner_kernel
def mark_outside(radius, min_res, max_res, bits):
    """Do as `pack_outside`, with views."""
    lower, upper = np.float32(min_res), np.float32(max_res)
    n_words = len(radius) // BITS
    for k in range(n_words):
        bits[k] = bits_outside(radius, k * BITS, lower, upper)
    for k in range(n_words, len(bits)):
        bits[k] = 0
    for p in range(n_words * BITS, len(radius)):
        if not lower < radius[p] < upper:
            set_bit(bits, p)


def join_pixels(
    bright: NDArray[np.int32],
    width: int,
    panels: NDArray[np.int64],
    min_pix_count: int,
    max_pix_count: int,
    free: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Join bright pixels to regions, without looking at their values.

    Parameters
    ----------
    bright : int32 array
        Flat indices, in any order.
    width, panels
        As for `peak_measurement.find_peaks`.
    free : uint64 array
        Scratch of zeros.

    Returns
    -------
    start : int64 array (n_regions + 1,)
    pixel : int64 array
        Flat indices of the pixels of the regions of permitted size; region *i* has
        ``pixel[start[i]:start[i + 1]]``. Regions are in the order of panels and raster.
    panel : int64 array (n_regions,)
    """
    regions = room_for_regions(len(bright) // min_pix_count, len(bright))
    room = np.empty_like(free), np.empty_like(free), np.zeros(2, np.int64)
    n = _join_pixels(bright, width, panels, (min_pix_count, max_pix_count), free, room, regions)
    start, owner, ss, fs = regions
    n_pixels = start[n]
    pixel = ss[:n_pixels].astype(np.int64) * width + fs[:n_pixels]
    return start[: n + 1], pixel, owner[:n]


@bare_kernel
def _join_pixels(bright, width, panels, sizes, free, room, regions):
    """Write the regions of `join_pixels`; return how many."""
    bright, panels, free, room, regions = views((bright, panels, free, room, regions))
    for k in range(len(bright)):
        set_bit(free, bright[k])
    seeds, inner, position = room
    possible = possible_seeds(free, width, sizes[0], (seeds, inner))
    return join_regions(free, possible, width, panels, sizes, EVERYTHING, 0, position, regions)


def room_for_regions(most: int, most_pixels: int) -> Regions:
    """Return memory for so many `kernel_types.Regions`."""
    start, owner = np.zeros(most + 1, np.int64), np.empty(most, np.int64)
    return Regions(start, owner, np.empty(most_pixels, np.int32), np.empty(most_pixels, np.int32))


@inner_kernel
def join_regions(free, possible, width, panels, sizes, ready, reach, position, regions):
    """Take the next regions of permitted size, and their pixels out of the free ones.

    Arrays are views here and in all that follows.

    Parameters
    ----------
    free, width, panels, ready
        As for `peak_measurement.find_peaks`.
    possible : uint64 array
        Of `possible_seeds`.
    sizes : tuple of int
        Smallest and largest number of pixels.
    reach : int
        So many rows after a region must be ready.
    position : int64 array (2,)
        Panel and row from which to go on; changed.
    regions : Regions
        Written.

    Returns
    -------
    int
        Number of regions. If it is less than there is room for, there are no others, or other
        rows must be ready before.
    """
    start, owner, ss, fs = regions
    n_regions = end = 0
    for index in range(len(panels)):
        panel = panel_bounds(panels, index)
        begin = end - panel[0]  # a row's number in the frame, less that on the slab
        end += panel[1] - panel[0] + 1
        if index < position[0]:
            continue
        for row in range(larger(position[1], panel[0] + 1), panel[1]):
            # Whether a pixel is possible depends on the next two rows.
            if end > ready and begin + row + 3 > ready:
                position[0], position[1] = index, row
                return n_regions
            left, right = row * width + panel[2] + 1, row * width + panel[3]
            for some in range(left >> 6, (right + 63) >> 6, BITS):
                busy = bits_nonzero(possible, some)
                n_words = ((right + 63) >> 6) - some
                if n_words < BITS:
                    busy &= (ONE << np.uint64(n_words)) - ONE
                while busy:
                    word = some + trailing_zeros(busy)
                    busy &= busy - ONE
                    seeds = possible[word] & _between(word, left, right)
                    while True:
                        seeds &= free[word]  # without those taken with another
                        if not seeds:
                            break
                        p = word * BITS + trailing_zeros(seeds)
                        if n_regions == len(owner):
                            position[0], position[1] = index, row
                            return n_regions
                        first = start[n_regions]
                        column = p - row * width
                        n = _fill_patch(free, row, column, panel, width, ss, fs, first)
                        if n == 0:
                            n = _fill(free, row, column, panel, width, ss, fs, first)
                        if end > ready:
                            bottom = _last_row(ss, first, n) + reach
                            if begin + smaller(bottom, panel[1] + 1) > ready:
                                _put_back(free, width, ss, fs, first, n)
                                position[0], position[1] = index, row
                                return n_regions
                        if sizes[0] <= n <= sizes[1]:
                            start[n_regions + 1] = first + n
                            owner[n_regions] = index
                            n_regions += 1
        position[1] = 0
    position[0] = len(panels)
    return n_regions


@inlined
def _last_row(ss, first, n):
    """Return the last row of a region."""
    last = np.int64(0)
    for k in range(first, first + n):
        last = larger(last, np.int64(ss[k]))
    return last


@inlined
def _put_back(free, width, ss, fs, first, n):
    """Free a region's pixels, to be taken later."""
    for k in range(first, first + n):
        set_bit(free, np.int64(ss[k]) * width + fs[k])


@inlined
def _between(word, left, right):
    """Return the bits of a word that are those of pixels from `left` to before `right`."""
    p = word * BITS
    bits = ALL
    if p < left:
        bits &= ALL << np.uint64(left - p)
    if p + BITS > right:
        bits &= (ONE << np.uint64(larger(right - p, 0))) - ONE
    return bits


@inner_kernel
def possible_seeds(free, width, least, room):
    """Return the bits of pixels whose region may have so many pixels.

    Seen by their neighbours. Where a row ends, the next one's pixels count as neighbours, too.

    Parameters
    ----------
    free, width
        As for `join_regions`.
    least : int
    room : tuple of uint64 array
        Two of `no_bits`; written.
    """
    if least == 1:
        return free
    margin = width // BITS + 2
    words = np.uint64(larger(len(free) - BITS - margin, margin))
    seeds, inner = room
    for k in range(margin):
        seeds[k] = inner[k] = free[k]
    for k in range(words, np.uint64(len(free))):
        seeds[k] = inner[k] = free[k]
    if least == 2:
        for k in range(np.uint64(margin), words):
            seeds[k] = free[k] & _neighbours(free, k, width)[0]
        return seeds
    # Of three pixels that are joined, one has two neighbours.
    for k in range(np.uint64(margin), words):
        inner[k] = free[k] & _neighbours(free, k, width)[1]
    for k in range(np.uint64(margin), words):
        seeds[k] = free[k] & (inner[k] | _neighbours(inner, k, width)[0])
    return seeds


@inlined
def _neighbours(bits, k, width):
    """Return which pixels of a word have a neighbour, and which have two."""
    one = two = np.uint64(0)
    for away in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
        other = _word(bits, k + np.uint64(away >> 6), np.uint64(away & 63))
        two |= one & other
        one |= other
    return one, two


@inlined
def _fill_patch(bits, row, column, panel, width, ss, fs, first):
    """Do as `_fill` with the bits around a pixel in one word; return 0 if the region is larger.

    The word has eight rows of eight pixels, and the first pixel in row 1, column 3 of them: no
    region goes farther up than that, unless to the panel's edge.
    """
    top, left = row - 1, column - 3
    if left < panel[2] or left + 7 > panel[3] or top + 7 > panel[1]:
        return 0
    ss[first], fs[first] = row, column
    p = row * width + column
    patch = np.uint64(0)
    for y in range(3):
        line = bits_at(bits, (top + y) * width + left) & np.uint64(0xFF)
        patch |= line << np.uint64(8 * y)
    bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
    patch &= ~(ONE << np.uint64(8 + 3))
    if not patch & SQUARE << np.uint64(2):
        return 1
    n = first + 1
    for y in range(3, 8):
        line = bits_at(bits, (top + y) * width + left) & np.uint64(0xFF)
        patch |= line << np.uint64(8 * y)
    done = first
    while done < n:
        centre = 8 * (ss[done] - top) + fs[done] - left
        done += 1
        found = patch & (SQUARE << np.uint64(centre - 9))
        if found & RIM:
            return 0
        patch &= ~found
        while found:
            place = trailing_zeros(found)
            found &= found - ONE
            ss[n], fs[n] = top + (place >> 3), left + (place & 7)
            n += 1
    for k in range(first + 1, n):
        p = np.int64(ss[k]) * width + fs[k]
        bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
    return n - first


@inlined
def _fill(bits, row, column, panel, width, ss, fs, first):
    """Take all bright pixels joined to one by edge or corner; return their number."""
    p = row * width + column
    bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
    ss[first], fs[first] = row, column
    n = first + 1
    done = first
    while done < n:
        row, column = np.int64(ss[done]), np.int64(fs[done])
        done += 1
        # The bits of the pixels before, at and after this one, as far as they are on the panel.
        allowed = np.uint64((column > panel[2]) | 2 | (column < panel[3]) << 2)
        for y in range(larger(row - 1, panel[0]), smaller(row + 1, panel[1]) + 1):
            before = y * width + column - 1
            found = allowed & (bits[0] << ONE if before < 0 else bits_at(bits, before))
            while found:
                p = before + trailing_zeros(found)
                found &= found - ONE
                bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
                ss[n], fs[n] = y, p - y * width
                n += 1
    return n - first


@inlined
def _word(bits, k, by):
    """Return 64 bits from a word and the next."""
    return bits[k] >> by | bits[k + np.uint64(1)] << np.uint64(1) << (np.uint64(63) - by)


@inlined
def set_bit(bits, p):
    """Set a pixel's bit."""
    bits[p >> 6] |= ONE << np.uint64(p & 63)


@inner_kernel
def panel_bounds(panels, index):
    """Return first and last ss, first and last fs: numbers, to which no references are counted."""
    return panels[index, 0], panels[index, 1], panels[index, 2], panels[index, 3]
