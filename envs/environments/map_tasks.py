"""Sessions to train on, drawn from recorded looks: samples of frames, budgets, first sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.environments.map_env import MapTask
from envs.evaluators.look_record import LookRecord
from envs.evaluators.recorded import RecordedEvaluator

__all__ = ["DRAWS", "MapTasks"]

SHARES = (0.5, 0.75)
"""Of an experiment's frames that are searched on; the others score."""

BUDGETS = (1.0, 8.0)
"""Evaluations on all frames beyond the first, drawn evenly on a log scale."""

OF_CRYSTFEL = 0.3
"""Share of the sessions in which hits that are not indexed cost what they cost CrystFEL."""

OF_STRICT = 0.5
"""Share of the sessions that begin with one of the strictest sets, as defaults often are."""

FEWEST_INDEXED = 3
"""Frames of those that score, by the best set: there is nothing to be learnt of less."""

DRAWS = 32
"""Of the map's forecasts: half of what the map's own rule takes, in half the time."""


class MapTasks:
    """Draws sessions on recorded experiments.

    Only sets whose lists were indexed can be measured. Frames are divided anew for every session:
    what it would recommend is worth what the set gives on frames that it did not see.

    Parameters
    ----------
    records : sequence of LookRecord
    budget : float, optional
        Of every session; drawn by default.
    indexer : {"", "fast", "crystfel"}
        Whose costs are reckoned with; drawn by default.

    Raises
    ------
    ValueError
        If in none of them enough is indexed.
    """

    def __init__(
        self, records: Sequence[LookRecord], *, budget: float | None = None, indexer: str = ""
    ) -> None:
        self.records = [each for each in records if each.indexed.sum(axis=0).max() >= 8]
        if not self.records:
            raise ValueError("in none of the experiments enough frames are indexed")
        self._evaluators = {each.name: RecordedEvaluator(each, ()) for each in self.records}
        for evaluator in self._evaluators.values():
            _ = evaluator.space  # worked out once, not for every session
        self._budget, self._indexer = budget, indexer

    def __call__(self, rng: np.random.Generator) -> MapTask:
        """Draw a session."""
        return self.on(self.records[int(rng.integers(len(self.records)))], rng)

    def on(self, record: LookRecord, rng: np.random.Generator) -> MapTask:
        """Draw a session on one of the experiments."""
        n = len(record.counts)
        while True:
            n_tuning = round(rng.uniform(*SHARES) * n)
            order = rng.permutation(n)
            tuned, scored = order[:n_tuning].tolist(), order[n_tuning:].tolist()
            if record.indexed[scored].sum(axis=0).max() >= FEWEST_INDEXED:
                break
        recorded = self._evaluators[record.name]
        truth, evaluator = recorded.on(scored).merits(), recorded.on(tuned)
        sets = [record.settings[place] for place in record.known.tolist()]
        places = {each: place for each, place in zip(sets, record.known.tolist(), strict=True)}
        low, high = np.log(BUDGETS)
        budget, indexer = float(np.exp(rng.uniform(low, high))), "fast"
        if rng.random() < OF_CRYSTFEL:
            indexer = "crystfel"
        strict = np.argsort(record.counts[:, record.known].sum(axis=0), kind="stable")
        n_first = len(sets) // 4 if rng.random() < OF_STRICT else len(sets)
        first = sets[strict[int(rng.integers(max(n_first, 1)))]]
        return MapTask(
            evaluator,
            evaluator.space,
            first,
            budget=self._budget or budget,
            truth=lambda settings: float(truth[places[settings]]),
            indexer=self._indexer or indexer,
            sets=sets,
            n_draws=DRAWS,
            n_neighbours=0,
        )
