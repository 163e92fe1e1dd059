"""The searcher that goes by the response map: it has indexed what the map expects most of.

While sets are surely better than the best so far, the surest gain is proposed; then the greatest
expected improvement of the merit, for its cost. A few frames are enough to see whether the map is
right about a set; for the others it speaks. So where indexing is slow, what is surely better is
measured on all frames, and what may be on a few. Where next to no improvement is expected any more,
the best is measured on all, and there is nothing left to propose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.response_map.gains import ENOUGH, gains_of
from envs.response_map.session import MapSession
from envs.response_map.session_map import Forecast
from tuner.search.contract import SearchTask, Values
from wrappers.settings import Settings

__all__ = ["GLIMPSE", "GLIMPSING", "WHOLE", "MapSearcher", "best_candidate", "make_map"]

GLIMPSE = 25
"""Frames that a set is measured on first, ..."""

GLIMPSED = 1 / 8
"""... or this part of the sample, whatever is more."""

WHOLE = 4 * GLIMPSE
"""Smaller samples are measured whole at once."""

GLIMPSING = frozenset({"crystfel"})
"""Indexers that take so long that frames are worth saving: with the embedded one the next proposal
takes as long as the frames that a glimpse saves."""

SURE = 0.01
"""Of merit: what is expected to be better by so much beyond its error is measured whole at once."""

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
    session : callable
        Makes the `MapSession`: what is expected of the sets.
    """

    def __init__(self, task: SearchTask, session: Callable[..., MapSession] = MapSession) -> None:
        if task.looks is None:
            raise ValueError("the map needs an evaluator that looks at frames")
        penalty = task.merit.unindexed_hit_penalty
        self._session = session(task.looks, task.space, seed=task.seed, penalty=penalty)
        self._space, self._seed = task.space, task.seed
        self._pending: Settings | None = None
        self.reason = self.ended = ""
        self.n_frames: int | None = None
        self._n_proposed = 0

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what became of the frames; what it means for other sets is worked out later."""
        if self._pending is not None:
            self.reason += self._contradiction(evaluation)
            self._n_proposed += 1
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
        tried = np.flatnonzero(portion)
        possible = session.possible(tried)
        gains = gains_of(forecast, tried, possible, session.penalty, session.indexer)
        place, enough = int(np.argmax(gains)), ENOUGH[session.indexer]
        surely = forecast.cautious_merits(session.penalty)
        best = max(surely[portion >= 1], default=0.0)
        leader = self._unmeasured_leader(surely, portion)
        nothing = not possible.any() or (tried.size and gains[place] < enough)
        if leader is not None and (nothing or surely[leader] > best + SURE):
            place, self.n_frames = leader, None
            self.reason = "the best by what was measured on a part of the frames, and the map"
        elif nothing:
            self.ended = f"the map expects no set to gain {100 * enough:g} points"
            return None
        else:
            expected = f"{100 * forecast.mean[place]:.0f} ± {100 * forecast.sd[place]:.0f} %"
            self.reason = f"the map expects {expected}"
            self.n_frames = None if surely[place] > best + SURE else self._glimpse()
        if session.map.far:
            self.reason += " (the run is unlike those that the map was fitted to)"
        return session.map.settings[place]

    def _glimpse(self) -> int | None:
        """Return on how many frames a set is measured first; None: on all."""
        n = len(self._session.map.look.frames)
        if self._session.indexer not in GLIMPSING or n <= WHOLE or not self._n_proposed:
            return None
        return max(GLIMPSE, round(GLIMPSED * n))

    def _unmeasured_leader(
        self, surely: NDArray[np.float64], portion: NDArray[np.float64]
    ) -> int | None:
        """Return the best set, if it was measured on a part of the frames, and only once.

        What was measured twice and not on all frames has lost a race.
        """
        session = self._session
        times = Counter(
            session.map.column(each.settings) for each, _ in session.evaluations if not each.failure
        )
        merits = surely.copy()
        for column, part in enumerate(portion):
            if not part or (part < 1 and times[column] > 1):
                merits[column] = -np.inf
        leader = int(np.argmax(merits))
        return leader if 0 < portion[leader] < 1 else None


def make_map(task: SearchTask) -> MapSearcher:
    """Return the searcher that goes by the response map."""
    return MapSearcher(task)
