"""What measuring a parameter set promises, by the response map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.response_map.session_map import Forecast

__all__ = ["ENOUGH", "UNINDEXED_COST", "gains_of"]

Floats = NDArray[np.float64]

UNINDEXED_COST = {"fast": 1.0, "crystfel": 9.0}
"""What a hit that is not indexed costs beyond what one that is does, in indexed hits."""

ENOUGH = {"fast": 0.001, "crystfel": 0.005}
"""Of merit: where no set is expected to improve the best by so much, for its cost, the search has
ended. An evaluation takes the embedded indexer a second or two, CrystFEL ten times as long."""


def gains_of(
    forecast: Forecast,
    measured: Sequence[int] | NDArray[np.int64],
    possible: NDArray[np.bool_],
    penalty: float,
    indexer: str,
) -> Floats:
    """Return what evaluating each set (S,) promises; -inf where it is not possible.

    While sets are better than the best measured one by more than their errors, the surest gain is
    taken: what may be a flood of noise can wait. Then it is the expected improvement, for its cost.
    """
    sure = np.where(possible, forecast.cautious_merits(penalty), -np.inf)
    if not len(measured):
        return sure
    merits = forecast.merits(penalty)
    mean = merits.mean(axis=0)
    leader = measured[int(np.argmax(mean[measured]))]
    if (sure - mean[leader]).max() > ENOUGH[indexer]:
        return np.asarray(sure - mean[leader])
    best = merits[:, measured].max(axis=1)
    # What luck with the sample adds is no improvement, so the rates are compared without it.
    improvement = np.maximum(merits - best[:, None], 0).mean(axis=0)
    rate = forecast.mean
    cost = forecast.hits + UNINDEXED_COST[indexer] * np.maximum(forecast.hits - rate, 0)
    # In units of what the best costs where all of its hits are indexed.
    gains = improvement / np.maximum(cost / max(rate[leader], 0.05), 0.5)
    return np.asarray(np.where(possible, gains, -np.inf))
