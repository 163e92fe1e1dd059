"""What is measured of a block: its light, and which of its frames index with which set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from envs.evaluators.live import LiveEvaluator
from tuner.apply.applying import named_set, session_cell, session_indexer
from tuner.cells.search import usual_settings
from tuner.closed_loop.events import Pairs
from tuner.recommendation import Recommendation, read_recommendation
from wrappers.cell import Cell
from wrappers.errors import InputError
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.bad_pixels import with_needed_map
from wrappers.masks.settings_mask import needs_map
from wrappers.reduction import SettingsSet

__all__ = ["NightSet", "compared", "indexed_frames", "light", "spread_over"]

LOOKED_AT = 10
"""Frames of a block whose light is looked at."""
EVERY = 7
"""Pixel along each axis that is."""


@dataclass(frozen=True)
class NightSet:
    """A set of a night, as good for any block.

    Attributes
    ----------
    number : int
        Of the session; 0 for what is customary.
    recommendation : Recommendation or None
        None for what is customary.
    """

    number: int
    recommendation: Recommendation | None = None

    @classmethod
    def read(cls, number: int, session: Path) -> Self:
        """Read what a session recommends.

        Raises
        ------
        InputError
            If it recommends nothing, or its file cannot be read.
        """
        return cls(number, read_recommendation(session))

    def of(self, run: FrameSource) -> SettingsSet:
        """Return the set for the frames of a block."""
        if self.recommendation is None:
            return SettingsSet(usual_settings(run, range(len(run))[:LOOKED_AT]), "customary")
        return named_set(self.recommendation, run)

    def prepared(self, run: FrameSource, jobs: int) -> FrameSource:
        """Return the frames with the map of bad pixels that the set needs: the session's own."""
        settings = self.of(run).settings
        if not needs_map(settings):
            return run
        path = self.recommendation and self.recommendation.provenance.get("bad_pixels")
        if path and Path(str(path)).is_file():
            return run.with_bad_pixels(BadPixelMap.load(Path(str(path)), run.geometry))
        return with_needed_map(run, settings, jobs=jobs)

    @property
    def indexing(self) -> tuple[Cell, IndexerChoice] | None:
        """The session's cell and indexer; None where there is none."""
        if self.recommendation is None:
            return None
        cell = session_cell(self.recommendation)
        return None if cell is None else (Cell.read(cell), session_indexer(self.recommendation))


def light(run: FrameSource) -> list[float]:
    """Return the mean of the usable pixels of some frames of a block, those that can be read."""
    levels = []
    for index in spread_over(len(run), LOOKED_AT):
        try:
            frame = run[index]
        except InputError:
            continue
        # Of the same pixels in each frame, and of one usable pixel in fifty.
        used = frame.mask[::EVERY, ::EVERY]
        if used.any():
            levels.append(float(np.mean(frame.data[::EVERY, ::EVERY][used], dtype=np.float64)))
    return levels


def indexed_frames(
    run: FrameSource, sets: Sequence[NightSet], frames: Sequence[int], *, jobs: int
) -> list[frozenset[int]]:
    """Return which frames index with each of some sets, by the last one's cell and indexer.

    Parameters
    ----------
    run : FrameSource
    sets : sequence of NightSet
    frames : sequence of int
    jobs : int
        Processes.

    Raises
    ------
    InputError
        If that set has no cell, or the frames cannot be used.
    ProgramError
        If the indexer cannot be run.
    """
    known = sets[-1].indexing
    if known is None:
        raise InputError("nothing can be indexed: the cell of the session is gone")
    cell, choice = known
    with closing(make_indexer(choice, run.geometry, cell, jobs=jobs)) as indexer:
        found = []
        for each in sets:
            prepared = each.prepared(run, jobs)
            with LiveEvaluator(
                prepared, cell, indexer, frames, jobs=jobs, max_decoys=0, memory=0
            ) as evaluator:
                outcomes = evaluator.evaluate(each.of(run).settings).outcomes
            found.append(frozenset(each.frame for each in outcomes if each.indexed))
    return found


def compared(old: frozenset[int], new: frozenset[int], n: int) -> Pairs:
    """Return what two sets come to on the same `n` frames."""
    return Pairs(n, len(new - old), len(old - new))


def spread_over(n: int, most: int) -> list[int]:
    """Return up to `most` indices, evenly spread over `n`."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()
