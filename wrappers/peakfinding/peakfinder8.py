"""The peak finder: what ``indexamajig --peaks=peakfinder8`` finds, in this process."""

from __future__ import annotations

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peakfinding.detector_pixels import DetectorPixels
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS, peak_lists, settings_table
from wrappers.peakfinding.peak_searches import search_frame
from wrappers.peakfinding.prepared_frame import PreparedFrame
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["MAX_N_PEAKS", "PeakFinder"]


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
    pixels : DetectorPixels
    layout : RadialLayout
        Theirs.

    Notes
    -----
    Algorithm: Barty et al., J. Appl. Cryst. 47 (2014) 1118, with CrystFEL's float32 radii and
    its rules for mask, limits and order. Sums are in double precision, so a peak in some
    ten thousand that sits on a limit may differ from CrystFEL's float32 sums.

    Several threads may use one finder at once; the kernels release the GIL.
    """

    def __init__(self, geometry: Geometry, use_saturated: bool = True) -> None:
        self._arguments = (geometry, use_saturated)
        self.pixels = DetectorPixels(geometry, use_saturated)
        self.layout = self.pixels.layout

    def __reduce__(self) -> tuple[type[PeakFinder], tuple[Geometry, bool]]:
        return PeakFinder, self._arguments

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return the peaks of a frame, in the order of panels and raster.

        Only the peak settings count (`wrappers.settings.PEAK_FIELDS`). Where there are more
        than `max_n_peaks`, the first ones win, as in CrystFEL.

        Raises
        ------
        InputError
            If the frame has other pixels than the geometry.
        """
        pixels = self.pixels
        data, mask = pixels.flatten(frame)
        memory, peaks = pixels.memory(max_n_peaks, [settings])
        (row,) = settings_table([settings])
        n = search_frame(data, mask, pixels.layout.arrays, row, max_n_peaks, memory, peaks)
        return peak_lists(peaks, [n])[0]

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> PreparedFrame:
        """Make a frame ready for many settings; see `prepared_frame.PreparedFrame`."""
        return PreparedFrame(self, frame, min_snr)
