"""What the comparison needs beside the policy: frozen tasks, warm starts, tuned start-ups.

In this order, after `envs/data/response_model.json` or the families have changed:

    python -m experiments.agent_study warm-start    # tuner/data/warm_start.json
    python -m experiments.agent_study freeze        # tuner/data/benchmark.json
    sfx-tuner train -o training                     # then copy policy.* to tuner/data
    python -m experiments.agent_study fallback     # the table that Fallback's defaults came from
    python -m experiments.agent_study limits        # what noise leaves to be gained
    sfx-tuner compare -o comparison

Everything that is chosen here is chosen on the train and validation families.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

from envs.parameter_space import DEFAULT_TUNED, ParameterSpace
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import SHIPPED, Policy
from tuner.agent.rollout import regret, roll_out
from tuner.agent.searcher import AgentSearcher, Fallback
from tuner.agent.warm_start import WarmStart, portfolio
from tuner.comparison.benchmark import Benchmark, Family, fingerprint
from tuner.comparison.searching import run_method
from tuner.search.contract import Searcher, SearcherKind, SearchTask
from tuner.search.locked import LockedSearcher
from tuner.search.points import PointsSearcher
from tuner.searchers import make_searcher
from tuner.threads import share_cores
from wrappers.files import write_whole

N_TRAIN = 1000
"""Training experiments that the portfolio is chosen on."""

N_VALIDATION = 100
N_FALLBACK = 400
"""The same, where the fallback search is chosen: what its numbers change is little."""

START_UPS = (3, 5, 8, 12)
"""Numbers of portfolio points that a warm-started search may begin with."""

BENCHMARK = Benchmark(
    families={
        "train": Family(seed=1, n_drawn=60, n_tasks=40, n_seeds=1),
        "validation": Family(seed=1, n_drawn=60, n_tasks=40, n_seeds=1),
        "test": Family(seed=4, n_drawn=150, n_tasks=100, n_seeds=3),
        "shifted": Family(seed=4, n_drawn=200, n_tasks=100, n_seeds=3),
    },
    budget=20,
    n_frames=200,
    least_reachable=0.02,
)

PARTS = 4
"""Pieces of work for each process."""

MakeSearcher = Callable[[SearchTask], Searcher]


@click.group()
def main() -> None:
    """Make what the comparison needs."""


@main.command()
def freeze() -> None:
    """Draw the benchmark's tasks and write down which they are."""
    families = {}
    for name, family in BENCHMARK.families.items():
        drawn = SimulatedPool.draw(name, family.n_drawn, family.seed)
        pool = BENCHMARK.select(drawn, family)
        families[name] = replace(family, fingerprint=fingerprint(pool))
        print(
            f"{name}: {len(pool)} tasks, {np.mean(drawn.reachable < 0.02):.0%} of the drawn ones "
            f"left out, median reachable rate {np.median(pool.reachable):.2f}"
        )
    frozen = asdict(replace(BENCHMARK, families=families))
    write_whole(SHIPPED / "benchmark.json", json.dumps(frozen, indent=1) + "\n")


@main.command("warm-start")
@click.option("-j", "--jobs", default=2, show_default=True)
def warm_start(jobs: int) -> None:
    """Choose the portfolio on train, and how much of it to begin with on validation."""
    pool = SimulatedPool.draw("train", N_TRAIN, seed=0).reaching(BENCHMARK.least_reachable)
    points = portfolio(pool)
    rows = {}
    for name in ("gp", "tpe"):
        for n in (0, *START_UPS):
            make = partial(_warm, name=name, points=points[:n])
            rows[name, n] = _validate(make, jobs)
            print(f"{name:4} after {n:2} points: regret {_told(rows[name, n])}", flush=True)
    best = {name: min((_score(rows[name, n]), n) for n in START_UPS)[1] for name in ("gp", "tpe")}
    provenance = {
        "command": "python -m experiments.agent_study warm-start",
        "train_experiments": len(pool),
        "validation_experiments": N_VALIDATION,
        "validation_regret_5_10_20": {
            f"{name} after {n}": [round(float(row[i]), 4) for i in (4, 9, 19)]
            for (name, n), row in rows.items()
        },
    }
    rounded = tuple({k: round(v, 4) for k, v in point.items()} for point in points)
    WarmStart(rounded, best["gp"], best["tpe"], provenance).save(SHIPPED)


@main.command()
@click.option("-j", "--jobs", default=2, show_default=True)
@click.option("--policy", "directory", type=click.Path(path_type=Path), help="Another policy.")
def fallback(jobs: int, directory: Path | None) -> None:
    """Print what the fallback search gives on validation, by its three numbers."""
    policy = Policy.load() if directory is None else Policy.load(directory)
    points = WarmStart.load().points
    never = partial(_agent, policy=policy, plan=None)
    print(f"never: {_told(_validate(never, jobs, N_FALLBACK))}", flush=True)
    for n, least, patience in itertools.product((len(points), 8, 0), (8, 10), (2,)):
        plan = Fallback(points, _gp, least=least, patience=patience, n_points=n)
        row = _validate(partial(_agent, policy=policy, plan=plan), jobs, N_FALLBACK)
        print(f"{n:2} points, least {least}, patience {patience}: {_told(row)}", flush=True)


@main.command()
def limits() -> None:
    """Print how much of the regret on validation is noise that misleads the choice."""
    pool = _validation(5 * N_VALIDATION)
    share_cores(1)
    policy, points = Policy.load(), WarmStart.load().actions
    alone = replace(policy, actors=policy.actors[-1:])

    def portfolio_instead(turn: int, actions: np.ndarray) -> np.ndarray:
        return np.tile(points[turn], (len(actions), 1))

    for n_frames in (100, BENCHMARK.n_frames, 1000):
        play = partial(roll_out, pool=pool, budget=BENCHMARK.budget, n_frames=n_frames)
        for name, rollout in (
            ("the five actors", play(policy)),
            ("one of them", play(alone)),
            ("the portfolio", play(policy, moves=portfolio_instead)),
        ):
            print(f"{n_frames} frames, tried by {name}; regret of")
            for taken, regrets in (
                ("the highest rate measured", rollout.measured),
                ("what the selector takes", rollout.regrets),
                ("the truly best", rollout.least),
            ):
                print(f"  {taken:25}  {_told(regrets.mean(axis=0))}", flush=True)
    print(f"{BENCHMARK.n_frames} frames, what the selector takes of each actor's alone")
    for actor in policy.actors:
        rollout = roll_out(replace(policy, actors=[actor]), pool, budget=BENCHMARK.budget)
        print(f"  {_told(rollout.regrets.mean(axis=0))}", flush=True)


@lru_cache
def _validation(n: int) -> SimulatedPool:
    """Draw the validation experiments, once a process."""
    return SimulatedPool.draw("validation", n, seed=2).reaching(BENCHMARK.least_reachable)


def _gp(space: ParameterSpace) -> Searcher:
    return make_searcher("gp", SearchTask(space))


def _warm(task: SearchTask, *, name: str, points: list[dict[str, float]]) -> Searcher:
    def make(rest: ParameterSpace, ingested: int) -> Searcher:
        return make_searcher(name, replace(task, space=rest))

    return PointsSearcher(task.space, points, LockedSearcher(task.space, make))


def _agent(task: SearchTask, *, policy: Policy, plan: Fallback | None) -> Searcher:
    return AgentSearcher(replace(task, policy=policy), plan)


def _validate(make: MakeSearcher, jobs: int, n: int = N_VALIDATION) -> np.ndarray:
    """Return the mean regret on validation after each evaluation, (budget,)."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        rows = list(pool.map(partial(_validate_part, make, jobs, n), range(PARTS * jobs)))
    return np.concatenate(rows).mean(axis=0)


def _validate_part(make: MakeSearcher, processes: int, n: int, part: int) -> np.ndarray:
    pool = _validation(n)
    share_cores(processes)
    rows = []
    for task in range(part, len(pool), PARTS * processes):
        space = pool.space(task, DEFAULT_TUNED)
        evaluator = pool.evaluator(task, BENCHMARK.n_frames, draw=0)
        kind = SearcherKind(make, handles_geometry=True, starts_itself=True)
        searched = run_method(kind, evaluator, space, budget=BENCHMARK.budget, seed=0)
        rates, _ = pool.truth(task, searched.recommended)
        rows.append(regret(rates, pool.reachable[task]))
    return np.array(rows).reshape(-1, BENCHMARK.budget)


def _score(regrets: np.ndarray) -> float:
    return float(regrets[[4, 9, 19]].mean())


def _told(regrets: np.ndarray) -> str:
    return ", ".join(f"{regrets[n - 1]:.3f} after {n}" for n in (5, 10, 20))


if __name__ == "__main__":
    main()
