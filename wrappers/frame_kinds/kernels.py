"""The kernels that measure a frame: rings' levels, sums over cells, spots. Frames are flat."""

from __future__ import annotations

import math

import numpy as np

from wrappers.frame_kinds.compiling import kernel

__all__ = ["add_up", "find_spots", "ring_levels"]

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
FEWEST = 16
"""With fewer sampled pixels a ring has no level."""
N_PASSES = 4
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
    some = np.empty(len(pixel), np.float32)
    for ring in range(n_rings):
        n = 0
        for k in range(start[ring], start[ring + 1]):
            value = data[pixel[k]]
            if mask[pixel[k]] and abs(value) <= FLOAT_MAX:
                some[n] = value
                n += 1
        if n < FEWEST:
            continue
        middle = np.median(some[:n])
        spread = max(1.4826 * np.median(np.abs(some[:n] - middle)), least)
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
def add_up(data, mask, polar, box, n_sectors, mean, sigma, photon, cells, boxes, bright):
    """Add up a frame over the polar cells and the boxes of a square grid; list bright pixels.

    Values are cut at `INLIERS` standard deviations (or `PHOTONS` photons) of their ring.

    Parameters
    ----------
    polar, box : int16 array (n_pixels,)
        Cell and box of each pixel, -1 outside the panels; ``polar // n_sectors`` is its ring.
    cells : float64 array (n_cells, 2)
        Added to: number and sum of the values.
    boxes : float64 array (n_boxes, 4)
        Added to: number, sum, sum of the squares of what they are off their rings' means, and
        sum of what they are off in standard deviations.
    bright : int32 array
        Written: the pixels that were cut above, as many as there is room for.

    Returns
    -------
    n_bright : int
        At most the room in `bright`.
    """
    n_bright = 0
    for p in range(len(data)):
        cell = polar[p]
        value = data[p]
        if cell < 0 or not mask[p] or not abs(value) <= FLOAT_MAX:
            continue
        ring = cell // n_sectors
        spread = sigma[ring]
        if spread == np.inf:
            continue
        off = value - mean[ring]
        reach = max(INLIERS * spread, PHOTONS * photon)
        if off > reach:
            if n_bright < len(bright):
                bright[n_bright] = p
                n_bright += 1
            off = reach
        elif off < -reach:
            off = -reach
        cells[cell, 0] += 1
        cells[cell, 1] += mean[ring] + off
        place = box[p]
        boxes[place, 0] += 1
        boxes[place, 1] += mean[ring] + off
        boxes[place, 2] += off * off
        boxes[place, 3] += off / spread
    return n_bright


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
