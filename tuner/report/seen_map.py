"""A session's response map as its report goes by it: what is expected, what is noise, what is good.

It is the session's own (`envs.response_map.stored`), as its last trial left it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.response_map.features import floor_of
from envs.response_map.model import MapModel
from envs.response_map.session_map import DRAWS, Forecast, ResponseMap
from envs.response_map.stored import MAP_FILE, read_map
from tuner.report.findings import Findings
from tuner.searchers import SEARCHERS
from tuner.session.config import SessionConfig
from tuner.session.racing import INDIFFERENCE
from tuner.session.request import begun_with
from wrappers.errors import InputError
from wrappers.settings import Settings

__all__ = ["SeenMap", "noise_of", "seen_map"]

Floats = NDArray[np.float64]

MAY_BE = 0.05
"""Probability that a set is as good as the best, below which it is taken to be worse."""

FEWEST_LATTICES = 3
"""Frames with a lattice from which on the peaks beside lattices tell the noise."""

FEWEST_DRAWS, MOST_DRAWN = 8, 2e7
"""What is drawn of the forecast for each set and frame, and all of it: 160 MB."""


@dataclass(frozen=True, eq=False)
class SeenMap:
    """A session's map, and what it expects.

    Attributes
    ----------
    found : ResponseMap
    forecast : Forecast
    merits : float array (n_draws, S)
        Merit of each of its sets, drawn from what is known.
    noise : float array (S,)
        Peaks that a frame shows without a crystal; see `noise_of`.
    """

    found: ResponseMap
    forecast: Forecast
    merits: Floats
    noise: Floats

    @property
    def settings(self) -> list[Settings]:
        """Its sets."""
        return self.found.settings

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which sets (S,) may be as good as the best: what they lack nobody would notice."""
        least = self.merits.mean(axis=0).max() - INDIFFERENCE
        return np.asarray((self.merits > least).mean(axis=0) > MAY_BE)

    @property
    def flooded(self) -> NDArray[np.bool_]:
        """With which sets (S,) noise alone makes a frame a hit."""
        least = np.array([max(each.min_peaks, 1) for each in self.settings])
        return np.asarray(self.noise >= least)


def seen_map(found: Findings) -> SeenMap | str | None:
    """Return the map that a session has kept, why it cannot be read, or None if it made none."""
    path = found.store.directory / MAP_FILE
    if not path.exists():
        return None
    config = found.store.config
    try:
        kept = read_map(path, _own_model(config))
    except InputError as error:
        return str(error)
    n_known = len(kept.settings) * len(kept.look.frames)
    forecast = kept.forecast(config.seed, int(np.clip(MOST_DRAWN / n_known, FEWEST_DRAWS, DRAWS)))
    merits = forecast.merits(config.merit.unindexed_hit_penalty)
    return SeenMap(kept, forecast, merits, noise_of(kept))


def _own_model(config: SessionConfig) -> MapModel | None:
    """Return the model of the session's own policy, where that has one; None: the shipped one."""
    if config.searcher not in SEARCHERS:
        return None  # it was retired since, and had none
    policy = begun_with(config)[0].read_policy()
    return policy.model if policy is not None else None


def noise_of(found: ResponseMap) -> Floats:
    """Return how many peaks (S,) a frame shows with each set without a crystal.

    It is what a blank frame shows, but no more than is beside the lattice of a frame that has one,
    in the middle of such frames: in some runs no frame is blank.
    """
    learnt = found.learnt
    readable = found.look.readable
    floor = floor_of(learnt.counts[readable], learnt.weights[readable])
    if learnt.lattice.sum() >= FEWEST_LATTICES:
        return np.minimum(floor, np.median(learnt.other[learnt.lattice], axis=0))
    return floor
