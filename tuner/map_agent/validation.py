"""Sessions on held-out experiments: what a policy is chosen by, and held against the map's rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from envs.environments.map_env import MapTuningEnv
from envs.environments.map_tasks import MapTasks
from envs.evaluators.look_record import LookRecord
from envs.response_map.situation import Situation

__all__ = ["Chooser", "by_rule", "validate"]

Chooser = Callable[[Situation], int]

BUDGET = 6.0
AFTER = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Full evaluations beyond the first, after which the regret is told."""

SESSIONS = 6
"""On each experiment, with other frames and first sets, for each indexer's costs."""


def by_rule(situation: Situation) -> int:
    """Choose as the map's own rule does."""
    return situation.rule()


def validate(choose: Chooser, records: Sequence[LookRecord]) -> dict[str, float]:
    """Return what sessions come to on experiments that no training saw.

    Returns
    -------
    dict
        ``score``, the mean area under the anytime curve less the price; ``merit_X`` after so many
        full evaluations, ``merit_end``; ``spent`` and ``evaluations`` of a session.
    """
    rows = []
    for indexer in ("fast", "crystfel"):
        tasks = MapTasks(records, budget=BUDGET, indexer=indexer)
        for number, record in enumerate(tasks.records):
            for seed in range(SESSIONS):
                rows.append(_play(choose, tasks, record, 1000 * number + seed))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _play(choose: Chooser, tasks: MapTasks, record: LookRecord, seed: int) -> dict[str, float]:
    env = MapTuningEnv(lambda rng: tasks.on(record, rng), reward="anytime")
    _, info = env.reset(seed=seed)
    path, total, over = [(0.0, info["standing"])], 0.0, False
    while not over:
        _, reward, over, _, info = env.step(choose(env.situation))
        total += reward
        path.append((info["spent"], info["standing"]))
    spent, standing = np.array(path).T
    found = {
        f"merit_{after:g}": float(standing[np.flatnonzero(spent <= after + 1e-9)[-1]])
        for after in AFTER
    }
    return {
        "score": total + float(standing[0]),
        **found,
        "merit_end": float(standing[-1]),
        "spent": float(spent[-1]),
        "evaluations": float(info["evaluations"]),
    }
