"""The peaks that an evaluator has found: what was searched before is not searched again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from wrappers.indexing import Pattern
from wrappers.peakfinding.peak_batch import FramePeaks
from wrappers.settings import Settings

__all__ = ["REMEMBERED", "FoundPeaks", "search_key"]

REMEMBERED = 32
"""Searches of the whole sample kept in memory; a list of a frame takes some kilobytes."""

Key = tuple[str | float, ...]


def search_key(settings: Settings) -> Key:
    """Return what decides the peaks: settings with equal keys share a search."""
    return (*settings.peak_key, *settings.mask_key)


class FoundPeaks:
    """The peaks of the last `REMEMBERED` searches, with the frames' own camera lengths.

    Before a search `missing` says what to ask a pool for, afterwards `add` takes its answer and
    `of` has the peaks.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Key, dict[int, Pattern | str]] = OrderedDict()
        self._awaited: list[Key] = []

    def forget(self) -> None:
        """Drop everything."""
        self._known.clear()

    def missing(
        self, frames: Sequence[int], settings: Sequence[Settings]
    ) -> tuple[list[int], list[Settings]]:
        """Return the frames, and one parameter set for each search, that are not known yet.

        Parameters
        ----------
        frames : sequence of int
        settings : sequence of Settings
            At most `REMEMBERED`: they push older searches out.
        """
        wanted = {search_key(each): each for each in settings}
        for key in wanted:
            self._known[key] = self._known.pop(key, {})
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._awaited = [key for key in wanted if not self._known[key].keys() >= {*frames}]
        new = [i for i in frames if any(i not in self._known[key] for key in self._awaited)]
        return new, [wanted[key] for key in self._awaited]

    def add(self, found: Mapping[int, FramePeaks]) -> None:
        """Take what a pool found for the last `missing`."""
        for frame, peaks in found.items():
            for number, key in enumerate(self._awaited):
                self._known[key][frame] = peaks.failure or peaks.patterns[number]

    def of(self, frames: Sequence[int], settings: Settings) -> dict[int, Pattern | str]:
        """Return, by frame, the peaks, or why there are none."""
        known = self._known[search_key(settings)]
        return {frame: known[frame] for frame in frames}
