"""From the raster to the rings: a frame's values in the order of the radial layout."""

from __future__ import annotations

import numpy as np

from wrappers.peakfinding.compiling import bare_kernel, inner_kernel
from wrappers.peakfinding.vectors import (
    BITS,
    LANES,
    bits_false,
    prefetch,
    smaller,
    trailing_zeros,
    views,
)

__all__ = ["order_by_ring", "sort_into_rings"]

AHEAD = 2048
"""Memory is asked for so many pixels before it is needed."""
NAN = np.float32(np.nan)
ONE = np.uint64(1)


@bare_kernel
def sort_into_rings(data, mask, place, unusable, target, values):
    """Write each usable pixel's value, as float32, to its place in the ring order.

    Unusable pixels are NaN there, which no comparison lets through.

    Parameters
    ----------
    data : array (n_pixels or more,)
        The flat slab, of any integer or float type.
    mask : bool array (n_pixels,)
        True where usable.
    place : int32 array (n_pixels,)
        As in `radial_layout.RadialLayout`.
    unusable : uint64 array
        Of `peak_regions.no_bits`: the pixels that the last mask marked; written.
    target : int32 array (n_pixels,)
        `place` where the last mask was True, n elsewhere; written.
    values : float32 array, longer than n
        As the last call left it, at first NaN; written; the one after n belongs to all pixels
        without a ring.
    """
    order_by_ring(*views((data, mask, place, unusable, target, values)))


@inner_kernel
def order_by_ring(data, mask, place, unusable, target, values):
    """Do as `sort_into_rings`, with views."""
    # Masks hardly change from frame to frame, so it pays to keep what one makes of the places.
    n_words = len(mask) // BITS
    for k in range(n_words):
        bits = bits_false(mask, k * BITS)
        changed = bits ^ unusable[k]
        unusable[k] = bits
        while changed:
            bit = trailing_zeros(changed)
            changed &= changed - ONE
            _aim(k * BITS + bit, (bits >> np.uint64(bit)) & ONE, place, target, values)
    for p in range(n_words * BITS, len(mask)):
        bit = np.uint64(p - n_words * BITS)
        was = (unusable[n_words] >> bit) & ONE
        if was == mask[p]:
            unusable[n_words] ^= ONE << bit
            _aim(p, ONE - was, place, target, values)
    # Each ring's memory is waited for anew unless it is asked for in time. (Unsigned indices:
    # signed ones are looked at whether they count from the end.)
    ahead = np.uint64(smaller(AHEAD, len(target)))
    for k in range(np.uint64(len(target)) - ahead):
        prefetch(values, np.uint32(target[k + ahead]))
        values[np.uint32(target[k])] = np.float32(data[k])
    for k in range(np.uint64(len(target)) - ahead, np.uint64(len(target))):
        values[np.uint32(target[k])] = np.float32(data[k])


@inner_kernel
def _aim(p, unusable, place, target, values):
    """Let a pixel's value go to its place, or where it does not count."""
    if unusable:
        values[place[p]] = NAN
        target[p] = len(values) - LANES
    else:
        target[p] = place[p]
