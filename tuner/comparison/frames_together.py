"""The comparison on the frozen frames over several families at once: who leads whom, and by what.

The agent may take the default's place by what holds over all families together, and each family
alone is too small to tell it from the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.comparison.frames_benchmark import RIVAL, TOLD, by_seed, regret_after
from tuner.comparison.results import Results
from tuner.comparison.statistics import bootstrap

__all__ = ["GROUPS", "together"]

GROUPS = {
    "rendered": ("frames_test", "frames_shifted"),
    "everything": ("frames_test", "frames_shifted", "runs"),
}
"""Families that are taken together; those that CrystFEL has indexed are the same experiments."""

OURS = "agent"
OTHERS = ("map", RIVAL)


def together(results: Mapping[str, Results]) -> dict[str, Any]:
    """Return the figures of each group whose families are all there.

    For each: ``n_tasks``; ``regret``, by method and full evaluations; ``lead``, of the agent on
    others after as many, and ``lead_3_against_10`` on them at ten: mean and 95 % interval of the
    paired difference, bootstrapped over experiments and seeds.
    """
    return {
        name: _group({family: results[family] for family in families})
        for name, families in GROUPS.items()
        if all(family in results for family in families)
    }


def _group(families: Mapping[str, Results]) -> dict[str, Any]:
    methods = [
        method
        for method in next(iter(families.values()))
        if all(method in each for each in families.values())
    ]
    after = {
        method: {
            full: np.concatenate(
                [by_seed(regret_after(each[method], full)) for each in families.values()]
            )
            for full in TOLD
        }
        for method in methods
    }

    def lead(other: str, ours: int, theirs: int) -> list[float]:
        values = after[other][theirs] - after[OURS][ours]
        return [float(values.mean()), *bootstrap(values)]

    others = [other for other in OTHERS if other in methods] if OURS in methods else []
    return {
        "n_tasks": len(next(iter(after.values()))[TOLD[0]]),
        "regret": {
            method: {str(full): float(each.mean()) for full, each in row.items()}
            for method, row in after.items()
        },
        "lead": {other: {str(n): lead(other, n, n) for n in TOLD} for other in others},
        "lead_3_against_10": {other: lead(other, 3, 10) for other in others},
    }
