"""What a candidate looks like, in numbers: the kernels of the learned peak finder.

All values are in standard deviations of the background around the candidate, so that nobody need
say what a photon is. The background is that of the 21 × 21 pixels around it without the inner
7 × 7, winsorised twice at three standard deviations: neighbours count as the limit they exceed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.spots.compiling import inner_kernel, kernel

__all__ = [
    "BLOCKS",
    "FEATURES",
    "MEASURED",
    "PATCH",
    "SCALARS",
    "Image",
    "best_of_neighbours",
    "describe",
    "rank",
]

PATCH = 9
"""Pixels on a side of the patch that is given pixel by pixel."""

WIDE, BLOCK = 21, 3
BLOCKS = WIDE // BLOCK
"""The wide patch is given as so many blocks on a side, each of 3 × 3 pixels."""

SCALARS = (
    "matched_filter",
    "snr",
    "n_pixels",
    "sum_3",
    "sum_5",
    "largest_share",
    "second_share",
    "long_axis",
    "short_axis",
    "along_radius",
    "usable_3",
    "usable_9",
    "usable_21",
    "ring_position",
    "background_level",
    "background_skewness",
    "panel_edge",
    "saturated",
    "frame_density",
    "ring_density",
    "ring_contrast",
)
FEATURES = (
    *(f"pixel_{i}_{j}" for i in range(PATCH) for j in range(PATCH)),
    *(f"block_{i}_{j}" for i in range(BLOCKS) for j in range(BLOCKS)),
    *SCALARS,
)
"""What a network is given of a candidate, in this order."""

MEASURED = ("fs", "ss", "intensity")
"""What `describe` measures anew of a candidate."""

HALF, REACH, INNER = PATCH // 2, WIDE // 2, 3
LIMIT = 3.0
FEW = 16
"""Pixels that a background must have; else it is that of all usable pixels around."""
_N_PIXELS, _N_BLOCKS = PATCH * PATCH, BLOCKS * BLOCKS

SIDE, CORNER = 0.55, 0.3
"""Weights of the matched filter beside 1 in its middle: a spot of about a pixel's width."""


class Image(NamedTuple):
    """A frame as the kernels take it.

    Attributes
    ----------
    data : float32 array (n_pixels,)
        The flat slab, in the data's units.
    usable : bool array (n_pixels,)
    width : int
        Of the slab, in pixels.
    panels : int64 array (n_panels, 4)
        First and last ss, first and last fs of each panel, inclusive.
    max_adu : float64 array (n_panels,)
        Saturation.
    radius : float32 array (n_pixels,)
        Distance from the beam in pixels; infinite outside the panels.
    largest_radius : float
        Of any pixel on a panel.
    """

    data: NDArray[np.float32]
    usable: NDArray[np.bool_]
    width: int
    panels: NDArray[np.int64]
    max_adu: NDArray[np.float64]
    radius: NDArray[np.float32]
    largest_radius: float


@inner_kernel
def _value(image, p):
    """Return a pixel's value, and whether it can be used: neither masked nor infinite."""
    value = image.data[p]
    return value, image.usable[p] and value - value == 0


@kernel
def rank(image, fs, ss, panel, strength, score, pixel):
    """Find each candidate's brightest pixel, and how well a small spot there stands out.

    Parameters
    ----------
    image : Image
    fs, ss : float64 array (n,)
        Of peakfinder8.
    panel : int32 array (n,)
    strength : float64 array (n, 4)
        intensity, snr, n_pixels and max_value, of peakfinder8: they tell level and spread of the
        background that it saw.
    score : float32 array (n,)
        Written: what a matched filter has there, in standard deviations.
    pixel : int32 array (n,)
        Written: the brightest pixel, flat; -1 where there is none.
    """
    for k in range(len(fs)):
        first_ss, last_ss, first_fs, last_fs = image.panels[panel[k]]
        intensity, snr, n_pixels, max_value = strength[k]
        reach = 1 if n_pixels < 4 else 2
        row, column = int(ss[k]), int(fs[k])
        best, place = -np.inf, -1
        for i in range(max(row - reach, first_ss), min(row + reach, last_ss) + 1):
            for j in range(max(column - reach, first_fs), min(column + reach, last_fs) + 1):
                value, good = _value(image, i * image.width + j)
                if good and value > best:
                    best, place = value, i * image.width + j
        pixel[k], score[k] = place, -np.inf
        if place < 0:
            continue
        sigma, level = intensity / snr, best - max_value
        if not sigma > 0:
            continue
        row, column = place // image.width, place % image.width
        total = squares = 0.0
        for i in range(max(row - 1, first_ss), min(row + 1, last_ss) + 1):
            for j in range(max(column - 1, first_fs), min(column + 1, last_fs) + 1):
                value, good = _value(image, i * image.width + j)
                if good:
                    apart = abs(i - row) + abs(j - column)
                    weight = 1.0 if apart == 0 else SIDE if apart == 1 else CORNER
                    total += weight * (value - level)
                    squares += weight * weight
        score[k] = total / (sigma * math.sqrt(squares))


@kernel
def best_of_neighbours(pixel, score, width):
    """Return which candidates have no better one in the eight pixels around theirs.

    Parameters
    ----------
    pixel : int32 array (n,)
        Flat, ascending; of equal ones the first is kept.
    score : float32 array (n,)
    width : int
        Of the slab.

    Returns
    -------
    bool array (n,)
    """
    kept = np.ones(len(pixel), np.bool_)
    for i in range(len(pixel)):
        row, column = pixel[i] // width, pixel[i] % width
        for j in range(i + 1, len(pixel)):
            other_row, other_column = pixel[j] // width, pixel[j] % width
            if other_row > row + 1 or (other_row == row + 1 and other_column > column + 1):
                break
            if abs(other_column - column) <= 1:
                kept[j if score[j] <= score[i] else i] = False
    return kept


@inner_kernel
def _compressed(u):
    """Return a number that is u where u is small and its fourth root where it is large."""
    size = math.sqrt(1.0 + abs(u))
    return u / (size * math.sqrt(size))


@inner_kernel(fastmath={"contract", "reassoc", "nsz"})
def _background(values, n):
    """Return mean, standard deviation and skewness of values, winsorised twice."""
    mean, low, high = np.float64(values[0]), -np.inf, np.inf
    sigma = skewness = 0.0
    for _ in range(3):
        total = squares = cubes = 0.0
        for k in range(n):
            value = min(max(np.float64(values[k]), low), high) - mean
            total += value
            squares += value * value
            cubes += value * value * value
        shift = total / n
        variance = squares / n - shift * shift
        third = cubes / n - 3 * shift * squares / n + 2 * shift * shift * shift
        mean += shift
        sigma = math.sqrt(variance) if variance > 0 else 0.0
        skewness = third / (sigma * sigma * sigma) if sigma > 0 else 0.0
        low, high = mean - LIMIT * sigma, mean + LIMIT * sigma
    return mean, sigma, skewness


@kernel
def describe(image, pixel, panel, strength, score, features, measured):
    """Write what candidates look like, and where exactly they are.

    Parameters
    ----------
    image : Image
    pixel, panel, strength, score
        Of `rank`, for those candidates that are to be described.
    features : float32 array (n, len(FEATURES))
        Written, but for what depends on the other candidates (the densities).
    measured : float64 array (n, len(MEASURED))
        Written: centroid of what exceeds the background (pixel *i* spans *i* to *i* + 1), and its
        sum over 5 × 5 pixels.
    """
    around, whole = np.empty(WIDE * WIDE, np.float32), np.empty(WIDE * WIDE, np.float32)
    near = np.empty((PATCH, PATCH), np.float64)
    good = np.empty((PATCH, PATCH), np.bool_)
    sums, counts = np.empty((BLOCKS, BLOCKS)), np.empty((BLOCKS, BLOCKS), np.int64)
    for k in range(len(pixel)):
        first_ss, last_ss, first_fs, last_fs = image.panels[panel[k]]
        max_adu = image.max_adu[panel[k]]
        row, column = pixel[k] // image.width, pixel[k] % image.width
        out = features[k]
        # What is around, and the sums of the blocks, block by block.
        n_around = n_whole = 0
        sums[:], counts[:], good[:], near[:] = 0.0, 0, False, 0.0
        for i in range(max(row - REACH, first_ss), min(row + REACH, last_ss) + 1):
            down = i - row + REACH
            for j in range(max(column - REACH, first_fs), min(column + REACH, last_fs) + 1):
                value, there = _value(image, i * image.width + j)
                if not there:
                    continue
                right = j - column + REACH
                whole[n_whole] = value
                n_whole += 1
                sums[down // BLOCK, right // BLOCK] += value
                counts[down // BLOCK, right // BLOCK] += 1
                if abs(i - row) > INNER or abs(j - column) > INNER:
                    around[n_around] = value
                    n_around += 1
                if abs(i - row) <= HALF and abs(j - column) <= HALF:
                    near[i - row + HALF, j - column + HALF] = value
                    good[i - row + HALF, j - column + HALF] = True
        if n_around >= FEW:
            mean, sigma, skewness = _background(around, n_around)
        else:
            mean, sigma, skewness = _background(whole, n_whole)
        peak = near[HALF, HALF]
        if not sigma > 0:
            # Not one photon around: a hundredth of the peak is as good a measure as any.
            sigma = max(abs(peak - mean) / 100, 1e-6)

        n_good_3 = n_good_9 = n_saturated = 0
        sum_3 = sum_5 = second = 0.0
        weight = at_ss = at_fs = 0.0
        for i in range(PATCH):
            for j in range(PATCH):
                u = (near[i, j] - mean) / sigma if good[i, j] else 0.0
                out[i * PATCH + j] = _compressed(u)
                n_good_9 += good[i, j]
                near_row, near_column = abs(i - HALF), abs(j - HALF)
                if near_row <= 1 and near_column <= 1:
                    sum_3 += u
                    n_good_3 += good[i, j]
                    n_saturated += good[i, j] and near[i, j] >= max_adu
                    if near_row + near_column > 0:
                        second = max(second, u)
                if near_row <= 2 and near_column <= 2:
                    sum_5 += u
                    above = u - 1.0
                    if above > 0 and near_row + near_column < 4:
                        weight += above
                        at_ss += above * (i - HALF)
                        at_fs += above * (j - HALF)
        for i in range(BLOCKS):
            for j in range(BLOCKS):
                n = counts[i, j]
                u = (sums[i, j] - n * mean) / (sigma * math.sqrt(n)) if n > 0 else 0.0
                out[_N_PIXELS + i * BLOCKS + j] = _compressed(u)

        centre_ss = at_ss / weight if weight > 0 else 0.0
        centre_fs = at_fs / weight if weight > 0 else 0.0
        long_axis, short_axis, along = _shape(
            near, good, mean, sigma, centre_ss, centre_fs, _radial(image, pixel[k])
        )
        measured[k, 0], measured[k, 1] = column + 0.5 + centre_fs, row + 0.5 + centre_ss
        measured[k, 2] = sum_5 * sigma

        u_peak = (peak - mean) / sigma
        edge = min(row - first_ss, last_ss - row, column - first_fs, last_fs - column)
        radius = image.radius[pixel[k]]
        place = _N_PIXELS + _N_BLOCKS
        out[place] = _compressed(score[k])
        out[place + 1] = _compressed(strength[k, 1])
        out[place + 2] = math.log(max(strength[k, 2], 1.0))
        out[place + 3] = _compressed(sum_3 / 3)
        out[place + 4] = _compressed(sum_5 / 5)
        out[place + 5] = u_peak / max(sum_3, u_peak, 1e-9)
        out[place + 6] = second / max(u_peak, 1e-9)
        out[place + 7] = long_axis
        out[place + 8] = short_axis
        out[place + 9] = along
        out[place + 10] = n_good_3 / 9
        out[place + 11] = n_good_9 / _N_PIXELS
        out[place + 12] = n_whole / (WIDE * WIDE)
        out[place + 13] = radius / image.largest_radius
        out[place + 14] = _compressed(mean / sigma)
        out[place + 15] = _compressed(skewness)
        out[place + 16] = min(edge, 10) / 10
        out[place + 17] = n_saturated / 9


@inner_kernel
def _radial(image, p):
    """Return the direction (ss, fs) away from the beam at a pixel, of about unit length."""
    width, n = image.width, len(image.radius)
    here = image.radius[p]
    right = image.radius[p + 1] if p + 1 < n else here
    left = image.radius[p - 1] if p > 0 else here
    below = image.radius[p + width] if p + width < n else here
    above = image.radius[p - width] if p >= width else here
    step_fs = right - here if right - here == right - here and right < np.inf else here - left
    step_ss = below - here if below - here == below - here and below < np.inf else here - above
    if not (abs(step_fs) <= 2 and abs(step_ss) <= 2):
        return 0.0, 0.0
    return step_ss, step_fs


@inner_kernel
def _shape(near, good, mean, sigma, centre_ss, centre_fs, radial):
    """Return the standard deviations of a spot along its axes, and how far the longer is radial.

    Of what is two standard deviations above the background in the 7 × 7 pixels around.
    """
    total = ss_ss = fs_fs = ss_fs = 0.0
    for i in range(HALF - INNER, HALF + INNER + 1):
        for j in range(HALF - INNER, HALF + INNER + 1):
            above = (near[i, j] - mean) / sigma - 2.0
            if good[i, j] and above > 0:
                down, right = i - HALF - centre_ss, j - HALF - centre_fs
                total += above
                ss_ss += above * down * down
                fs_fs += above * right * right
                ss_fs += above * down * right
    if total <= 0:
        return 0.0, 0.0, 0.0
    ss_ss, fs_fs, ss_fs = ss_ss / total, fs_fs / total, ss_fs / total
    half, middle = 0.5 * (ss_ss - fs_fs), 0.5 * (ss_ss + fs_fs)
    spread = math.sqrt(half * half + ss_fs * ss_fs)
    length = radial[0] * radial[0] + radial[1] * radial[1]
    along = 0.0
    if spread > 0 and length > 0:
        # cos of twice the angle between the longer axis and the radius, times how long it is.
        cosine = (half * (radial[0] ** 2 - radial[1] ** 2) + 2 * ss_fs * radial[0] * radial[1]) / (
            spread * length
        )
        along = cosine * spread / max(middle, 1e-9)
    return math.sqrt(middle + spread), math.sqrt(max(middle - spread, 0.0)), along
