"""The comparison on the frames of a run.

The run's frames are split: the methods search on one part, and all that they recommend on the
way is measured on frames that none of them saw. The reference is the best that any of those
settings gave there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, Evaluator, wilson_interval
from envs.parameter_space import ParameterSpace
from tuner.comparison.searching import run_method
from tuner.comparison.statistics import (
    OURS,
    holm,
    net_rate,
    paired_after,
    paired_by_frame,
    regret,
    summary,
    told_after,
)
from tuner.map_agent.policy import MapPolicy
from wrappers.settings import Settings

__all__ = ["Progress", "Scored", "compare_on_frames", "run_figures"]

Array = NDArray[np.float64]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Scored:
    """What the methods came to on one split of a run's frames.

    Attributes
    ----------
    rate, regret : mapping of str to float array (budget,)
        By method, the net rate of what it would recommend after each evaluation, on the frames
        used for scoring, and the share of the reference rate that it misses.
    seconds : mapping of str to float array (budget,)
        That it took to come up with each proposal.
    endpoint : mapping of str to Evaluation
        On the scoring frames, of what pairs are compared by.
    reference : float
        Highest net rate of all that was measured there.
    n_tuning_frames : int
    """

    rate: Mapping[str, Array]
    regret: Mapping[str, Array]
    seconds: Mapping[str, Array]
    endpoint: Mapping[str, Evaluation]
    reference: float
    n_tuning_frames: int


def compare_on_frames(
    tuning: Evaluator,
    scoring: Evaluator,
    space: ParameterSpace,
    policy: MapPolicy | None,
    methods: Sequence[str],
    *,
    budget: int = 20,
    seed: int = 0,
    on_progress: Progress = lambda what, done, total: None,
) -> Scored:
    """Run the methods on the tuning frames, measure what they recommend on the scoring frames.

    Parameters
    ----------
    tuning, scoring : Evaluator
        On frames that they do not share.
    space : ParameterSpace
    policy : MapPolicy or None
    methods : sequence of str
    budget, seed : int
    on_progress : callable
        Called with what is being done, how many are done, and of how many.
    """
    searched = {}
    for number, method in enumerate(methods):
        on_progress(f"{method} searches", number, len(methods))
        searched[method] = run_method(
            method, tuning, space, budget=budget, seed=seed, policy=policy
        )
    recommended = {method: path.recommended for method, path in searched.items()}
    wanted = dict.fromkeys([settings for row in recommended.values() for settings in row])
    scores: dict[Settings, Evaluation] = {}
    for settings in wanted:
        on_progress("settings are scored", len(scores), len(wanted))
        scores[settings] = scoring.evaluate(settings)
    reference = max(map(net_rate, scores.values()))
    rates = {
        method: np.array([net_rate(scores[settings]) for settings in row])
        for method, row in recommended.items()
    }
    return Scored(
        rate=rates,
        regret={method: regret(values, np.array(reference)) for method, values in rates.items()},
        seconds={method: path.seconds for method, path in searched.items()},
        endpoint={m: scores[row[paired_after(budget) - 1]] for m, row in recommended.items()},
        reference=reference,
        n_tuning_frames=tuning.n_frames,
    )


def run_figures(splits: Sequence[Scored], ours: str = OURS) -> dict[str, Any]:
    """Return the figures of one run.

    Parameters
    ----------
    splits : sequence of Scored
    ours : str
        The method that the others are paired with.

    Returns
    -------
    dict
        A dictionary for every method, with the net rates ``rate_5`` … beside the regrets, and
        the interval ``rate_10_ci95`` and the ``settings`` of each split that pairs are compared
        by (after 10 evaluations, or after fewer where the budget is shorter); the intervals
        ``<method>_minus_<ours>_10_ci95``, and ``paired``, see `paired_by_frame`;
        ``reference_rate``, the mean over the splits; ``n_tasks``, which is 1, ``n_seeds``, the
        splits, ``n_tuning_frames`` of a split and ``n_scoring_frames`` of all.
    """
    first = splits[0]
    budget = len(next(iter(first.rate.values())))
    after = paired_after(budget)
    frames_scored = {
        o.frame for split in splits for e in split.endpoint.values() for o in e.outcomes
    }
    result: dict[str, Any] = {}
    for method in first.rate:
        rates = np.mean([split.rate[method] for split in splits], axis=0)
        counted = round(max(rates[after - 1], 0) * len(frames_scored))
        result[method] = {
            **summary(np.array([[split.regret[method] for split in splits]])),
            **{f"rate_{n}": float(rates[n - 1]) for n in told_after(budget)},
            f"rate_{after}_ci95": list(wilson_interval(counted, len(frames_scored))),
            "settings": [split.endpoint[method].settings.as_dict() for split in splits],
            "suggestion_seconds": float(np.mean([split.seconds[method] for split in splits])),
        }
    paired = {
        method: paired_by_frame(
            [split.endpoint[ours] for split in splits],
            [split.endpoint[method] for split in splits],
            [split.reference for split in splits],
        )
        for method in (first.endpoint if ours in first.endpoint else ())
        if method != ours
    }
    corrected = holm({method: row["p_sign"] for method, row in paired.items()})
    for method, row in paired.items():
        row["p_sign_holm"] = corrected[method]
        result[f"{method}_minus_{ours}_{after}_ci95"] = row["ci95"]
    result |= {"paired": paired, "paired_after": after, "evaluations": budget}
    result["reference_rate"] = float(np.mean([split.reference for split in splits]))
    result["n_tasks"], result["n_seeds"] = 1, len(splits)
    result["n_tuning_frames"], result["n_scoring_frames"] = (
        first.n_tuning_frames,
        len(frames_scored),
    )
    return result
