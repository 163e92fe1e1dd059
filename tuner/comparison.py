"""The agent against Bayesian search, on experiments that neither has seen.

Every method searches the same experiments with the same frames. Each evaluation is worth its
net indexing rate; what a method would recommend after n evaluations is the settings with the
highest one among them; and that is judged on the truth: what those settings index of
infinitely many frames (simulated experiments), or of frames that the search never saw (others).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace
from envs.simulated_pool import SimulatedPool
from tuner.comparison_methods import METHODS, Kit
from tuner.policy import SHIPPED
from tuner.rollout import regret
from tuner.searchers import Searcher
from tuner.threads import share_cores
from wrappers.errors import ProgramError
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = [
    "Benchmark",
    "Family",
    "Searched",
    "compare_simulated",
    "fingerprint",
    "net_rate",
    "run_method",
    "run_searcher",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Benchmark:
    """The frozen instances: which experiments are drawn, and how they are searched.

    Attributes
    ----------
    families : mapping of str to Family
    budget : int
        Evaluations.
    n_frames : int
        Frames of the tuning sample.
    least_reachable : float
        Experiments in which no settings index this share of the frames are left out: there is
        nothing to measure in a sample of a session's size.
    """

    families: Mapping[str, Family]
    budget: int
    n_frames: int
    least_reachable: float

    @classmethod
    def load(cls, path: Path = SHIPPED / "benchmark.json") -> Benchmark:
        """Read the frozen benchmark."""
        fields = json.loads(path.read_text())
        families = {name: Family(**row) for name, row in fields.pop("families").items()}
        return cls(families, **fields)

    def only(self, names: Sequence[str]) -> Benchmark:
        """Return the benchmark with some of its families."""
        return replace(self, families={name: self.families[name] for name in names})

    def draw(self, name: str) -> SimulatedPool:
        """Return the tasks of a family.

        Raises
        ------
        ProgramError
            If they are not those that were frozen.
        """
        family = self.families[name]
        pool = self.select(SimulatedPool.draw(name, family.n_drawn, family.seed), family)
        if fingerprint(pool) != family.fingerprint:
            raise ProgramError(
                f"the experiments of the {name} family are not those that were frozen: the "
                "simulation has changed since; `python -m experiments.agent_study freeze` "
                "freezes them anew"
            )
        return pool

    def select(self, drawn: SimulatedPool, family: Family) -> SimulatedPool:
        """Return the first of the drawn experiments in which enough is within reach."""
        enough = drawn.reaching(self.least_reachable)
        return enough.take(np.arange(min(family.n_tasks, len(enough))))

    @property
    def n_units(self) -> int:
        """Number of tasks times seeds of all families."""
        return sum(family.n_tasks * family.n_seeds for family in self.families.values())


@dataclass(frozen=True)
class Family:
    """Of a family: the draw's seed and size, the tasks and noise seeds, and a fingerprint."""

    seed: int
    n_drawn: int
    n_tasks: int
    n_seeds: int
    fingerprint: str = ""


def fingerprint(pool: SimulatedPool) -> str:
    """Return a number that tells the pool's experiments and their model from others."""
    numbers = [*(pool.model.known[name] for name in sorted(pool.model.known)), pool.reachable]
    rounded = [f"{value:.6g}" for column in numbers for value in column]
    return hashlib.sha256(" ".join(rounded).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Searched:
    """One method on one task.

    Attributes
    ----------
    settings : list of Settings
        What was evaluated, in order.
    merits : float array (budget,)
    seconds : float array (budget,)
        That the method took to come up with each, without the evaluation.
    """

    settings: list[Settings]
    merits: Array
    seconds: Array

    def recommended(self) -> list[Settings]:
        """Return the settings with the highest merit so far after each evaluation."""
        best = [int(np.argmax(self.merits[: n + 1])) for n in range(len(self.merits))]
        return [self.settings[index] for index in best]


def net_rate(evaluation: Evaluation) -> float:
    """Return the indexing rate less what chance alone would index."""
    by_chance = evaluation.false_rate
    return evaluation.rate - (0.0 if np.isnan(by_chance) else by_chance)


def run_method(
    name: str, evaluator: Evaluator, space: ParameterSpace, kit: Kit, *, budget: int, seed: int
) -> Searched:
    """Let a method of `METHODS` spend the budget.

    Settings that were evaluated before cost one of the budget, but are not measured anew: the
    frames are the same, so the answer is.
    """
    make = METHODS[name]
    if make is not None:
        return run_searcher(make(space, seed, budget, kit), evaluator, space, budget=budget)
    base = space.base
    defaults = CRYSTFEL_DEFAULTS.replace(clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y)
    worth = net_rate(evaluator.evaluate(defaults))
    return Searched([defaults] * budget, np.full(budget, worth), np.zeros(budget))


def run_searcher(
    searcher: Searcher, evaluator: Evaluator, space: ParameterSpace, *, budget: int
) -> Searched:
    """Let a searcher spend the budget; see `run_method`."""
    known: dict[Settings, Evaluation] = {}
    settings, merits, seconds = [], [], []
    for _ in range(budget):
        started = time.perf_counter()
        values = searcher.suggest()
        suggested = time.perf_counter()
        tried = space.settings(values)
        if tried not in known:
            known[tried] = evaluator.evaluate(tried)
        evaluated = time.perf_counter()
        settings.append(tried)
        merits.append(net_rate(known[tried]))
        searcher.ingest(values, merits[-1], known[tried])
        seconds.append(suggested - started + time.perf_counter() - evaluated)
    return Searched(settings, np.array(merits), np.array(seconds))


def compare_simulated(
    benchmark: Benchmark,
    kit: Kit,
    methods: Sequence[str],
    *,
    jobs: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, dict[str, Array]]]:
    """Run the methods on the benchmark's response-model families.

    Returns
    -------
    dict
        By family and method ``"regret"``, ``"clen_error"`` (of the recommended settings, relative)
        and ``"seconds"``, arrays (tasks, seeds, budget).
    """
    results = {
        family: {
            method: {
                what: np.full((frozen.n_tasks, frozen.n_seeds, benchmark.budget), np.nan)
                for what in ("regret", "clen_error", "seconds")
            }
            for method in methods
        }
        for family, frozen in benchmark.families.items()
    }
    units = [
        (family, task, noise)
        for family, frozen in benchmark.families.items()
        for task in range(frozen.n_tasks)
        for noise in range(frozen.n_seeds)
    ]
    # Spawned, not forked: a forked PyTorch may hang on the threads of its parent.
    job = _Job(benchmark, kit, tuple(methods), jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_prepare, initargs=(job,)
    ) as pool:
        rows = pool.map(_run_unit, units, chunksize=4)
        for done, ((family, task, noise), row) in enumerate(zip(units, rows, strict=True)):
            for method, arrays in row.items():
                for what, values in arrays.items():
                    results[family][method][what][task, noise] = values
            on_progress(done + 1)
    return results


@dataclass(frozen=True)
class _Job:
    """What a worker process needs beside the unit's name."""

    benchmark: Benchmark
    kit: Kit
    methods: tuple[str, ...]
    processes: int


_jobs: list[_Job] = []


def _prepare(job: _Job) -> None:
    _jobs[:] = [job]


@lru_cache
def _pool(family: str) -> SimulatedPool:
    pool = _jobs[0].benchmark.draw(family)
    share_cores(_jobs[0].processes)
    return pool


def _run_unit(unit: tuple[str, int, int]) -> dict[str, dict[str, Array]]:
    """Run every method on one task with one noise seed."""
    family, task, noise = unit
    job, pool = _jobs[0], _pool(family)
    space = pool.space(task, DEFAULT_TUNED)
    results = {}
    for method in job.methods:
        evaluator = pool.evaluator(task, job.benchmark.n_frames, draw=noise)
        searched = run_method(
            method, evaluator, space, job.kit, budget=job.benchmark.budget, seed=noise
        )
        rates, clen_errors = pool.truth(task, searched.recommended())
        results[method] = {
            "regret": regret(rates, pool.reachable[task]),
            "clen_error": clen_errors,
            "seconds": searched.seconds,
        }
    return results
