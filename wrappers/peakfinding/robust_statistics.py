"""The kernels of `robust_peaks`: robust statistics of rings and neighbourhoods.

They take flat frames.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.compiling import inner_kernel, kernel
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS

__all__ = [
    "add_deviations",
    "choose_pixels",
    "measure_regions",
    "outstanding_pixels",
    "ring_statistics",
]

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
INLIERS = 3.0
"""A value within so many standard deviations is an inlier."""
TRUNCATION = 1.0137
"""Standard deviation of a Gaussian, over that of its part within `INLIERS`."""
TRUSTED = 0.9
"""At least this share of the values is taken for inliers at first ..."""
TRUSTED_SIGMAS = 1.645
"""... which of a Gaussian are those within so many standard deviations."""
N_PASSES = 5
SAMPLE = 1000
"""About so many values of a ring place the first window."""
MIN_VALUES = 8
"""With fewer values a ring is left out."""

LARGEST_DEVIATION = 10.0
"""In standard deviations; what a single frame can add to a pixel's noise."""


@kernel
def ring_statistics(values, start):
    """Return mean and standard deviation of each ring of values in ring order."""
    n_rings = len(start) - 1
    mean = np.zeros(n_rings, np.float32)
    sigma = np.full(n_rings, np.float32(np.inf), np.float32)
    for ring in range(n_rings):
        mean[ring], sigma[ring] = _inlier_statistics(values[start[ring] : start[ring + 1]])
    return mean, sigma


@inner_kernel
def _inlier_statistics(values):
    """Return mean and standard deviation of the inliers among values, of which NaN count not.

    The standard deviation is infinite where there are too few values.
    """
    step = len(values) // SAMPLE + 1
    sample = values[::step].copy()
    n = 0
    for value in values[::step]:
        if abs(value) <= FLOAT_MAX:
            sample[n] = value
            n += 1
    if n < MIN_VALUES:
        return 0.0, math.inf
    mean = float(np.median(sample[:n]))
    for k in range(n):
        sample[k] = abs(sample[k] - np.float32(mean))
    k = int(TRUSTED * (n - 1))
    sigma = float(np.partition(sample[:n], k)[k]) / TRUSTED_SIGMAS
    if sigma == 0:  # nearly all of them are equal, so the others have to tell
        sigma = math.inf
    for _ in range(N_PASSES):
        lower, upper = mean - INLIERS * sigma, mean + INLIERS * sigma
        inside, total, squares = _moments_about(values, mean, lower, upper)
        if inside == 0:
            break
        shift = total / inside
        variance = squares / inside - shift * shift
        mean += shift
        sigma = TRUNCATION * math.sqrt(max(variance, 0.0))
    return mean, sigma


@inner_kernel(fastmath={"reassoc", "nsz", "contract"})
def _moments_about(values, centre, lower, upper):
    """Return number, sum and sum of squares about a centre of the finite values within limits."""
    n = 0
    total = 0.0
    squares = 0.0
    for k in range(len(values)):
        value = np.float64(values[k])
        if (value >= lower) & (value <= upper) & (abs(value) <= FLOAT_MAX):
            n += 1
            total += value - centre
            squares += (value - centre) * (value - centre)
    return n, total, squares


@kernel
def add_deviations(data, mask, radius, mean, sigma, total, count):
    """Add a frame's deviations from its rings' means, in standard deviations."""
    for p in range(len(data)):
        if not (mask[p] and radius[p] < np.inf and abs(np.float32(data[p])) <= FLOAT_MAX):
            continue
        ring = int(np.rint(radius[p]))
        if 0 < sigma[ring] < np.inf:
            deviation = abs(np.float32(data[p]) - mean[ring]) / sigma[ring]
            total[p] += min(deviation, np.float32(LARGEST_DEVIATION))
            count[p] += 1


@kernel
def outstanding_pixels(data, mask, noise, radius, mean, sigma, min_snr):
    """Return the pixels (flat) far above their rings, and how far in standard deviations."""
    pixel = np.empty(len(data), np.int32)
    deviation = np.empty(len(data), np.float32)
    n = 0
    for p in range(len(data)):
        value = np.float32(data[p])
        if not (mask[p] and 0 < radius[p] < np.inf and abs(value) <= FLOAT_MAX):
            continue
        ring = int(np.rint(radius[p]))
        if value - mean[ring] > np.float32(min_snr) * sigma[ring] * noise[p]:
            pixel[n] = p
            # Without noise in the ring any excess stands out.
            spread = sigma[ring] * noise[p]
            deviation[n] = (value - mean[ring]) / spread if spread > 0 else np.float32(np.inf)
            n += 1
    return pixel[:n].copy(), deviation[:n].copy()


@kernel
def choose_pixels(data, radius, pixel, deviation, min_snr, threshold, min_res, max_res):
    """Return the pixels that stand out for a parameter set."""
    bright = np.empty(len(pixel), np.int32)
    n = 0
    for k in range(len(pixel)):
        p = pixel[k]
        if deviation[k] > min_snr and data[p] > threshold and min_res < radius[p] < max_res:
            bright[n] = p
            n += 1
    return bright[:n]


@kernel
def measure_regions(
    data,
    mask,
    noise,
    width,
    panels,
    max_adu,
    regions,
    min_snr,
    local_bg_radius,
    gain,
):
    """Return the peaks among regions, with `peak_measurement.PEAK_ROWS` as columns."""
    start, pixel, owner = regions
    reach = 2 * local_bg_radius
    around = np.empty(min(2 * reach, len(data) // width) * min(2 * reach, width), np.float32)
    peaks = np.empty((min(MAX_N_PEAKS, len(owner)), 7))
    n_peaks = 0
    for index in range(len(owner)):
        if n_peaks == len(peaks):
            break
        panel = panels[owner[index]]
        pixels = pixel[start[index] : start[index + 1]]
        n = len(pixels)
        total = sum_ss = sum_fs = 0.0
        lowest, largest, noisiest = math.inf, -math.inf, 1.0
        for p in pixels:
            value = np.float64(np.float32(data[p]))
            total += value
            lowest, largest = min(lowest, value), max(largest, value)
            noisiest = max(noisiest, noise[p])
        weights = 0.0
        for p in pixels:
            # What a pixel has beyond the faintest one: always positive, unlike the values.
            weight = np.float64(np.float32(data[p])) - lowest + gain
            weights += weight
            sum_ss += weight * (p // width)
            sum_fs += weight * (p % width)
        ss, fs = sum_ss / weights, sum_fs / weights
        m = _disc(data, mask, width, panel, int(np.rint(ss)), int(np.rint(fs)), reach, around)
        local, sigma = _inlier_statistics(around[:m])
        excess = total / n - local
        noise_of_both = math.sqrt(gain * max(excess, 0.0)) + sigma * noisiest
        if excess <= 0 or not math.sqrt(n) * excess >= min_snr * noise_of_both:
            continue
        snr = math.sqrt(n) * excess / noise_of_both
        if largest - local > max_adu[owner[index]]:
            continue
        peak = peaks[n_peaks]
        peak[0], peak[1], peak[2], peak[3] = fs + 0.5, ss + 0.5, total - n * local, snr
        peak[4], peak[5], peak[6] = owner[index], n, largest - local
        n_peaks += 1
    return peaks[:n_peaks]


@inner_kernel
def _disc(data, mask, width, panel, centre_ss, centre_fs, reach, values):
    """Collect the usable pixels around a centre; return their number."""
    n = 0
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        for fs in range(max(centre_fs - reach, panel[2]), min(centre_fs + reach, panel[3] + 1)):
            inside = (ss - centre_ss) ** 2 + (fs - centre_fs) ** 2 <= reach**2
            if inside and mask[ss * width + fs]:
                values[n] = np.float32(data[ss * width + fs])
                n += 1
    return n
