"""The tuning task on many simulated experiments at once, as a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS
from envs.environments.episodes import Episode, EpisodeKinds
from envs.environments.rewards import Reward, rewards
from envs.environments.tuning_env import make_spaces
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.observation import TaskBatch
from envs.parameter_space import DEFAULT_TUNED
from envs.reading import Reading
from envs.response.simulated_pool import SimulatedPool

__all__ = ["LEAST_REACHABLE", "BatchedTuningEnv", "make_simulated"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_REACHABLE = 0.02
"""Rates are never divided by less: where nothing can be indexed there is nothing to learn."""


class BatchedTuningEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """`tuning_env.TuningEnv` on many simulated experiments side by side, in NumPy.

    Each episode takes an experiment of the pool and a sample of its frames at random. Actions,
    observations and rewards are those of `TuningEnv`. An episode that is over gives way to the
    next in the same step: its last observation and what it used are then in
    ``info["final_obs"]`` and ``info["final_info"]``.

    Parameters
    ----------
    pool : SimulatedPool
    num_envs : int
    kinds : EpisodeKinds
    reward : {"delta", "gain", "rate", "incumbent"}
        See `TuningEnv`.
    price_of_a_second : float
        In indexed frames.
    by_truth : bool
        Reward what parameter sets are truly worth, which only a simulator knows, rather than
        what was measured; ``"incumbent"`` then is the true merit of the one that looks best.
    relative : bool
        Divide rewards by the rate that is within the experiment's reach, so that runs with few
        crystals count as much as others. Only a simulator knows it; it is never observed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own form)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        pool: SimulatedPool,
        *,
        num_envs: int,
        kinds: EpisodeKinds = EpisodeKinds(),  # noqa: B008 (frozen)
        reward: Reward = "delta",
        price_of_a_second: float = 0.0,
        by_truth: bool = False,
        relative: bool = False,
    ) -> None:
        self.num_envs = num_envs
        self.single_action_space, self.single_observation_space = make_spaces()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._pool, self._kinds = pool, kinds
        self._reward: Reward = reward
        self._price_of_a_second, self._by_truth = price_of_a_second, by_truth
        self._scale = (
            np.maximum(pool.reachable, LEAST_REACHABLE) if relative else np.ones(len(pool))
        )
        nothing = np.zeros(len(pool), int)
        self._templates = TaskBatch(pool.spaces, nothing, nothing)
        self._tasks: TaskBatch | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin new episodes everywhere; return the observations (n, size)."""
        super().reset(seed=seed)
        n = self.num_envs
        self._rows = np.zeros(n, np.int64)
        self._frames = np.zeros(n, np.int64)
        self._draws = np.zeros(n, np.int64)
        self._last = np.zeros(n)
        self._best = np.zeros(n)
        everything = np.ones((n, len(POLICY_PARAMETERS)), bool)
        self._tasks = self._templates.take(self._rows, np.ones(n, int), np.zeros(n), everything)
        self._begin(self._tasks, np.arange(n))
        return self._tasks.observe(), {}

    def _begin(self, running: TaskBatch, envs: Rows) -> None:
        """Begin new episodes in some of the environments."""
        n, kinds, rng = len(envs), self._kinds, self.np_random
        rows = rng.integers(len(self._templates), size=n)
        budgets = rng.integers(kinds.budgets[0], kinds.budgets[1] + 1, size=n)
        frames = kinds.draw_frames(n, rng)
        tasks = self._templates.take(
            rows, budgets, kinds.draw_penalties(n, rng), kinds.draw_tuned(n, rng)
        )
        start = rng.random(n) < kinds.from_base
        draws = rng.integers(1, 2**31, size=n)
        self._rows[envs], self._frames[envs], self._draws[envs] = rows, frames, draws
        self._last[envs] = self._best[envs] = 0
        if start.any():
            some = np.flatnonzero(start)
            begun = tasks.take(some, budgets[some], tasks.penalties[some], tasks.boxes.tuned[some])
            value = self._measure(begun, begun.boxes.base, rows[some], frames[some], draws[some])
            tasks.put(some, begun)
            self._last[envs[some]] = value
            self._best[envs[some]] = value if self._by_truth else np.maximum(value, 0)
        running.put(envs, tasks)

    def _measure(
        self, tasks: TaskBatch, values: Array, rows: Rows, frames: Rows, draws: Rows
    ) -> Array:
        """Record what the parameter sets `values` (n, d) give; return the rewarded values (n,)."""
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        responses = self._pool.model.take(rows).evaluate(settings, frames, draws)
        reading = Reading.of(responses)
        merits = reading.merit(tasks.penalties)
        tasks.record(values, reading, merits)
        if self._by_truth:
            merits = responses.true_merit(tasks.penalties)
        return merits - self._price_of_a_second * responses.seconds / np.maximum(frames, 1)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Evaluate the parameter sets that the actions (n, d) name; begin what is over anew."""
        tasks = self._running()
        values = tasks.execute(actions)
        looked_best = tasks.best
        value = self._measure(tasks, values, self._rows, self._frames, self._draws)
        best = np.maximum(self._best, value)
        if self._by_truth:  # of the one that is taken for the best
            best = np.where(tasks.best > looked_best, value, self._best)
        reward = (
            best
            if self._reward == "incumbent"
            else rewards(self._reward, value, self._last, self._best)
        )
        reward = reward / self._scale[self._rows]
        self._last, self._best = value, best
        over = tasks.spent >= tasks.budgets
        observation, spent = tasks.observe(), tasks.spent.copy()
        info: dict[str, Any] = {}
        ended = np.flatnonzero(over)
        if len(ended):
            # Gymnasium's form: an array of objects, and a mask of where there are any.
            last = np.full(self.num_envs, None, object)
            for env in ended:
                last[env] = observation[env].copy()
            final = {"evaluations": np.where(over, spent, 0), "_evaluations": over}
            info = {"final_obs": last, "_final_obs": over, "final_info": final, "_final_info": over}
            self._begin(tasks, ended)
            observation[ended] = tasks.observe()[ended]
        return observation, reward, over, np.zeros(self.num_envs, bool), info

    def _running(self) -> TaskBatch:
        if self._tasks is None:
            raise gym.error.ResetNeeded("call reset before anything else")
        return self._tasks

    def episodes(self) -> list[Episode]:
        """Return the sessions that are under way, one an environment."""
        tasks = self._running()
        return [
            Episode(
                int(self._rows[i]),
                int(self._frames[i]),
                int(self._draws[i]),
                int(tasks.budgets[i]),
                tuple(np.array(POLICY_PARAMETERS)[tasks.boxes.tuned[i]].tolist()),
            )
            for i in range(self.num_envs)
        ]

    def best_actions(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the actions (n, d) that lead to the best parameter sets, and which matter.

        Only a simulator knows them. What is not tuned does not matter, nor does a camera length
        that is fixed from the lattices, nor the mask: the best without one is what is known.
        """
        tasks = self._running()
        matters = tasks.boxes.tuned.copy()
        matters[:, POLICY_PARAMETERS.index("mask_hot_sigma")] = False
        matters[~np.isnan(tasks.fixed_clen), POLICY_PARAMETERS.index("clen")] = False
        return tasks.boxes.units(self._pool.optimum[self._rows]).astype(np.float32), matters


def make_simulated(
    num_envs: int = 1,
    *,
    family: str = "train",
    n_experiments: int = 256,
    tuned: Sequence[str] = DEFAULT_TUNED,
    n_frames: int = 200,
    budget: int = 20,
    reward: Reward = "delta",
    unindexed_hit_penalty: float = UNINDEXED_HIT_PENALTY,
    price_of_a_second: float = 0.0,
) -> BatchedTuningEnv:
    """Return what `gymnasium.make_vec` makes: many `TuningEnv` on simulated experiments.

    Parameters
    ----------
    num_envs : int
    n_experiments : int
        Experiments of the family, always the same ones, that episodes are drawn from.
    family, tuned, n_frames, budget, reward, unindexed_hit_penalty, price_of_a_second
        See `TuningEnv`. For a run, or an evaluator, ask `gymnasium.make_vec` for
        ``vectorization_mode="sync"``.
    """
    return BatchedTuningEnv(
        SimulatedPool.draw(family, n_experiments, seed=0),
        num_envs=num_envs,
        kinds=EpisodeKinds.only(budget, n_frames, tuned, unindexed_hit_penalty),
        reward=reward,
        price_of_a_second=price_of_a_second,
    )
