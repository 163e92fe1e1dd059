"""A searcher that stops varying the geometry once the lattices fix it."""

from __future__ import annotations

from collections.abc import Callable

from envs.evaluation import Evaluation
from envs.geometry_rule import MISLEADING, GeometryLock, near_geometry
from envs.parameter_space import ParameterSpace
from tuner.search.contract import Explains, Recommends, Searcher, Values

__all__ = ["LockedSearcher"]


class LockedSearcher:
    """Lets a searcher vary what the lattices do not fix.

    Whenever one more geometry parameter is fixed (`envs.geometry_rule`), the searcher is made anew
    for the space without it, and begins with all that was measured near the fixed geometry.

    Parameters
    ----------
    space : ParameterSpace
    make : callable
        Makes the searcher for a space, and the number of evaluations ingested so far.
    """

    def __init__(
        self, space: ParameterSpace, make: Callable[[ParameterSpace, int], Searcher]
    ) -> None:
        self._whole, self._make = space, make
        self._lock = GeometryLock(space)
        self._ingested: list[tuple[Evaluation, float]] = []
        self._fixed_names: frozenset[str] = frozenset()
        self._searcher: Searcher | None = None
        self._passed_on = 0

    @property
    def reason(self) -> str:
        """Why the last suggestion was made, where the searcher can say it."""
        return self._searcher.reason if isinstance(self._searcher, Explains) else ""

    def suggest(self) -> dict[str, float] | None:
        """Return the searcher's proposal at the fixed geometry; None if nothing is left to vary."""
        fixed = self._lock.fixed
        space = self._whole.fixed(**fixed)
        if not space.parameters:
            return None
        if self._searcher is None or fixed.keys() != self._fixed_names:
            self._searcher = self._make(space, len(self._ingested))
            self._passed_on = 0
            if isinstance(self._searcher, Recommends):
                raise TypeError("a searcher that recommends must handle the geometry itself")
        self._fixed_names = frozenset(fixed)
        for evaluation, merit in self._ingested[self._passed_on :]:
            settings = evaluation.settings
            values = space.values(settings)
            # CrystFEL's defaults, say, differ from the base in more than the tuned parameters.
            comparable = space.settings(values) == settings.replace(**fixed)
            if comparable and near_geometry(settings, fixed, self._whole, MISLEADING):
                self._searcher.ingest(values, merit, evaluation)
        self._passed_on = len(self._ingested)
        inner = self._searcher.suggest()
        return None if inner is None else self._whole.values(space.settings(inner))

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what an evaluation gave, and what its lattices say of the geometry."""
        self._lock.observe(evaluation, merit)
        self._ingested.append((evaluation, merit))
