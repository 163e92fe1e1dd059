"""An exhaustive grid as a searcher."""

from __future__ import annotations

import itertools
import math

import numpy as np

from envs.evaluation import Evaluation
from envs.parameter_space import Parameter, ParameterSpace
from tuner.search.contract import SearchTask, Values

__all__ = ["GridSearcher", "make_grid"]

GRID_SIZE = 100
"""About as many points has the grid of a session, however many parameters are tuned."""


class GridSearcher:
    """Visits every point of a grid once, in an order that spreads early points widely.

    Parameters
    ----------
    space : ParameterSpace
    points : int
        Values per parameter, both ends of its range included; an integer parameter with
        fewer values has all of them.
    seed : int
        Of the order.
    """

    def __init__(self, space: ParameterSpace, points: int = 4, seed: int = 0) -> None:
        axes = [_axis(parameter, points) for parameter in space.parameters]
        grid = list(itertools.product(*axes))
        order = np.random.default_rng(seed).permutation(len(grid))
        self._left = [dict(zip(space.names, grid[index], strict=True)) for index in order[::-1]]
        self.size = len(grid)

    def suggest(self) -> dict[str, float] | None:
        """Return the next point of the grid; None after the last."""
        return dict(self._left[-1]) if self._left else None

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Go on; a grid learns nothing."""
        if self._left and self._left[-1] == dict(values):
            self._left.pop()


def _axis(parameter: Parameter, points: int) -> list[float]:
    return sorted({parameter.from_unit(unit) for unit in np.linspace(0, 1, points)})


def make_grid(task: SearchTask) -> GridSearcher:
    """Return a grid of about `GRID_SIZE` points."""
    points = max(2, math.floor(GRID_SIZE ** (1 / len(task.space))))
    return GridSearcher(task.space, points, task.seed)
