"""A frame made ready to be searched for peaks with one parameter set after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wrappers.frames.frame import Frame
from wrappers.peakfinding.detector_pixels import DetectorPixels
from wrappers.peakfinding.kept_tails import keep_tails
from wrappers.peakfinding.kernel_arguments import (
    MAX_N_PEAKS,
    peak_lists,
    radii,
    settings_table,
)
from wrappers.peakfinding.kernel_types import Tails
from wrappers.peakfinding.peak_measurement import PEAK_ROWS
from wrappers.peakfinding.peak_searches import search_tails
from wrappers.peakfinding.vectors import packed
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["PreparedFrame"]


class _FullSearch(Protocol):
    """What a prepared frame leaves settings to that it was not prepared for."""

    @property
    def pixels(self) -> DetectorPixels: ...

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = ...) -> PeakList: ...


class PreparedFrame:
    """A frame whose peaks for any further settings cost next to nothing.

    Parameters
    ----------
    finder : peakfinder8.PeakFinder
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

    def __init__(self, finder: _FullSearch, frame: Frame, min_snr: float = 2.0) -> None:
        self._finder = finder
        self._min_snr = min_snr
        self._frame = frame
        pixels = finder.pixels
        self._data, self._mask = pixels.flatten(frame)
        self._unusable = pixels.unusable(self._mask)
        largest_ring = np.diff(pixels.layout.start).max(initial=0)
        self._tails: Tails = keep_tails(
            pixels.ring_values(self._data, self._mask),
            pixels.layout.start,
            pixels.layout.pixel,
            min_snr,
            # Two bytes do for most detectors' values, and for the places within any ring.
            self._data.dtype if self._data.dtype.itemsize <= 2 else np.float32,
            np.uint16 if largest_ring <= 1 << 16 else np.uint32,
        )

        self._packed = packed(self._tails)

    @property
    def nbytes(self) -> int:
        """Memory in bytes beyond the frame, the finder, and what frames of one mask share."""
        tails = self._tails
        others = (array for array in tails if not isinstance(array, tuple))
        return sum(array.nbytes for array in (*others, *tails.faint, *tails.bright))

    def find(self, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return what ``finder.find(frame, settings, max_n_peaks)`` does."""
        return self.find_all([settings], max_n_peaks)[0]

    def find_all(
        self, settings: Sequence[Settings], max_n_peaks: int = MAX_N_PEAKS
    ) -> list[PeakList]:
        """Return what `find` does for each parameter set, mostly in one compiled call.

        Settings that follow one of equal min_snr, threshold, min_res and max_res cost less.
        """
        fast = [each for each in settings if each.min_snr >= self._min_snr]
        found = (
            peaks
            for rows, stops in self._search(fast, max_n_peaks)
            for peaks in peak_lists(rows, stops)
        )
        return [
            next(found)
            if each.min_snr >= self._min_snr
            else self._finder.find(self._frame, each, max_n_peaks)
            for each in settings
        ]

    def count_all(
        self, settings: Sequence[Settings], max_n_peaks: int = MAX_N_PEAKS
    ) -> NDArray[np.int64]:
        """Return the lengths of the lists of `find_all`, for less than the lists.

        Parameter sets that differ by `min_pix_count` only are searched once, with the smallest:
        it decides which peaks are kept, and nothing else of them, unless there are more than
        `max_n_peaks`. The order of the sets does not matter.
        """
        counts = np.empty(len(settings), np.int64)
        groups: dict[tuple[object, ...], list[int]] = {}
        # Saturated peaks are dropped at last, so that nobody sees whether there were too many.
        shared = bool(np.isinf(self._finder.pixels.layout.max_adu).all())
        for number in sorted(range(len(settings)), key=lambda number: _order(settings[number])):
            each = settings[number]
            if each.min_snr < self._min_snr:
                counts[number] = len(self._finder.find(self._frame, each, max_n_peaks))
            else:
                key = *_order(each)[:-1], *(() if shared else (number,))
                groups.setdefault(key, []).append(number)
        waiting = list(groups.values())
        while waiting:
            found = self._search([settings[group[0]] for group in waiting], max_n_peaks)
            sizes = (
                rows[PEAK_ROWS.index("n_pixels"), start:stop]
                for rows, stops in found
                for start, stop in itertools.pairwise((0, *stops))
            )
            left = []
            for group, n_pixels in zip(waiting, sizes, strict=True):
                known = 1 if len(n_pixels) >= max_n_peaks else len(group)
                for number in group[:known]:
                    counts[number] = (n_pixels >= settings[number].min_pix_count).sum()
                left.append(group[known:])
            waiting = [group for group in left if group]
        return counts

    def _search(
        self, settings: Sequence[Settings], max_n_peaks: int
    ) -> Iterator[tuple[NDArray[np.float64], list[int]]]:
        """Yield the peaks of one parameter set after another, and where those of each end.

        As `search_tails` gives them, for as many sets at once as there is room for; the next
        ones overwrite them.
        """
        pixels = self._finder.pixels
        frame = self._data, self._mask, self._unusable
        rows, stops = settings_table(settings), np.empty(len(settings), np.int64)
        memory, peaks = pixels.memory(max_n_peaks, settings)
        while len(rows):
            n_done = search_tails(
                frame, self._packed, pixels.layout.arrays, rows, max_n_peaks, memory, peaks, stops
            )
            yield peaks, stops[:n_done].tolist()
            rows = rows[n_done:]


def _order(settings: Settings) -> tuple[float, ...]:
    """Return what sorts parameter sets with equal limits, then with equal peaks, together."""
    return (
        settings.min_snr,
        settings.threshold,
        *radii(settings),
        settings.local_bg_radius,
        settings.max_pix_count,
        settings.min_pix_count,
    )
