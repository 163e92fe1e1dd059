"""From regions of bright pixels to peaks: centroids, local backgrounds and intensities.

Written from the description of peakfinder8, as `ring_limits` is, and with sums in double
precision, too. Only the first centroid, which places the background region, is added up in
float32 and in CrystFEL's order, because its rounding decides on half-pixel ties.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from wrappers.peakfinding.peak_regions import (
    ONE,
    bits_from,
    join_regions,
    panel_bounds,
    room_for_regions,
    set_bit,
)
from wrappers.peakfinding.vectors import LANES, add_pixels, no_sums, prefetch, total_sums

__all__ = ["PEAK_ROWS", "find_peaks"]

PEAK_ROWS = ("fs", "ss", "intensity", "snr", "panel", "n_pixels", "max_value")
"""The rows of what `find_peaks` writes."""

FLOAT_MAX = np.float32(np.finfo(np.float32).max)
NO_SIGMA = 0.01
BATCH = 64
"""So many regions are joined before they are measured."""


@njit(cache=True, nogil=True)
def find_peaks(data, layout, search, limits, bright, free, closed, ready, progress, peaks):
    """Join bright pixels to regions and write those that are peaks, by panel and raster.

    It may be called with more and more of the bright pixels. Once there are enough peaks, the
    others need not even be looked for.

    Parameters
    ----------
    data : array (n_pixels,)
        The flat slab.
    layout : tuple
        radius (flat), width, panels and slope, as in `radial_layout.RadialLayout`.
    search : tuple
        min_snr, min_pix_count, max_pix_count, local_bg_radius, min_res, max_res (infinite for
        no limit).
    limits : tuple
        mean and upper, float32 arrays (n_rings,).
    bright : int32 array
        Flat indices p of the pixels above their limits, and ~p for those just on them.
    free, closed : uint64 array (n_pixels // 64 + 2,)
        A pixel's bit is set in `free` while it is bright and not yet taken, and in `closed` where
        it cannot be background. They start as zeros and as written by `peak_regions.pack_unusable`.
    ready : int
        So many rows, counted from panel to panel, have all their bright pixels by now.
    progress : int64 array (4,)
        Zeros at first. The number of pixels of `bright` that were there before, the number of
        peaks, and the panel and row where to go on.
    peaks : float64 array (7, n)
        Written, with `PEAK_ROWS`.
    """
    radius, width, panels, _ = layout
    _, min_pix_count, max_pix_count, local_bg_radius, _, _ = search
    for p in bright[progress[0] :]:
        if p >= 0:
            set_bit(free, p)
        set_bit(closed, max(p, ~p))
    progress[0] = len(bright)
    reach = 2 * local_bg_radius
    disc = _disc(min(reach, len(data) // width), width)
    sizes = min_pix_count, max_pix_count
    regions = room_for_regions(BATCH, len(bright))
    n_regions = BATCH
    while n_regions == BATCH and progress[1] < peaks.shape[1]:
        n_regions = join_regions(free, width, panels, sizes, ready, reach, progress[2:], regions)
        _ask_for_memory(data, radius, width, local_bg_radius, n_regions, regions)
        progress[1] = _measure_batch(
            data, layout, search, limits, closed, disc, n_regions, regions, peaks, progress[1]
        )


@njit(cache=True, nogil=True)
def _ask_for_memory(data, radius, width, local_bg_radius, n_regions, regions):
    """Prefetch what `_measure_batch` will read."""
    start, _, ss, fs = regions
    reach = 2 * local_bg_radius
    for i in range(n_regions):
        p = np.int64(ss[start[i]]) * width + fs[start[i]]
        prefetch(radius, p)
        prefetch(radius, min(p + width, len(radius) - 1))
        if reach * width + reach <= p < len(data) - reach * width - reach:
            for row in range(p - reach * width, p + reach * width, width):
                prefetch(data, row - local_bg_radius)
                prefetch(data, row + local_bg_radius)


@njit(cache=True, nogil=True)
def _measure_batch(data, layout, search, limits, closed, disc, n_regions, regions, peaks, n_peaks):
    """Write the rows of those regions that are peaks; return the new number of peaks."""
    radius, width, panels, slope = layout
    min_snr, _, _, local_bg_radius, min_res, max_res = search
    start, owner, region_ss, region_fs = regions
    mean = limits[0]
    reach = 2 * local_bg_radius
    # No pixel of a background is further from the beam than the centre, or nearer, by more.
    margin = slope * 2 * reach
    last_centre = len(data) - LANES - reach * width - reach
    for i in range(n_regions):
        if n_peaks == peaks.shape[1]:
            break
        panel = panel_bounds(panels, owner[i])
        first, stop = start[i], start[i + 1]
        ss, fs = _rounded_centroid(
            data, radius, width, mean, region_ss, region_fs, first, stop, panel
        )
        if ss < 0:
            continue
        centre = ss * width + fs
        r = radius[centre]
        if not (min_res < r - margin and r + margin < max_res and len(data) >= LANES):
            between = (min_res, max_res)
            sums = _careful_disc_sums(data, closed, ss, fs, reach, width, panel, radius, between)
        elif (
            panel[0] <= ss - reach
            and ss + reach <= panel[1] + 1
            and panel[2] <= fs - reach
            and fs + reach <= panel[3] + 1
            and centre <= last_centre
        ):
            sums = _disc_sums(data, closed, centre, disc)
        else:
            sums = _border_disc_sums(data, closed, ss, fs, reach, width, panel)
        local, sigma = _mean_and_sigma(sums)
        if sigma < 0:
            local, sigma = np.float64(mean[int(np.rint(r))]), NO_SIGMA
        if sigma == 0:  # a background without noise: CrystFEL refuses these, too
            continue
        peak_fs, peak_ss, intensity, largest = _integrate(
            data, width, region_ss, region_fs, first, stop, panel, local
        )
        snr = intensity / sigma
        on_panel = panel[2] <= peak_fs <= panel[3] + 1 and panel[0] <= peak_ss <= panel[1] + 1
        if snr >= min_snr and largest >= sums[3] - local and on_panel:
            peaks[0, n_peaks], peaks[1, n_peaks], peaks[2, n_peaks] = peak_fs, peak_ss, intensity
            peaks[3, n_peaks], peaks[4, n_peaks] = snr, owner[i]
            peaks[5, n_peaks], peaks[6, n_peaks] = stop - first, largest
            n_peaks += 1
    return n_peaks


@njit(cache=True, nogil=True, forceinline=True)
def _rounded_centroid(data, radius, width, mean, region_ss, region_fs, first, stop, panel):
    """Return the pixel (ss, fs) nearest to the centre of the excess over the ring's mean.

    (-1, -1) where there is none.
    """
    weights = sum_ss = sum_fs = np.float32(0)
    for k in range(first, stop):
        ss, fs = np.int64(region_ss[k]), np.int64(region_fs[k])
        p = ss * width + fs
        weight = np.float32(abs(np.float32(data[p]) - mean[int(np.rint(radius[p]))]))
        weights = np.float32(weights + weight)
        sum_ss = np.float32(sum_ss + np.float32(weight * np.float32(ss - panel[0])))
        sum_fs = np.float32(sum_fs + np.float32(weight * np.float32(fs - panel[2])))
    if weights == 0:
        return -1, -1
    centre_ss = np.rint(np.float32(sum_ss / weights))
    centre_fs = np.rint(np.float32(sum_fs / weights))
    return int(centre_ss) + panel[0], int(centre_fs) + panel[2]


@njit(cache=True, nogil=True)
def _disc(reach, width):
    """Return a disc as pieces of rows: flat offset from the centre, and bits of its pixels.

    Both are arrays (n_pieces,). The rows go from -reach to reach - 1, and so do the pixels.
    """
    most = 2 * reach * (2 * reach // LANES + 1)
    offset, lanes = np.empty(most, np.int64), np.empty(most, np.uint64)
    n = 0
    for row in range(-reach, reach):
        half = int(math.sqrt(reach**2 - row**2))
        stop = min(half + 1, reach)
        for first in range(-half, stop, LANES):
            offset[n] = row * width + first
            lanes[n] = (ONE << np.uint64(min(stop - first, LANES))) - ONE
            n += 1
    return offset[:n], lanes[:n]


@njit(cache=True, nogil=True, forceinline=True)
def _disc_sums(data, closed, centre, disc):
    """Return number, sum, sum of squares and largest (or 0) of a disc's background pixels.

    Those are the finite ones that are not closed.
    """
    offset, lanes = disc
    sums = no_sums()
    for k in range(len(offset)):
        p = centre + offset[k]
        sums = add_pixels(sums, data, p, lanes[k] & ~bits_from(closed, p))
    return total_sums(sums)


@njit(cache=True, nogil=True)
def _border_disc_sums(data, closed, centre_ss, centre_fs, reach, width, panel):
    """Do as `_disc_sums` with the pixels on the panel."""
    sums = no_sums()
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        half = int(math.sqrt(reach**2 - (ss - centre_ss) ** 2))
        begin = max(centre_fs - half, panel[2])
        stop = min(centre_fs + min(half + 1, reach), panel[3] + 1)
        for fs in range(begin, stop, LANES):
            # At the very end of the frame the lanes begin earlier.
            first = min(ss * width + fs, len(data) - LANES)
            skipped = np.uint64(ss * width + fs - first)
            lanes = ((ONE << np.uint64(min(stop - fs, LANES))) - ONE) << skipped
            sums = add_pixels(sums, data, first, lanes & ~bits_from(closed, first))
    return total_sums(sums)


@njit(cache=True, nogil=True)
def _careful_disc_sums(data, closed, centre_ss, centre_fs, reach, width, panel, radius, between):
    """Do as `_disc_sums` with the pixels on the panel and strictly between two radii."""
    n = 0
    total = 0.0
    squares = 0.0
    top = np.float32(0)
    for ss in range(max(centre_ss - reach, panel[0]), min(centre_ss + reach, panel[1] + 1)):
        half = int(math.sqrt(reach**2 - (ss - centre_ss) ** 2))
        first = max(centre_fs - half, panel[2])
        stop = min(centre_fs + min(half + 1, reach), panel[3] + 1)
        for fs in range(first, stop):
            p = ss * width + fs
            value = np.float32(data[p])
            open_ = not bits_from(closed, p) & ONE
            if open_ and between[0] < radius[p] < between[1] and abs(value) <= FLOAT_MAX:
                n += 1
                total += np.float64(value)
                squares += np.float64(value) ** 2
                top = max(top, value)
    return n, total, squares, top


@njit(cache=True, nogil=True)
def _mean_and_variance(n, total, squares):
    # A function of its own, because equal values must give 0, which fused operations spoil.
    mean = total / n
    return mean, squares / n - mean * mean


@njit(cache=True, nogil=True, forceinline=True)
def _mean_and_sigma(sums):
    """Return mean and standard deviation; the latter is -1 where there are no pixels."""
    n, total, squares, _ = sums
    if n == 0:
        return 0.0, -1.0
    mean, variance = _mean_and_variance(n, total, squares)
    return mean, math.sqrt(variance) if variance >= 0 else NO_SIGMA


@njit(cache=True, nogil=True, forceinline=True)
def _integrate(data, width, region_ss, region_fs, first, stop, panel, local):
    """Return centroid (fs, ss), intensity and largest pixel over the local background."""
    total = sum_ss = sum_fs = 0.0
    largest = -math.inf
    for k in range(first, stop):
        ss, fs = np.int64(region_ss[k]), np.int64(region_fs[k])
        value = np.float64(np.float32(data[ss * width + fs]))
        total += value
        sum_ss += value * (ss - panel[0])
        sum_fs += value * (fs - panel[2])
        largest = max(largest, value)
    intensity = total - (stop - first) * local
    if total == 0:
        return math.nan, math.nan, intensity, largest - local
    fs, ss = sum_fs / total + panel[2] + 0.5, sum_ss / total + panel[0] + 0.5
    return fs, ss, intensity, largest - local
