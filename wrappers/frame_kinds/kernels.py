"""The kernels that measure a frame: rings' levels, sums over cells, spots. Frames are flat."""

from __future__ import annotations

import math

import numpy as np

from wrappers.frame_kinds.compiling import inner_kernel, kernel
from wrappers.sorting import DEPTH, make_sort

__all__ = ["INLIERS", "PHOTONS", "add_up", "find_bright", "find_spots", "repeated", "ring_levels"]

_sort = inner_kernel(make_sort())

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
FEWEST = 16
"""With fewer sampled pixels a ring has no level."""
FOR_START = 100
"""About so many of them place it at first ..."""
N_PASSES = 4
"""... and all of them in so many passes."""
INLIERS = 5.0
"""Standard deviations around a ring's mean ..."""
PHOTONS = 3.0
"""... or so many photons, whichever is more: in nearly empty frames most pixels are equal."""
ABOVE = 1.5
"""In standard deviations of a 3 x 3 sum, times three: what a spot has above its ring at least."""


@kernel
def ring_levels(data, mask, pixel, start, photon, least):
    """Return mean and standard deviation of each ring without its outliers, from a sample.

    Parameters
    ----------
    data : float32 array (n_pixels,)
    mask : bool array (n_pixels,)
    pixel : int32 array (n,)
        The sampled pixels, ring by ring.
    start : int64 array (n_rings + 1,)
        Where each ring's begin.
    photon : float
        In the data's units.
    least : float
        Smallest standard deviation.

    Returns
    -------
    mean, sigma : float64 array (n_rings,)
        An infinite sigma where too few pixels are usable.
    """
    n_rings = len(start) - 1
    mean, sigma = np.zeros(n_rings), np.full(n_rings, np.inf)
    some, ordered = np.empty(len(pixel), np.float32), np.empty(len(pixel), np.float32)
    sizes, waiting = np.empty(len(pixel)), np.empty((DEPTH, 2), np.int64)
    for ring in range(n_rings):
        n = 0
        for k in range(start[ring], start[ring + 1]):
            value = data[pixel[k]]
            if mask[pixel[k]] and abs(value) <= FLOAT_MAX:
                some[n] = value
                n += 1
        if n < FEWEST:
            continue
        # (By sorting: Numba's median takes seconds to compile.)
        apart = max(n // FOR_START, 1)
        few = (n - 1) // apart + 1
        for k in range(few):
            ordered[k] = some[k * apart]
        _sort(ordered, few, waiting)
        middle = (ordered[(few - 1) // 2] + ordered[few // 2]) / 2
        for k in range(few):
            sizes[k] = abs(some[k * apart] - middle)
        _sort(sizes, few, waiting)
        spread = max(1.4826 * ((sizes[(few - 1) // 2] + sizes[few // 2]) / 2), least)
        centre = float(middle)
        for _ in range(N_PASSES):
            reach = max(INLIERS * spread, PHOTONS * photon)
            inside, total, squares = 0, 0.0, 0.0
            for k in range(n):
                off = some[k] - centre
                if -reach <= off <= reach:
                    inside += 1
                    total += off
                    squares += off * off
            if inside == 0:
                break
            shift = total / inside
            centre += shift
            spread = max(math.sqrt(max(squares / inside - shift * shift, 0.0)), least)
        mean[ring], sigma[ring] = centre, spread
    return mean, sigma


@kernel
def add_up(data, mask, polar, box, n_sectors, width, step, mean, sigma, photon, cells, boxes):
    """Add up every `step`-th row of a frame over the polar cells and the boxes of a square grid.

    Values are cut at `INLIERS` standard deviations (or `PHOTONS` photons) of their ring.

    Parameters
    ----------
    polar, box : int16 array (n_pixels,)
        Cell and box of each pixel, -1 outside the panels; ``polar // n_sectors`` is its ring.
    width : int
        Pixels of a row.
    cells : float64 array (n_cells, 2)
        Added to: number and sum of the values.
    boxes : float64 array (n_boxes, 4)
        Added to: number, sum, sum of the squares of what they are off their rings' means, and
        sum of what they are off in standard deviations.
    """
    for first in range(0, len(data), width * step):
        # What follows each other is of one cell and box for some pixels, and is added up first.
        cell, place, known = -1, -1, False
        centre, spread, reach = 0.0, 1.0, 0.0
        n, total, squares = 0, 0.0, 0.0
        for p in range(first, min(first + width, len(data))):
            if polar[p] != cell or box[p] != place:
                if n:
                    _add(cells, boxes, cell, place, n, centre, spread, total, squares)
                n, total, squares = 0, 0.0, 0.0
                cell, place = polar[p], box[p]
                known = cell >= 0
                if known:
                    ring = cell // n_sectors
                    centre, spread = mean[ring], sigma[ring]
                    known = spread != np.inf
                    reach = max(INLIERS * spread, PHOTONS * photon)
            value = data[p]
            if not known or not mask[p] or not abs(value) <= FLOAT_MAX:
                continue
            off = min(max(value - centre, -reach), reach)
            n += 1
            total += off
            squares += off * off
        if n:
            _add(cells, boxes, cell, place, n, centre, spread, total, squares)


@inner_kernel
def _add(cells, boxes, cell, place, n, centre, spread, total, squares):
    cells[cell, 0] += n
    cells[cell, 1] += n * centre + total
    boxes[place, 0] += n
    boxes[place, 1] += n * centre + total
    boxes[place, 2] += squares
    boxes[place, 3] += total / spread


@kernel
def find_bright(data, mask, ring, limit, bright):
    """List the pixels above their ring's limit, as many as there is room for; return how many.

    Parameters
    ----------
    ring : uint8 array (n_pixels,)
    limit : float32 array (256,)
        By ring; infinite outside the panels, and where nothing is known.
    bright : int32 array
        Written.
    """
    n = 0
    for p in range(len(data)):
        if data[p] > limit[ring[p]] and mask[p] and data[p] <= FLOAT_MAX and n < len(bright):
            bright[n] = p
            n += 1
    return n


@kernel
def find_spots(data, mask, polar, n_sectors, width, mean, sigma, bright):
    """Return those of the bright pixels that top their neighbours, with what is in 3 x 3 pixels.

    Returns
    -------
    pixel : int32 array (n,)
    excess : float64 array (n,)
        Sum of the 3 x 3 pixels above their ring's mean, in the data's units.
    """
    pixel, excess = np.empty(len(bright), np.int32), np.empty(len(bright))
    n = 0
    for p in bright:
        ring = polar[p] // n_sectors
        total, largest = 0.0, True
        for row in range(-1, 2):
            for column in range(-1, 2):
                other = p + row * width + column
                if other < 0 or other >= len(data) or polar[other] < 0 or not mask[other]:
                    continue
                value = data[other]
                if not abs(value) <= FLOAT_MAX:
                    continue
                total += value - mean[ring]
                # Of equal neighbours the first one is the spot.
                largest = largest and (value < data[p] or (value == data[p] and other >= p))
        if largest and total > ABOVE * INLIERS * 2 * sigma[ring]:
            pixel[n], excess[n] = p, total
            n += 1
    return pixel[:n].copy(), excess[:n].copy()


@kernel
def repeated(vectors, n_own, tolerance):
    """Return how many of the last vectors have another one within a tolerance.

    Parameters
    ----------
    vectors : float64 array (n, 3)
        The first coordinate grows.
    n_own : int
        So many are asked for.
    tolerance : float
    """
    n, found = len(vectors), 0
    for i in range(n - n_own, n):
        has = False
        for way in (-1, 1):
            j = i + way
            while not has and 0 <= j < n and abs(vectors[j, 0] - vectors[i, 0]) <= tolerance:
                off = 0.0
                for axis in range(3):
                    off += (vectors[j, axis] - vectors[i, axis]) ** 2
                has = off <= tolerance * tolerance
                j += way
        found += has
    return found
