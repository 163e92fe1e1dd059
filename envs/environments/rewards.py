"""What an evaluation is rewarded with: one rule for the single environment and the batched one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Reward", "rewards"]

Reward = Literal["delta", "gain", "rate", "incumbent"]


def rewards(kind: Reward, value: ArrayLike, before: ArrayLike, best_before: ArrayLike) -> Any:
    """Return the reward of an evaluation of this value.

    Parameters
    ----------
    kind : {"delta", "gain", "rate", "incumbent"}
        See `envs.environments.tuning_env.TuningEnv`.
    value, before, best_before : array_like
        Of this evaluation, of the one before it and of the best before it; 0 where there was none.
    """
    if kind == "delta":
        return np.subtract(value, before)
    if kind == "gain":
        return np.maximum(np.subtract(value, best_before), 0)
    if kind == "rate":
        return np.asarray(value)
    return np.maximum(value, best_before)
