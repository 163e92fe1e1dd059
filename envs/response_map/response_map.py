"""The response map of one session: what is to be expected of every parameter set looked at.

Whether a frame is a hit its count says. Whether a hit is indexed is foretold by the frame's counts
or, once a lattice of the frame is known, by how many peaks are on its nodes and beside them
(`regression`, begun with what simulated experiments taught). What was measured takes the place of
what was foretold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from envs.look import FrameLook
from envs.response_map.features import (
    bright_peaks,
    count_features,
    descriptors,
    floor_of,
    lattice_features,
)
from envs.response_map.model import MapModel
from envs.response_map.regression import Outcomes, Posterior, Prior, update
from wrappers.settings import Settings

__all__ = ["FAILED", "INDEXED", "UNKNOWN", "Forecast", "Learnt", "ResponseMap"]

Floats = NDArray[np.float64]

FEWEST_PEAKS = 5
"""Shorter lists nobody indexes, whatever min_peaks is."""

UNKNOWN, FAILED, INDEXED = -1, 0, 1

DRAWS = 64


@dataclass(frozen=True, eq=False)
class Forecast:
    """What the map expects of its parameter sets.

    Attributes
    ----------
    rates : float array (n_draws, S)
        Share of the sample's frames that are indexed, drawn from what is known.
    hits : float array (S,)
        Share of them that are hits; this is counted, not expected.
    chance : float array (S,)
        Variance of a rate that luck with these frames adds, were they indexed now.
    frames : float array (F, S)
        Probability that a frame is indexed.
    """

    rates: Floats
    hits: Floats
    chance: Floats
    frames: Floats

    @property
    def mean(self) -> Floats:
        """Expected rate (S,)."""
        return np.asarray(self.rates.mean(axis=0))

    @property
    def sd(self) -> Floats:
        """Standard deviation (S,) of the rate that would be measured."""
        return np.asarray(np.sqrt(self.rates.var(axis=0) + self.chance))

    def merits(self, penalty: float) -> Floats:
        """Return the merits (n_draws, S); see `envs.objective.merit`."""
        return self.rates - penalty * (self.hits - self.rates)


class Learnt(NamedTuple):
    """What a map of F frames and S parameter sets has been told.

    Attributes
    ----------
    counts : uint16 array (F, S)
    outcome : int8 array (F, S)
        `UNKNOWN`, `FAILED` or `INDEXED`.
    own, other : uint16 array (F, S)
        Peaks on and beside the frames' lattices, where `lattice` (F,) says that there is one.
    lattice : bool array (F,)
    weights : float array (F,)
        How many frames of a random sample each stands for.
    """

    counts: NDArray[np.uint16]
    outcome: NDArray[np.int8]
    own: NDArray[np.uint16]
    other: NDArray[np.uint16]
    lattice: NDArray[np.bool_]
    weights: Floats


@dataclass
class ResponseMap:
    """A map under way: a look at frames, and what was learnt of them since.

    Attributes
    ----------
    look : FrameLook
        Of the sample; its sets are what the map is about. `extend` adds more.
    volume : float
        Of the primitive cell, in Å³.
    model : MapModel
    caution : float
        So many times as wide as on simulated experiments is the prior: above 1 for an indexer
        that no experiment was indexed with.
    """

    look: FrameLook
    volume: float
    model: MapModel
    caution: float = 1.0
    settings: list[Settings] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = list(self.look.settings)
        self._readable = self.look.readable
        self._counts = self.look.counts
        shape = self._counts.shape
        self._outcome = np.full(shape, UNKNOWN, np.int8)
        self._own, self._other = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        self._lattice = np.zeros(shape[0], bool)
        self._weights = np.ones(shape[0])
        self._row = {frame: row for row, frame in enumerate(self.look.frames)}
        floor = floor_of(self._counts[self._readable])
        self._bright = bright_peaks(self._counts, floor, self.settings)
        described = descriptors(
            self._counts[self._readable], self._bright[self._readable], self.volume
        )
        self.strangeness = self.model.strangeness(described)

    @property
    def learnt(self) -> Learnt:
        """What it goes by, as it stands."""
        return Learnt(
            self._counts, self._outcome, self._own, self._other, self._lattice, self._weights
        )

    @property
    def far(self) -> bool:
        """Whether the run is like none of the simulated experiments."""
        return self.strangeness > 1

    def column(self, settings: Settings) -> int | None:
        """Return which of the sets finds the same peaks and hits, or None."""
        for number, each in enumerate(self.settings):
            same = (each.peak_key, each.mask_key) == (settings.peak_key, settings.mask_key)
            if same and each.min_peaks == settings.min_peaks:
                return number
        return None

    def extend(self, look: FrameLook) -> None:
        """Add parameter sets that the same frames were looked at with."""
        n_frames, n = look.counts.shape
        nothing = np.zeros((n_frames, n), np.uint16)
        unknown = np.full((n_frames, n), UNKNOWN, np.int8)
        self.settings += look.settings
        self._counts = np.hstack([self._counts, look.counts])
        self._outcome = np.hstack([self._outcome, unknown])
        self._own = np.hstack([self._own, nothing])
        self._other = np.hstack([self._other, look.counts])

    def learn_lattices(
        self, frames: ArrayLike, own: ArrayLike, other: ArrayLike, first: int = 0
    ) -> None:
        """Take what lattices say: peaks (K, S) on and beside those of K frames.

        They are about the sets from `first` on.
        """
        rows = [self._row[frame] for frame in np.asarray(frames, int).tolist()]
        columns = slice(first, first + np.shape(own)[1])
        self._lattice[rows] = True
        self._own[rows, columns], self._other[rows, columns] = own, other

    def forget_outcomes(self) -> None:
        """Drop what became of the frames, to take it anew."""
        self._outcome[:] = UNKNOWN

    def learn_outcomes(self, column: int, frames: ArrayLike, indexed: ArrayLike) -> None:
        """Take what became of frames with one of the sets."""
        rows = [self._row[frame] for frame in np.asarray(frames, int).tolist()]
        self._outcome[rows, column] = np.where(np.asarray(indexed, bool), INDEXED, FAILED)

    def weigh(self, frames: ArrayLike, weights: ArrayLike) -> None:
        """Take how many frames of the run each frame of the sample stands for."""
        rows = [self._row[frame] for frame in np.asarray(frames, int).tolist()]
        self._weights[rows] = weights

    def forecast(self, seed: int = 0, n_draws: int = DRAWS) -> Forecast:
        """Return what is to be expected now; equal seeds draw alike."""
        rng = np.random.default_rng(seed)
        least = np.array([max(each.min_peaks, FEWEST_PEAKS) for each in self.settings])
        hit = (self._counts >= least) & self._readable[:, None]
        wide = self.caution * max(1.0, self.strangeness)
        x = count_features(
            self._counts, floor_of(self._counts[self._readable]), self._bright, self.volume
        )
        everybody = np.ones(len(x), bool)
        probability = self._drawn(x, hit, everybody, self.model.counts.widened(wide), rng, n_draws)
        if self._lattice.any():
            known = self._lattice
            x = lattice_features(self._own, self._other, self.volume)
            drawn = self._drawn(x, hit, known, self.model.lattices.widened(wide), rng, n_draws)
            probability[:, known] = drawn[:, known]
        measured = self._outcome != UNKNOWN
        probability *= hit
        probability = np.where(measured, self._outcome == INDEXED, probability)
        share = self._weights * self._readable
        share /= max(share.sum(), 1e-9)
        luck = np.where(measured, 0.0, probability * (1 - probability)).mean(axis=0)
        return Forecast(
            rates=np.einsum("f,kfs->ks", share, probability),
            hits=share @ hit,
            chance=share**2 @ luck,
            frames=probability.mean(axis=0),
        )

    def _drawn(
        self,
        x: Floats,
        hit: NDArray[np.bool_],
        rows: NDArray[np.bool_],
        prior: Prior,
        rng: np.random.Generator,
        n_draws: int,
    ) -> NDArray[np.float64]:
        """Return the probability (n_draws, F, S) that each list is indexed, hit or not."""
        seen = (self._outcome != UNKNOWN) & hit & rows[:, None]
        frame, column = np.nonzero(seen)
        outcomes = Outcomes(
            x[frame, column], self._outcome[frame, column] == INDEXED, frame, len(x)
        )
        posterior: Posterior = update(prior, outcomes)
        weights, levels = posterior.draws(n_draws, rng)
        return np.asarray(expit(np.einsum("kp,fsp->kfs", weights, x) + levels[:, :, None]))
