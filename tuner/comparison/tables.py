"""The comparison on recorded tables: real peak finding and indexing, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from envs.evaluators.table import TABLES, TableEvaluator
from envs.parameter_space import DEFAULT_TUNED, make_space
from tuner.comparison.frames import compare_on_frames
from tuner.comparison.results import Results, no_results, undone
from tuner.search.contract import AnyPolicy

__all__ = ["compare_tables"]


def compare_tables(
    policy: AnyPolicy,
    methods: Sequence[str],
    *,
    budget: int = 20,
    n_seeds: int = 3,
    results: Results | None = None,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Results:
    """Run the methods on every recorded table, search and scoring on halves of its frames.

    Each seed splits the frames anew. The reference is the best of all that was recorded, on the
    scoring frames.

    Parameters
    ----------
    policy : AnyPolicy
    methods : sequence of str
    budget, n_seeds : int
    results : Results, optional
        Filled in place; what an interrupted call has filled is not done again.
    on_progress : callable
        Called with what is being done, how many tables times seeds are done, and of how many.

    Returns
    -------
    Results
        By method ``"regret"`` and ``"seconds"`` of suggestions, arrays (tables, seeds, budget).
    """
    tables = [TableEvaluator(path) for path in sorted(TABLES.glob("*.npz"))]
    shape = (len(tables), n_seeds, budget)
    empty = no_results(methods, ("regret", "seconds"), shape)
    results = {} if results is None else results
    for method in methods:
        results.setdefault(method, empty[method])
    for row, seed in undone(results):
        on_progress("tables", row * n_seeds + seed, len(tables) * n_seeds)
        table = tables[row]
        assert table.known is not None
        space = make_space(DEFAULT_TUNED, **asdict(table.known))
        order = np.random.default_rng(seed).permutation(table.n_frames)
        tuning, scoring = (table.take(part) for part in np.array_split(order, 2))
        scored = compare_on_frames(
            tuning, scoring, space, policy, methods, budget=budget, seed=seed, grid=table.points
        )
        for method in methods:
            results[method]["regret"][row, seed] = scored.regret[method]
            results[method]["seconds"][row, seed] = scored.seconds[method]
    return results
