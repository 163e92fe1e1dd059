"""A frame made ready to be searched for peaks with one settings after another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wrappers.frames.run import Frame
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS, clipping, flat
from wrappers.peakfinding.radial_layout import N_BANDS
from wrappers.peakfinding.ring_tails import bright_from_tails, keep_tails, limits_from_tails
from wrappers.peaks import PeakList
from wrappers.settings import Settings

if TYPE_CHECKING:
    from wrappers.peakfinding.peakfinder8 import PeakFinder

__all__ = ["PreparedFrame"]

MARGIN = 1.5
"""So many times the bright pixels that are needed for enough peaks are looked up at first."""


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
        self._unusable = finder.unusable(self._mask)
        largest_ring = np.diff(finder.layout.start).max(initial=0)
        self._tails: tuple[Any, ...] = keep_tails(
            finder.ring_values(self._data, self._mask),
            finder.layout.start,
            finder.layout.pixel,
            min_snr,
            # Two bytes do for most detectors' values, and for the places within any ring.
            np.empty(0, self._data.dtype if self._data.dtype.itemsize <= 2 else np.float32),
            np.empty(0, np.uint16 if largest_ring <= 1 << 16 else np.uint32),
        )

    @property
    def nbytes(self) -> int:
        """Memory in bytes beyond the frame, the finder, and what frames of one mask share."""
        everything, core, window, faint, bright, place, outer = self._tails
        arrays = everything, core, window, *faint, *bright, place, *outer
        return sum(array.nbytes for array in arrays)

    def find(self, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return what ``finder.find(frame, settings, max_n_peaks)`` does."""
        finder = self._finder
        if settings.min_snr < self._min_snr:
            return finder.find_in_arrays(self._data, self._mask, settings, max_n_peaks)
        mean, upper, first, n_found, n_bright = limits_from_tails(
            self._tails, self._data, self._mask, finder.rings, clipping(settings), finder.bright
        )
        # The more pixels a peak must have, the fewer of the bright ones are in one.
        needed = MARGIN * max_n_peaks * settings.min_pix_count**2
        parts = self._parts(upper, first, n_found, needed / max(n_bright, 1))
        return finder.peaks_among(
            self._data, self._unusable, settings, max_n_peaks, (mean, upper), parts
        )

    def _parts(
        self,
        upper: NDArray[np.float32],
        first: NDArray[np.int64],
        n_found: int,
        share: float,
    ) -> Iterator[tuple[int, int]]:
        """Yield what `PeakFinder.peaks_among` takes: this share of the frame, twice that, ..."""
        finder, layout = self._finder, self._finder.layout
        band = 0
        while band < N_BANDS:
            stop = math.ceil(share * N_BANDS) if share < 0.5 else N_BANDS
            between = layout.passed[band], layout.passed[stop]
            n_found = bright_from_tails(
                self._tails, finder.rings, upper, first, between, finder.bright, n_found
            )
            yield n_found, int(layout.bands[stop])
            band, share = stop, 2 * stop / N_BANDS
