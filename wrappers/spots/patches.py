"""What a candidate looks like, in numbers: the kernels of the learned peak finder.

All values are in standard deviations of the background around the candidate, so that nobody need
say what a photon is. The background is that of the 21 × 21 pixels around it without the inner
7 × 7, winsorised at four standard deviations, at first those of the ring: what exceeds the limit
counts as the limit. Single photons must not be left out of it, as peakfinder8 does, where there
are few: they would all stand out.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.vectors import prefetch
from wrappers.spots.compiling import inner_kernel, kernel
from wrappers.spots.image import LIMIT, RING, value_at

__all__ = [
    "BLOCKS",
    "FEATURES",
    "MEASURED",
    "PATCH",
    "SCALARS",
    "describe",
]

PATCH = 9
"""Pixels on a side of the patch that is given pixel by pixel."""

WIDE, BLOCK = 21, 3
BLOCKS = WIDE // BLOCK
"""The wide patch is given as so many blocks on a side, each of 3 × 3 pixels."""

SCALARS = (
    "matched_filter",
    "snr",
    "sum_3",
    "sum_5",
    "background_level",
    "background_skewness",
    "n_pixels",
    "largest_share",
    "second_share",
    "long_axis",
    "short_axis",
    "along_radius",
    "usable_3",
    "usable_9",
    "usable_21",
    "ring_position",
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
LARGEST, HUGE = 30.0, np.float32(1e30)
FEW = 16
"""Pixels that a background must have; else it is that of all usable pixels around."""
_N_PIXELS, _N_BLOCKS, MIDDLE = PATCH * PATCH, BLOCKS * BLOCKS, WIDE * WIDE // 2


@inner_kernel(error_model="numpy")
def _compressed(u):
    """Return a number that is u where u is small and its fourth root where it is large."""
    u = min(max(u, -HUGE), HUGE)  # infinite where a spoilt pixel lies in a quiet ring
    size = math.sqrt(np.float32(1) + abs(u))
    return u / (size * math.sqrt(size))


@inner_kernel(fastmath={"contract", "reassoc", "nsz", "nnan"}, error_model="numpy")
def _background(values, used, n, centre, spread):
    """Return mean, standard deviation and skewness of what is used, winsorised.

    At first so many times `LIMIT` around the centre as its spread says.
    """
    low, high = centre - LIMIT * spread, centre + LIMIT * spread
    over, lowest, highest = np.float32(0), np.float32(low), np.float32(high)
    for k in range(len(values)):
        over += used[k] if values[k] > highest or values[k] < lowest else np.float32(0)
    if 4 * over > n:
        low, high = -np.inf, np.inf  # this part of the ring is another one
    mean = centre
    sigma = skewness = 0.0
    for _ in range(2):
        total = squares = cubes = 0.0
        for k in range(len(values)):
            value = used[k] * (min(max(np.float64(values[k]), low), high) - mean)
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


@inner_kernel
def _take(image, panel, row, column, values, used):
    """Copy the wide patch around a pixel: 0, and not used, where there is nothing to be used."""
    first_ss, last_ss, first_fs, last_fs = panel
    values[:], used[:] = 0, 0
    first, last = max(column - REACH, first_fs), min(column + REACH, last_fs)
    # Unsigned: of other indices Numba asks whether they are negative, pixel by pixel.
    n = np.uintp(last + 1 - first)
    for i in range(max(row - REACH, first_ss), min(row + REACH, last_ss) + 1):
        start = np.uintp(i * image.width + first)
        to = np.uintp((i - row + REACH) * WIDE + first - column + REACH)
        for k in range(n):
            value, there = value_at(image, start + k)
            values[to + k] = value if there else np.float32(0)
            used[to + k] = np.float32(there)


@inner_kernel
def _add_blocks(values, used, sums, counts):
    """Write sum and number of the pixels of each block of the wide patch."""
    column_sum, column_count = np.empty(WIDE), np.empty(WIDE, np.float32)
    for across in range(BLOCKS):
        top = np.uintp(across * BLOCK * WIDE)
        middle, bottom = top + np.uintp(WIDE), top + np.uintp(2 * WIDE)
        for j in range(np.uintp(WIDE)):
            column_sum[j] = np.float64(values[top + j]) + values[middle + j] + values[bottom + j]
            column_count[j] = used[top + j] + used[middle + j] + used[bottom + j]
        for block in range(BLOCKS):
            at, j = across * BLOCKS + block, block * BLOCK
            sums[at] = column_sum[j] + column_sum[j + 1] + column_sum[j + 2]
            counts[at] = column_count[j] + column_count[j + 1] + column_count[j + 2]


@kernel(error_model="numpy")
def describe(image, pixel, panel, snr, n_pixels, score, features, measured):
    """Write what candidates look like, and where exactly they are.

    Parameters
    ----------
    image : Image
    pixel, score
        Of `rank`, for those candidates that are to be described.
    panel, snr, n_pixels : arrays (n,)
        Of peakfinder8.
    features : float32 array (n, len(FEATURES))
        Written, but for what depends on the other candidates (the densities).
    measured : float64 array (n, len(MEASURED))
        Written: centroid of what exceeds the background (pixel *i* spans *i* to *i* + 1), and its
        sum over 5 × 5 pixels.
    """
    values, used = np.empty(WIDE * WIDE, np.float32), np.empty(WIDE * WIDE, np.float32)
    around, near = np.empty(WIDE * WIDE, np.float32), np.empty((PATCH, PATCH))
    sums, counts = np.empty(_N_BLOCKS), np.empty(_N_BLOCKS)
    for k in range(len(pixel)):
        bounds, max_adu = image.panels[panel[k]], image.max_adu[panel[k]]
        first_ss, last_ss, first_fs, last_fs = bounds
        row, column = pixel[k] // image.width, pixel[k] % image.width
        out = features[k]
        if k + 1 < len(pixel):
            for down in range(-REACH, REACH + 1):
                p = pixel[k + 1] + down * image.width
                prefetch(image.data, p - REACH)
                prefetch(image.data, p + REACH)
                prefetch(image.usable, p)
        _take(image, bounds, row, column, values, used)
        around[:] = used
        for i in range(REACH - INNER, REACH + INNER + 1):
            around[i * WIDE + REACH - INNER : i * WIDE + REACH + INNER + 1] = 0
        n_around, n_whole = _total(around), _total(used)
        ring = int(image.radius[pixel[k]]) // RING
        usual = image.ring_mean[ring], image.ring_sigma[ring]
        if n_around >= FEW:
            mean, sigma, skewness = _background(values, around, n_around, usual[0], usual[1])
        else:
            mean, sigma, skewness = _background(values, used, n_whole, usual[0], usual[1])
        peak = np.float64(values[MIDDLE])
        if not sigma > 0:
            # Not one photon around: a hundredth of the peak is as good a measure as any.
            sigma = max(abs(peak - mean) / 100, 1e-6)
        per_sigma = 1 / sigma

        n_good_3 = n_good_9 = n_saturated = 0.0
        for i in range(PATCH):
            first = np.uintp((i - HALF + REACH) * WIDE + REACH - HALF)
            for j in range(np.uintp(PATCH)):
                near[i, j] = used[first + j] * (values[first + j] - mean) * per_sigma
                n_good_9 += used[first + j]
        out[:_N_PIXELS] = near.reshape(-1)
        sum_3 = sum_5 = second = 0.0
        weight = at_ss = at_fs = 0.0
        for down in range(-2, 3):
            for right in range(-2, 3):
                u = near[HALF + down, HALF + right]
                sum_5 += u
                if abs(down) <= 1 and abs(right) <= 1:
                    at = MIDDLE + down * WIDE + right
                    sum_3 += u
                    n_good_3 += used[at]
                    n_saturated += used[at] if values[at] >= max_adu else 0.0
                    if down != 0 or right != 0:
                        second = max(second, u)
                above = u - 1.0
                if above > 0 and abs(down) + abs(right) < 4:
                    weight += above
                    at_ss += above * down
                    at_fs += above * right
        _add_blocks(values, used, sums, counts)
        for block in range(_N_BLOCKS):
            n = counts[block]
            out[_N_PIXELS + block] = (sums[block] - n * mean) * per_sigma / math.sqrt(max(n, 1.0))

        centre_ss = at_ss / weight if weight > 0 else 0.0
        centre_fs = at_fs / weight if weight > 0 else 0.0
        long_axis, short_axis, along = _shape(near, centre_ss, centre_fs, _radial(image, pixel[k]))
        measured[k, 0], measured[k, 1] = column + 0.5 + centre_fs, row + 0.5 + centre_ss
        measured[k, 2] = sum_5 * sigma

        u_peak = (peak - mean) / sigma
        edge = min(row - first_ss, last_ss - row, column - first_fs, last_fs - column)
        radius = image.radius[pixel[k]]
        place = _N_PIXELS + _N_BLOCKS
        out[place] = score[k]
        out[place + 1] = snr[k]
        out[place + 2] = sum_3 / 3
        out[place + 3] = sum_5 / 5
        out[place + 4] = mean / sigma
        out[place + 5] = skewness
        for i in range(place + 6):
            out[i] = _compressed(out[i])
        out[place + 6] = math.log(max(n_pixels[k], 1))
        out[place + 7] = max(u_peak, 0.0) / max(sum_3, u_peak, 1e-9)
        out[place + 8] = min(second / max(u_peak, 1e-9), 1.0)
        out[place + 9] = long_axis
        out[place + 10] = short_axis
        out[place + 11] = along
        out[place + 12] = n_good_3 / 9
        out[place + 13] = n_good_9 / _N_PIXELS
        out[place + 14] = n_whole / (WIDE * WIDE)
        out[place + 15] = radius / image.largest_radius
        out[place + 16] = min(edge, 10) / 10
        out[place + 17] = n_saturated / 9
        for i in range(len(out)):
            out[i] = min(max(out[i], np.float32(-LARGEST)), np.float32(LARGEST))


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


@inner_kernel(error_model="numpy")
def _shape(near, centre_ss, centre_fs, radial):
    """Return the standard deviations of a spot along its axes, and how far the longer is radial.

    Of what is two standard deviations above the background in the 7 × 7 pixels around.
    """
    total = ss_ss = fs_fs = ss_fs = 0.0
    for i in range(HALF - INNER, HALF + INNER + 1):
        for j in range(HALF - INNER, HALF + INNER + 1):
            above = near[i, j] - 2.0
            if above > 0:
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


@inner_kernel(fastmath={"reassoc"})
def _total(values):
    """Return the sum of numbers that are 0 or 1."""
    total = np.float32(0)
    for k in range(len(values)):
        total += values[k]
    return total
