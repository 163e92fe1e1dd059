"""The frozen benchmark on frames: recorded experiments, and every method on them.

Each experiment's frames are halved. A session of each method searches on one half, and what it
would recommend on the way is held against the best of all recorded sets on the other half, the
scoring frames; then the halves change places. What a session has spent is told in frames that
were indexed, in processor time and in evaluations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from tuner.comparison.results import Results, fill, no_results, undone
from tuner.comparison.searching import run_method
from tuner.comparison.spreading import each_done
from tuner.comparison.statistics import bootstrap
from tuner.map_agent.policy import MapPolicy
from tuner.session.budget import Budget
from tuner.session.trial import frames_spent
from tuner.threads import share_cores
from wrappers.files import write_whole
from wrappers.text import to_json

__all__ = [
    "METHODS",
    "RECORDED",
    "RETIRED",
    "RIVAL",
    "TOLD",
    "FramesTask",
    "add_most_behind",
    "by_seed",
    "compare_frames",
    "frames_figures",
    "frames_tasks",
    "minutes",
    "regret_after",
    "write_recorded",
]

Array = NDArray[np.float64]

Unit = tuple[str, int, int]
"""Family, task, and twice the seed plus the half."""

Found = dict[str, dict[str, Array]]
"""By method and what it is."""

METHODS = {
    "agent": "map-agent",
    "map": "map",
    "map_gp": "map-gp",
    "warm_gp_locked": "warm-gp",
    "gp": "gp",
    "tpe": "tpe",
    "cmaes": "cmaes",
    "random": "random",
    "defaults": "defaults",
}
"""The searcher of `tuner.searchers.SEARCHERS` behind each method of the benchmark, by its name
there. All take the camera length from the lattices."""

RETIRED = {"first_agent": "b0922b2"}
"""Methods that cannot be run any more, and the last version that had them: what it recorded stands
beside what is run anew, where the recorded experiments are still the same."""

FAMILIES = {
    "test": "frames_test",
    "shifted": "frames_shifted",
    "crystfel_*": "frames_crystfel",
    "runs": "runs",
}
"""What a family is called in the figures, by how the names of its files begin."""

RIVAL = "warm_gp_locked"

FULL = 10
"""Full evaluations whose frames a session may index."""

MOST = 40
"""Evaluations that a session makes at most: races end most of them early."""

TOLD = (1, 2, 3, 5, 10)
"""Full evaluations after whose frames the regret is told."""

NEAR = 0.01
"""Of merit: so near to the exhaustive grid's choice a session has arrived."""

SECONDS = {"agent": 1.5, "map": 1.5, "map_gp": 3.0, "gp": 2.0}
"""Processor time of a session, by method; of the others `OTHERS`."""

OTHERS = 0.3

RECORDED = Path(__file__).parents[1] / "data" / "frames_comparison.json"
"""The result that the repository holds."""


@dataclass(frozen=True)
class FramesTask:
    """One recorded experiment of a family."""

    family: str
    path: Path


def frames_tasks(folder: Path = RECORDS) -> list[FramesTask]:
    """Return the recorded experiments, by family and number."""
    return [
        FramesTask(family, path)
        for name, family in FAMILIES.items()
        for path in sorted(folder.glob(f"{name}_[0-9][0-9][0-9].npz"))
    ]


def minutes(n_tasks: int, n_seeds: int, methods: Sequence[str], jobs: int) -> float:
    """Return about how many minutes the benchmark takes."""
    each = sum(SECONDS.get(method, OTHERS) for method in methods)
    return n_tasks * n_seeds * 2 * each / jobs / 60


def fingerprint(tasks: Sequence[FramesTask]) -> str:
    """Return a number that tells the records from others."""
    contents = (task.path.name.encode() + task.path.read_bytes() for task in tasks)
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def compare_frames(
    tasks: Sequence[FramesTask],
    policy: MapPolicy | None,
    methods: Sequence[str],
    *,
    n_seeds: int,
    jobs: int = 1,
    results: dict[str, Results] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Results]:
    """Run the methods on the recorded experiments.

    Parameters
    ----------
    tasks : sequence of FramesTask
    policy : MapPolicy or None
        Of the agent; None: the shipped one.
    methods : sequence of str
        Keys of `METHODS`.
    n_seeds : int
        Each with the halves in both roles.
    jobs : int
        Processes.
    results : dict, optional
        Filled in place; what an interrupted call has filled is not done again.
    on_progress : callable
        Called with the number of tasks times seeds times halves that are done.

    Returns
    -------
    dict of str to Results
        By family and method, arrays (tasks, 2 × seeds, `MOST`) of what holds after each evaluation:
        ``"regret"``, merit lost against the best recorded set on the scoring frames; ``"frames"``
        and ``"core_seconds"`` spent; ``"seconds"``, of the proposal. After the session's end
        the last ones are repeated. ``"grid"``, only the first of them counts, is the regret of
        the best set on the tuning frames: what an exhaustive grid would recommend.
    """
    results = {} if results is None else results
    families: dict[str, list[FramesTask]] = {}
    for task in tasks:
        families.setdefault(task.family, []).append(task)
    units: list[Unit] = []
    whats = ("regret", "frames", "core_seconds", "seconds", "grid")
    for family, members in families.items():
        empty = no_results(methods, whats, (len(members), 2 * n_seeds, MOST))
        units += [(family, *place) for place in undone(results.setdefault(family, empty))]
    before = 2 * n_seeds * len(tasks) - len(units)
    if not units:
        return results
    job = _Job({name: tuple(those) for name, those in families.items()}, policy, tuple(methods),
               jobs)  # fmt: skip
    rows = each_done(_run_unit, units, prepare=_prepare, job=job, processes=jobs)
    fill(results, rows, lambda done: on_progress(before + done))
    return results


@dataclass(frozen=True)
class _Job:
    """What a worker process needs beside the unit's name."""

    families: Mapping[str, tuple[FramesTask, ...]]
    policy: MapPolicy | None
    methods: tuple[str, ...]
    processes: int


_jobs: list[_Job] = []


def _prepare(job: _Job) -> None:
    _jobs[:] = [job]
    if job.processes > 1:
        share_cores(job.processes)


@lru_cache(maxsize=2)
def _record(path: Path) -> FrameRecord:
    return FrameRecord.read(path)


def _run_unit(unit: Unit) -> Found:
    """Run every method on one experiment, with one seed and one half of its frames."""
    family, number, place = unit
    job = _jobs[0]
    record = _record(job.families[family][number].path)
    return {
        method: search_half(record, METHODS[method], job.policy, *divmod(place, 2))
        for method in job.methods
    }


def search_half(
    record: FrameRecord, searcher: str, policy: MapPolicy | None, seed: int, half: int
) -> dict[str, Array]:
    """Search on one half of a record's frames, and score on the other; see `compare_frames`."""
    order = np.random.default_rng(seed).permutation(len(record.counts))
    # The same halves for every seed, each in the seed's order.
    tuned, scored = (order[order % 2 == part] for part in (half, 1 - half))
    tuning, scoring = (RecordedEvaluator(record, part.tolist()) for part in (tuned, scored))
    truth = scoring.merits()
    best = float(truth.max())
    searched = run_method(
        searcher, tuning, tuning.space, budget=Budget(MOST, frames=FULL * len(tuned)), seed=seed,
        policy=policy,
    )  # fmt: skip
    regrets = [best - truth[scoring.nearest(each)] for each in searched.recommended]
    spent = np.cumsum([trial.evaluation.core_seconds for trial in searched.trials])
    return {
        "regret": _held(regrets),
        "frames": _held(np.array(frames_spent(searched.trials)) / len(tuned)),
        "core_seconds": _held(spent),
        "seconds": _held(searched.seconds),
        "grid": np.full(MOST, best - truth[int(np.argmax(tuning.merits()))]),
    }


def _held(values: Sequence[float] | Array) -> Array:
    """Return values (`MOST`,), the last one repeated."""
    found = np.asarray(values, float)
    return np.append(found, np.full(MOST - len(found), found[-1]))


def regret_after(arrays: Mapping[str, Array], full: float) -> Array:
    """Return the regret (tasks, seeds) of sessions that indexed so many samples' frames.

    An evaluation under way at that point does not count yet. The first one always does.
    """
    done = np.maximum((arrays["frames"] <= full + 1e-9).sum(axis=2) - 1, 0)
    return np.asarray(np.take_along_axis(arrays["regret"], done[:, :, None], axis=2)[:, :, 0])


def regret_within(arrays: Mapping[str, Array], core_seconds: float) -> Array:
    """Return the regret (tasks, seeds) of sessions that spent so much processor time."""
    done = np.maximum((arrays["core_seconds"] <= core_seconds).sum(axis=2) - 1, 0)
    return np.asarray(np.take_along_axis(arrays["regret"], done[:, :, None], axis=2)[:, :, 0])


def core_seconds_to_best(arrays: Mapping[str, Array]) -> Array:
    """Return the processor time (tasks, seeds) to `NEAR` the grid's choice; inf where never."""
    there = arrays["regret"] <= arrays["grid"] + NEAR
    first = there.argmax(axis=2)[:, :, None]
    spent = np.take_along_axis(arrays["core_seconds"], first, axis=2)[:, :, 0]
    return np.asarray(np.where(there.any(axis=2), spent, np.inf))


def frames_figures(results: Mapping[str, Results], n_seeds: int) -> dict[str, dict[str, Any]]:
    """Return the figures of every family, in the form of ``compare --json``."""
    return {family: _family(by_method, n_seeds) for family, by_method in results.items()}


def _family(by_method: Results, n_seeds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rival = by_method.get(RIVAL)
    for method, arrays in by_method.items():
        row: dict[str, Any] = {}
        for full in TOLD:
            regrets = by_seed(regret_after(arrays, full))
            row[f"regret_{full}"] = float(regrets.mean())
            row[f"regret_{full}_ci95"] = list(bootstrap(regrets))
        for count in TOLD[1:]:
            row[f"regret_after_{count}_evaluations"] = float(
                arrays["regret"][..., count - 1].mean()
            )
        seconds = core_seconds_to_best(arrays)
        middle = float(np.median(seconds))
        row["core_seconds_to_best"] = middle if np.isfinite(middle) else None
        row["never_at_best"] = float(np.mean(np.isinf(seconds)))
        row["core_seconds"] = float(arrays["core_seconds"][..., -1].mean())
        row["evaluations"] = float(_evaluations(arrays["frames"]).mean())
        row["suggestion_seconds"] = float(arrays["seconds"].mean())
        for full in (3, 10):
            by_task = regret_after(arrays, full).mean(axis=1)
            row[f"regret_{full}_by_task"] = [round(float(each), 4) for each in by_task]
        if rival is not None and method != RIVAL:
            for ours, theirs in ((3, 3), (3, 10), (10, 10)):
                lead = by_seed(regret_after(rival, theirs) - regret_after(arrays, ours))
                row[f"lead_{ours}_against_{RIVAL}_{theirs}"] = float(lead.mean())
                row[f"lead_{ours}_against_{RIVAL}_{theirs}_ci95"] = list(bootstrap(lead))
        row["grid_regret"] = float(arrays["grid"].mean())
        found[method] = row
    add_most_behind(found)
    if "agent" in found and rival is not None:
        found["agent_3_against_warm_gp_locked_10_ci95"] = found["agent"][
            f"lead_3_against_{RIVAL}_10_ci95"
        ]
    first = next(iter(by_method.values()))["regret"]
    found["n_tasks"], found["n_seeds"] = len(first), n_seeds
    return found


def add_most_behind(found: Mapping[str, Any]) -> None:
    """Say of each method how far it is behind whichever is best, where it is most so."""
    rows = [row for row in found.values() if isinstance(row, dict)]
    at_end = np.array([row["regret_10_by_task"] for row in rows])
    behind = (at_end - at_end.min(axis=0)).max(axis=1)
    for row, worst in zip(rows, behind.tolist(), strict=True):
        row["most_behind_10"] = worst


def by_seed(values: Array) -> Array:
    """Return the means over the two halves: they share their frames, so they are one draw."""
    return values.reshape(len(values), -1, 2).mean(axis=2)


def _evaluations(frames: Array) -> Array:
    """Return after how many evaluations sessions (tasks, seeds) ended."""
    return np.asarray((frames < frames[..., -1:]).sum(axis=2) + 1)


def write_recorded(path: Path, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the result that the repository holds."""
    write_whole(path, to_json({"about": about, **found}) + "\n")
