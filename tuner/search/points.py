"""Points that are known beforehand, alone or before another search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.evaluation import Evaluation
from envs.geometry_rule import GEOMETRY
from envs.parameter_space import ParameterSpace
from tuner.search.contract import Searcher, SearchTask, Values

__all__ = ["PointsSearcher", "make_sobol", "same_peaks", "sobol_points"]

SOBOL_POINTS = 64
"""As many where nobody gives a budget."""


class PointsSearcher:
    """Visits given points of the unit cube in order; then another searcher, told all, goes on.

    A point counts as visited whatever became of its geometry, which a session takes from the
    lattices once they fix it.

    Parameters
    ----------
    space : ParameterSpace
    points : sequence of mapping
        Places in [0, 1] by name; what a point does not name stays at the base.
    then : Searcher, optional
        Without it nothing is proposed after the last point.

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

    @property
    def at_points(self) -> bool:
        """Whether the next proposal is one of the points."""
        return self._visited < len(self.values)

    def suggest(self) -> dict[str, float] | None:
        """Return the next point, or what the other searcher proposes."""
        if self.at_points:
            return dict(self.values[self._visited])
        return None if self._then is None else self._then.suggest()

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Go on to the next point if this was the one."""
        if self.at_points and same_peaks(self.values[self._visited], values):
            self._visited += 1
        if self._then is not None:
            self._then.ingest(values, merit, evaluation)


def same_peaks(one: Values, other: Values) -> bool:
    """Whether two parameter sets differ in the geometry at most."""
    return all(other[name] == one[name] for name in one if name not in GEOMETRY)


def sobol_points(names: Sequence[str], n: int, seed: int) -> list[dict[str, float]]:
    """Return the first n points of a scrambled Sobol sequence in the unit cube."""
    from scipy.stats import qmc

    # Its balance holds for powers of two.
    points = qmc.Sobol(len(names), scramble=True, rng=seed).random_base2((n - 1).bit_length())[:n]
    return [dict(zip(names, map(float, point), strict=True)) for point in points]


def make_sobol(task: SearchTask) -> PointsSearcher:
    """Return a search of evenly spread points that learns nothing."""
    n = task.budget or SOBOL_POINTS
    return PointsSearcher(task.space, sobol_points(task.space.names, n, task.seed))
