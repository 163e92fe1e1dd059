"""From regions of bright pixels to peaks: centroids, local backgrounds and intensities.

Written from the description of peakfinder8, as `ring_limits` is, and with sums in double
precision, too. Only the first centroid, which places the background region, is added up in
float32 and in CrystFEL's order, because its rounding decides on half-pixel ties.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.compiling import inlined, inner_kernel
from wrappers.peakfinding.peak_regions import (
    ONE,
    join_regions,
    panel_bounds,
    possible_seeds,
    set_bit,
)
from wrappers.peakfinding.ring_limits import mean_and_variance
from wrappers.peakfinding.vectors import (
    LANES,
    add_pixels,
    bits_at,
    lanes_of,
    larger,
    no_pixels,
    no_wide_pixels,
    nothing_like,
    prefetch,
    smaller,
    total_sums,
    width,
)

__all__ = ["PEAK_ROWS", "find_peaks", "pieces_of_disc"]

PEAK_ROWS = ("fs", "ss", "intensity", "snr", "panel", "n_pixels", "max_value")
"""The rows of what `find_peaks` writes."""

NO_SIGMA = 0.01
MANY = 8
"""From one bright pixel in so many words on there are many."""
AT_ONCE = 1 << 14
"""So many pieces of a disc are summed up before short integers might overflow."""
AHEAD = 10
"""A region's memory is asked for so many regions before it is needed."""


@inner_kernel
def find_peaks(data, raster, search, bright, memory, ready, peaks):
    """Join bright pixels to regions and write those that are peaks, by panel and raster.

    It may be called with more and more of the bright pixels. Once there are enough peaks, the
    others need not even be looked for. Arrays are views here and in all that follows.

    Parameters
    ----------
    data : array (n_pixels,)
        The flat slab, of `kernel_arguments.flat_data`.
    raster : Raster
    search : Search
    bright : int32 array
        Flat indices p of the pixels above their limits, and ~p for those just on them.
    memory : Memory
        Its limits are read. Of its bits, free ones start as zeros, closed ones with what is not to
        be searched. Its regions have room for as many pixels as are bright. Its progress starts as
        zeros, and has the number of pixels of `bright` that were there before, the number of
        peaks, and the panel and row where to go on.
    ready : int
        So many rows, counted from panel to panel, have all their bright pixels by now.
    peaks : float64 array (7, n)
        Written, with `PEAK_ROWS`.
    """
    row_length, min_pix_count = raster.width, search.min_pix_count
    free, closed = memory.bits.free, memory.bits.closed
    regions, progress = memory.regions, memory.progress
    # Many pixels are faster dealt with word by word than one by one, few are not.
    many = len(bright) > len(free) // MANY
    for k in range(progress[0], len(bright)):
        p = bright[k]
        if p >= 0:
            set_bit(free, p)
        if p < 0 or not many:
            set_bit(closed, larger(p, ~p))
    if many:
        for word in range(len(free)):
            closed[word] |= free[word]
    progress[0] = len(bright)
    reach = 2 * search.local_bg_radius
    n_lanes = LANES if _is_narrow(reach) else lanes_of(no_wide_pixels(data))
    disc = _disc(reach, len(data) // row_length, row_length, n_lanes, memory.disc)
    sizes = min_pix_count, search.max_pix_count
    possible = free
    if many:
        possible = possible_seeds(free, row_length, min_pix_count, memory.bits.room)
    n_regions = n_most = len(regions.owner)
    while n_regions == n_most and progress[1] < width(peaks):
        n_regions = join_regions(
            free, possible, row_length, raster.panels, sizes, ready, reach, progress[2:4], regions
        )
        progress[1] = _measure_batch(
            data,
            raster,
            search,
            memory.limits,
            closed,
            disc,
            n_regions,
            regions,
            peaks,
            progress[1],
        )


@inlined
def _ask_for_memory(data, ring, width, reach, region_ss, region_fs, first, stop):
    """Prefetch what `_measure_batch` will read for a region."""
    p = np.int64(region_ss[first]) * width + region_fs[first]
    if stop > first + 1:
        for k in range(first, stop):
            prefetch(ring, np.int64(region_ss[k]) * width + region_fs[k])
    if reach * width + reach <= p < len(data) - reach * width - reach:
        for row in range(p - reach * width, p + reach * width, width):
            prefetch(data, row - reach // 2)
            prefetch(data, row + reach // 2)


@inner_kernel
def _measure_batch(data, raster, search, limits, closed, disc, n_regions, regions, peaks, n_peaks):
    """Write the rows of those regions that are peaks; return the new number of peaks."""
    ring, row_length, panels = raster
    start, owner, region_ss, region_fs = regions
    mean, upper, _ = limits
    reach = 2 * search.local_bg_radius
    above_mean = _is_nowhere_below(upper, mean)
    for i in range(-AHEAD, n_regions):
        if i + AHEAD < n_regions:
            first, stop = start[i + AHEAD], start[i + AHEAD + 1]
            _ask_for_memory(data, ring, row_length, reach, region_ss, region_fs, first, stop)
        if i < 0:
            continue
        if n_peaks == width(peaks):
            break
        panel = panel_bounds(panels, owner[i])
        first, stop = start[i], start[i + 1]
        if stop == first + 1 and above_mean:
            ss, fs = np.int64(region_ss[first]), np.int64(region_fs[first])
            value = np.float64(np.float32(data[ss * row_length + fs]))
            totals = value, value * (ss - panel[0]), value * (fs - panel[2]), value
        else:
            ss, fs, totals = _add_up(
                data, ring, row_length, mean, region_ss, region_fs, first, stop, panel
            )
            # No centre, or sums that are infinite.
            if not (panel[0] <= ss <= panel[1] and panel[2] <= fs <= panel[3]):
                continue
        centre = ss * row_length + fs
        if _is_narrow(reach):
            sums = _background(
                no_pixels(data), data, closed, ss, fs, row_length, reach, disc, panel
            )
        else:
            sums = _background(
                no_wide_pixels(data), data, closed, ss, fs, row_length, reach, disc, panel
            )
        local, sigma = _mean_and_sigma(sums)
        if sigma < 0:
            local, sigma = np.float64(mean[ring[centre]]), NO_SIGMA
        total, sum_ss, sum_fs, largest = totals
        if sigma == 0 or total == 0:  # no noise, or no centre: CrystFEL refuses these, too
            continue
        peak_fs = sum_fs / total + panel[2] + 0.5
        peak_ss = sum_ss / total + panel[0] + 0.5
        intensity, largest = total - (stop - first) * local, largest - local
        snr = intensity / sigma
        on_panel = panel[2] <= peak_fs <= panel[3] + 1 and panel[0] <= peak_ss <= panel[1] + 1
        # Written in any case: whether it is kept is anybody's guess, and wrong guesses take time.
        peaks[0, n_peaks], peaks[1, n_peaks], peaks[2, n_peaks] = peak_fs, peak_ss, intensity
        peaks[3, n_peaks], peaks[4, n_peaks] = snr, owner[i]
        peaks[5, n_peaks], peaks[6, n_peaks] = stop - first, largest
        n_peaks += (snr >= search.min_snr) & (largest >= sums[3] - local) & on_panel
    return n_peaks


@inner_kernel
def _is_nowhere_below(upper, mean):
    nowhere = True
    for ring in range(len(mean)):
        nowhere &= mean[ring] <= upper[ring]
    return nowhere


@inlined
def _add_up(data, ring, width, mean, region_ss, region_fs, first, stop, panel):
    """Return where the background of a region is, and what its peak is made of.

    Returns
    -------
    ss, fs : int
        The pixel nearest to the centre of the excess over the ring's mean; -1 where there is none.
    totals : tuple of float
        Sum of the values, of their products with ss and with fs on the panel, and the largest.
    """
    weights = weighted_ss = weighted_fs = np.float32(0)
    total = sum_ss = sum_fs = 0.0
    largest = -math.inf
    for k in range(first, stop):
        ss, fs = np.int64(region_ss[k]), np.int64(region_fs[k])
        p = ss * width + fs
        on_ss, on_fs = ss - panel[0], fs - panel[2]
        single = np.float32(data[p])
        weight = np.float32(abs(single - mean[ring[p]]))
        weights = np.float32(weights + weight)
        weighted_ss = np.float32(weighted_ss + np.float32(weight * np.float32(on_ss)))
        weighted_fs = np.float32(weighted_fs + np.float32(weight * np.float32(on_fs)))
        value = np.float64(single)
        total += value
        sum_ss += value * on_ss
        sum_fs += value * on_fs
        largest = larger(largest, value)
    totals = total, sum_ss, sum_fs, largest
    if weights == 0:
        return -1, -1, totals
    centre_ss = np.rint(np.float32(weighted_ss / weights))
    centre_fs = np.rint(np.float32(weighted_fs / weights))
    return np.int64(centre_ss) + panel[0], np.int64(centre_fs) + panel[2], totals


@inlined
def _is_narrow(reach):
    """Whether a row of a disc is one piece of `LANES` pixels."""
    return 2 * reach <= LANES


@inner_kernel
def _disc(reach, height, width, n_lanes, disc):
    """Return a disc as pieces of rows.

    The rows go from -reach to reach - 1, and so do the pixels, as far as a frame has so many.

    Parameters
    ----------
    reach, height, width : int
        Radius of the disc; height and width of the frame, in pixels.
    n_lanes : int
        So many pixels are in a piece.
    disc : Disc
        With room for `pieces_of_disc`; written.

    Returns
    -------
    offset : int64 array (n_pieces,)
        Of each piece's first pixel from the centre, in the flat frame.
    column : int64 array (n_pieces,)
        First column from the centre.
    lanes : uint64 array (n_pieces,)
        Bits of the piece's pixels that are in the disc.
    per_row, n_above : int
        Number of pieces of a row, and of rows above the centre's.
    """
    tall, wide = smaller(reach, height), smaller(reach, width)
    per_row = (2 * wide - 1) // n_lanes + 1
    n = 2 * tall * per_row
    offset, column, lanes = disc.offset[:n], disc.column[:n], disc.lanes[:n]
    for k in range(n):
        row, first = k // per_row - tall, k % per_row * n_lanes - wide
        half = np.int64(math.sqrt(reach * reach - row * row))
        offset[k], column[k] = row * width + first, first
        left, right = larger(-half, -wide), smaller(half + 1, wide)
        lanes[k] = _lanes_between(left - first, right - first, n_lanes)
    return offset, column, lanes, per_row, tall


def pieces_of_disc(reach: int, height: int, width: int) -> int:
    """Return the number of pieces of a disc, at most."""
    return 2 * min(reach, height) * ((2 * min(reach, width) - 1) // LANES + 1)


@inlined
def _lanes_between(first, stop, n_lanes):
    """Return the bits from `first` to before `stop`, of those of so many lanes."""
    before, after = smaller(larger(first, 0), n_lanes), smaller(larger(stop, 0), n_lanes)
    return (ONE << np.uint64(after)) - ONE & ~((ONE << np.uint64(before)) - ONE)


@inlined
def _background(sums, data, closed, ss, fs, width, reach, disc, panel):
    """Return number, sum, sum of squares and largest (or 0) of the background around a pixel.

    From sums over nothing, of `no_pixels` or `no_wide_pixels`.
    """
    centre = ss * width + fs
    if (
        panel[0] <= ss - reach
        and ss + reach <= panel[1] + 1
        and panel[2] <= fs - reach
        and fs + reach <= panel[3] + 1
        and centre <= len(data) - lanes_of(sums) - reach * width - reach
        and len(disc[0]) <= AT_ONCE
    ):
        return _disc_sums(sums, data, closed, centre, disc)
    return _border_disc_sums(sums, data, closed, ss, fs, centre, disc, panel)


@inlined
def _disc_sums(sums, data, closed, centre, disc):
    """Return number, sum, sum of squares and largest (or 0) of a disc's background pixels.

    Those are the finite ones that are not closed.
    """
    offset, _, lanes, _, _ = disc
    for k in range(len(offset)):
        p = centre + offset[k]
        sums = add_pixels(sums, data, p, lanes[k] & ~bits_at(closed, p))
    return total_sums(sums)


@inner_kernel
def _border_disc_sums(sums, data, closed, ss, fs, centre, disc, panel):
    """Do as `_disc_sums` with the pixels on the panel, and for discs of any size."""
    offset, column, lanes, per_row, n_above = disc
    n_lanes = lanes_of(sums)
    first = larger(panel[0] - ss + n_above, 0) * per_row
    stop = smaller(panel[1] + 1 - ss + n_above, 2 * n_above) * per_row
    n, total, squares, largest = 0, 0.0, 0.0, np.float32(0)
    for some in range(first, stop, AT_ONCE):
        part = nothing_like(sums)
        for k in range(some, smaller(some + AT_ONCE, stop)):
            here = fs + column[k]
            chosen = lanes[k] & _lanes_between(panel[2] - here, panel[3] + 1 - here, n_lanes)
            # At the frame's very ends the lanes begin elsewhere.
            p = centre + offset[k]
            moved = smaller(larger(p, 0), len(data) - n_lanes)
            by = np.uint64(smaller(abs(moved - p), n_lanes))
            chosen = chosen >> by if moved > p else chosen << by
            part = add_pixels(part, data, moved, chosen & ~bits_at(closed, moved))
        more = total_sums(part)
        n, total, squares = n + more[0], total + more[1], squares + more[2]
        largest = larger(largest, more[3])
    return n, total, squares, largest


@inlined
def _mean_and_sigma(sums):
    """Return mean and standard deviation; the latter is -1 where there are no pixels."""
    n, total, squares, _ = sums
    if n == 0:
        return 0.0, -1.0
    mean, variance = mean_and_variance(n, total, squares)
    return mean, math.sqrt(variance) if variance >= 0 else NO_SIGMA
