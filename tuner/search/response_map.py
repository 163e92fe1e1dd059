"""The searcher that goes by the response map: what is worth indexing is what the map expects most of.

Each proposal has the greatest expected improvement of the merit over the best so far, for its
cost; where next to none is expected any more, there is nothing left to propose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from envs.evaluation import Evaluation
from envs.look import Looks, look_design
from envs.response_map.model import MapModel
from envs.response_map.response_map import Forecast, ResponseMap
from tuner.search.contract import SearchTask, Values
from wrappers.settings import Settings

__all__ = ["CAUTION", "MapSearcher", "best_candidate", "make_map"]

CAUTION = {"fast": 1.0, "crystfel": 2.0}
"""The model saw experiments that the embedded indexer had indexed; CrystFEL is another."""

UNINDEXED_COST = {"fast": 1.0, "crystfel": 9.0}
"""What a hit that is not indexed costs beyond what one that is does, in indexed hits."""

ENOUGH = 0.002
"""Of merit: where no set is expected to improve the best by so much, the search has ended."""

NEIGHBOURS = 48
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
    gains = _gains(forecast, [columns[place] for place in done], penalty, indexer)[columns]
    gains[list(done)] = -np.inf
    return int(np.argmax(gains))


def _gains(
    forecast: Forecast, measured: Sequence[int], penalty: float, indexer: str
) -> NDArray[np.float64]:
    """Return the expected improvement (S,) of each set over the measured ones, for its cost.

    Before anything is measured it is the expected merit.
    """
    merits = forecast.merits(penalty)
    mean = merits.mean(axis=0)
    if not measured:
        return np.asarray(mean)
    best = merits[:, measured].max(axis=1)
    # What luck with the sample adds is no improvement, so the rates are compared without it.
    improvement = np.maximum(merits - best[:, None], 0).mean(axis=0)
    rate = forecast.mean
    cost = forecast.hits + UNINDEXED_COST[indexer] * np.maximum(forecast.hits - rate, 0)
    leader = measured[int(np.argmax(mean[measured]))]
    return np.asarray(improvement / np.sqrt(np.maximum(cost / max(cost[leader], 1e-3), 0.5)))


class MapSearcher:
    """Proposes what the response map of a session's own frames expects most of.

    Parameters
    ----------
    task : SearchTask
        With `looks`, and a cell.
    """

    def __init__(self, task: SearchTask) -> None:
        if task.looks is None or task.cell is None:
            raise ValueError("the map needs an evaluator that looks at frames, and the cell")
        self._task, self._looks = task, task.looks
        self._indexer = "fast" if self._looks.embedded else "crystfel"
        self._penalty = task.merit.unindexed_hit_penalty
        volume = float(abs(np.linalg.det(task.cell.primitive_axes)))
        design = look_design(task.space)
        self.map = ResponseMap(
            self._looks.look(design), volume, MapModel.shipped(), CAUTION[self._indexer]
        )
        self._measured: list[int] = []
        self._sources: list[Settings] = []
        self._geometry: dict[str, float] = {}
        self._seen = 0
        self._pending: Settings | None = None
        self.reason = ""
        if self.map.far:
            self.reason = "the run is unlike those that the map was fitted to: it is less sure"

    def suggest(self) -> dict[str, float] | None:
        """Return the values most worth an evaluation; None where none is."""
        if self._pending is None:
            self._pending = self._choose()
        if self._pending is None:
            return None
        return self._task.space.values(self._pending.replace(**self._geometry))

    def _choose(self) -> Settings | None:
        if not self._looks.embedded and not self._sources:
            # The embedded indexer's lattices cost a hundredth of an evaluation.
            self._ask_lattices(self.map.settings[self._gains().argmax()])
        if self._measured:
            self._look_nearby()
        gains = self._gains()
        gains[self._measured] = -np.inf
        place = int(np.argmax(gains))
        forecast = self._forecast
        if self._measured and gains[place] < ENOUGH:
            return None
        rate, sd = forecast.mean[place], forecast.sd[place]
        self.reason = f"the map expects {100 * rate:.0f} ± {100 * sd:.0f} % there"
        return self.map.settings[place]

    def _gains(self) -> NDArray[np.float64]:
        self._forecast = self.map.forecast(self._task.seed)
        return _gains(self._forecast, self._measured, self._penalty, self._indexer)

    def _look_nearby(self) -> None:
        """Look at more sets around the one that the map likes best, in all that is tuned."""
        space = self._task.space
        geometry = {"clen", "shift_x", "shift_y"}
        free = [n for n, name in enumerate(space.names) if name not in geometry]
        merits = self.map.forecast(self._task.seed).merits(self._penalty).mean(axis=0)
        centre = space.encode(self.map.settings[int(np.argmax(merits))])
        cloud = qmc.Sobol(len(free), rng=self._task.seed + self._seen).random(NEIGHBOURS)
        new: dict[Settings, None] = {}
        for unit in cloud:
            point = centre.copy()
            point[free] = np.clip(centre[free] + NEAR * (2 * unit - 1), 0, 1)
            settings = space.decode(point)
            if self.map.column(settings) is None:
                new[settings] = None
        self._extend([*new])

    def _extend(self, new: Sequence[Settings]) -> None:
        if not new:
            return
        look = self._looks.look(new)
        nothing = np.zeros((0, len(new)), np.uint16)
        self.map.extend(look, nothing, nothing) if not self._sources else self._extend_known(look)

    def _extend_known(self, look: object) -> None:
        raise NotImplementedError

    def _ask_lattices(self, source: Settings) -> None:
        self._sources.append(source)

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what became of the frames, and what their lattices say of all other sets."""


def make_map(task: SearchTask) -> MapSearcher:
    """Return the searcher that goes by the response map."""
    return MapSearcher(task)
