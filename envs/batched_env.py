"""Many simulated tuning sessions at once, for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from envs.objective import UNINDEXED_HIT_PENALTY
from envs.observation import OBSERVATION_SIZE, POLICY_PARAMETERS, TaskBatch
from envs.parameter_space import DEFAULT_TUNED
from envs.reading import Reading
from envs.response.simulated_pool import SimulatedPool
from envs.tuning_env import Reward, rewards

__all__ = ["BatchedTuningEnv", "Episode", "EpisodeKinds"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_REACHABLE = 0.02
"""Rates are never divided by less: where nothing can be indexed there is nothing to learn."""


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
        Share of the episodes that begin with the base settings evaluated.
    price : float or None
        Of a vain hit, in indexed frames; None draws it: nothing, `UNINDEXED_HIT_PENALTY`, or
        anything up to twice that.
    """

    budgets: tuple[int, int] = (5, 40)
    frames: tuple[int, int] = (50, 250)
    tuned: Sequence[str] | None = None
    from_base: float = 0.3
    price: float | None = None

    @classmethod
    def only(
        cls, budget: int, n_frames: int, tuned: Sequence[str] = DEFAULT_TUNED, price: float = 0.0
    ) -> EpisodeKinds:
        """Return the one kind with this budget, so many frames, from nothing."""
        return cls((budget, budget), (n_frames, n_frames), tuned, 0.0, price)

    def draw_frames(self, n: int, rng: np.random.Generator) -> Rows:
        """Return the frames of the samples of n episodes, (n,)."""
        low, high = np.log(self.frames)
        return np.rint(np.exp(rng.uniform(low, high, n))).astype(np.int64)

    def draw_prices(self, n: int, rng: np.random.Generator) -> Array:
        """Return the prices of a vain hit in n episodes, (n,)."""
        if self.price is not None:
            return np.full(n, self.price)
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


class BatchedTuningEnv(VecEnv):
    """`TuningEnv` on many simulated experiments side by side, in NumPy.

    Each episode takes an experiment of the pool and a sample of its frames at random. Actions,
    observations and rewards are those of `TuningEnv`; the reward is divided by the rate that is
    within the experiment's reach, so that runs with few crystals count as much as others. Only
    a simulator knows that rate; it is never observed.

    Parameters
    ----------
    pool : SimulatedPool
    n_envs : int
    seed : int
    kinds : EpisodeKinds
    reward : {"delta", "gain", "rate", "incumbent"}
        See `TuningEnv`.
    price_of_a_second : float
        In indexed frames.
    by_truth : bool
        Reward what evaluations are truly worth, which only a simulator knows, rather than what
        was measured; ``"incumbent"`` then is the true value of the one that looks best.
    """

    def __init__(
        self,
        pool: SimulatedPool,
        *,
        n_envs: int,
        seed: int,
        kinds: EpisodeKinds = EpisodeKinds(),
        reward: Reward = "incumbent",
        price_of_a_second: float = 0.0,
        by_truth: bool = False,
    ) -> None:
        self.render_mode = None
        super().__init__(
            n_envs,
            gym.spaces.Box(-1, 1, (OBSERVATION_SIZE,), np.float32),
            gym.spaces.Box(-1, 1, (len(POLICY_PARAMETERS),), np.float32),
        )
        self._model, self._kinds = pool.model, kinds
        nothing = np.zeros(len(pool), int)
        self._templates = TaskBatch(pool.spaces, nothing, nothing)
        self._optimum = pool.optimum
        self._scale = np.maximum(pool.reachable, LEAST_REACHABLE)
        self._reward: Reward = reward
        self._price_of_a_second, self._by_truth = price_of_a_second, by_truth
        self._rng = np.random.default_rng(seed)
        self._actions: NDArray[np.float32] = np.zeros((n_envs, len(POLICY_PARAMETERS)), np.float32)
        self._begin_all()

    def _begin_all(self) -> None:
        n = self.num_envs
        self._rows = np.zeros(n, np.int64)
        self._frames = np.zeros(n, np.int64)
        self._draws = np.zeros(n, np.int64)
        self._last = np.zeros(n)
        self._best = np.zeros(n)
        self._return = np.zeros(n)
        everything = np.ones((n, len(POLICY_PARAMETERS)), bool)
        self._tasks = self._templates.take(self._rows, np.ones(n, int), np.zeros(n), everything)
        self._begin(np.arange(n))

    def _begin(self, envs: NDArray[np.int64]) -> None:
        """Begin new episodes in some of the environments."""
        n, kinds, rng = len(envs), self._kinds, self._rng
        rows = rng.integers(len(self._templates), size=n)
        budgets = rng.integers(kinds.budgets[0], kinds.budgets[1] + 1, size=n)
        frames = kinds.draw_frames(n, rng)
        tasks = self._templates.take(
            rows, budgets, kinds.draw_prices(n, rng), kinds.draw_tuned(n, rng)
        )
        start = rng.random(n) < kinds.from_base
        draws = rng.integers(1, 2**31, size=n)
        self._rows[envs], self._frames[envs], self._draws[envs] = rows, frames, draws
        self._last[envs] = self._best[envs] = self._return[envs] = 0
        if start.any():
            some = np.flatnonzero(start)
            begun = tasks.take(some, budgets[some], tasks.prices[some], tasks.tuned[some])
            value = self._measure(begun, begun.base, rows[some], frames[some], draws[some])
            tasks.put(some, begun)
            self._last[envs[some]] = value
            self._best[envs[some]] = value if self._by_truth else np.maximum(value, 0)
        self._tasks.put(envs, tasks)

    def _measure(
        self, tasks: TaskBatch, values: Array, rows: Rows, frames: Rows, draws: Rows
    ) -> Array:
        """Record what the settings `values` (n, d) give; return the evaluations' values (n,)."""
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        responses = self._model.take(rows).evaluate(settings, frames, draws)
        reading = Reading.of(responses)
        merits = reading.merit(tasks.prices)
        tasks.record(values, reading, merits)
        if self._by_truth:
            merits = responses.worth(tasks.prices)
        return merits - self._price_of_a_second * responses.seconds / np.maximum(frames, 1)

    def episodes(self) -> list[Episode]:
        """Return the sessions that are under way, one an environment."""
        return [
            Episode(
                int(self._rows[i]),
                int(self._frames[i]),
                int(self._draws[i]),
                int(self._tasks.budgets[i]),
                tuple(np.array(POLICY_PARAMETERS)[self._tasks.tuned[i]].tolist()),
            )
            for i in range(self.num_envs)
        ]

    def best_actions(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the actions (n, d) that lead to the best settings, and which of them matter.

        Only a simulator knows them. What is not tuned does not matter, nor does a camera length
        that the lattices have placed, nor the mask: the best without one is what is known.
        """
        matters = self._tasks.tuned.copy()
        matters[:, POLICY_PARAMETERS.index("mask_hot_sigma")] = False
        matters[~np.isnan(self._tasks.pinned), POLICY_PARAMETERS.index("clen")] = False
        return self._tasks.units(self._optimum[self._rows]).astype(np.float32), matters

    def reset(self) -> VecEnvObs:
        """Begin new episodes everywhere; return the observations (n, size)."""
        self._begin_all()
        return self._tasks.observe()

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Keep the actions (n, d) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Evaluate; episodes that are over give way to new ones, as SB3 asks for."""
        values = self._tasks.execute(self._actions)
        looked_best = self._tasks.best
        value = self._measure(self._tasks, values, self._rows, self._frames, self._draws)
        best = np.maximum(self._best, value)
        if self._by_truth:  # of the one that is taken for the best
            best = np.where(self._tasks.best > looked_best, value, self._best)
        if self._reward == "incumbent":
            reward = best
        else:
            reward = rewards(self._reward, value, self._last, self._best)
        reward = reward / self._scale[self._rows]
        self._last, self._best = value, best
        self._return += reward
        over = self._tasks.spent >= self._tasks.budgets
        observation = self._tasks.observe()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(over)
        if len(ended):
            for env in ended:
                length = int(self._tasks.budgets[env])
                infos[env]["terminal_observation"] = observation[env].copy()
                infos[env]["episode"] = {"r": self._return[env] / length, "l": length}
            self._begin(ended)
            observation[ended] = self._tasks.observe()[ended]
        return observation, reward.astype(np.float32), over, infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of this object, once an environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of this object: its environments have none of their own."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Environments are rows of arrays here and have no methods."""
        raise NotImplementedError("the environments of a BatchedTuningEnv are rows of arrays")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return False: nothing is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
