"""What one process of a pool holds: the frames that it has read, and an indexer."""

from __future__ import annotations

from collections.abc import Sequence

from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexer, Indexing, Pattern, unheard
from wrappers.lattices.own_peaks import FrameLattices, FrameSplit, split_peaks
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.peak_batch import Finders, FrameCounts, FramePeaks, PeakBatch
from wrappers.settings import Settings

__all__ = ["FrameWorker"]


class FrameWorker:
    """Finds peaks and indexes, in one thread.

    Parameters
    ----------
    run : FrameSource
    finder : Finders
        Of the run's geometry.
    indexer : Indexer or None
        None where only peaks are wanted.
    memory : float
        Bytes that may be taken to keep frames ready for further settings.
    """

    def __init__(
        self, run: FrameSource, finder: Finders, indexer: Indexer | None, memory: float
    ) -> None:
        self._indexer, self._geometry = indexer, run.geometry
        mask = SettingsMask(run.geometry, run.bad_pixels)
        self._batch = PeakBatch(finder, run, memory=memory, masked=mask.on)

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> list[FramePeaks]:
        """Return, frame by frame, the peaks for each parameter set, or why there are none."""
        return list(self._batch.search(frames, settings))

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> list[FrameCounts]:
        """Return, frame by frame, the number of peaks for each parameter set."""
        return list(self._batch.count(frames, settings))

    def split(
        self, lattices: Sequence[FrameLattices], settings: Sequence[Settings]
    ) -> list[FrameSplit]:
        """Return, frame by frame, how many of the peaks of each set are on its lattices."""
        found = self._batch.search([each.frame for each in lattices], settings)
        return [
            split_peaks(peaks, each, self._geometry)
            for peaks, each in zip(found, lattices, strict=True)
        ]

    def index(
        self, patterns: Sequence[Pattern], done: Done = unheard, indexer: Indexer | None = None
    ) -> list[Indexing]:
        """Index the patterns, in order, with another indexer than the own if one is given."""
        indexer = indexer or self._indexer
        if indexer is None:
            raise ValueError("this pool was made without an indexer")
        return indexer.index(patterns, done)
