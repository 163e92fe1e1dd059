"""The statistics of a comparison, decided on before it is run.

The primary endpoint is the normalised regret, on the truth, of what a method would recommend
after 10 evaluations: the agent's against that of the warm-started Gaussian process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

__all__ = [
    "AT",
    "bootstrap",
    "compare_family",
    "holm",
    "interquartile_mean",
    "probability_of_improvement",
]

AT = (5, 10, 20)
"""Evaluations after which regrets are told; those beyond a shorter budget are left out."""

RESAMPLES = 2000

GOOD = 0.1
"""A regret that counts as near the reference, for the evaluations it takes to get there."""

Array = NDArray[np.float64]


def interquartile_mean(values: Array) -> float:
    """Return the mean of the middle half of the values (Agarwal et al., NeurIPS 2021).

    Of n values the n // 4 smallest and as many largest are left out.
    """
    ordered = sorted(values.ravel().tolist())
    n = len(ordered)
    return float(np.mean(ordered[n // 4 : n - n // 4]))


def bootstrap(
    values: Array, statistic: str = "mean", resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over tasks and seeds.

    Tasks are drawn with replacement, and then seeds within each task drawn.

    Parameters
    ----------
    values : array (tasks, seeds)
    statistic : {"mean", "iqm"}
    resamples, seed : int
    """
    rng = np.random.default_rng(seed)
    n_tasks, n_seeds = values.shape
    drawn = np.empty(resamples)
    for i in range(resamples):
        tasks = rng.integers(n_tasks, size=(n_tasks, 1))
        seeds = rng.integers(n_seeds, size=(n_tasks, n_seeds))
        sample = values[tasks, seeds]
        drawn[i] = sample.mean() if statistic == "mean" else interquartile_mean(sample)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def probability_of_improvement(ours: Array, theirs: Array) -> float:
    """Return how often our regret is the lower of a pair; ties count half."""
    return float(np.mean((ours < theirs) + 0.5 * (ours == theirs)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values corrected for their number (Holm 1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected, highest = {}, 0.0
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def compare_family(
    regrets: Mapping[str, Array], ours: str = "agent", endpoint: int = 10
) -> dict[str, Any]:
    """Return the figures of one family: of every method, and of ours against each other one.

    Parameters
    ----------
    regrets : mapping of str to array (tasks, seeds, budget)
        Normalised regret of what the method would recommend after each evaluation.
    ours : str
        The method that the others are paired with.
    endpoint : int
        Evaluations after which the pairs are compared.

    Returns
    -------
    dict
        A dictionary for every method; ``<method>_minus_<ours>_<endpoint>_ci95``, the interval of
        the mean paired difference, positive where ours has less regret; ``paired``; ``n_tasks``
        and ``n_seeds``.
    """
    result: dict[str, Any] = {name: _summary(values) for name, values in regrets.items()}
    first = next(iter(regrets.values()))
    result["n_tasks"], result["n_seeds"] = first.shape[:2]
    if ours not in regrets or first.shape[2] < endpoint:
        return result
    own = regrets[ours][:, :, endpoint - 1]
    paired: dict[str, dict[str, Any]] = {}
    for name, values in regrets.items():
        if name == ours:
            continue
        theirs = values[:, :, endpoint - 1]
        interval = bootstrap(theirs - own)
        result[f"{name}_minus_{ours}_{endpoint}_ci95"] = list(interval)
        by_task = (theirs - own).mean(axis=1)
        # All pairs equal: there is nothing to rank.
        paired[name] = {
            "difference": float(by_task.mean()),
            "ci95": list(interval),
            "probability_of_improvement": probability_of_improvement(own, theirs),
            "p_wilcoxon": float(wilcoxon(by_task).pvalue) if np.any(by_task) else 1.0,
        }
    corrected = holm({name: row["p_wilcoxon"] for name, row in paired.items()})
    for name, row in paired.items():
        row["p_wilcoxon_holm"] = corrected[name]
    result["paired"] = paired
    return result


def _summary(regrets: Array) -> dict[str, Any]:
    budget = regrets.shape[2]
    summary: dict[str, Any] = {}
    for n in (n for n in AT if n <= budget):
        values = regrets[:, :, n - 1]
        summary[f"regret_{n}"] = float(values.mean())
        summary[f"regret_{n}_ci95"] = list(bootstrap(values))
        summary[f"regret_{n}_iqm"] = interquartile_mean(values)
        summary[f"regret_{n}_iqm_ci95"] = list(bootstrap(values, "iqm"))
    summary["auc"] = float(1 - regrets.mean())
    near = regrets <= GOOD
    first = np.where(near.any(axis=2), near.argmax(axis=2) + 1, budget + 1)
    summary["evaluations_to_90_percent"] = float(np.median(first))
    summary["never_within_90_percent"] = float(np.mean(first > budget))
    return summary
