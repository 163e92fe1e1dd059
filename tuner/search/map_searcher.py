"""The searcher that goes by the response map: it has indexed what the map expects most of.

While sets are surely better than the best so far, the surest gain is proposed; then the greatest
expected improvement of the merit, for its cost. Where next to none is expected any more, there is
nothing left to propose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from envs.evaluation import Evaluation
from envs.geometry_rule import FEWEST_INDEXED, GEOMETRY, MISLEADING, GeometryLock, near_geometry
from envs.look import look_design
from envs.response_map.session_map import Forecast, ResponseMap
from envs.response_map.stored import write_map
from tuner.search.contract import SearchTask, Values
from wrappers.settings import Settings

__all__ = ["MapSearcher", "best_candidate", "make_map"]

UNINDEXED_COST = {"fast": 1.0, "crystfel": 9.0}
"""What a hit that is not indexed costs beyond what one that is does, in indexed hits."""

ENOUGH = {"fast": 0.001, "crystfel": 0.005}
"""Of merit: where no set is expected to improve the best by so much, for its cost, the search has
ended. An evaluation takes the embedded indexer a second or two, CrystFEL ten times as long."""

DISAGREEMENT = 3.0
"""Of the map's errors, beyond which what was measured contradicts it."""

ALIKE = 0.05
"""Mean relative difference of the hits' numbers of peaks, below which sets index the same: of eight
proposals that were so close to an earlier one, on two runs, none had indexed another frame."""

NEIGHBOURS = 64
NEAR = 0.18
"""Half-width, in the unit cube, of where neighbours of the map's best set are looked at."""


def best_candidate(
    forecast: Forecast,
    columns: Sequence[int] | NDArray[np.int64],
    done: Collection[int],
    penalty: float,
    indexer: str,
) -> int:
    """Return the place among `columns` of the set that is most worth an evaluation.

    Parameters
    ----------
    forecast : Forecast
    columns : sequence of int
        The sets that can be evaluated.
    done : collection of int
        Places among them that were.
    penalty : float
        For a hit that is not indexed, in indexed frames.
    indexer : str
        "fast" or "crystfel": what a hit costs.
    """
    measured = [columns[place] for place in done]
    possible = np.zeros(len(forecast.hits), bool)
    possible[columns] = True
    possible[measured] = False
    gains = _gains(forecast, measured, possible, penalty, indexer)
    return int(np.argmax(gains[columns]))


def _gains(
    forecast: Forecast,
    measured: Sequence[int],
    possible: NDArray[np.bool_],
    penalty: float,
    indexer: str,
) -> NDArray[np.float64]:
    """Return what evaluating each set (S,) promises; -inf where it is not possible.

    While sets are better than the best measured one by more than their errors, the surest gain is
    taken: what may be a flood of noise can wait. Then it is the expected improvement, for its cost.
    """
    sure = np.where(possible, forecast.cautious_merits(penalty), -np.inf)
    if not measured:
        return sure
    merits = forecast.merits(penalty)
    mean = merits.mean(axis=0)
    leader = measured[int(np.argmax(mean[measured]))]
    if (sure - mean[leader]).max() > ENOUGH[indexer]:
        return np.asarray(sure - mean[leader])
    best = merits[:, measured].max(axis=1)
    # What luck with the sample adds is no improvement, so the rates are compared without it.
    improvement = np.maximum(merits - best[:, None], 0).mean(axis=0)
    rate = forecast.mean
    cost = forecast.hits + UNINDEXED_COST[indexer] * np.maximum(forecast.hits - rate, 0)
    # In units of what the best costs where all of its hits are indexed.
    gains = improvement / np.maximum(cost / max(rate[leader], 0.05), 0.5)
    return np.asarray(np.where(possible, gains, -np.inf))


class MapSearcher:
    """Proposes what the response map of a session's own frames expects most of.

    Parameters
    ----------
    task : SearchTask
        With `looks`.
    """

    def __init__(self, task: SearchTask) -> None:
        if task.looks is None:
            raise ValueError("the map needs an evaluator that looks at frames")
        self._task, self._looks = task, task.looks
        self._space = task.space
        self._indexer = "fast" if task.looks.embedded else "crystfel"
        self._penalty = task.merit.unindexed_hit_penalty
        self._map: ResponseMap | None = None
        self._lock = GeometryLock(task.space)
        self._evaluations: list[tuple[Evaluation, float]] = []
        self._sources: dict[Settings, tuple[int, ...]] = {}
        self._pending: Settings | None = None
        self.reason = self.ended = ""

    @property
    def map(self) -> ResponseMap:
        """The map as it stands."""
        if self._map is None:
            look = self._looks.look(look_design(self._space))
            self._map = ResponseMap.begun(look, self._looks)
        return self._map

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what became of the frames; what it means for other sets is worked out later."""
        if self._pending is not None:
            self.reason += self._contradiction(evaluation)
        self._lock.observe(evaluation, merit)
        self._evaluations.append((evaluation, merit))
        self._pending = None

    def suggest(self) -> dict[str, float] | None:
        """Return the values most worth an evaluation; None where none is."""
        if self._pending is None:
            self._pending = self._choose()
        if self._pending is None:
            return None
        return self._space.values(self._pending.replace(**self._geometry()))

    def keep_map(self, path: Path) -> None:
        """Write the map with all that was ingested; nothing before the frames were looked at."""
        if self._map is not None:
            self._learn()
            write_map(path, self._map)

    def _geometry(self) -> dict[str, float]:
        """Return the geometry of the best evaluation; what the lattices fix is the session's."""
        names = [name for name in GEOMETRY if name in self._space.names]
        indexing = [
            (merit, number)
            for number, (evaluation, merit) in enumerate(self._evaluations)
            if evaluation.n_indexed >= FEWEST_INDEXED
        ]
        best = self._evaluations[max(indexing)[1]][0].settings if indexing else self._space.base
        return {name: getattr(best, name) for name in names}

    def _contradiction(self, evaluation: Evaluation) -> str:
        """Return what to say where an evaluation is not what the map expected of it, or ""."""
        column = self.map.column(evaluation.settings)
        if column is None or evaluation.failure or evaluation.n_failed:
            return ""
        frames = [each.frame for each in evaluation.outcomes]
        mean, sd = self.map.expected(column, frames, self._task.seed)
        beyond = abs(evaluation.rate - mean) - 1 / len(frames)
        if beyond <= DISAGREEMENT * sd:
            return ""
        return (
            f"; {100 * evaluation.rate:.0f} % of {len(frames)} frames were indexed where "
            f"{100 * mean:.0f} ± {100 * sd:.0f} % were expected: the map was wrong here, and what "
            "was measured counts"
        )

    def _choose(self) -> Settings | None:
        tried = self._learn()
        n_frames = len(self.map.look.frames)
        measured = [column for column, each in tried.items() if each.n_frames == n_frames]
        forecast = self._expect(tried)
        liked = self.map.settings[int(np.argmax(forecast.cautious_merits(self._penalty)))]
        # For CrystFEL's sessions the embedded indexer's lattices are next to free.
        if not self._looks.embedded and self._learn_lattices(liked):
            forecast = self._expect(tried)
        if measured and self._look_nearby(liked):
            forecast = self._expect(tried, forecast)
        possible = ~self._like_any(tried)
        gains = _gains(forecast, measured, possible, self._penalty, self._indexer)
        place = int(np.argmax(gains))
        enough = ENOUGH[self._indexer]
        if not possible.any() or (measured and gains[place] < enough):
            self.ended = f"the map expects no set to gain {100 * enough:g} points"
            return None
        self.reason = (
            f"the map expects {100 * forecast.mean[place]:.0f} ± {100 * forecast.sd[place]:.0f} %"
        )
        if self.map.far:
            self.reason += " (the run is unlike those that the map was fitted to)"
        return self.map.settings[place]

    def _expect(self, tried: Mapping[int, Evaluation], before: Forecast | None = None) -> Forecast:
        """Return what is to be expected of all the map's sets.

        Parameters
        ----------
        tried : mapping of int to Evaluation
            What was measured, by set; the map has learnt of it.
        before : Forecast, optional
            What was expected of the first of them.
        """
        if before is None:
            return self.map.forecast(self._task.seed)
        more = self.map.forecast(self._task.seed, first=len(before.hits))
        return before.joined(more)

    def _like_any(self, tried: Iterable[int]) -> NDArray[np.bool_]:
        """Return which sets (S,) find next to the same peaks as one that was tried."""
        counts = self.map.learnt.counts
        least = np.array([each.min_peaks for each in self.map.settings])
        hits = counts >= least
        logs = np.log1p(counts.astype(float))
        alike = np.zeros(len(least), bool)
        for column in tried:
            its = hits[:, column]
            away = np.abs(logs - logs[:, [column]])[its].sum(axis=0)
            alike |= (hits == its[:, None]).all(axis=0) & (away <= ALIKE * its.sum())
        return alike

    def _learn(self) -> dict[int, Evaluation]:
        """Take all outcomes near the geometry that the lattices fix; return them by set."""
        self.map.forget_outcomes()
        fixed = self._lock.fixed
        tried: dict[int, Evaluation] = {}
        for evaluation, _ in self._evaluations:
            settings = evaluation.settings
            if evaluation.failure or not near_geometry(settings, fixed, self._space, MISLEADING):
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
                self._learn_lattices(settings)
            if column not in tried or evaluation.n_frames > tried[column].n_frames:
                tried[column] = evaluation
        return tried

    def _learn_lattices(self, source: Settings) -> bool:
        """Have the lattices of frames that have none yet, from a set's peaks; say if there are."""
        if source in self._sources:
            return False
        known = {frame for frames in self._sources.values() for frame in frames}
        unknown = [frame for frame in self.map.look.frames if frame not in known]
        found = self._looks.lattice_counts(source, self.map.settings, unknown)
        self._sources[source] = found.frames
        self.map.learn_lattices(found.frames, found.own, found.other)
        return bool(found.frames)

    def _look_nearby(self, liked: Settings) -> bool:
        """Look at more sets around one, in all that is tuned; say whether there are any."""
        space = self._space
        free = [n for n, name in enumerate(space.names) if name not in GEOMETRY]
        if not free:
            return False
        centre = space.encode(liked)
        seed = self._task.seed + len(self._evaluations)
        new: dict[Settings, None] = {}
        for unit in qmc.Sobol(len(free), rng=seed).random(NEIGHBOURS):
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


def make_map(task: SearchTask) -> MapSearcher:
    """Return the searcher that goes by the response map."""
    return MapSearcher(task)
