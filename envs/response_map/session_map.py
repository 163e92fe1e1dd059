"""The response map of one session: what is to be expected of every parameter set looked at.

Whether a frame is a hit its count says. Whether a hit is indexed is predicted by the frame's counts
or, once a lattice of the frame is known, by how many peaks are on its nodes and beside them
(`regression`, begun with what simulated experiments taught). What was measured takes the place of
what was predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from envs.look import FrameLook, Looks
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

__all__ = ["DRAWS", "FAILED", "INDEXED", "UNKNOWN", "Forecast", "Learnt", "ResponseMap"]

Floats = NDArray[np.float64]

FEWEST_PEAKS = 5
"""Shorter lists nobody indexes, whatever min_peaks is."""

UNKNOWN, FAILED, INDEXED = -1, 0, 1

DRAWS = 64

SCATTER = 0.6
"""How far off the map is on experiments that no fit saw, in units of its draws' scatter
(`python -m experiments.response_map --folds 4`). Proposals go by the whole scatter."""


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
        return np.asarray(np.sqrt(SCATTER**2 * self.rates.var(axis=0) + self.chance))

    def merits(self, penalty: float) -> Floats:
        """Return the merits (n_draws, S); see `envs.objective.merit`."""
        return self.rates - penalty * (self.hits - self.rates)

    def cautious_merits(self, penalty: float) -> Floats:
        """Return the expected merits (S,) less their errors: what may be a flood is not liked.

        Where few frames have crystals, lists of noise are unlike most that the model was fitted to,
        and it expects a third of them to be indexed, give or take a third.
        """
        merits = self.merits(penalty)
        return np.asarray(merits.mean(axis=0) - merits.std(axis=0))

    def joined(self, more: Forecast) -> Forecast:
        """Return the forecast of these sets and of more, drawn with the same seed."""
        return Forecast(
            np.hstack([self.rates, more.rates]),
            np.hstack([self.hits, more.hits]),
            np.hstack([self.chance, more.chance]),
            np.hstack([self.frames, more.frames]),
        )


class Learnt(NamedTuple):
    """What a map of F frames and S parameter sets has learnt.

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
    indexer : str
        Of `model.INDEXERS`: whose outcomes are predicted.
    """

    look: FrameLook
    volume: float
    model: MapModel
    indexer: str = "fast"
    settings: list[Settings] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = list(self.look.settings)
        self._place: dict[tuple[object, ...], int] = {}
        self._note_places(0)
        self._readable = self.look.readable
        self._counts = self.look.counts
        shape = self._counts.shape
        self._outcome = np.full(shape, UNKNOWN, np.int8)
        self._own, self._other = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        self._lattice = np.zeros(shape[0], bool)
        weights = self.look.weights or np.ones(shape[0])
        self._weights = np.where(self._readable, weights, 0.0)
        self._row = {frame: row for row, frame in enumerate(self.look.frames)}
        self._bright = bright_peaks(self._counts, self._floor(self._counts), self.settings)
        described = descriptors(
            self._counts[self._readable],
            self._bright[self._readable],
            self.volume,
            self._weights[self._readable],
            self.settings,
        )
        self.strangeness = self.model.strangeness(described)

    @classmethod
    def begun(cls, look: FrameLook, evaluator: Looks, model: MapModel | None = None) -> ResponseMap:
        """Return the map of what an evaluator looked at, with its indexer's part of a model.

        The shipped model is the default.
        """
        indexer = "fast" if evaluator.embedded else "crystfel"
        return cls(look, evaluator.primitive_volume, model or MapModel.shipped(), indexer)

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
        return self._place.get(_finds(settings))

    def _note_places(self, first: int) -> None:
        for number, settings in enumerate(self.settings[first:], first):
            self._place.setdefault(_finds(settings), number)

    def extend(self, look: FrameLook) -> None:
        """Add parameter sets that the same frames were looked at with."""
        n_frames, n = look.counts.shape
        nothing = np.zeros((n_frames, n), np.uint16)
        unknown = np.full((n_frames, n), UNKNOWN, np.int8)
        self.settings += look.settings
        self._note_places(len(self.settings) - len(look.settings))
        self._counts = np.hstack([self._counts, look.counts])
        self._outcome = np.hstack([self._outcome, unknown])
        self._own = np.hstack([self._own, nothing])
        self._other = np.hstack([self._other, look.counts])

    def forget(self, first: int) -> None:
        """Drop the parameter sets from `first` on."""
        self._take([*range(first)])

    def keep(self, settings: Sequence[Settings]) -> None:
        """Drop all but some parameter sets; what a frame is like was read off all of them."""
        self._take([place for each in settings if (place := self.column(each)) is not None])

    def _take(self, columns: list[int]) -> None:
        self.settings = [self.settings[column] for column in columns]
        self._place = {}
        self._note_places(0)
        self._counts, self._outcome = self._counts[:, columns], self._outcome[:, columns]
        self._own, self._other = self._own[:, columns], self._other[:, columns]

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

    def forecast(self, seed: int = 0, n_draws: int = DRAWS, first: int = 0) -> Forecast:
        """Return what is to be expected now, of the sets from `first` on; equal seeds draw alike.

        What is drawn for a set does not depend on which others are asked for.
        """
        columns = np.arange(first, len(self.settings))
        probability, measured = self._drawn(columns, seed, n_draws)
        share = self._weights / max(self._weights.sum(), 1e-9)
        return Forecast(
            rates=np.einsum("f,kfs->ks", share, probability),
            hits=share @ self._hits(columns),
            chance=share**2 @ _luck(probability, measured),
            frames=probability.mean(axis=0),
        )

    def expected(self, column: int, frames: ArrayLike, seed: int = 0) -> tuple[float, float]:
        """Return the rate that one set is expected to have on some of the frames, and its error."""
        rows = [self._row[frame] for frame in np.asarray(frames, int).tolist()]
        probability, measured = self._drawn(np.array([column]), seed, DRAWS)
        probability, share = probability[:, rows], self._weights[rows]
        share = share / max(share.sum(), 1e-9)
        rates = probability[:, :, 0] @ share
        chance = share**2 @ _luck(probability, measured[rows])[:, 0]
        return float(rates.mean()), float(np.sqrt(SCATTER**2 * rates.var() + chance))

    def _drawn(
        self, columns: NDArray[np.intp], seed: int, n_draws: int
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the probability (n_draws, F, K) that frames are indexed, and what is measured."""
        rng = np.random.default_rng(seed)
        wide = max(1.0, self.strangeness)
        priors = self.model.priors[self.indexer]
        everybody = np.ones(len(self._counts), bool)
        prior = priors.counts.widened(wide)
        probability = self._predicted(self._count_features, everybody, prior, columns, rng, n_draws)
        if self._lattice.any():
            known, prior = self._lattice, priors.lattices.widened(wide)
            drawn = self._predicted(self._lattice_features, known, prior, columns, rng, n_draws)
            probability[:, known] = drawn[:, known]
        probability *= self._hits(columns)
        outcome = self._outcome[:, columns]
        measured = outcome != UNKNOWN
        return np.where(measured, outcome == INDEXED, probability), measured

    def _predicted(
        self,
        features: Callable[[NDArray[np.intp]], Floats],
        rows: NDArray[np.bool_],
        prior: Prior,
        columns: NDArray[np.intp],
        rng: np.random.Generator,
        n_draws: int,
    ) -> Floats:
        """Return the probability (n_draws, F, K) that each list is indexed, hit or not."""
        outcomes = self._seen(features, rows)
        posterior: Posterior = update(prior, outcomes)
        weights, levels = posterior.draws(n_draws, rng)
        x = features(columns)
        odds = (x.reshape(-1, x.shape[-1]) @ weights.T).reshape(*x.shape[:2], n_draws)
        return np.asarray(expit(np.moveaxis(odds, -1, 0) + levels[:, :, None]))

    def _seen(
        self, features: Callable[[NDArray[np.intp]], Floats], rows: NDArray[np.bool_]
    ) -> Outcomes:
        """Return what became of the hits of some frames."""
        seen = (self._outcome != UNKNOWN) & rows[:, None]
        tried = np.flatnonzero(seen.any(axis=0))
        frame, place = np.nonzero(seen[:, tried] & self._hits(tried))
        indexed = self._outcome[frame, tried[place]] == INDEXED
        return Outcomes(features(tried)[frame, place], indexed, frame, len(rows))

    def outcomes(self) -> tuple[Outcomes, Outcomes]:
        """Return what became of the hits, by the counts of all frames and by known lattices."""
        everybody = np.ones(len(self._counts), bool)
        return (
            self._seen(self._count_features, everybody),
            self._seen(self._lattice_features, self._lattice),
        )

    def _hits(self, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
        least = np.array([max(self.settings[n].min_peaks, FEWEST_PEAKS) for n in columns])
        return (self._counts[:, columns] >= least) & self._readable[:, None]

    def _floor(self, counts: NDArray[np.uint16]) -> Floats:
        return floor_of(counts[self._readable], self._weights[self._readable])

    def _count_features(self, columns: NDArray[np.intp]) -> Floats:
        counts = self._counts[:, columns]
        return count_features(counts, self._floor(counts), self._bright, self.volume)

    def _lattice_features(self, columns: NDArray[np.intp]) -> Floats:
        return lattice_features(self._own[:, columns], self._other[:, columns], self.volume)


def _finds(settings: Settings) -> tuple[object, ...]:
    """Return what decides which peaks are found, and whether they are a hit."""
    return settings.peak_key, settings.mask_key, settings.min_peaks


def _luck(probability: Floats, measured: NDArray[np.bool_]) -> Floats:
    """Return the variance (F, K) of whether frames are indexed, once the probability is known."""
    return np.asarray(np.where(measured, 0.0, probability * (1 - probability)).mean(axis=0))
