"""The peak finder: what ``indexamajig --peaks=peakfinder8`` finds, in this process."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.frames import Frame
from wrappers.geometry import Geometry
from wrappers.peak_regions import find_regions
from wrappers.peaks import PeakList
from wrappers.radial_layout import RadialLayout
from wrappers.ring_limits import limits_and_bright_pixels, sort_into_rings
from wrappers.settings import Settings

__all__ = ["MAX_N_PEAKS", "PeakFinder", "Search", "native"]

MAX_N_PEAKS = 2048
"""CrystFEL's own limit."""


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

    @classmethod
    def of(cls, settings: Settings, max_n_peaks: int) -> Search:
        """Return the settings as the kernels take them, with fixed types."""
        return cls(
            settings.min_snr,
            settings.threshold,
            settings.min_pix_count,
            settings.max_pix_count,
            settings.local_bg_radius,
            float(settings.min_res),
            float(settings.max_res) or math.inf,
            max_n_peaks,
        )


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

    def __reduce__(self) -> tuple[type[PeakFinder], tuple[Geometry, bool]]:
        # The layout is quicker built than pickled.
        return PeakFinder, self._arguments

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return the peaks of a frame, in the order of panels and raster.

        Only the peak settings count (`wrappers.settings.PEAK_FIELDS`). Where there are more
        than `max_n_peaks`, the first ones win, as in CrystFEL.
        """
        return self.find_in_arrays(frame.data, frame.mask, settings, max_n_peaks)

    def find_in_arrays(
        self,
        data: NDArray[np.generic],
        mask: NDArray[np.bool_],
        settings: Settings,
        max_n_peaks: int = MAX_N_PEAKS,
    ) -> PeakList:
        """Do as `find` for a slab (ss, fs) of any integer or float type and its usable pixels."""
        data = native(data)
        search = Search.of(settings, max_n_peaks)
        values = self.ring_values(data, mask)
        mean, upper, bright = limits_and_bright_pixels(values, self.layout, search)
        return self.peaks_among(data, mask, search, mean, upper, bright)

    def ring_values(
        self, data: NDArray[np.generic], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the pixels in ring order, in memory that this thread's next call overwrites."""
        sort_into_rings(data, mask, self.layout.place, self._scratch.values)
        return self._scratch.values

    def peaks_among(
        self,
        data: NDArray[np.generic],
        mask: NDArray[np.bool_],
        search: Search,
        mean: NDArray[np.float32],
        upper: NDArray[np.float32],
        bright: NDArray[np.int32],
    ) -> PeakList:
        """Return the peaks among the pixels (flat indices) above their rings' upper limits."""
        table = find_regions(
            data, mask, self.layout, search, mean, upper, bright, self._scratch.bits
        )
        fs, ss, intensity, snr, panel, n_pixels, max_value = table.T.copy()
        integers = panel.astype(np.int32), n_pixels.astype(np.int32)
        return PeakList(fs, ss, intensity, snr, *integers, max_value)


class _Scratch(threading.local):
    """Memory that each thread uses again and again."""

    def __init__(self, layout: RadialLayout) -> None:
        self.values = np.empty(len(layout.pixel) + 1, np.float32)
        self.bits = np.zeros(layout.radius.size // 64 + 2, np.uint64)


def native(data: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array of a type that the kernels take; nearly always the same array."""
    if data.dtype == np.float16:
        return data.astype(np.float32)
    if not data.dtype.isnative:
        return data.astype(data.dtype.newbyteorder("="))
    return np.asarray(data)
