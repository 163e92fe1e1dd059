"""From bright pixels to peaks: the regions of peakfinder8 and their local backgrounds.

Written from the description of the algorithm, as `wrappers.ring_limits` is, and with sums in
double precision, too. Only the first centroid, which places the background region, is added up
in float32 and in CrystFEL's order, because its rounding decides on half-pixel ties.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["PEAK_COLUMNS", "find_regions"]

PEAK_COLUMNS = ("fs", "ss", "intensity", "snr", "panel", "n_pixels", "max_value")
"""The columns of what `find_regions` returns."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
NO_SIGMA = 0.01
ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def find_regions(data, mask, layout, search, mean, upper, bright, bits):
    """Join bright pixels to regions and return those that are peaks.

    Parameters
    ----------
    data : array (ss, fs)
    mask : bool array (ss, fs)
    layout : wrappers.radial_layout.RadialLayout
    search : wrappers.peakfinder8.Search
    mean, upper : float32 array (n_rings,)
    bright : int32 array
        Flat indices of the pixels above their limits, in any order.
    bits : uint64 array (data.size // 64 + 2,)
        Scratch of zeros, which is zero again at the end.

    Returns
    -------
    float64 array (n_peaks, 7)
        With `PEAK_COLUMNS`, ordered by panel and raster.
    """
    width = data.shape[1]
    # A pixel's bit is set while it is bright and not yet taken.
    for p in bright:
        bits[p >> 6] |= ONE << np.uint64(p & 63)
    peaks = np.empty((min(search.max_n_peaks, len(bright) // search.min_pix_count), 7))
    n_peaks = 0
    region = np.empty((2, len(bright)), np.int64)
    for index in range(len(layout.panels)):
        panel = layout.panels[index]
        for ss in range(panel[0] + 1, panel[1]):
            p = ss * width + panel[2] + 1
            stop = ss * width + panel[3]
            while n_peaks < len(peaks):
                p = _next_set(bits, p, stop)
                if p == stop:
                    break
                n = _fill(bits, ss, p - ss * width, panel, width, region)
                if search.min_pix_count <= n <= search.max_pix_count:
                    pixels = region[:, :n]
                    peak = peaks[n_peaks]
                    n_peaks += _measure(
                        data, mask, layout, search, mean, upper, pixels, index, peak
                    )
    for p in bright:  # those left over: on the rims, or beyond max_n_peaks
        bits[p >> 6] = 0
    unsaturated = peaks[:n_peaks, 6] <= layout.max_adu[peaks[:n_peaks, 4].astype(np.int64)]
    return peaks[:n_peaks][unsaturated]


@njit(cache=True, nogil=True)
def _next_set(bits, p, stop):
    """Return the first place from `p` on whose bit is set, or `stop`."""
    while p < stop:
        word = bits[p >> 6] >> np.uint64(p & 63)
        if word:
            lowest = word & (~word + ONE)
            return min(p + math.frexp(np.float64(lowest))[1] - 1, stop)
        p = (p | 63) + 1
    return stop


@njit(cache=True, nogil=True)
def _fill(bits, ss, fs, panel, width, region):
    """Take all bright pixels joined to (ss, fs) by edge or corner; return their number."""
    p = ss * width + fs
    bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
    region[0, 0], region[1, 0] = ss, fs
    n = 1
    done = 0
    while done < n:
        ss, fs = region[0, done], region[1, done]
        done += 1
        # The bits of the pixels before, at and after fs, as far as they are on the panel.
        allowed = np.uint64((fs > panel[2]) | 2 | (fs < panel[3]) << 2)
        for y in range(max(ss - 1, panel[0]), min(ss + 1, panel[1]) + 1):
            first = y * width + fs - 1
            found = _bits_from(bits, first) & allowed
            if found:
                for step in range(3):
                    if found >> np.uint64(step) & ONE:
                        p = first + step
                        bits[p >> 6] &= ~(ONE << np.uint64(p & 63))
                        region[0, n], region[1, n] = y, fs - 1 + step
                        n += 1
    return n


@njit(cache=True, nogil=True)
def _bits_from(bits, p):
    """Return the 64 bits from `p` on; `p` may be -1, whose bit is never set."""
    offset = np.uint64(p & 63)
    return bits[p >> 6] >> offset | bits[(p >> 6) + 1] << ONE << (np.uint64(63) - offset)


@njit(cache=True, nogil=True)
def _measure(data, mask, layout, search, mean, upper, pixels, index, peak):
    """Write the peak that a region is into a row of the table; return whether it is one."""
    panel = layout.panels[index]
    ss, fs = _rounded_centroid(data, layout, mean, pixels, panel)
    local, sigma, top = _background(data, mask, layout, search, mean, upper, ss, fs, panel)
    if sigma == 0:  # a background without noise: CrystFEL refuses these, too
        return False
    _integrate(data, pixels, panel, local, peak)
    snr, largest = peak[2] / sigma, peak[6]
    peak[3], peak[4], peak[5] = snr, index, pixels.shape[1]
    on_panel = panel[2] <= peak[0] <= panel[3] + 1 and panel[0] <= peak[1] <= panel[1] + 1
    return snr >= search.min_snr and largest >= top - local and on_panel


@njit(cache=True, nogil=True)
def _rounded_centroid(data, layout, mean, pixels, panel):
    """Return the pixel (ss, fs) nearest to the centre of the excess over the ring's mean."""
    weights = sum_ss = sum_fs = np.float32(0)
    for k in range(pixels.shape[1]):
        ss, fs = pixels[0, k], pixels[1, k]
        ring = int(np.rint(layout.radius[ss, fs]))
        weight = np.float32(abs(np.float32(data[ss, fs]) - mean[ring]))
        weights = np.float32(weights + weight)
        sum_ss = np.float32(sum_ss + np.float32(weight * np.float32(ss - panel[0])))
        sum_fs = np.float32(sum_fs + np.float32(weight * np.float32(fs - panel[2])))
    centre_ss = np.rint(np.float32(sum_ss / weights))
    centre_fs = np.rint(np.float32(sum_fs / weights))
    return int(centre_ss) + panel[0], int(centre_fs) + panel[2]


@njit(cache=True, nogil=True)
def _mean_and_variance(n, total, squares):
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _background(data, mask, layout, search, mean, upper, centre_ss, centre_fs, panel):
    """Return mean, standard deviation and largest of the background pixels around a centre."""
    reach = 2 * search.local_bg_radius
    n = 0
    total = 0.0
    squares = 0.0
    top = 0.0
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        half = int(math.sqrt(reach**2 - (ss - centre_ss) ** 2))
        first = max(centre_fs - half, panel[2])
        stop = min(centre_fs + min(half + 1, reach), panel[3] + 1)
        row_data, row_mask = data[ss, first:stop], mask[ss, first:stop]
        row_radius = layout.radius[ss, first:stop]
        for k in range(len(row_data)):
            value, r = np.float32(row_data[k]), row_radius[k]
            # Without branches, for speed. Below the limit implies not taken by any region.
            used = (
                row_mask[k]
                & (r > search.min_res)
                & (r < search.max_res)
                & (value < upper[np.uint32(np.rint(r))])
                & (value >= -FLOAT_MAX)
            )
            wide = np.float64(value) if used else 0.0
            n += used
            total += wide
            squares += wide * wide
            top = max(top, wide)
    if n == 0:
        ring = int(np.rint(layout.radius[centre_ss, centre_fs]))
        return np.float64(mean[ring]), NO_SIGMA, top
    local, variance = _mean_and_variance(n, total, squares)
    return local, math.sqrt(variance) if variance >= 0 else NO_SIGMA, top


@njit(cache=True, nogil=True)
def _integrate(data, pixels, panel, local, peak):
    """Write centroid, intensity and largest pixel over the local background into `peak`."""
    total = sum_ss = sum_fs = 0.0
    largest = -math.inf
    for k in range(pixels.shape[1]):
        ss, fs = pixels[0, k], pixels[1, k]
        value = np.float64(np.float32(data[ss, fs]))
        total += value
        sum_ss += value * (ss - panel[0])
        sum_fs += value * (fs - panel[2])
        largest = max(largest, value)
    peak[0] = sum_fs / total + panel[2] + 0.5 if total != 0 else math.nan
    peak[1] = sum_ss / total + panel[0] + 0.5 if total != 0 else math.nan
    peak[2] = total - pixels.shape[1] * local
    peak[6] = largest - local
