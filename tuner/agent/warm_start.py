"""Warm starts: points that served the simulated experiments well which the agent was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS
from envs.observation import TaskBatch
from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import SHIPPED
from tuner.search.points import sobol_points
from wrappers.files import write_whole
from wrappers.schema import Count, Share, read_json

__all__ = ["WarmStart", "portfolio", "score_points"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WarmStart:
    """What the baselines know of the simulated experiments that the agent was trained on.

    Attributes
    ----------
    points : tuple of mapping
        A portfolio: places in the unit cube by name, each chosen to add most to what those
        before it reach on the training experiments. The first is the best single setting.
    gp, tpe : int
        Points of it that a warm-started search begins with; chosen on validation.
    provenance : mapping
        How it was made.
    """

    points: tuple[Mapping[str, Share], ...]
    gp: Count
    tpe: Count
    provenance: Mapping[str, object]

    @property
    def actions(self) -> Array:
        """The points as actions of a policy, (n, d); the middle of what they do not name."""
        return _actions(self.points)

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> WarmStart:
        """Read ``warm_start.json``.

        Raises
        ------
        InputError
            If it is missing or damaged.
        """
        return read_json(
            directory / "warm_start.json", cls, "the warm starts", "take them and the policy anew"
        )

    def save(self, directory: Path) -> None:
        """Write ``warm_start.json``."""
        write_whole(directory / "warm_start.json", json.dumps(asdict(self), indent=1) + "\n")


def _actions(points: Sequence[Mapping[str, float]]) -> Array:
    return np.array([[2 * p.get(name, 0.5) - 1 for name in POLICY_PARAMETERS] for p in points])


def score_points(pool: SimulatedPool, points: Sequence[Mapping[str, float]]) -> Array:
    """Return the share of the reachable rate that points of the unit cube truly give.

    Parameters
    ----------
    pool : SimulatedPool
    points : sequence of mapping
        Places in [0, 1] by name; what is not named keeps the base's value.

    Returns
    -------
    float array (P, n)
    """
    n = len(pool)
    tuned = np.tile([name in points[0] for name in POLICY_PARAMETERS], (n, 1))
    zeros = np.zeros(n, int)
    tasks = TaskBatch(pool.spaces, zeros, zeros).take(np.arange(n), zeros, zeros, tuned)
    reached = []
    for action in _actions(points):
        values = tasks.execute(np.tile(action, (n, 1)))
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        true_rate = pool.model.evaluate(settings).true_rate
        reached.append(np.clip(true_rate / np.maximum(pool.reachable, 1e-9), 0, 1))
    return np.stack(reached, axis=1)


def portfolio(
    pool: SimulatedPool, size: int = 20, candidates: int = 1024, seed: int = 0
) -> list[dict[str, float]]:
    """Return points of the unit cube that together serve the pool's experiments well.

    Greedy: each adds most to the mean, over the experiments, of the best that those before it
    reach. The first is thus the best single setting.

    Parameters
    ----------
    pool : SimulatedPool
    size : int
    candidates, seed : int
        Of the Sobol sequence that the points are chosen from.
    """
    points = sobol_points(DEFAULT_TUNED, candidates, seed)
    reached = score_points(pool, points)
    best = np.zeros(len(pool))
    chosen = []
    for _ in range(size):
        gain = np.maximum(reached, best[:, None]).mean(axis=0)
        index = int(np.argmax(gain))
        chosen.append(points[index])
        best = np.maximum(best, reached[:, index])
    return chosen
