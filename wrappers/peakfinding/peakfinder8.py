"""The peak finder: what ``indexamajig --peaks=peakfinder8`` finds, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Frame
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS, clipping, flat, radii
from wrappers.peakfinding.peak_measurement import PEAK_ROWS, find_peaks
from wrappers.peakfinding.peak_regions import (
    EVERYTHING,
    no_bits,
    pack_outside,
    pack_unusable,
    room_for_regions,
)
from wrappers.peakfinding.prepared_frame import PreparedFrame
from wrappers.peakfinding.radial_layout import RadialLayout
from wrappers.peakfinding.ring_limits import limits_and_bright_pixels
from wrappers.peakfinding.ring_order import sort_into_rings
from wrappers.peakfinding.vectors import LANES
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["MAX_N_PEAKS", "PeakFinder"]

BATCH = 256
"""So many regions are joined before they are measured."""


class PeakFinder:
    """Finds the peaks of frames of one geometry, as CrystFEL's peakfinder8 does.

    Parameters
    ----------
    geometry : Geometry
        Neither its clen nor its beam energy matters here.
    use_saturated : bool
        Whether peaks above a panel's ``max_adu`` are kept. They are by default, as in
        ``indexamajig``, which drops them for ``--no-use-saturated``.

    Attributes
    ----------
    layout : RadialLayout

    Notes
    -----
    Algorithm: Barty et al., J. Appl. Cryst. 47 (2014) 1118, with CrystFEL's float32 radii and
    its rules for mask, limits and order. Sums are in double precision, so a peak in some
    ten thousand that sits on a limit may differ from CrystFEL's float32 sums.

    Several threads may use one finder at once; the kernels release the GIL.
    """

    def __init__(self, geometry: Geometry, use_saturated: bool = True) -> None:
        self._arguments = (geometry, use_saturated)
        self.layout = RadialLayout.build(geometry.radius_map(), geometry.panels, use_saturated)
        self._scratch = _Scratch(self.layout)
        self._last_unusable: NDArray[np.uint64] | None = None
        self._last_outside: tuple[tuple[float, float], NDArray[np.uint64]] | None = None

    def __reduce__(self) -> tuple[type[PeakFinder], tuple[Geometry, bool]]:
        # The layout is quicker built than pickled.
        return PeakFinder, self._arguments

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return the peaks of a frame, in the order of panels and raster.

        Only the peak settings count (`wrappers.settings.PEAK_FIELDS`). Where there are more
        than `max_n_peaks`, the first ones win, as in CrystFEL.
        """
        return self.find_in_arrays(frame.data, frame.mask, settings, max_n_peaks)

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> PreparedFrame:
        """Make a frame ready for many settings; see `prepared_frame.PreparedFrame`."""
        return PreparedFrame(self, frame, min_snr)

    def find_in_arrays(
        self,
        data: NDArray[np.generic],
        mask: NDArray[np.bool_],
        settings: Settings,
        max_n_peaks: int = MAX_N_PEAKS,
    ) -> PeakList:
        """Do as `find` for a slab (ss, fs) of any integer or float type and its usable pixels."""
        data, mask = flat(data), flat(mask)
        values = self.ring_values(data, mask)
        mean, upper, n = limits_and_bright_pixels(
            values, self.rings, clipping(settings), self.bright
        )
        unusable = self._scratch.unusable
        pack_unusable(mask, unusable)
        everything = ((n, EVERYTHING),)
        return self.peaks_among(data, unusable, settings, max_n_peaks, (mean, upper), everything)

    def ring_values(
        self, data: NDArray[np.generic], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return a flat frame in ring order, in memory that this thread's next call overwrites.

        `LANES` more values than there are pixels: the kernels read beyond the end.
        """
        sort_into_rings(data, mask, self.layout.place, self._scratch.values)
        return self._scratch.values

    def unusable(self, mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Return the bits of a flat mask, of `pack_unusable`: the last ones if they are equal."""
        bits = np.empty_like(self._scratch.unusable)
        pack_unusable(mask, bits)
        if self._last_unusable is None or not np.array_equal(bits, self._last_unusable):
            self._last_unusable = bits
        return self._last_unusable

    @property
    def rings(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]:
        """The rings as the kernels of `ring_limits` take them."""
        return self.layout.radius.reshape(-1), self.layout.start, self.layout.pixel

    @property
    def bright(self) -> NDArray[np.int32]:
        """Memory for the bright pixels of a search, one for each thread."""
        return self._scratch.bright

    def peaks_among(
        self,
        data: NDArray[np.generic],
        unusable: NDArray[np.uint64],
        settings: Settings,
        max_n_peaks: int,
        limits: tuple[NDArray[np.float32], NDArray[np.float32]],
        parts: Iterable[tuple[int, int]],
    ) -> PeakList:
        """Return the peaks of a flat frame, given what `ring_limits` finds.

        Parameters
        ----------
        data, settings, max_n_peaks
            As for `find_in_arrays`.
        unusable : uint64 array
            Of `pack_unusable`.
        limits : tuple
            mean and upper.
        parts : iterable of tuple
            How many pixels are in `bright`, and for how many rows that is all of them: more and
            more until the end, but they are not asked for once there are enough peaks.
        """
        layout, scratch = self.layout, self._scratch
        search = (
            settings.min_snr,
            settings.min_pix_count,
            settings.max_pix_count,
            settings.local_bg_radius,
        )
        where = layout.radius.reshape(-1), layout.radius.shape[1], layout.panels
        peaks = scratch.room_for_peaks(min(max_n_peaks, data.size // settings.min_pix_count))
        progress = np.zeros(4, np.int64)
        scratch.free[:] = 0
        np.bitwise_or(unusable, self._outside(settings), out=scratch.closed)
        bits = scratch.free, scratch.closed, *scratch.room
        if data.size < LANES:
            data = np.append(data, np.zeros(LANES, data.dtype))
        for n_bright, ready in parts:
            bright = scratch.bright[:n_bright]
            find_peaks(
                data,
                where,
                search,
                limits,
                bright,
                bits,
                scratch.regions,
                ready,
                progress,
                peaks,
            )
            if progress[1] == peaks.shape[1]:
                break
        peaks = peaks[:, : progress[1]]
        if layout.saturates:
            peaks = peaks[:, peaks[6] <= layout.max_adu[peaks[4].astype(int)]]
        fs, ss, intensity, snr, panel, n_pixels, max_value = peaks.copy()
        integers = panel.astype(np.int32), n_pixels.astype(np.int32)
        return PeakList(fs, ss, intensity, snr, *integers, max_value)

    def _outside(self, settings: Settings) -> NDArray[np.uint64]:
        """Return the bits of the pixels that are not between the settings' radii."""
        between = radii(settings)
        # Read once: other threads may change it meanwhile.
        last = self._last_outside
        if last is None or last[0] != between:
            bits = no_bits(self.layout.radius.size)
            pack_outside(self.layout.radius.reshape(-1), *between, bits)
            last = self._last_outside = between, bits
        return last[1]


class _Scratch(threading.local):
    """Memory that each thread uses again and again."""

    def __init__(self, layout: RadialLayout) -> None:
        n_pixels = layout.radius.size
        self.values = np.empty(len(layout.pixel) + LANES, np.float32)
        self.bright = np.empty(len(layout.pixel), np.int32)
        self.unusable, self.closed, self.free = (no_bits(n_pixels) for _ in range(3))
        self.room = no_bits(n_pixels), no_bits(n_pixels)
        self.regions = room_for_regions(BATCH, len(layout.pixel))
        self._peaks = np.empty((len(PEAK_ROWS), MAX_N_PEAKS))

    def room_for_peaks(self, most: int) -> NDArray[np.float64]:
        """Return memory for so many peaks."""
        if most > self._peaks.shape[1]:
            self._peaks = np.empty((len(PEAK_ROWS), most))
        return self._peaks[:, :most]
