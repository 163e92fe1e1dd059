"""A geometry's pixels as the kernels take them, and the memory in which they are searched."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS, SMALL, flat, flat_data
from wrappers.peakfinding.kernel_types import Bits, Disc, Memory, RingLimits
from wrappers.peakfinding.peak_measurement import PEAK_ROWS, pieces_of_disc
from wrappers.peakfinding.peak_regions import no_bits, pack_unusable, room_for_regions
from wrappers.peakfinding.radial_layout import RadialLayout
from wrappers.peakfinding.ring_order import sort_into_rings
from wrappers.peakfinding.vectors import LANES, packed
from wrappers.settings import Settings

__all__ = ["DetectorPixels"]

BATCH = 256
"""So many regions are joined before they are measured."""
ROOM = 2 * MAX_N_PEAKS
"""There is room for the peaks of a search with the usual limit, and of more with fewer peaks."""


class DetectorPixels:
    """The pixels of a geometry, and memory of each thread for a search among them.

    Parameters
    ----------
    geometry : Geometry
    use_saturated : bool
        Whether peaks above a panel's ``max_adu`` are kept.

    Attributes
    ----------
    layout : RadialLayout
    """

    def __init__(self, geometry: Geometry, use_saturated: bool = True) -> None:
        self._arguments = (geometry, use_saturated)
        self.layout = _layout_of(geometry, use_saturated)
        self._scratch = _Scratch(self.layout)
        self._last_unusable: NDArray[np.uint64] | None = None

    def __reduce__(self) -> tuple[type[DetectorPixels], tuple[Geometry, bool]]:
        # The layout is quicker built than pickled.
        return DetectorPixels, self._arguments

    def flatten(self, frame: Frame) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Return a frame's data, of any integer or float type, and mask as the kernels take them.

        Raises
        ------
        InputError
            If they have other pixels than the geometry.
        """
        for array in (frame.data, frame.mask):
            if array.shape != self.layout.radius.shape:
                raise InputError(
                    f"{frame.file} {frame.event}: {array.shape} pixels, but the geometry has "
                    f"{self.layout.radius.shape}: take the geometry that belongs to the frame"
                )
        return flat_data(frame.data), flat(frame.mask)

    def memory(
        self, max_n_peaks: int, settings: Sequence[Settings]
    ) -> tuple[Any, NDArray[np.float64]]:
        """Return what the kernels of `peak_searches` may overwrite, and where they write peaks.

        A packed `Memory` of this thread, with room for the peaks of one parameter set and mostly of
        several.
        """
        scratch = self._scratch
        widest = max((2 * each.local_bg_radius for each in settings), default=0)
        # (`flat_data` makes a small frame higher.)
        columns = self.layout.radius.shape[1]
        height = (self.layout.radius.size + SMALL) // columns
        n_pieces = pieces_of_disc(widest, height, columns)
        if n_pieces > len(scratch.arrays.disc.lanes):
            scratch.take(scratch.arrays._replace(disc=_room_for_disc(n_pieces)))
        most = max(min(max_n_peaks, self.layout.radius.size), ROOM)
        if most > scratch.peaks.shape[1]:
            scratch.peaks = np.empty((len(PEAK_ROWS), most))
        return scratch.packed, scratch.peaks

    def ring_values(
        self, data: NDArray[np.generic], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return a frame of `flatten` in ring order, in memory that this thread uses again.

        `LANES` more values than there are pixels: the kernels read beyond the end.
        """
        memory = self._scratch.arrays
        sort_into_rings(
            data, mask, self.layout.place, memory.unusable, memory.target, memory.values
        )
        return memory.values

    def unusable(self, mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Return the bits of a flat mask, of `pack_unusable`: the last ones if they are equal."""
        bits = no_bits(self.layout.radius.size)
        pack_unusable(mask, bits)
        # Read once: another thread may change it meanwhile.
        last = self._last_unusable
        if last is not None and np.array_equal(bits, last):
            return last
        self._last_unusable = bits
        return bits


_LAYOUTS: WeakKeyDictionary[Geometry, dict[bool, RadialLayout]] = WeakKeyDictionary()
"""Of the geometries that are in use: a session opens several pools of one."""


def _layout_of(geometry: Geometry, use_saturated: bool) -> RadialLayout:
    known = _LAYOUTS.setdefault(geometry, {})
    if use_saturated not in known:
        # Two threads at once may build it twice, which does no harm.
        known[use_saturated] = RadialLayout.build(
            geometry.radius_map(), geometry.panels, use_saturated
        )
    return known[use_saturated]


class _Scratch(threading.local):
    """Memory that each thread uses again and again."""

    def __init__(self, layout: RadialLayout) -> None:
        n_pixels, n_places = layout.radius.size, len(layout.pixel)
        n_rings, largest = len(layout.start) - 1, int(np.diff(layout.start).max(initial=0))
        limits = RingLimits(
            np.zeros(n_rings, np.float32),
            np.zeros(n_rings, np.float32),
            np.zeros(n_rings, np.int64),
        )
        self.peaks = np.empty((len(PEAK_ROWS), ROOM))
        free, closed, seeds, inner, unusable, outside = (no_bits(n_pixels) for _ in range(6))
        arrays = Memory(
            np.full(n_places + LANES, np.nan, np.float32),
            np.empty(n_places, np.int32),
            Bits(free, closed, (seeds, inner)),
            room_for_regions(BATCH, n_places),
            unusable,
            layout.place.copy(),
            outside,
            np.full(2, np.nan),
            limits,
            np.empty(largest, np.int32),
            np.empty(largest + LANES, np.float32),
            _room_for_disc(0),
            np.zeros(4, np.int64),
        )
        self.take(arrays)

    def take(self, arrays: Memory) -> None:
        """Use these arrays."""
        self.arrays, self.packed = arrays, packed(arrays)


def _room_for_disc(n: int) -> Disc:
    return Disc(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint64))
