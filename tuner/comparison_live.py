"""The comparison on frames: a user's run, a recorded one, a rendered one.

The run's frames are split: the methods search on one half, and what they recommend is measured
on frames that none of them saw. The reference is the best that any settings tried gave there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import ParameterSpace
from tuner.comparison import Searched, net_rate, run_method
from tuner.comparison_methods import Kit
from tuner.comparison_statistics import AT, holm
from tuner.rollout import regret
from tuner.statistics import paired_difference
from wrappers.settings import Settings

__all__ = ["Progress", "compare_on_frames"]

Progress = Callable[[str, int, int], None]


def compare_on_frames(
    tuning: Evaluator,
    scoring: Evaluator,
    space: ParameterSpace,
    kit: Kit,
    methods: Sequence[str],
    *,
    budget: int = 20,
    seed: int = 0,
    grid: Sequence[Settings] = (),
    on_progress: Progress = lambda method, done, total: None,
) -> dict[str, Any]:
    """Run the methods on the tuning frames, measure what they recommend on the scoring frames.

    Parameters
    ----------
    tuning, scoring : Evaluator
        On frames that they do not share.
    space : ParameterSpace
    kit : Kit
    methods : sequence of str
    budget, seed : int
    grid : sequence of Settings
        Measured on the scoring frames too, as further candidates for the reference.
    on_progress : callable
        Called with what is being done, how many are done, and of how many.

    Returns
    -------
    dict
        By method ``rate_5``, ``rate_10`` … (net, on the scoring frames), ``regret_5`` …,
        ``auc`` over these, ``settings`` and the seconds of suggestions; ``reference_rate``, and
        under ``paired`` the agent against each other method, frame by frame (McNemar, Holm).
    """
    searched: dict[str, Searched] = {}
    for number, method in enumerate(methods):
        on_progress("searching", number, len(methods))
        searched[method] = run_method(method, tuning, space, kit, budget=budget, seed=seed)
    told = [n for n in AT if n <= budget] or [budget]
    recommended = {
        method: {n: path.recommended()[n - 1] for n in told} for method, path in searched.items()
    }
    wanted = {settings for row in recommended.values() for settings in row.values()} | set(grid)
    scores: dict[Settings, Evaluation] = {}
    for settings in sorted(wanted, key=str):
        on_progress("scoring", len(scores), len(wanted))
        scores[settings] = scoring.evaluate(settings)
    reference = max(map(net_rate, scores.values()))
    result: dict[str, Any] = {
        method: _row(row, scores, reference, searched[method])
        for method, row in recommended.items()
    }
    result["reference_rate"] = reference
    if grid:
        result["grid_rate"] = max(net_rate(scores[settings]) for settings in grid)
    result["n_tasks"] = result["n_seeds"] = 1
    result["n_tuning_frames"], result["n_scoring_frames"] = tuning.n_frames, scoring.n_frames
    result["paired"] = _pairs({m: scores[row[told[-1]]] for m, row in recommended.items()})
    return result


def _row(
    recommended: dict[int, Settings],
    scores: dict[Settings, Evaluation],
    reference: float,
    searched: Searched,
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for n, settings in recommended.items():
        row[f"rate_{n}"] = net_rate(scores[settings])
        row[f"regret_{n}"] = float(regret(np.array(row[f"rate_{n}"]), np.array(reference)))
    row["auc"] = 1 - float(np.mean([row[f"regret_{n}"] for n in recommended]))
    final = recommended[max(recommended)]
    row["ci95"] = list(scores[final].ci95)
    row["settings"] = final.as_dict()
    row["suggestion_seconds"] = float(searched.seconds.mean())
    return row


def _pairs(final: dict[str, Evaluation]) -> dict[str, Any]:
    if "agent" not in final:
        return {}
    differences = {
        method: paired_difference(final["agent"], evaluation)
        for method, evaluation in final.items()
        if method != "agent"
    }
    corrected = holm({method: found.p_value for method, found in differences.items()})
    return {
        method: {
            "difference": found.difference,
            "ci95": list(found.ci95),
            "gained": found.gained,
            "lost": found.lost,
            "p_mcnemar_holm": corrected[method],
        }
        for method, found in differences.items()
    }
