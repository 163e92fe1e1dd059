"""From the raster to the rings: a frame's values in the order of the radial layout."""

from __future__ import annotations

import numpy as np

from wrappers.peakfinding.compiling import kernel
from wrappers.peakfinding.vectors import prefetch

__all__ = ["sort_into_rings"]

AHEAD = 2048
"""Memory is asked for so many pixels before it is needed."""
NAN = np.float32(np.nan)


@kernel
def sort_into_rings(data, mask, place, values):
    """Write each usable pixel's value, as float32, to its place in the ring order.

    Unusable pixels become NaN there, which no comparison lets through.

    Parameters
    ----------
    data : array (n_pixels or more,)
        The flat slab, of any integer or float type.
    mask : bool array (n_pixels,)
        True where usable.
    place : int32 array (n_pixels,)
        As in `radial_layout.RadialLayout`.
    values : float32 array, longer than n
        Written; the one after n belongs to all pixels without a ring.
    """
    # Each ring's memory is waited for anew unless it is asked for in time. (Unsigned indices:
    # signed ones are looked at whether they count from the end.)
    ahead = np.uint64(min(AHEAD, len(place)))
    for k in range(np.uint64(len(place)) - ahead):
        prefetch(values, np.uint32(place[k + ahead]))
        value = np.float32(data[k])
        values[np.uint32(place[k])] = value if mask[k] else NAN
    for k in range(np.uint64(len(place)) - ahead, np.uint64(len(place))):
        value = np.float32(data[k])
        values[np.uint32(place[k])] = value if mask[k] else NAN
