"""The response map of a session under way: what it was told, and what may be measured next.

It is fed with evaluations, asks the evaluator for the lattices behind them, and can look at more
parameter sets around the best one. What to measure is for others to say: the map's own rule
(`tuner.search.map_searcher`) or the trained agent (`tuner.map_agent`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from envs.evaluation import Evaluation
from envs.geometry_rule import FEWEST_INDEXED, GEOMETRY, MISLEADING, GeometryLock, near_geometry
from envs.look import Looks, look_design
from envs.parameter_space import ParameterSpace
from envs.response_map.model import MapModel
from envs.response_map.session_map import DRAWS, Forecast, ResponseMap
from envs.response_map.stored import write_map
from wrappers.settings import Settings

__all__ = ["MapSession"]

Floats = NDArray[np.float64]

ALIKE = 0.05
"""Mean relative difference of the hits' numbers of peaks, below which sets index the same: of eight
proposals that were so close to an earlier one, on two runs, none had indexed another frame."""

NEIGHBOURS = 64
NEAR = 0.18
"""Half-width, in the unit cube, of where neighbours of the map's best set are looked at."""


class MapSession:
    """A map, kept up with a session's evaluations.

    Parameters
    ----------
    looks : Looks
        The evaluator.
    space : ParameterSpace
    seed : int
        Of the draws, and of where neighbours are looked at.
    penalty : float
        For a hit that is not indexed, in indexed frames.
    sets : sequence of Settings, optional
        What the map is about, of what is looked at; all by default.
    n_draws : int
        Of every forecast.
    n_neighbours : int
        Looked at around the map's best set, after every evaluation.
    model : MapModel, optional
        The shipped one by default.
    """

    def __init__(
        self,
        looks: Looks,
        space: ParameterSpace,
        *,
        seed: int,
        penalty: float,
        sets: Sequence[Settings] | None = None,
        n_draws: int = DRAWS,
        n_neighbours: int = NEIGHBOURS,
        model: MapModel | None = None,
    ) -> None:
        self.space, self.seed, self.penalty = space, seed, penalty
        self._sets, self._n_draws, self._n_neighbours = sets, n_draws, n_neighbours
        self._model = model
        self.indexer = "fast" if looks.embedded else "crystfel"
        self._looks = looks
        self._map: ResponseMap | None = None
        self._lock = GeometryLock(space)
        self.evaluations: list[tuple[Evaluation, float]] = []
        self.tried: dict[int, Evaluation] = {}
        self._sources: dict[Settings, tuple[int, ...]] = {}

    @property
    def map(self) -> ResponseMap:
        """The map as it stands; the frames are looked at when it is first asked for."""
        if self._map is None:
            look = self._looks.look(look_design(self.space))
            self._map = ResponseMap.begun(look, self._looks, self._model)
            if self._sets is not None:
                self._map.keep(self._sets)
        return self._map

    def ingest(self, evaluation: Evaluation, merit: float) -> None:
        """Learn what became of the frames; what it means for other sets is worked out later."""
        self._lock.observe(evaluation, merit)
        self.evaluations.append((evaluation, merit))

    def keep_map(self, path: Path) -> None:
        """Write the map with all that was ingested; nothing before the frames were looked at."""
        if self._map is not None:
            self.learn()
            write_map(path, self._map)

    @property
    def geometry(self) -> dict[str, float]:
        """The geometry of the best evaluation; what the lattices fix is the session's."""
        names = [name for name in GEOMETRY if name in self.space.names]
        indexing = [
            (evaluation.n_frames, merit, number)
            for number, (evaluation, merit) in enumerate(self.evaluations)
            if evaluation.n_indexed >= FEWEST_INDEXED
        ]
        best = self.evaluations[max(indexing)[-1]][0].settings if indexing else self.space.base
        return {name: getattr(best, name) for name in names}

    def learn(self) -> dict[int, Evaluation]:
        """Take all outcomes near the geometry that the lattices fix; return them by set.

        Where they fix none, it is that of the best evaluation. Of a set that was measured more
        than once it is the evaluation on the most frames. They stay in `tried`.
        """
        self.map.forget_outcomes()
        where = {**self.geometry, **self._lock.fixed}
        tried: dict[int, Evaluation] = {}
        for evaluation, _ in self.evaluations:
            settings = evaluation.settings
            if evaluation.failure or not near_geometry(settings, where, self.space, MISLEADING):
                continue
            column = self.map.column(settings)
            if column is None:
                self._extend([settings])
                column = len(self.map.settings) - 1
            answered = [each for each in evaluation.outcomes if not each.failure]
            self.map.learn_outcomes(
                column, [each.frame for each in answered], [each.indexed for each in answered]
            )
            if evaluation.n_indexed:
                self.learn_lattices(settings)
            if column not in tried or evaluation.n_frames > tried[column].n_frames:
                tried[column] = evaluation
        self.tried = tried
        return tried

    def expect(self, tried: Mapping[int, Evaluation], before: Forecast | None = None) -> Forecast:
        """Return what is to be expected of all the map's sets.

        Parameters
        ----------
        tried : mapping of int to Evaluation
            What was measured, by set; the map has learnt of it.
        before : Forecast, optional
            What was expected of the first of them.
        """
        if before is None:
            return self.map.forecast(self.seed, self._n_draws)
        more = self.map.forecast(self.seed, self._n_draws, first=len(before.hits))
        return before.joined(more)

    def learn_lattices(self, source: Settings) -> bool:
        """Have the lattices of frames that have none yet, from a set's peaks; say if there are."""
        if source in self._sources:
            return False
        known = {frame for frames in self._sources.values() for frame in frames}
        unknown = [frame for frame in self.map.look.frames if frame not in known]
        found = self._looks.lattice_counts(source, self.map.settings, unknown)
        self._sources[source] = found.frames
        self.map.learn_lattices(found.frames, found.own, found.other)
        return bool(found.frames)

    def survey(self) -> tuple[Forecast, Floats]:
        """Return what is expected of all sets, and the portion (S,) that each was measured on.

        Once something was measured, more sets are looked at around the best one. For CrystFEL's
        sessions the embedded indexer's lattices are asked for first.
        """
        tried = self.learn()
        forecast = self.expect(tried)
        if self.indexer != "fast":
            forecast = self._after_cheap_rung(tried, forecast)
        liked = self.map.settings[int(np.argmax(forecast.cautious_merits(self.penalty)))]
        if tried and self._look_nearby(liked):
            forecast = self.expect(tried, forecast)
        portion = np.zeros(len(self.map.settings))
        for column, evaluation in tried.items():
            portion[column] = evaluation.n_frames / len(self.map.look.frames)
        return forecast, portion

    def _after_cheap_rung(self, tried: Mapping[int, Evaluation], forecast: Forecast) -> Forecast:
        """Have the embedded indexer's lattices of the sets that matter; return the new forecast.

        They are the surest set, the best expected and the most promising one. Frames that have a
        lattice are not asked again, so it takes a small part of what CrystFEL does for one set.
        """
        for sigmas in (-1, 0, 1):
            merits = forecast.merits(self.penalty)
            promise = merits.mean(axis=0) + sigmas * merits.std(axis=0)
            if self.learn_lattices(self.map.settings[int(np.argmax(promise))]):
                forecast = self.expect(tried)
        return forecast

    def like_any(self, columns: Iterable[int]) -> NDArray[np.bool_]:
        """Return which sets (S,) find next to the same peaks as one of some."""
        counts = self.map.learnt.counts
        least = np.array([each.min_peaks for each in self.map.settings])
        hits = counts >= least
        logs = np.log1p(counts.astype(float))
        alike = np.zeros(len(least), bool)
        for column in columns:
            its = hits[:, column]
            away = np.abs(logs - logs[:, [column]])[its].sum(axis=0)
            alike |= (hits == its[:, None]).all(axis=0) & (away <= ALIKE * its.sum())
        return alike

    def possible(self, columns: Iterable[int]) -> NDArray[np.bool_]:
        """Return which sets (S,) are worth measuring: unlike some, and none that has failed."""
        found = ~self.like_any(columns)
        for evaluation, _ in self.evaluations:
            column = self.map.column(evaluation.settings)
            if evaluation.failure and column is not None:
                found[column] = False
        return found

    def points(self) -> Floats:
        """Return the map's sets (S, D) in the unit cube of what is tuned beside the geometry."""
        free = [n for n, name in enumerate(self.space.names) if name not in GEOMETRY]
        return np.array([self.space.encode(each)[free] for each in self.map.settings])

    def _look_nearby(self, liked: Settings) -> bool:
        """Look at more sets around one, in all that is tuned; say whether there are any."""
        space = self.space
        free = [n for n, name in enumerate(space.names) if name not in GEOMETRY]
        if not free or not self._n_neighbours:
            return False
        centre = space.encode(liked)
        new: dict[Settings, None] = {}
        sobol = qmc.Sobol(len(free), rng=self.seed + len(self.evaluations))
        for unit in sobol.random(self._n_neighbours):
            point = centre.copy()
            point[free] = np.clip(centre[free] + NEAR * (2 * unit - 1), 0, 1)
            settings = _executable(space.decode(point))
            if self.map.column(settings) is None:
                new[settings] = None
        self._extend([*new])
        return bool(new)

    def _extend(self, new: Sequence[Settings]) -> None:
        if not new:
            return
        look = self._looks.look(new)
        self.map.extend(look)
        first = len(self.map.settings) - len(new)
        for source, frames in self._sources.items():
            found = self._looks.lattice_counts(source, new, frames)
            self.map.learn_lattices(found.frames, found.own, found.other, first)


def _executable(settings: Settings) -> Settings:
    """Return settings that a peak finder takes: no fewer pixels at most than at least."""
    most = max(settings.max_pix_count, settings.min_pix_count)
    return settings.replace(max_pix_count=most)
