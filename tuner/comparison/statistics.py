"""The statistics of a comparison, decided on before it is run.

On a run the endpoint is the normalised regret of what a method would recommend after 10
evaluations: the agent's against that of the warm-started Gaussian process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from envs.evaluation import Evaluation

__all__ = [
    "OURS",
    "RIVAL",
    "bootstrap",
    "holm",
    "net_rate",
    "paired_after",
    "paired_by_frame",
    "regret",
    "summary",
    "told_after",
]

OURS, RIVAL = "map-agent", "warm-gp"
"""The methods that the comparison is about, by the names of their searchers."""

AT = (5, 10, 20)

ENDPOINT = 10

RESAMPLES = 2000

GOOD = 0.1
"""A regret that counts as near the reference, for the evaluations it takes to get there."""

Array = NDArray[np.float64]


def told_after(budget: int) -> list[int]:
    """Return the evaluations after which regrets are told: 5, 10, 20 and the budget's end."""
    return sorted({n for n in AT if n < budget} | {budget})


def paired_after(budget: int) -> int:
    """Return the evaluations after which pairs are compared: 10, or the end of a shorter budget."""
    return min(ENDPOINT, budget)


def net_rate(evaluation: Evaluation) -> float:
    """Return the indexing rate less what chance alone would index."""
    return evaluation.rate - _by_chance(evaluation)


def _by_chance(evaluation: Evaluation) -> float:
    return 0.0 if np.isnan(evaluation.false_rate) else evaluation.false_rate


def regret(rate: Array, reachable: Array) -> Array:
    """Return the share of the reachable rate that is missed, within [0, 1]."""
    return np.clip(1 - rate / np.maximum(reachable, 1e-9), 0, 1)


def bootstrap(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over tasks and seeds.

    Tasks are drawn with replacement, and then seeds within each task drawn.

    Parameters
    ----------
    values : array (tasks, seeds)
    resamples, seed : int
    """
    rng = np.random.default_rng(seed)
    n_tasks, n_seeds = values.shape
    drawn = np.empty(resamples)
    for i in range(resamples):
        tasks = rng.integers(n_tasks, size=(n_tasks, 1))
        seeds = rng.integers(n_seeds, size=(n_tasks, n_seeds))
        drawn[i] = values[tasks, seeds].mean()
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values corrected for their number (Holm 1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected, highest = {}, 0.0
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def summary(regrets: Array) -> dict[str, Any]:
    """Return what is told of one method's regrets, an array (tasks, seeds, budget)."""
    budget = regrets.shape[2]
    told: dict[str, Any] = {
        f"regret_{n}": float(regrets[:, :, n - 1].mean()) for n in told_after(budget)
    }
    told["auc"] = float(1 - regrets.mean())
    near = regrets <= GOOD
    first = np.where(near.any(axis=2), near.argmax(axis=2) + 1, budget + 1)
    told["evaluations_to_90_percent"] = float(np.median(first))
    told["never_within_90_percent"] = float(np.mean(first > budget))
    return told


def paired_by_frame(
    ours: Sequence[Evaluation], theirs: Sequence[Evaluation], references: Sequence[float]
) -> dict[str, Any]:
    """Compare two methods on one run, frame by frame.

    Parameters
    ----------
    ours, theirs : sequence of Evaluation
        Of each split, what the method recommends, measured on the scoring frames.
    references : sequence of float
        Of each split, the net rate that is within reach.

    Returns
    -------
    dict
        ``difference`` in regret, and its interval ``ci95``, positive where ours is better;
        ``rate_difference`` in net rate, and its interval ``rate_ci95``; ``gained`` and ``lost``,
        the frames that ours, that theirs indexes more often, and ``p_sign``, the exact two-sided
        test of those (McNemar's, where every frame scores once).

    Notes
    -----
    A frame that scores in several splits counts once, with their mean: it tells nothing new. The
    interval is that of `tuner.statistics.paired_difference`, for such means: half a frame is
    added to each cell of the two-by-two table. What the decoys say of chance is a count, too: its
    variance is added, that of several splits as if they shared their decoys. The interval says
    how far the frames leave the difference open, not how other searches would have ended.
    """
    within = np.maximum(references, 1e-9)
    by_regret, by_rate = (_by_frame(ours, theirs, scale) for scale in (within, within * 0 + 1))
    indexed = _by_frame(ours, theirs, within * 0 + 1, net=False)
    gained, lost = int(np.sum(indexed > 0)), int(np.sum(indexed < 0))
    luck = float(np.mean([_chance_variance(*pair) for pair in zip(ours, theirs, strict=True)]))
    return {
        "difference": float(by_regret.mean()),
        "ci95": _interval(by_regret, float(1 / within.mean()), luck / float(within.mean()) ** 2),
        "rate_difference": float(by_rate.mean()),
        "rate_ci95": _interval(by_rate, 1.0, luck),
        "gained": gained,
        "lost": lost,
        "p_sign": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    }


def _by_frame(
    ours: Sequence[Evaluation],
    theirs: Sequence[Evaluation],
    scales: Sequence[float] | Array,
    net: bool = True,
) -> Array:
    """Return what each frame adds to the difference; their mean is that over the splits."""
    differences: dict[int, float] = {}
    for one, other, scale in zip(ours, theirs, scales, strict=True):
        chance = _by_chance(one) - _by_chance(other) if net else 0.0
        for mine, yours in zip(one.outcomes, other.outcomes, strict=True):
            gain = (mine.indexed - yours.indexed - chance) / scale
            share = gain / len(one.outcomes) / len(ours)
            differences[mine.frame] = differences.get(mine.frame, 0.0) + share
    return len(differences) * np.array(list(differences.values()))


def _chance_variance(one: Evaluation, other: Evaluation) -> float:
    """Return the variance that counting decoys leaves in the difference of two net rates."""
    if one.settings == other.settings:
        return 0.0
    total = 0.0
    for each in (one, other):
        if each.n_decoys:
            share = each.n_decoys_indexed / each.n_decoys
            hits = each.n_hits / max(each.n_frames, 1)
            total += hits**2 * share * (1 - share) / each.n_decoys
    return total


def _interval(differences: Array, unit: float, luck: float) -> list[float]:
    """Return the interval of their mean (Agresti and Min 2005).

    A frame is worth `unit`; `luck` is a variance of the mean beside that of the frames.
    """
    total = len(differences) + 2
    centre = differences.sum() / total
    variance = ((differences**2).sum() + unit**2) / total - centre**2
    half = 1.959964 * sqrt(variance / total + luck)
    return [float(max(centre - half, -1.0)), float(min(centre + half, 1.0))]
