"""A frame made ready to be searched for peaks with one settings after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wrappers.frames.run import Frame
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS, clipping, flat
from wrappers.peakfinding.ring_limits import keep_tails, limits_from_tails
from wrappers.peaks import PeakList
from wrappers.settings import Settings

if TYPE_CHECKING:
    from wrappers.peakfinding.peakfinder8 import PeakFinder

__all__ = ["PreparedFrame"]


class PreparedFrame:
    """A frame whose peaks for any further settings cost next to nothing.

    Parameters
    ----------
    finder : PeakFinder
    frame : Frame
        Its data and mask are kept by reference (they may be memory maps) and must not change.
    min_snr : float
        The smallest min_snr that is to be fast. The smaller it is, the longer are the tails:
        an eighth of all pixels for 2, less than a hundredth for 3.

    Notes
    -----
    `find` returns the lists that `PeakFinder.find` does: identical for integer data, whose sums
    are exact. For other data the order of summation may tip the float32 rounding of a limit,
    once in some 1e8 limits. A smaller `min_snr`, and single rings whose clipping cuts into the
    core all the same, take the full path by themselves.
    """

    def __init__(self, finder: PeakFinder, frame: Frame, min_snr: float = 2.0) -> None:
        self._finder = finder
        self._min_snr = min_snr
        self._data, self._mask = flat(frame.data), flat(frame.mask)
        largest_ring = np.diff(finder.layout.start).max(initial=0)
        self._tails = keep_tails(
            finder.ring_values(self._data, self._mask),
            finder.layout.start,
            min_snr,
            # Two bytes do for most detectors' values, and for the places within any ring.
            np.empty(0, self._data.dtype if self._data.dtype.itemsize <= 2 else np.float32),
            np.empty(0, np.uint16 if largest_ring <= 1 << 16 else np.uint32),
        )

    @property
    def nbytes(self) -> int:
        """Memory in bytes beyond the frame and the finder."""
        everything, core, window, faint, bright, place = self._tails
        return sum(array.nbytes for array in (everything, core, window, *faint, *bright, place))

    def find(self, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return what ``finder.find(frame, settings, max_n_peaks)`` does."""
        if settings.min_snr < self._min_snr:
            return self._finder.find_in_arrays(self._data, self._mask, settings, max_n_peaks)
        bright = self._finder.bright
        mean, upper, n = limits_from_tails(
            self._tails, self._data, self._mask, self._finder.rings, clipping(settings), bright
        )
        return self._finder.peaks_among(
            self._data, self._mask, settings, max_n_peaks, (mean, upper), bright[:n]
        )
