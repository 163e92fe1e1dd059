"""Which tuning sessions are drawn for training: budgets, samples of frames, tuned parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.parameter_space import DEFAULT_TUNED

__all__ = ["Episode", "EpisodeKinds"]


@dataclass(frozen=True)
class EpisodeKinds:
    """Which sessions are drawn; `EpisodeKinds.only` gives always the same kind.

    Attributes
    ----------
    budgets : (int, int)
        Evaluations of an episode, drawn evenly from here to there, both included.
    frames : (int, int)
        Frames of the sample, drawn evenly on a log scale.
    tuned : sequence of str, or None
        The tuned parameters; None draws them: mostly `DEFAULT_TUNED`, else any subset.
    from_base : float
        Share of the episodes that begin with the base's parameter set evaluated.
    penalty : float or None
        For a hit that is not indexed, in indexed frames; None draws it: nothing,
        `UNINDEXED_HIT_PENALTY`, or anything up to twice that.
    """

    budgets: tuple[int, int] = (5, 40)
    frames: tuple[int, int] = (50, 250)
    tuned: Sequence[str] | None = None
    from_base: float = 0.3
    penalty: float | None = None

    @classmethod
    def only(
        cls, budget: int, n_frames: int, tuned: Sequence[str] = DEFAULT_TUNED, penalty: float = 0.0
    ) -> EpisodeKinds:
        """Return the one kind with this budget and number of frames, from nothing."""
        return cls((budget, budget), (n_frames, n_frames), tuned, 0.0, penalty)

    def draw_frames(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the frames of the samples of n episodes, (n,)."""
        low, high = np.log(self.frames)
        return np.rint(np.exp(rng.uniform(low, high, n))).astype(np.int64)

    def draw_penalties(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the penalties for a hit that is not indexed in n episodes, (n,)."""
        if self.penalty is not None:
            return np.full(n, self.penalty)
        usual = np.where(rng.random(n) < 0.6, 0.0, UNINDEXED_HIT_PENALTY)
        return np.where(rng.random(n) < 0.2, rng.uniform(0, 2 * UNINDEXED_HIT_PENALTY, n), usual)

    def draw_tuned(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return which parameters are tuned in n episodes, (n, d)."""
        usual = np.array([name in DEFAULT_TUNED for name in POLICY_PARAMETERS])
        if self.tuned is not None:
            fixed = np.array([name in self.tuned for name in POLICY_PARAMETERS])
            return np.tile(fixed, (n, 1))
        kind = rng.random(n)
        drawn = rng.random((n, len(usual))) < 0.6
        drawn[:, 0] |= ~drawn.any(axis=1)
        drawn[kind < 0.75] = True
        drawn[kind < 0.6] = usual
        return drawn


@dataclass(frozen=True)
class Episode:
    """One session under way: which frames of which experiment of the pool, and what is tuned."""

    experiment: int
    n_frames: int
    draw: int
    budget: int
    tuned: tuple[str, ...]
