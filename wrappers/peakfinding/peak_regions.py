"""From bright pixels to regions: joined by edges and corners, with a bit for each pixel.

Bits, because 64 pixels fit in a word: rows without bright pixels, and pixels that have no
neighbour, are passed over a word at a time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from wrappers.peakfinding.vectors import BITS, bits_false, trailing_zeros

__all__ = [
    "EVERYTHING",
    "bits_from",
    "join_pixels",
    "join_regions",
    "pack_unusable",
    "panel_bounds",
    "room_for_regions",
    "set_bit",
]

ONE = np.uint64(1)
ALL = ~np.uint64(0)
EVERYTHING = 1 << 62
"""Rows that are ready where all are."""


@njit(cache=True, nogil=True)
def pack_unusable(mask, bits):
    """Set the bits of the pixels that are not usable.

    Parameters
    ----------
    mask : bool array (n_pixels,)
        True where usable.
    bits : uint64 array (n_pixels // 64 + 2,)
        Written.
    """
    n_words = len(mask) // BITS
    for k in range(n_words):
        bits[k] = bits_false(mask, k * BITS)
    bits[n_words:] = 0
    for p in range(n_words * BITS, len(mask)):
        if not mask[p]:
            set_bit(bits, p)


@njit(cache=True, nogil=True)
def join_pixels(bright, width, panels, min_pix_count, max_pix_count, free):
    """Join bright pixels to regions, without looking at their values.

    Parameters
    ----------
    bright : int32 array
        Flat indices, in any order.
    width, panels
        As for `peak_measurement.find_peaks`.
    free : uint64 array (n_pixels // 64 + 2,)
        Scratch of zeros.

    Returns
    -------
    start : int64 array (n_regions + 1,)
    pixel : int64 array
        Flat indices of the pixels of the regions of permitted size; region *i* has
        ``pixel[start[i]:start[i + 1]]``. Regions are in the order of panels and raster.
    panel : int64 array (n_regions,)
    """
    for p in bright:
        set_bit(free, p)
    regions = room_for_regions(len(bright) // min_pix_count, len(bright))
    sizes = min_pix_count, max_pix_count
    position = np.zeros(2, np.int64)
    n = join_regions(free, width, panels, sizes, EVERYTHING, 0, position, regions)
    start, owner, ss, fs = regions
    n_pixels = start[n]
    pixel = ss[:n_pixels].astype(np.int64) * width + fs[:n_pixels]
    return start[: n + 1], pixel, owner[:n]


@njit(cache=True, nogil=True)
def room_for_regions(most, most_pixels):
    """Return memory for so many regions.

    Region *i* is on panel ``owner[i]`` and has the pixels ``ss[k]``, ``fs[k]`` with *k* from
    ``start[i]`` to before ``start[i + 1]``; so start, owner, ss and fs are returned.
    """
    start, owner = np.zeros(most + 1, np.int64), np.empty(most, np.int64)
    return start, owner, np.empty(most_pixels, np.int32), np.empty(most_pixels, np.int32)


@njit(cache=True, nogil=True)
def join_regions(free, width, panels, sizes, ready, reach, position, regions):
    """Take the next regions of permitted size, and their pixels out of the free ones.

    Parameters
    ----------
    free, width, panels, ready
        As for `peak_measurement.find_peaks`.
    sizes : tuple of int
        Smallest and largest number of pixels.
    reach : int
        So many rows after a region must be ready.
    position : int64 array (2,)
        Panel and row from which to go on; changed.
    regions : tuple
        Of `room_for_regions`; written.

    Returns
    -------
    int
        Number of regions. If it is less than there is room for, there are no others, or other
        rows must be ready before.
    """
    start, owner, ss, fs = regions
    seeds = np.empty(width // BITS + 2, np.uint64)
    n_regions = end = 0
    for index in range(len(panels)):
        panel = panel_bounds(panels, index)
        begin = end - panel[0]  # a row's number in the frame, less that on the slab
        end += panel[1] - panel[0] + 1
        if index < position[0]:
            continue
        top = panel[0] + 1
        for row in range(max(position[1], top), panel[1]):
            if end > ready and begin + row + 2 > ready:
                position[0], position[1] = index, row
                return n_regions
            left = row * width + panel[2] + 1
            n_seeds = panel[3] - panel[2] - 1
            if n_seeds > 0:
                _copy_row(free, left, n_seeds, seeds)
            # A pixel without a neighbour is a region of its own. (Above the first row is one
            # where no region begins.)
            if n_seeds > 0 and sizes[0] > 1 and row > top:
                _drop_lonely(free, left, n_seeds, width, seeds)
            for word in range((n_seeds + BITS - 1) // BITS):
                while seeds[word]:
                    p = left + word * BITS + trailing_zeros(seeds[word])
                    seeds[word] &= seeds[word] - ONE
                    if not bits_from(free, p) & ONE:  # taken with another
                        continue
                    if n_regions == len(owner):
                        position[0], position[1] = index, row
                        return n_regions
                    first = start[n_regions]
                    n = _fill(free, row, p - row * width, panel, width, ss, fs, first)
                    if end > ready:
                        bottom = 0
                        for k in range(first, first + n):
                            bottom = max(bottom, int(ss[k]))
                        if begin + min(bottom + reach, panel[1] + 1) > ready:
                            for k in range(first, first + n):  # to be taken later
                                set_bit(free, np.int64(ss[k]) * width + fs[k])
                            position[0], position[1] = index, row
                            return n_regions
                    if sizes[0] <= n <= sizes[1]:
                        start[n_regions + 1] = first + n
                        owner[n_regions] = index
                        n_regions += 1
        position[1] = 0
    position[0] = len(panels)
    return n_regions


@njit(cache=True, nogil=True)
def _copy_row(bits, p, n, seeds):
    """Write the words of a row's n bits from `p` on."""
    n_words = (n + BITS - 1) // BITS
    here, here_by = _place(p)
    for k in range(np.uint64(n_words)):
        seeds[k] = _word(bits, here + k, here_by)
    seeds[n_words - 1] &= ALL >> np.uint64(-n & 63)


@njit(cache=True, nogil=True)
def _drop_lonely(bits, p, n, width, seeds):
    """Clear the bits of `_copy_row` that have no neighbour to come, after them or below."""
    n_words = (n + BITS - 1) // BITS
    # Beside these two are the panel's outermost columns, where no region begins.
    first, last = seeds[0] & ONE, bits_from(bits, p + n - 1) & ONE
    # (Words and shifts by hand: the compiler then makes vectors.)
    after, after_by = _place(p + 1)
    left, left_by = _place(p + width - 1)
    below, below_by = _place(p + width)
    right, right_by = _place(p + width + 1)
    for k in range(np.uint64(n_words)):
        around = _word(bits, after + k, after_by) | _word(bits, left + k, left_by)
        seeds[k] &= around | _word(bits, below + k, below_by) | _word(bits, right + k, right_by)
    seeds[0] |= first
    seeds[n_words - 1] |= last << np.uint64((n - 1) & 63)


@njit(cache=True, nogil=True, forceinline=True)
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
        for y in range(max(row - 1, panel[0]), min(row + 1, panel[1]) + 1):
            before = y * width + column - 1
            if before < 0:
                found = bits_from(bits, 0) << ONE & allowed
            else:
                found = bits_from(bits, before) & allowed
            while found:
                p = before + trailing_zeros(found)
                found &= found - ONE
                bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
                ss[n], fs[n] = y, p - y * width
                n += 1
    return n - first


@njit(cache=True, nogil=True, forceinline=True)
def bits_from(bits, p):
    """Return the 64 bits from `p` on, which must not be negative."""
    k, by = _place(p)
    return _word(bits, k, by)


@njit(cache=True, nogil=True, forceinline=True)
def _place(p):
    """Return the word of a pixel's bit, and by how much to shift that word."""
    # Unsigned: indices with a sign are looked at whether they count from the end.
    return np.uint64(p) >> np.uint64(6), np.uint64(p) & np.uint64(63)


@njit(cache=True, nogil=True, forceinline=True)
def _word(bits, k, by):
    """Return 64 bits from a word and the next."""
    return bits[k] >> by | bits[k + np.uint64(1)] << np.uint64(1) << (np.uint64(63) - by)


@njit(cache=True, nogil=True, forceinline=True)
def set_bit(bits, p):
    """Set a pixel's bit."""
    bits[p >> 6] |= ONE << np.uint64(p & 63)


@njit(cache=True, nogil=True)
def panel_bounds(panels, index):
    """Return first and last ss, first and last fs: numbers, to which no references are counted."""
    return panels[index, 0], panels[index, 1], panels[index, 2], panels[index, 3]
