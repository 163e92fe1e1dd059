"""Which of the parameter sets that were tried is truly the best.

The highest of ten measured rates flatters itself (the winner's curse): in a sample of two hundred
frames with a dozen crystals, luck orders parameter sets that differ by little. The selector is
a small network that sees all evaluations of a session at once, as the agent does, and was trained
on simulated experiments, where the truth is known, to select the best of them. It is a set network
(Zaheer et al., Deep Sets, 2017): every evaluation is encoded, the codes are pooled, and each
evaluation is scored beside what was pooled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.observation import EVALUATION_SIZE, FACTS
from tuner.agent.networks import Floats, Layers, run, silu

__all__ = ["N_INPUTS", "Selector", "selector_inputs"]

N_INPUTS = EVALUATION_SIZE + len(FACTS) + 3
"""Of one evaluation: itself, the facts, the penalty, the highest merit, its lag behind it."""

LUCK = 2.0
"""Standard errors of the highest merit that the selector may stay behind it."""


@dataclass(frozen=True)
class Selector:
    """The network.

    Attributes
    ----------
    encoder : Layers
        From `N_INPUTS` numbers to a code.
    head : Layers
        From the inputs, and the mean and the highest of all codes, to a score.
    trust : float
        That is added to the score for each unit of the lag: what is measured counts by itself.
    """

    encoder: Layers
    head: Layers
    trust: float

    def scores(self, inputs: Floats) -> Floats:
        """Return a score (B, n) for each of n evaluations from `selector_inputs`."""
        codes = run(self.encoder, inputs, silu)
        pooled = np.concatenate([codes.mean(axis=1), codes.max(axis=1)], axis=1)[:, None]
        pooled = np.broadcast_to(pooled, (*inputs.shape[:2], pooled.shape[2]))
        score = run(self.head, np.concatenate([inputs, pooled], axis=2), silu)[..., 0]
        return score + np.float32(self.trust) * inputs[..., -1]

    def choose(
        self, inputs: Floats, merits: NDArray[np.floating], n_frames: ArrayLike
    ) -> NDArray[np.int64]:
        """Return which of n evaluations to take (B,), from `selector_inputs` (B, n, N_INPUTS).

        None of those is, however the network may like it, that lies `LUCK` standard errors or
        more behind the one with the highest merit: so far luck seldom goes.
        """
        top = merits.max(axis=1)
        rate = np.clip(top, 0.005, 0.995)
        error = np.sqrt(rate * (1 - rate) / np.maximum(n_frames, 1))
        near = merits >= (top - LUCK * error)[:, None]
        return np.asarray(np.where(near, self.scores(inputs), -np.inf).argmax(axis=1))


def selector_inputs(
    evaluations: NDArray[np.floating],
    merits: NDArray[np.floating],
    facts: NDArray[np.floating],
    penalties: NDArray[np.floating],
) -> Floats:
    """Return what the selector sees, (B, n, N_INPUTS).

    Parameters
    ----------
    evaluations : array (B, n, EVALUATION_SIZE)
        As `envs.observation.TaskBatch` shows them.
    merits : array (B, n)
    facts : array (B, len(FACTS))
    penalties : array (B,)
        For a hit that is not indexed, in indexed frames.
    """
    top = merits.max(axis=1, keepdims=True)
    lag = np.clip((merits - top) / (np.abs(top) + 0.05), -3, 0)
    general = np.concatenate([facts, penalties[:, None] / 0.4, top], axis=1)[:, None]
    general = np.broadcast_to(general, (*merits.shape, general.shape[2]))
    return np.concatenate([evaluations, general, lag[..., None]], axis=2, dtype=np.float32)
