"""A policy let loose on many simulated experiments at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.observation import POLICY_PARAMETERS, TaskBatch
from envs.parameter_space import DEFAULT_TUNED
from envs.reading import Reading
from envs.simulated_pool import SimulatedPool
from tuner.policy import Policy

__all__ = ["Rollout", "regret", "roll_out"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rollout:
    """What came of it.

    Attributes
    ----------
    regrets : float array (P, budget)
        Normalised regret of the incumbent after each evaluation; see `regret`.
    least : float array (P, budget)
        The same of whichever evaluation so far was truly the best: what is left of the regret if
        noise never made another one look better.
    typical : float32 array (OBSERVATION_SIZE,)
        The mean observation.
    """

    regrets: Array
    least: Array
    typical: NDArray[np.float32]


def regret(true_rate: Array, reachable: Array) -> Array:
    """Return the share of the reachable rate that is missed, within [0, 1]."""
    return np.clip(1 - true_rate / np.maximum(reachable, 1e-9), 0, 1)


def roll_out(
    policy: Policy,
    pool: SimulatedPool,
    *,
    budget: int,
    n_frames: int = 200,
    draw: int = 0,
    tuned: tuple[str, ...] = DEFAULT_TUNED,
) -> Rollout:
    """Tune every experiment of the pool from nothing, with the policy and nothing else.

    What counts is the net indexing rate: vain hits cost nothing.
    """
    n = len(pool)
    columns = np.tile([name in tuned for name in POLICY_PARAMETERS], (n, 1))
    budgets, prices = np.full(n, budget), np.zeros(n)
    everything = TaskBatch(pool.spaces, budgets, prices)
    tasks = everything.take(np.arange(n), budgets, prices, columns)
    incumbent_rate = np.zeros(n)
    highest_rate = np.zeros(n)
    regrets, least, seen = [], [], []
    for _ in range(budget):
        observation = tasks.observe()
        seen.append(observation.mean(axis=0))
        values = tasks.execute(policy.act(observation))
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        responses = pool.model.evaluate(settings, np.full(n, n_frames), np.full(n, draw))
        reading = Reading.of(responses)
        before = tasks.best
        tasks.record(values, reading, reading.merit(0.0))
        incumbent_rate = np.where(tasks.best > before, responses.true_rate, incumbent_rate)
        highest_rate = np.maximum(highest_rate, responses.true_rate)
        regrets.append(regret(incumbent_rate, pool.reachable))
        least.append(regret(highest_rate, pool.reachable))
    return Rollout(
        np.stack(regrets, axis=1),
        np.stack(least, axis=1),
        np.mean(seen, axis=0).astype(np.float32),
    )
