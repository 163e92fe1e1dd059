"""The peak searches of an evaluator: what was searched before is not searched again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from wrappers.indexing import Pattern
from wrappers.settings import Settings
from wrappers.workers.frame_pool import Pool

__all__ = ["REMEMBERED", "PeakSearches", "search_key"]

REMEMBERED = 32
"""Searches of the whole sample kept in memory; a list of a frame takes some kilobytes."""

Key = tuple[str | float, ...]


def search_key(settings: Settings) -> Key:
    """Return what decides the peaks: settings with equal keys share a search."""
    return (*settings.peak_key, *settings.mask_key)


class PeakSearches:
    """Searches frames in a pool, and remembers the last `REMEMBERED` searches.

    Parameters
    ----------
    pool : Pool
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[Key, dict[int, Pattern | str]] = OrderedDict()

    def forget(self) -> None:
        """Drop what is remembered."""
        self._known.clear()

    def search(
        self, settings: Sequence[Settings], frames: Sequence[int]
    ) -> list[dict[int, Pattern | str]]:
        """Return, for each settings, the peaks by frame, or why there are none.

        They are those with the geometry's own clen. Other frames that were searched before may
        be among them.
        """
        keys = [search_key(each) for each in settings]
        asked = dict(zip(keys, settings, strict=True))
        found = {key: self._known.pop(key, {}) for key in asked}
        new = {key: each for key, each in found.items() if not each.keys() >= {*frames}}
        missing = [i for i in frames if any(i not in each for each in new.values())]
        for i, peaks in self._pool.search(missing, [asked[key] for key in new]).items():
            for number, each in enumerate(new.values()):
                each[i] = peaks.failure or peaks.patterns[number]
        self._known.update(found)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return [found[key] for key in keys]
