"""What the agent is compared with, beside the plain searchers: fixed points, warm starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from envs.evaluation import Evaluation
from envs.geometry_rule import GEOMETRY, MISLEADING
from envs.observation import TaskBatch
from envs.parameter_space import ParameterSpace
from tuner.searchers import Searcher, Values

__all__ = ["PinnedSearcher", "PointsSearcher", "same_peaks", "sobol_points"]


class PointsSearcher:
    """Visits given points of the unit cube in order; then another searcher, told all, goes on.

    Parameters
    ----------
    space : ParameterSpace
    points : sequence of mapping
        Places in [0, 1] by name; what a point does not name stays at the base.
    then : Searcher, optional
        Without it the last point is proposed for ever.

    Attributes
    ----------
    values : list of dict
        The points as they are executed.
    """

    def __init__(
        self,
        space: ParameterSpace,
        points: Sequence[Mapping[str, float]],
        then: Searcher | None = None,
    ) -> None:
        base = space.values(space.base)
        self.values = [
            base | {n: space[n].from_unit(unit) for n, unit in point.items() if n in space.names}
            for point in points
        ]
        self._then, self._visited = then, 0

    def suggest(self) -> dict[str, float]:
        """Return the next point, or what the other searcher proposes."""
        if self._visited >= len(self.values) and self._then is not None:
            return self._then.suggest()
        return dict(self.values[min(self._visited, len(self.values) - 1)])

    def ingest(self, values: Values, merit: float, evaluation: Evaluation | None = None) -> None:
        """Go on to the next point if this was the one."""
        if self._visited < len(self.values) and dict(values) == self.values[self._visited]:
            self._visited += 1
        if self._then is not None:
            self._then.ingest(values, merit, evaluation)


class PinnedSearcher:
    """A searcher that stops varying the camera length once the lattices have told it.

    From then on the inner one is made anew for the space without it, and begins with what was
    measured near that camera length. Any searcher in a session gets the same.

    Parameters
    ----------
    space : ParameterSpace
    make : callable
        Makes the inner searcher for a space.
    first : sequence of mapping
        Points of the unit cube, by name, that are visited before it is asked.
    """

    def __init__(
        self,
        space: ParameterSpace,
        make: Callable[[ParameterSpace], Searcher],
        first: Sequence[Mapping[str, float]] = (),
    ) -> None:
        self._space, self._make = space, make
        self._first, self._visited = PointsSearcher(space, first).values, 0
        self._tasks = TaskBatch.single(space, budget=0)
        self._told: list[tuple[dict[str, float], float]] = []
        self._inner_space, self._inner = space, make(space)

    def suggest(self) -> dict[str, float]:
        """Return the inner searcher's proposal, with the camera length that is known."""
        space = self._space.fixed(**self._pinned())
        if self.at_first:
            return {**self._first[self._visited], **self._pinned()}
        if not space.parameters:
            return self._space.values(space.base)
        if space.names != self._inner_space.names:
            self._inner = self._make(space)
            self._inner_space = space
            for values, merit in self._told:
                self._tell(values, merit)
        self._inner_space = space
        inner = self._inner.suggest()
        return self._space.values(space.settings(inner))

    @property
    def at_first(self) -> bool:
        """Whether the next proposal is one of the first points."""
        return self._visited < len(self._first)

    def ingest(self, values: Values, merit: float, evaluation: Evaluation | None = None) -> None:
        """Learn what the values gave."""
        self._tasks.record_one(values, merit, evaluation)
        self._told.append((dict(values), merit))
        if self.at_first and same_peaks(self._first[self._visited], values):
            self._visited += 1
        self._tell(dict(values), merit)

    def _tell(self, values: dict[str, float], merit: float) -> None:
        pinned = self._pinned() if "clen" not in self._inner_space.names else {}
        near = MISLEADING * self._space["clen"].resolution if pinned else np.inf
        if all(abs(values[name] - asked) <= near for name, asked in pinned.items()):
            self._inner.ingest({name: values[name] for name in self._inner_space.names}, merit)

    def _pinned(self) -> dict[str, float]:
        asked = float(self._tasks.fixed_clen[0])
        if np.isnan(asked) or "clen" not in self._space.names:
            return {}
        return {"clen": asked}


def same_peaks(one: Values, other: Values) -> bool:
    """Whether settings differ in the geometry at most, which a session may have put right."""
    return all(other[name] == one[name] for name in one if name not in GEOMETRY)


def sobol_points(names: Sequence[str], n: int, seed: int) -> list[dict[str, float]]:
    """Return the first n points of a scrambled Sobol sequence in the unit cube."""
    from scipy.stats import qmc

    # Its balance holds for powers of two.
    points = qmc.Sobol(len(names), scramble=True, rng=seed).random_base2((n - 1).bit_length())[:n]
    return [dict(zip(names, map(float, point), strict=True)) for point in points]
