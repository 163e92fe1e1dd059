"""The statistics of a comparison, decided on before it is run.

The primary endpoint is the normalised regret, on the truth, of what a method would recommend
after 10 evaluations: the agent's against that of the warm-started Gaussian process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, wilcoxon

from envs.evaluation import Evaluation

__all__ = [
    "OURS",
    "RIVAL",
    "add_costs",
    "bootstrap",
    "compare_family",
    "holm",
    "interquartile_mean",
    "net_rate",
    "paired_after",
    "paired_by_frame",
    "probability_of_improvement",
    "summary",
    "told_after",
]

OURS, RIVAL = "ppo", "warm-gp"
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


def compare_family(regrets: Mapping[str, Array], ours: str = OURS) -> dict[str, Any]:
    """Return the figures of one family: of every method, and of ours against each other one.

    Parameters
    ----------
    regrets : mapping of str to array (tasks, seeds, budget)
        Normalised regret of what the method would recommend after each evaluation.
    ours : str
        The method that the others are paired with.

    Returns
    -------
    dict
        A dictionary for every method; ``<method>_minus_<ours>_<n>_ci95``, the interval of the
        mean paired difference after n evaluations, positive where ours has less regret;
        ``paired``, ``paired_after`` (that n), ``evaluations`` (all), ``n_tasks``, ``n_seeds``.
    """
    result: dict[str, Any] = {name: _with_intervals(values) for name, values in regrets.items()}
    result["n_tasks"], result["n_seeds"], budget = next(iter(regrets.values())).shape
    result["evaluations"], result["paired_after"] = budget, (after := paired_after(budget))
    final = {name: values[:, :, after - 1] for name, values in regrets.items()}
    paired: dict[str, dict[str, Any]] = {}
    for name in final if ours in final else ():
        if name == ours:
            continue
        difference = final[name] - final[ours]
        by_task = difference.mean(axis=1)
        paired[name] = {
            "difference": float(by_task.mean()),
            "ci95": list(bootstrap(difference)),
            "probability_of_improvement": probability_of_improvement(final[ours], final[name]),
            # All pairs equal: there is nothing to rank.
            "p_wilcoxon": float(wilcoxon(by_task).pvalue) if np.any(by_task) else 1.0,
        }
    corrected = holm({name: row["p_wilcoxon"] for name, row in paired.items()})
    for name, row in paired.items():
        row["p_wilcoxon_holm"] = corrected[name]
        result[f"{name}_minus_{ours}_{after}_ci95"] = row["ci95"]
    result["paired"] = paired
    return result


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


def _with_intervals(regrets: Array) -> dict[str, Any]:
    told = summary(regrets)
    for n in told_after(regrets.shape[2]):
        values = regrets[:, :, n - 1]
        told[f"regret_{n}_ci95"] = list(bootstrap(values))
        told[f"regret_{n}_iqm"] = interquartile_mean(values)
        told[f"regret_{n}_iqm_ci95"] = list(bootstrap(values, "iqm"))
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


def add_costs(figures: dict[str, Any], by_method: Mapping[str, Mapping[str, Array]]) -> None:
    """Add to a family's figures what a proposal costs, and how well the camera length is found."""
    for method, arrays in by_method.items():
        figures[method]["suggestion_seconds"] = float(arrays["seconds"].mean())
        for n in (5, 10):
            if "clen_error" in arrays and arrays["clen_error"].shape[2] >= n:
                near = abs(arrays["clen_error"][:, :, n - 1]) <= 1e-3
                figures[method][f"clen_within_0.1_percent_{n}"] = float(near.mean())
