"""The sets of a night, and which frames index with which of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from envs.evaluators.live import LiveEvaluator
from tuner.apply.applying import named_set, session_cell, session_indexer
from tuner.cells.search import usual_settings
from tuner.closed_loop.events import Pairs
from tuner.closed_loop.evidence import CLEN_OFF, PIXELS_OFF
from tuner.recommendation import Recommendation, read_recommendation
from tuner.session.store import SessionStore
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import needs_map
from wrappers.reduction import SettingsSet
from wrappers.settings import Settings

__all__ = [
    "FIRST",
    "NightSet",
    "compared",
    "differ_in_place",
    "indexed_frames",
    "measured_frames",
]

FIRST = 10
"""Frames that say what is customary for them."""


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
            return SettingsSet(usual_settings(run, range(len(run))[:FIRST]), "customary")
        return named_set(self.recommendation, run)

    def bad_pixels(self, geometry: Geometry) -> BadPixelMap | None:
        """Return the session's map of bad pixels, where its set needs one."""
        if self.recommendation is None or not needs_map(self.recommendation.settings):
            return None
        path = Path(str(self.recommendation.provenance.get("bad_pixels")))
        return BadPixelMap.load(path, geometry)

    @property
    def indexing(self) -> tuple[Cell, IndexerChoice] | None:
        """The session's cell and indexer; None where there is none."""
        if self.recommendation is None:
            return None
        cell = session_cell(self.recommendation)
        return None if cell is None else (Cell.read(cell), session_indexer(self.recommendation))


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
            masked = run.with_bad_pixels(each.bad_pixels(run.geometry))
            settings = each.of(run).settings
            with LiveEvaluator(
                masked,
                cell,
                indexer,
                frames,
                jobs=jobs,
                max_decoys=0,
                memory=0,
                finder=settings.peak_finder,
            ) as evaluator:
                outcomes = evaluator.evaluate(settings).outcomes
            found.append(frozenset(each.frame for each in outcomes if each.indexed))
    return found


def measured_frames(
    session: Path, sets: Sequence[Settings]
) -> tuple[frozenset[int], list[frozenset[int]]]:
    """Return the frames that a session has measured all of some sets on, and which index with each.

    Raises
    ------
    InputError
        If the session cannot be read.
    """
    evaluations = [trial.evaluation for trial in SessionStore.open(session).trials]
    found = [
        {each.frame: each.indexed for e in evaluations if e.settings == one for each in e.outcomes}
        for one in sets
    ]
    frames = frozenset.intersection(*map(frozenset, found))
    return frames, [frozenset(frame for frame in frames if each[frame]) for each in found]


def differ_in_place(one: Settings, other: Settings, run: FrameSource) -> bool:
    """Return whether two sets put the detector of a run to different places."""
    nominal, pixel = run.nominal_clen, 1 / run.geometry.panels[0].res
    lengths = [nominal + each.clen_change(nominal) for each in (one, other)]
    aside = math.hypot(one.shift_x - other.shift_x, one.shift_y - other.shift_y)
    return abs(lengths[1] / lengths[0] - 1) > CLEN_OFF or aside > PIXELS_OFF * pixel


def compared(old: frozenset[int], new: frozenset[int], n: int) -> Pairs:
    """Return what two sets come to on the same `n` frames."""
    return Pairs(n, len(new - old), len(old - new), len(old & new))
