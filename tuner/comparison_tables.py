"""The comparison on recorded tables: real peak finding and indexing, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from envs.parameter_space import DEFAULT_TUNED, make_space
from envs.table_evaluator import TABLES, TableEvaluator
from tuner.comparison import net_rate, run_method
from tuner.comparison_methods import Kit
from tuner.rollout import regret

__all__ = ["compare_tables"]


def compare_tables(
    kit: Kit,
    methods: Sequence[str],
    *,
    budget: int = 20,
    n_seeds: int = 3,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Run the methods on every recorded table, search and judgement on halves of its frames.

    Each seed splits the frames anew. The reference is the best of all that was recorded, on the
    frames that judge.

    Returns
    -------
    dict
        By method ``"regret"`` and ``"seconds"`` of suggestions, arrays (tables, seeds, budget).
    """
    tables = [TableEvaluator(path) for path in sorted(TABLES.glob("*.npz"))]
    shape = (len(tables), n_seeds, budget)
    found = {method: {"regret": np.zeros(shape), "seconds": np.zeros(shape)} for method in methods}
    for row, table in enumerate(tables):
        assert table.known is not None
        space = make_space(DEFAULT_TUNED, **asdict(table.known))
        for seed in range(n_seeds):
            on_progress("tables", row * n_seeds + seed, len(tables) * n_seeds)
            order = np.random.default_rng(seed).permutation(table.n_frames)
            tuning, scoring = (table.take(part) for part in np.array_split(order, 2))
            reference = max(net_rate(scoring.evaluate(settings)) for settings in table.points)
            for method in methods:
                path = run_method(method, tuning, space, kit, budget=budget, seed=seed)
                rates = [net_rate(scoring.evaluate(told)) for told in path.recommended()]
                found[method]["regret"][row, seed] = regret(np.array(rates), np.array(reference))
                found[method]["seconds"][row, seed] = path.seconds
    return found
