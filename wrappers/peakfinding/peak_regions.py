"""From bright pixels to peaks: the regions of peakfinder8 and their local backgrounds.

Written from the description of the algorithm, as `ring_limits` is, and with sums in
double precision, too. Only the first centroid, which places the background region, is added up
in float32 and in CrystFEL's order, because its rounding decides on half-pixel ties.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["PEAK_COLUMNS", "find_peaks", "join_pixels"]

PEAK_COLUMNS = ("fs", "ss", "intensity", "snr", "panel", "n_pixels", "max_value")
"""The columns of what `find_peaks` returns."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
NO_SIGMA = 0.01
ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def find_peaks(data, mask, radius, width, panels, max_adu, slope, search, limits, bright, bits):
    """Join bright pixels to regions and return those that are peaks.

    Parameters
    ----------
    data, mask, radius : array (n_pixels,)
        The flat slab, its usable pixels, and their radii.
    width : int
        Of the slab.
    panels, max_adu, slope
        As in `radial_layout.RadialLayout`.
    search : tuple
        min_snr, min_pix_count, max_pix_count, local_bg_radius, min_res, max_res (infinite for
        no limit), max_n_peaks.
    limits : tuple
        mean and upper, float32 arrays (n_rings,).
    bright : int32 array
        Flat indices p of the pixels above their limits, and ~p for those just on them.
    bits : uint64 array (n_pixels // 64 + 2, 2)
        Scratch of zeros, which is zero again at the end.

    Returns
    -------
    float64 array (n_peaks, 7)
        With `PEAK_COLUMNS`, ordered by panel and raster.
    """
    min_snr, min_pix_count, max_pix_count, local_bg_radius, min_res, max_res, max_n_peaks = search
    mean = limits[0]
    # A pixel's bit is set here while it is bright and not yet taken ...
    free = bits[:, 0]
    # ... and here where it is too bright for a background.
    closed = bits[:, 1]
    for p in bright:
        if p >= 0:
            free[p >> 6] |= ONE << np.uint64(p & 63)
        else:
            p = ~p
        closed[p >> 6] |= ONE << np.uint64(p & 63)
    reach = 2 * local_bg_radius
    disc = _half_widths(reach)
    values = np.empty(2 * reach * (2 * reach + 32), np.float32)
    peaks = np.empty((min(max_n_peaks, len(bright) // min_pix_count), 7))
    n_peaks = 0
    region = np.empty((2, len(bright)), np.int64)
    for index in range(len(panels)):
        panel = panels[index]
        for row in range(panel[0] + 1, panel[1]):
            p = row * width + panel[2] + 1
            stop = row * width + panel[3]
            while n_peaks < len(peaks):
                p = _next_set(free, p, stop)
                if p == stop:
                    break
                n = _fill(free, row, p - row * width, panel, width, region)
                if n < min_pix_count or n > max_pix_count:
                    continue
                pixels = region[:, :n]
                ss, fs = _rounded_centroid(data, radius, width, mean, pixels, panel)
                # No pixel of the background is further from the beam, or nearer, than this.
                margin = slope * 2 * reach
                r = radius[ss * width + fs]
                if min_res < r - margin and r + margin < max_res:
                    m = _open_disc(data, mask, width, panel, ss, fs, disc, closed, values)
                else:
                    between = (min_res, max_res)
                    m = _clear_disc(
                        data, mask, width, panel, ss, fs, disc, closed, values, radius, between
                    )
                local, sigma, top = _background(values[:m])
                if sigma < 0:
                    local, sigma = np.float64(mean[int(np.rint(r))]), NO_SIGMA
                if sigma == 0:  # a background without noise: CrystFEL refuses these, too
                    continue
                peak = peaks[n_peaks]
                _integrate(data, width, pixels, panel, local, peak)
                snr, largest = peak[2] / sigma, peak[6]
                peak[3], peak[4], peak[5] = snr, index, n
                on_panel = (
                    panel[2] <= peak[0] <= panel[3] + 1 and panel[0] <= peak[1] <= panel[1] + 1
                )
                n_peaks += snr >= min_snr and largest >= top - local and on_panel
    for p in bright:
        p = max(p, ~p)
        free[p >> 6] = 0  # those left over: on the rims, or beyond max_n_peaks
        closed[p >> 6] = 0
    unsaturated = peaks[:n_peaks, 6] <= max_adu[peaks[:n_peaks, 4].astype(np.int64)]
    return peaks[:n_peaks][unsaturated]


@njit(cache=True, nogil=True)
def join_pixels(bright, width, panels, min_pix_count, max_pix_count, bits):
    """Join bright pixels to regions, without looking at their values.

    Parameters
    ----------
    bright : int32 array
        Flat indices, in any order.
    width, panels, bits
        As for `find_peaks`.

    Returns
    -------
    start : int64 array (n_regions + 1,)
    pixel : int64 array
        Flat indices of the pixels of the regions of permitted size; region *i* has
        ``pixel[start[i]:start[i + 1]]``. Regions are in the order of panels and raster.
    panel : int64 array (n_regions,)
    """
    free = bits[:, 0]
    for p in bright:
        free[p >> 6] |= ONE << np.uint64(p & 63)
    most = len(bright) // min_pix_count
    start, owner = np.zeros(most + 1, np.int64), np.empty(most, np.int64)
    pixel = np.empty(len(bright), np.int64)
    region = np.empty((2, len(bright)), np.int64)
    n_regions = 0
    for index in range(len(panels)):
        panel = panels[index]
        for row in range(panel[0] + 1, panel[1]):
            p = row * width + panel[2] + 1
            stop = row * width + panel[3]
            while True:
                p = _next_set(free, p, stop)
                if p == stop:
                    break
                n = _fill(free, row, p - row * width, panel, width, region)
                if min_pix_count <= n <= max_pix_count:
                    first = start[n_regions]
                    for k in range(n):
                        pixel[first + k] = region[0, k] * width + region[1, k]
                    owner[n_regions] = index
                    n_regions += 1
                    start[n_regions] = first + n
    for p in bright:
        free[p >> 6] = 0
    return start[: n_regions + 1], pixel[: start[n_regions]], owner[:n_regions]


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
def _rounded_centroid(data, radius, width, mean, pixels, panel):
    """Return the pixel (ss, fs) nearest to the centre of the excess over the ring's mean."""
    weights = sum_ss = sum_fs = np.float32(0)
    for k in range(pixels.shape[1]):
        ss, fs = pixels[0, k], pixels[1, k]
        p = ss * width + fs
        weight = np.float32(abs(np.float32(data[p]) - mean[int(np.rint(radius[p]))]))
        weights = np.float32(weights + weight)
        sum_ss = np.float32(sum_ss + np.float32(weight * np.float32(ss - panel[0])))
        sum_fs = np.float32(sum_fs + np.float32(weight * np.float32(fs - panel[2])))
    centre_ss = np.rint(np.float32(sum_ss / weights))
    centre_fs = np.rint(np.float32(sum_fs / weights))
    return int(centre_ss) + panel[0], int(centre_fs) + panel[2]


@njit(cache=True, nogil=True)
def _half_widths(reach):
    """Return how far the rows of a disc, from -reach to reach - 1, reach to either side."""
    half = np.empty(2 * reach, np.int64)
    for k in range(2 * reach):
        half[k] = int(math.sqrt(reach**2 - (k - reach) ** 2))
    return half


@njit(cache=True, nogil=True)
def _open_disc(data, mask, width, panel, centre_ss, centre_fs, disc, closed, values):
    """Collect the pixels around a centre that may be background, others as NaN.

    Parameters
    ----------
    disc : int64 array
        Of `_half_widths`.
    values : float32 array
        Written.

    Returns
    -------
    int
        So many values were written. None of them is taken by a region or above its limit.
    """
    reach = len(disc) // 2
    lanes = 16 if 2 * reach <= 16 else 32
    n = 0
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        half = disc[ss - centre_ss + reach]
        first = max(centre_fs - half, panel[2])
        stop = min(centre_fs + min(half + 1, reach), panel[3] + 1)
        for begin in range(first, stop, lanes):
            p = ss * width + begin
            usable = np.uint32(~_bits_from(closed, p) & np.uint64((1 << min(stop - begin, 32)) - 1))
            # Whole rows of lanes, of views: so the compiler makes vectors of them.
            row, row_mask, row_values = data[p : p + lanes], mask[p : p + lanes], values[n:]
            for k in range(len(row)):
                good = row_mask[k] & ((usable >> np.uint32(k) & np.uint32(1)) != 0)
                value = np.float32(row[k])
                row_values[k] = value if good else np.float32(np.nan)
            n += len(row)
    return n


@njit(cache=True, nogil=True)
def _clear_disc(
    data, mask, width, panel, centre_ss, centre_fs, disc, closed, values, radius, between
):
    """Do as `_open_disc` with only the pixels strictly between two radii."""
    reach = len(disc) // 2
    n = 0
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        half = disc[ss - centre_ss + reach]
        first = max(centre_fs - half, panel[2])
        stop = min(centre_fs + min(half + 1, reach), panel[3] + 1)
        for fs in range(first, stop):
            p = ss * width + fs
            good = mask[p] and between[0] < radius[p] < between[1]
            if good and not _bits_from(closed, p) & ONE:
                values[n] = np.float32(data[p])
                n += 1
    return n


@njit(cache=True, nogil=True)
def _mean_and_variance(n, total, squares):
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _background(values):
    """Return mean, standard deviation and largest (or 0) of the finite values.

    Where there are none, the standard deviation is -1.
    """
    n = 0
    total = 0.0
    squares = 0.0
    top = np.float32(0)
    for k in range(len(values)):
        used = abs(values[k]) <= FLOAT_MAX
        value = values[k] if used else np.float32(0)
        wide = np.float64(value)
        n += used
        total += wide
        squares += wide * wide
        top = max(top, value)
    if n == 0:
        return 0.0, -1.0, np.float64(top)
    local, variance = _mean_and_variance(n, total, squares)
    return local, math.sqrt(variance) if variance >= 0 else NO_SIGMA, np.float64(top)


@njit(cache=True, nogil=True)
def _integrate(data, width, pixels, panel, local, peak):
    """Write centroid, intensity and largest pixel over the local background into `peak`."""
    total = sum_ss = sum_fs = 0.0
    largest = -math.inf
    for k in range(pixels.shape[1]):
        ss, fs = pixels[0, k], pixels[1, k]
        value = np.float64(np.float32(data[ss * width + fs]))
        total += value
        sum_ss += value * (ss - panel[0])
        sum_fs += value * (fs - panel[2])
        largest = max(largest, value)
    peak[0] = sum_fs / total + panel[2] + 0.5 if total != 0 else math.nan
    peak[1] = sum_ss / total + panel[0] + 0.5 if total != 0 else math.nan
    peak[2] = total - pixels.shape[1] * local
    peak[6] = largest - local
