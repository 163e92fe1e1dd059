"""The compiled steps of peakfinder8, on plain arrays.

Written from the description of the algorithm (Barty et al., J. Appl. Cryst. 47 (2014) 1118, as
CrystFEL runs it in 2026), its corners settled by feeding made-up frames to ``indexamajig``.

Where CrystFEL adds in float32, sums here are in double precision, which makes them exact for
integer data and so the same in whatever order they are taken; limits and means are rounded to
float32 at the end as there. Only the first centroid, which places the background region, is
added up in float32, because its rounding decides on half-pixel ties.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

__all__ = [
    "FLOAT_MAX",
    "N_PASSES",
    "OUTSIDE",
    "PARTLY",
    "PEAK_COLUMNS",
    "START",
    "WHOLLY",
    "Search",
    "clip_ring",
    "collect_bright",
    "drop_radii",
    "find_regions",
    "limits_and_bright_pixels",
    "moments",
    "next_window",
    "ring_inside",
    "sort_into_rings",
]

PEAK_COLUMNS = ("fs", "ss", "intensity", "snr", "panel", "n_pixels", "max_value")
"""The columns of what `find_regions` returns."""

N_PASSES = 5
"""How often the radial statistics are taken, each time without the last time's outliers."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
START = np.float32(1e9)
INFINITE = np.float32(np.inf)
NO_SIGMA = 0.01
ONE = np.uint64(1)
OUTSIDE, PARTLY, WHOLLY = 0, 1, 2


class Search(NamedTuple):
    """The settings of a search, as in `wrappers.settings.Settings`; Numba takes named tuples.

    Attributes
    ----------
    max_res : float
        Infinite for no limit.
    max_n_peaks : int
        The first so many peaks are kept.
    """

    min_snr: float
    threshold: float
    min_pix_count: int
    max_pix_count: int
    local_bg_radius: int
    min_res: float
    max_res: float
    max_n_peaks: int


@njit(cache=True, nogil=True)
def sort_into_rings(data, mask, place, values):
    """Write each usable pixel's value, as float32, to its place in the ring order.

    Unusable pixels become NaN there, which no comparison lets through.

    Parameters
    ----------
    data : array (ss, fs)
        Any integer or float type.
    mask : bool array (ss, fs)
        True where usable.
    place : int32 array (ss, fs)
        As in `wrappers.radial_layout.RadialLayout`.
    values : float32 array (n + 1,)
        Written; the last one belongs to all pixels without a ring.
    """
    for ss in range(data.shape[0]):
        for fs in range(data.shape[1]):
            value = np.float32(data[ss, fs])
            values[place[ss, fs]] = value if mask[ss, fs] else np.float32(np.nan)


# Sums over integers are exact in any order, so the compiler may reorder them into vectors
# (which it does for a loop over an index, and not for one over the values).
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def moments(values, lower, upper):
    """Return number, sum and sum of squares of the values strictly between the limits."""
    n = 0
    total = 0.0
    squares = 0.0
    for k in range(len(values)):
        value = values[k]
        if (value > lower) & (value < upper):
            wide = np.float64(value)
            n += 1
            total += wide
            squares += wide * wide
    return n, total, squares


@njit(cache=True, nogil=True)
def _mean_and_variance(n, total, squares):
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@njit(cache=True, nogil=True)
def next_window(n, total, squares, min_snr, threshold):
    """Return mean, lower and upper limit (float32) from the moments of a ring.

    Where no value is left, nothing is found (unless a later pass finds values above 0): the
    upper limit is infinite, mean and lower limit are 0.
    """
    if n == 0:
        return np.float32(0), np.float32(0), INFINITE
    mean, variance = _mean_and_variance(n, total, squares)
    sigma = math.sqrt(variance) if variance >= 0 else variance
    lower = np.float32(mean - min_snr * sigma)
    upper = np.float32(max(mean + min_snr * sigma, threshold))
    return np.float32(mean), lower, upper


@njit(cache=True, nogil=True)
def clip_ring(values, min_snr, threshold):
    """Return mean and upper limit (float32) of a ring after the iterated clipping."""
    mean, lower, upper = np.float32(0), -START, START
    for _ in range(N_PASSES):
        n, total, squares = moments(values, lower, upper)
        mean, new_lower, new_upper = next_window(n, total, squares, min_snr, threshold)
        if new_lower == lower and new_upper == upper:
            break
        lower, upper = new_lower, new_upper
    return mean, upper


@njit(cache=True, nogil=True)
def limits_and_bright_pixels(values, layout, search):
    """Find each ring's limits, and the pixels above them.

    Parameters
    ----------
    values : float32 array (n + 1,)
        Of `sort_into_rings`; those at unsuitable radii are overwritten by NaN.
    layout : wrappers.radial_layout.RadialLayout
    search : Search

    Returns
    -------
    mean, upper : float32 array (n_rings,)
    bright : int32 array
        Flat indices of the pixels above their ring's upper limit, ring by ring.
    """
    n_rings = len(layout.start) - 1
    mean = np.zeros(n_rings, np.float32)
    upper = np.full(n_rings, INFINITE, np.float32)
    bright = np.empty(len(layout.pixel), np.int32)
    n_bright = 0
    for ring in range(n_rings):
        inside = ring_inside(ring, search)
        if inside == OUTSIDE:
            continue
        pixels = layout.pixel[layout.start[ring] : layout.start[ring + 1]]
        ring_values = values[layout.start[ring] : layout.start[ring + 1]]
        if inside == PARTLY:
            drop_radii(ring_values, pixels, layout.radius, search)
        mean[ring], upper[ring] = clip_ring(ring_values, search.min_snr, search.threshold)
        n_bright = collect_bright(ring_values, pixels, upper[ring], bright, n_bright)
    return mean, upper, bright[:n_bright]


@njit(cache=True, nogil=True)
def ring_inside(ring, search):
    """Whether a ring lies between min_res and max_res: `OUTSIDE`, `PARTLY` or `WHOLLY`."""
    if ring + 0.5 < search.min_res or ring - 0.5 > search.max_res:
        return OUTSIDE
    if ring - 0.5 <= search.min_res or ring + 0.5 >= search.max_res:
        return PARTLY
    return WHOLLY


@njit(cache=True, nogil=True)
def drop_radii(values, pixels, radius, search):
    """Overwrite the values of pixels that are not strictly between the radii by NaN."""
    for k in range(len(values)):
        r = radius[pixels[k] // radius.shape[1], pixels[k] % radius.shape[1]]
        if not (search.min_res < r < search.max_res):
            values[k] = np.nan


@njit(cache=True, nogil=True)
def collect_bright(values, pixels, upper, bright, n_bright):
    """Append the pixels above the upper limit to `bright`; return their new number."""
    step = 32  # a count over so many has no branches and is done in vectors
    for begin in range(0, len(values), step):
        end = min(begin + step, len(values))
        n_above = 0
        for k in range(begin, end):
            n_above += values[k] > upper
        if n_above:
            for k in range(begin, end):
                if upper < values[k] <= FLOAT_MAX:
                    bright[n_bright] = pixels[k]
                    n_bright += 1
    return n_bright


@njit(cache=True, nogil=True)
def find_regions(data, mask, layout, search, mean, upper, bright, bits):
    """Join bright pixels to regions and return those that are peaks.

    Parameters
    ----------
    data : array (ss, fs)
    mask : bool array (ss, fs)
    layout : wrappers.radial_layout.RadialLayout
    search : Search
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
