"""Whole searches in one compiled call: of a frame, and of a prepared one with many settings.

Threads wait for each other wherever the interpreter is needed, and a search of a prepared frame is
over in the time of a few dozen calls from there. So all the way from limits to peaks is here.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.compiling import bare_kernel, inlined, inner_kernel
from wrappers.peakfinding.kernel_types import Clipping, Search
from wrappers.peakfinding.peak_measurement import find_peaks
from wrappers.peakfinding.peak_regions import EVERYTHING, mark_outside
from wrappers.peakfinding.ring_limits import limits_and_bright_pixels
from wrappers.peakfinding.ring_order import order_by_ring
from wrappers.peakfinding.ring_tails import bright_from_tails, limits_from_tails
from wrappers.peakfinding.vectors import columns, larger, smaller, views, width

__all__ = ["search_frame", "search_tails"]

MARGIN = 1.5
"""So many times the bright pixels that are needed for enough peaks are looked up at first."""


@bare_kernel
def search_frame(data, mask, layout, row, max_n_peaks, memory, peaks):
    """Search a frame with one parameter set.

    Parameters
    ----------
    data : array (n_pixels,)
        The flat slab, of `kernel_arguments.flat_data`.
    mask : bool array (n_pixels,)
        True where usable.
    layout : Layout
        Packed, as `memory` is.
    row : float64 array (7,)
        Of `kernel_arguments.settings_table`.
    max_n_peaks : int
    memory : Memory
        Overwritten.
    peaks : float64 array (7, n)
        Written, with `peak_measurement.PEAK_ROWS`.

    Returns
    -------
    int
        Number of peaks.
    """
    data, mask, layout, row, memory, peaks = views((data, mask, layout, row, memory, peaks))
    clipping, search, most = _read_row(row, max_n_peaks, len(mask))
    order_by_ring(data, mask, layout.place, memory.unusable, memory.target, memory.values)
    n_bright = limits_and_bright_pixels(memory.values, layout.rings, clipping, memory)
    _begin(memory.unusable, layout.rings.radius, clipping, memory)
    room, found = columns(peaks, 0, most), memory.bright[:n_bright]
    find_peaks(data, layout.raster, search, found, memory, EVERYTHING, room)
    return _drop_saturated(columns(room, 0, memory.progress[1]), layout.max_adu)


@bare_kernel
def search_tails(frame, tails, layout, rows, max_n_peaks, memory, peaks, stops):
    """Search a prepared frame with one parameter set after another, while there is room for peaks.

    Parameters
    ----------
    frame : tuple
        data and mask, as for `search_frame`, and the bits of the mask, of `pack_unusable`.
    tails : Tails
        Packed.
    layout, max_n_peaks, memory
        As for `search_frame`.
    rows : float64 array (n_settings, 7)
        Of `kernel_arguments.settings_table`.
    peaks : float64 array (7, n)
        Written, with `peak_measurement.PEAK_ROWS`.
    stops : int64 array (n_settings,)
        Written: the column where the peaks of each parameter set end and the next ones begin.

    Returns
    -------
    int
        So many settings are done; the others' peaks might find no room.
    """
    data, mask, unusable = views(frame)
    tails, layout, rows, memory, peaks, stops = views((tails, layout, rows, memory, peaks, stops))
    n_peaks, last = np.int64(0), Clipping(np.nan, np.nan, np.nan, np.nan)
    n_found = n_bright = np.int64(0)
    for i in range(len(rows)):
        clipping, search, most = _read_row(rows[i], max_n_peaks, len(mask))
        if n_peaks + most > width(peaks):
            return i
        # Other settings change none of this.
        if clipping != last:
            n_found, n_bright = limits_from_tails(tails, data, mask, layout.rings, clipping, memory)
        last = clipping
        _begin(unusable, layout.rings.radius, clipping, memory)
        room = columns(peaks, n_peaks, n_peaks + most)
        n_peaks += _peaks_from_tails(data, tails, layout, n_found, n_bright, search, memory, room)
        stops[i] = n_peaks
    return len(rows)


@inlined
def _peaks_from_tails(data, tails, layout, n_found, n_bright, search, memory, peaks):
    """Write the peaks of a prepared frame, given what `limits_from_tails` returns; return how many.

    Bright pixels are looked up for a part of the frame, then for twice as much, and so on, as long
    as there is room for peaks.
    """
    bands, bright = layout.bands, memory.bright
    _, upper, first = memory.limits
    n_bands = len(bands) - 1
    # The more pixels a peak must have, the fewer of the bright ones are in one.
    least = search.min_pix_count
    share = MARGIN * width(peaks) * (least * least) / larger(n_bright, 1)
    band = 0
    while band < n_bands:
        stop = math.ceil(share * n_bands) if share < 0.5 else n_bands
        between = layout.passed[band], layout.passed[stop]
        n_found = bright_from_tails(tails, layout.rings, upper, first, between, bright, n_found)
        find_peaks(data, layout.raster, search, bright[:n_found], memory, bands[stop], peaks)
        if memory.progress[1] == width(peaks):
            break
        band, share = stop, 2 * stop / n_bands
    return _drop_saturated(columns(peaks, 0, memory.progress[1]), layout.max_adu)


@inner_kernel
def _read_row(row, max_n_peaks, n_pixels):
    """Return what decides the limits, what decides the peaks, and how many there can be."""
    clipping = Clipping(row[0], row[1], row[2], row[3])
    search = Search(row[0], np.int64(row[4]), np.int64(row[5]), np.int64(row[6]))
    return clipping, search, larger(smaller(max_n_peaks, n_pixels // search.min_pix_count), 0)


@inner_kernel
def _begin(unusable, radius, clipping, memory):
    """Set what `find_peaks` begins with: no pixel bright, and closed what is not searched."""
    for k in range(len(memory.progress)):
        memory.progress[k] = 0
    free, closed, outside, between = (
        memory.bits.free,
        memory.bits.closed,
        memory.outside,
        memory.between,
    )
    min_res, max_res = clipping.min_res, clipping.max_res
    if between[0] != min_res or between[1] != max_res:
        mark_outside(radius, min_res, max_res, outside)
        between[0], between[1] = min_res, max_res
    for k in range(len(free)):
        free[k] = 0
        closed[k] = unusable[k] | outside[k]


@inner_kernel
def _drop_saturated(peaks, max_adu):
    """Move the peaks that are not above their panel's `max_adu` together; return their number."""
    kept = 0
    for k in range(width(peaks)):
        if peaks[6, k] <= max_adu[np.int64(peaks[4, k])]:
            if kept < k:
                for row in range(len(peaks)):
                    peaks[row, kept] = peaks[row, k]
            kept += 1
    return kept
