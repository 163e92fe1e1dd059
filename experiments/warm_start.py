"""Chooses the points that warm-started searches begin with, and how many of them.

    python -m experiments.warm_start    # writes tuner/data/warm_start.json; half an hour, two cores

The points are chosen on simulated experiments of the train family, greedily: each adds most to what
those before it reach. How many a search begins with is chosen on the validation family, by the mean
regret after 5, 10 and 20 evaluations of sessions on the response model. Run it again after
`envs/data/response_model.json` or the families have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context

import click
import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS, Boxes
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace
from envs.response.simulated_pool import SimulatedPool
from tuner.comparison.searching import run_method
from tuner.comparison.statistics import regret
from tuner.search.contract import Searcher, SearcherKind, SearchTask
from tuner.search.locked import LockedSearcher
from tuner.search.points import PointsSearcher, sobol_points
from tuner.search.warm_start import SHIPPED, WarmStart
from tuner.searchers import make_searcher
from tuner.threads import share_cores

N_TRAIN = 1000
"""Training experiments that the points are chosen on."""

N_VALIDATION = 100

LEAST_REACHABLE = 0.02
"""Experiments in which no parameter set indexes this share of the frames are left out: there is
nothing to measure in a sample of a session's size."""

START_UPS = (3, 5, 8, 12)
"""Numbers of points that a warm-started search may begin with."""

BUDGET, N_FRAMES = 20, 200
"""Evaluations of a validation session, and frames of each."""

AT = (5, 10, 20)
"""Evaluations after which the regret counts."""

PARTS = 4
"""Pieces of work for each process."""

MakeSearcher = Callable[[SearchTask], Searcher]
Array = NDArray[np.float64]


@click.command()
@click.option("-j", "--jobs", default=2, show_default=True)
def main(jobs: int) -> None:
    """Choose the points on train, and how many of them to begin with on validation."""
    pool = SimulatedPool.draw("train", N_TRAIN, seed=0).reaching(LEAST_REACHABLE)
    points = portfolio(pool)
    rows = {}
    for name in ("gp", "tpe"):
        for n in (0, *START_UPS):
            make = partial(_warm, name=name, points=points[:n])
            rows[name, n] = _validate(make, jobs)
            told = ", ".join(f"{rows[name, n][k - 1]:.3f} after {k}" for k in AT)
            print(f"{name:4} after {n:2} points: regret {told}", flush=True)
    best = {name: min((_score(rows[name, n]), n) for n in START_UPS)[1] for name in ("gp", "tpe")}
    provenance = {
        "command": "python -m experiments.warm_start",
        "train_experiments": len(pool),
        "validation_experiments": N_VALIDATION,
        "validation_regret_5_10_20": {
            f"{name} after {n}": [round(float(row[k - 1]), 4) for k in AT]
            for (name, n), row in rows.items()
        },
    }
    rounded = tuple({k: round(v, 4) for k, v in point.items()} for point in points)
    WarmStart(rounded, best["gp"], best["tpe"], provenance).save(SHIPPED)


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
    n, boxes = len(pool), Boxes.of(pool.spaces)
    named = np.array([name in points[0] for name in POLICY_PARAMETERS])
    boxes = replace(boxes, tuned=boxes.tuned & named)
    reached = []
    for point in points:
        action = np.array([2 * point.get(name, 0.5) - 1 for name in POLICY_PARAMETERS])
        values = boxes.execute(np.tile(action, (n, 1)), np.full(n, np.nan))
        settings = dict(zip(POLICY_PARAMETERS, values.T, strict=True))
        true_rate = pool.model.evaluate(settings).true_rate
        reached.append(np.clip(true_rate / np.maximum(pool.reachable, 1e-9), 0, 1))
    return np.stack(reached, axis=1)


@lru_cache
def _validation() -> SimulatedPool:
    """Draw the validation experiments, once a process."""
    return SimulatedPool.draw("validation", N_VALIDATION, seed=2).reaching(LEAST_REACHABLE)


def _warm(task: SearchTask, *, name: str, points: list[dict[str, float]]) -> Searcher:
    def make(rest: ParameterSpace, ingested: int) -> Searcher:
        return make_searcher(name, replace(task, space=rest))

    return PointsSearcher(task.space, points, LockedSearcher(task.space, make))


def _validate(make: MakeSearcher, jobs: int) -> Array:
    """Return the mean regret on validation after each evaluation, (BUDGET,)."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        rows = list(pool.map(partial(_validate_part, make, jobs), range(PARTS * jobs)))
    return np.asarray(np.concatenate(rows).mean(axis=0))


def _validate_part(make: MakeSearcher, processes: int, part: int) -> Array:
    pool = _validation()
    share_cores(processes)
    rows = []
    for task in range(part, len(pool), PARTS * processes):
        space = pool.space(task, DEFAULT_TUNED)
        evaluator = pool.evaluator(task, N_FRAMES, draw=0)
        kind = SearcherKind(make, handles_geometry=True, starts_itself=True)
        searched = run_method(kind, evaluator, space, budget=BUDGET, seed=0)
        rates, _ = pool.truth(task, searched.recommended)
        rows.append(regret(rates, pool.reachable[task]))
    return np.array(rows).reshape(-1, BUDGET)


def _score(regrets: Array) -> float:
    return float(regrets[[k - 1 for k in AT]].mean())


if __name__ == "__main__":
    main()
