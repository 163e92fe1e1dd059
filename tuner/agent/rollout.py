"""A policy let loose on many simulated experiments at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.box import POLICY_PARAMETERS
from envs.observation import TaskBatch
from envs.parameter_space import DEFAULT_TUNED
from envs.reading import Reading
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import Policy

__all__ = ["Played", "Rollout", "play", "regret", "roll_out"]

Array = NDArray[np.float64]
Moves = Callable[[int, NDArray[np.floating]], NDArray[np.floating]]


def _as_it_would(turn: int, actions: NDArray[np.floating]) -> NDArray[np.floating]:
    return actions


@dataclass(frozen=True)
class Played:
    """Sessions of equal length: what was observed, and what it was truly worth.

    Attributes
    ----------
    evaluations : float array (P, budget, EVALUATION_SIZE)
        As `TaskBatch` shows them.
    merits, true_merits : float array (P, budget)
        As measured, and of infinitely many frames, which only a simulator knows.
    facts : float array (P, len(FACTS))
    penalties : float array (P,)
        For a hit that is not indexed, in indexed frames.
    typical : float32 array (OBSERVATION_SIZE,)
        The mean observation.
    """

    evaluations: Array
    merits: Array
    true_merits: Array
    facts: Array
    penalties: Array
    typical: NDArray[np.float32]


def play(
    policy: Policy,
    pool: SimulatedPool,
    tasks: TaskBatch,
    *,
    n_evaluations: int,
    n_frames: ArrayLike,
    draws: ArrayLike,
    moves: Moves = _as_it_would,
) -> Played:
    """Let a policy tune every experiment of a pool.

    Parameters
    ----------
    policy : Policy
    pool : SimulatedPool
    tasks : TaskBatch
        Not begun, one an experiment.
    n_evaluations : int
    n_frames, draws : array (P,)
        Frames of each sample, and which sample it is.
    moves : callable
        Given the turn and what the policy would do, (P, d), returns what is done.
    """
    frames, samples = (np.broadcast_to(a, len(pool)) for a in (n_frames, draws))
    evaluations, merits, true_merits, seen = [], [], [], []
    for turn in range(n_evaluations):
        observation = tasks.observe()
        seen.append(observation.mean(axis=0))
        values = tasks.execute(moves(turn, policy.act(observation, turn)))
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        responses = pool.model.evaluate(settings, frames, samples)
        reading = Reading.of(responses)
        merits.append(reading.merit(tasks.penalties))
        tasks.record(values, reading, merits[-1])
        evaluations.append(tasks.newest.copy())
        true_merits.append(responses.true_merit(tasks.penalties))
    return Played(
        np.stack(evaluations, axis=1),
        np.stack(merits, axis=1),
        np.stack(true_merits, axis=1),
        tasks.facts,
        tasks.penalties,
        np.mean(seen, axis=0).astype(np.float32),
    )


@dataclass(frozen=True)
class Rollout:
    """What came of it.

    Attributes
    ----------
    regrets : float array (P, budget)
        Normalised regret, after each evaluation, of the one that the policy's selector takes, or
        the one with the highest merit where it has none; see `regret`.
    measured, least : float array (P, budget)
        The same of the highest merit, and of whichever evaluation so far was truly the best.
    typical : float32 array (OBSERVATION_SIZE,)
        The mean observation.
    """

    regrets: Array
    measured: Array
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
    moves: Moves = _as_it_would,
) -> Rollout:
    """Tune every experiment of the pool from nothing, with the policy and nothing else.

    What counts is the net indexing rate: a hit that is not indexed costs nothing. With
    `moves` the policy only selects among what these try; see `play`.
    """
    n = len(pool)
    columns = np.tile([name in tuned for name in POLICY_PARAMETERS], (n, 1))
    budgets, penalties = np.full(n, budget), np.zeros(n)
    everything = TaskBatch(pool.spaces, budgets, penalties)
    tasks = everything.take(np.arange(n), budgets, penalties, columns)
    played = play(
        policy, pool, tasks, n_evaluations=budget, n_frames=n_frames, draws=draw, moves=moves
    )
    missed = regret(played.true_merits, pool.reachable[:, None])
    rows = np.arange(n)
    measured, selected = [], []
    for made in range(1, budget + 1):
        merits = played.merits[:, :made]
        measured.append(missed[rows, merits.argmax(axis=1)])
        taken = policy.choose(
            played.evaluations[:, :made], merits, played.facts, played.penalties, n_frames
        )
        selected.append(missed[rows, taken])
    least = np.minimum.accumulate(missed, axis=1)
    return Rollout(np.stack(selected, axis=1), np.stack(measured, axis=1), least, played.typical)
