"""A random sample of the frames of a stream, whose length nobody knows beforehand."""

from __future__ import annotations

import random

from tuner.apply.applying import FEWEST_PEAKS, VetoCheck
from wrappers.indexing import Indexer, Pattern
from wrappers.reduction.placed import Placed

__all__ = ["PeakSample"]


class PeakSample:
    """Keeps the peaks of some frames, hits or not, of which each has the same chance to be kept.

    Parameters
    ----------
    indexer : Indexer
    n : int
        Frames that are kept.
    """

    def __init__(self, indexer: Indexer, n: int) -> None:
        self._indexer, self._n, self._seen = indexer, n, 0
        self._kept: list[tuple[Pattern, bool]] = []
        self._random = random.Random(0)

    def add(self, placed: Placed) -> None:
        """Take one more frame, perhaps in the place of another (Vitter's algorithm R)."""
        place = self._random.randrange(self._seen + 1)
        self._seen += 1
        if len(self._kept) < self._n:
            self._kept.append((placed.pattern, placed.is_hit))
        elif place < self._n:
            self._kept[place] = placed.pattern, placed.is_hit

    def check(self) -> VetoCheck:
        """Index the frames that are kept, those that the veto dropped included.

        Raises
        ------
        ProgramError
            If the indexer cannot be run.
        """
        tried = [each for each in self._kept if each[1] or len(each[0].peaks) >= FEWEST_PEAKS]
        answers = self._indexer.index([pattern for pattern, _ in tried])
        indexed = [
            is_hit for (_, is_hit), answer in zip(tried, answers, strict=True) if answer.indexed
        ]
        n_kept = sum(indexed)
        return VetoCheck(len(self._kept), n_kept, len(indexed) - n_kept, self._indexer.name)
