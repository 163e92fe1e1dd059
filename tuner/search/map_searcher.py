"""The searcher that goes by the response map: it has indexed what the map expects most of.

While sets are surely better than the best so far, the surest gain is proposed; then the greatest
expected improvement of the merit, for its cost. Where next to none is expected any more, there is
nothing left to propose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.response_map.gains import ENOUGH, gains_of
from envs.response_map.session import MapSession
from envs.response_map.session_map import Forecast
from tuner.search.contract import SearchTask, Values
from wrappers.settings import Settings

__all__ = ["MapSearcher", "best_candidate", "make_map"]

DISAGREEMENT = 3.0
"""Of the map's errors, beyond which what was measured contradicts it."""


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
    gains = gains_of(forecast, measured, possible, penalty, indexer)
    return int(np.argmax(gains[columns]))


class MapSearcher:
    """Proposes what the response map of a session's own frames expects most of.

    Parameters
    ----------
    task : SearchTask
        With `looks`.
    session : type of MapSession
        What is expected of the sets.
    """

    def __init__(self, task: SearchTask, session: type[MapSession] = MapSession) -> None:
        if task.looks is None:
            raise ValueError("the map needs an evaluator that looks at frames")
        penalty = task.merit.unindexed_hit_penalty
        self._session = session(task.looks, task.space, seed=task.seed, penalty=penalty)
        self._space, self._seed = task.space, task.seed
        self._pending: Settings | None = None
        self.reason = self.ended = ""

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what became of the frames; what it means for other sets is worked out later."""
        if self._pending is not None:
            self.reason += self._contradiction(evaluation)
        self._session.ingest(evaluation, merit)
        self._pending = None

    def suggest(self) -> dict[str, float] | None:
        """Return the values most worth an evaluation; None where none is."""
        if self._pending is None:
            self._pending = self._choose()
        if self._pending is None:
            return None
        return self._space.values(self._pending.replace(**self._session.geometry))

    def keep_map(self, path: Path) -> None:
        """Write the map with all that was ingested; nothing before the frames were looked at."""
        self._session.keep_map(path)

    def _contradiction(self, evaluation: Evaluation) -> str:
        """Return what to say where an evaluation is not what the map expected of it, or ""."""
        known = self._session.map
        column = known.column(evaluation.settings)
        if column is None or evaluation.failure or evaluation.n_failed:
            return ""
        frames = [each.frame for each in evaluation.outcomes]
        mean, sd = known.expected(column, frames, self._seed)
        beyond = abs(evaluation.rate - mean) - 1 / len(frames)
        if beyond <= DISAGREEMENT * sd:
            return ""
        return (
            f"; {100 * evaluation.rate:.0f} % of {len(frames)} frames were indexed where "
            f"{100 * mean:.0f} ± {100 * sd:.0f} % were expected: the map was wrong here, and what "
            "was measured counts"
        )

    def _choose(self) -> Settings | None:
        session = self._session
        forecast, portion = session.survey()
        measured, tried = np.flatnonzero(portion >= 1), np.flatnonzero(portion)
        possible = ~session.like_any(tried)
        gains = gains_of(forecast, measured, possible, session.penalty, session.indexer)
        place = int(np.argmax(gains))
        enough = ENOUGH[session.indexer]
        if not possible.any() or (len(measured) and gains[place] < enough):
            self.ended = f"the map expects no set to gain {100 * enough:g} points"
            return None
        self.reason = (
            f"the map expects {100 * forecast.mean[place]:.0f} ± {100 * forecast.sd[place]:.0f} %"
        )
        if session.map.far:
            self.reason += " (the run is unlike those that the map was fitted to)"
        return session.map.settings[place]


def make_map(task: SearchTask) -> MapSearcher:
    """Return the searcher that goes by the response map."""
    return MapSearcher(task)
