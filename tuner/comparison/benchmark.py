"""The frozen benchmark: simulated experiments, and every method on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import SHIPPED
from tuner.agent.rollout import regret
from tuner.comparison.results import Results, fill, no_results, undone
from tuner.comparison.searching import run_method
from tuner.comparison.spreading import each_done
from tuner.search.contract import AnyPolicy
from tuner.threads import share_cores
from wrappers.errors import ProgramError
from wrappers.schema import read_json

__all__ = ["Benchmark", "Family", "compare_simulated", "fingerprint"]

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
        return read_json(path, cls, "the benchmark", "take the one that comes with the program")

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


def compare_simulated(
    benchmark: Benchmark,
    policy: AnyPolicy,
    methods: Sequence[str],
    *,
    jobs: int = 1,
    results: dict[str, Results] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Results]:
    """Run the methods on the benchmark's response-model families.

    Parameters
    ----------
    benchmark : Benchmark
    policy : AnyPolicy
    methods : sequence of str
    jobs : int
        Processes.
    results : dict, optional
        Filled in place, family by family; what an interrupted call has filled is not done again.
    on_progress : callable
        Called with the number of tasks times seeds that are done, of `Benchmark.n_units`.

    Returns
    -------
    dict of str to Results
        By family and method ``"regret"``, ``"clen_error"`` (of the recommended settings, relative)
        and ``"seconds"``, arrays (tasks, seeds, budget).
    """
    results = {} if results is None else results
    units: list[tuple[str, int, int]] = []
    for family, frozen in benchmark.families.items():
        shape = (frozen.n_tasks, frozen.n_seeds, benchmark.budget)
        empty = no_results(methods, ("regret", "clen_error", "seconds"), shape)
        units += [(family, *place) for place in undone(results.setdefault(family, empty))]
    if not units:
        return results
    before = benchmark.n_units - len(units)
    job = _Job(benchmark, policy, tuple(methods), jobs)
    rows = each_done(_run_unit, units, prepare=_prepare, job=job, processes=jobs)
    fill(results, rows, lambda done: on_progress(before + done))
    return results


@dataclass(frozen=True)
class _Job:
    """What a worker process needs beside the unit's name."""

    benchmark: Benchmark
    policy: AnyPolicy
    methods: tuple[str, ...]
    processes: int


_jobs: list[_Job] = []


def _prepare(job: _Job) -> None:
    _jobs[:] = [job]
    _pool.cache_clear()


@lru_cache
def _pool(family: str) -> SimulatedPool:
    pool = _jobs[0].benchmark.draw(family)
    if _jobs[0].processes > 1:
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
            method, evaluator, space, budget=job.benchmark.budget, seed=noise, policy=job.policy
        )
        rates, clen_errors = pool.truth(task, searched.recommended)
        results[method] = {
            "regret": regret(rates, pool.reachable[task]),
            "clen_error": clen_errors,
            "seconds": searched.seconds,
        }
    return results
