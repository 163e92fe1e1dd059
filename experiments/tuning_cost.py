"""What tuning costs, against an exhaustive grid over the same box.

    python -m experiments.tuning_cost [--json]

The grid has 10 min_snr × 6 thresholds × 4 min_pix_count × 9 camera lengths. Prepared frames,
and leaving out points that have hopelessly lost, make it affordable here, but it is charged as
anybody else pays it: points × frames. A searcher is charged the frames of
all its evaluations up to the first after which its best settings, measured on *every* frame of
the run, come within one percentage point of the grid's best.

The runs are the shared ``jf1m_lyso_60`` (where it is there) and a simulated one of 2,000 frames,
both with the embedded indexer. The grid's answers are kept in ``--work``, so that an interrupted
computation goes on, and so are the simulated frames.
"""

from __future__ import annotations

import functools
import io
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from envs.experiment import demo_experiment
from envs.live_evaluator import LiveEvaluator, sample_frames
from envs.parameter_space import ParameterSpace
from envs.simulator import simulate_run
from tuner.cli.options import print_json, progress_bar, stderr
from tuner.indexers import IndexerChoice
from tuner.searchers import SEARCHERS
from tuner.session import Budget, best_trial
from tuner.store import SessionStore
from tuner.tuning import Request, search_space, tune
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peak_batch import search_frames
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared/data/simulated"
POINTS = {"min_snr": 10, "threshold": 6, "min_pix_count": 4, "clen": 9}
CLOSE = 0.01
FRAMES_AT_ONCE = 5
ROUND = 40
HOPELESS = 1e-4
SAMPLE = 200


@click.command()
@click.option("--frames", default=2000, show_default=True, help="Of the simulated run.")
@click.option("--evaluations", default=30, show_default=True, help="Budget of each session.")
@click.option("--searchers", default="gp,tpe,cmaes,random", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder to keep.  [default: a temporary one]"
)
@click.option("-j", "--jobs", default=len(os.sched_getaffinity(0)), show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    frames: int,
    evaluations: int,
    searchers: str,
    seed: int,
    work: Path | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Print what each searcher pays, and what the grid would have cost."""
    names = searchers.split(",")
    for name in names:
        if name not in SEARCHERS:
            raise click.BadParameter(f"no searcher is called {name!r}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        for name, request in _runs(folder, frames, seed):
            best = _grid(name, request, folder, jobs)
            rows += [
                _row(name, replace(request, searcher=searcher), best, evaluations, jobs)
                for searcher in names
            ]
    if as_json:
        print_json({"runs": rows})
        return
    click.echo(
        f"{'run':14} {'searcher':9} {'grid best':>9} {'reached':>8} {'frame evals':>11} "
        f"{'grid':>9} {'ratio':>9} {'core s':>7}"
    )
    for row in rows:
        reached = f"{row['rate']:.1%}" + ("" if row["within_a_point"] else " !")
        click.echo(
            f"{row['run']:14} {row['searcher']:9} {row['grid_best_rate']:9.1%} {reached:>8} "
            f"{row['frame_evaluations']:11d} {row['grid_frame_evaluations']:9d} "
            f"{row['cost_ratio']:9.5f} {row['core_seconds']:7.0f}"
        )
    if not all(row["within_a_point"] for row in rows):
        click.echo("!: did not come within a point of the grid's best in its budget")


def _runs(folder: Path, n_frames: int, seed: int) -> Iterator[tuple[str, Request]]:
    def request(data: Path, geometry: Path, cell: Path) -> Request:
        return Request(
            data, geometry, cell, n_frames=SAMPLE, seed=seed, indexer=IndexerChoice("fast")
        )

    if SHARED.is_dir():
        yield (
            "jf1m_lyso_60",
            request(SHARED / "jf1m_lyso_60.h5", SHARED / "jf1m.geom", SHARED / "lyso.cell"),
        )
    simulated = folder / f"simulated_{n_frames}_{seed}"
    experiment = demo_experiment(seed)
    experiment = replace(experiment, crystals=replace(experiment.crystals, hit_fraction=0.2))
    if not (simulated / "done").exists():
        with progress_bar("simulating", n_frames) as show:
            simulate_run(experiment, simulated, n_frames, progress=lambda done, total: show(done))
        (simulated / "done").touch()
    yield (
        f"simulated_{n_frames}",
        request(simulated / "run.h5", simulated / "run.geom", simulated / "run.cell"),
    )


def _points(space: ParameterSpace) -> list[Settings]:
    """Return the grid, camera lengths fastest."""
    axes = [
        dict.fromkeys(parameter.from_unit(u) for u in np.linspace(0, 1, POINTS[parameter.name]))
        for parameter in space.parameters
    ]
    return [
        space.settings(dict(zip(space.names, values, strict=True)))
        for values in itertools.product(*axes)
    ]


def _grid(name: str, request: Request, folder: Path, jobs: int) -> float:
    """Return the rate of the grid's best point over all frames of the run.

    After every `ROUND` frames the points are spared the rest that have lost against the
    leading one beyond any doubt (exact McNemar test at `HOPELESS`).
    """
    run, _, space = _open(request)
    alive = np.arange(len(_points(space)))
    indexed = np.zeros((0, len(alive)), bool)
    parts = folder / f"grid_{name}_{request.seed}"
    parts.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, context) as pool, progress_bar(name, len(run)) as show:
        for first in range(0, len(run), ROUND):
            starts = range(first, min(first + ROUND, len(run)), FRAMES_AT_ONCE)
            work = functools.partial(_index_part, request, parts, alive)
            found = []
            for part in pool.map(work, starts):
                found.append(part)
                show(len(indexed) + sum(map(len, found)))
            indexed = np.concatenate([indexed, *found])
            leader = indexed[:, np.argmax(indexed.sum(axis=0))][:, None]
            won, lost = (indexed & ~leader).sum(axis=0), (leader & ~indexed).sum(axis=0)
            keep = binom.cdf(won, won + lost, 0.5) >= HOPELESS
            alive, indexed = alive[keep], indexed[:, keep]
    return float(indexed.mean(axis=0).max())


def _index_part(
    request: Request, parts: Path, alive: NDArray[np.intp], start: int
) -> NDArray[np.bool_]:
    """Measure the points that are left on some frames, or look up what an earlier run found."""
    run, indexer, space = _open(request)
    part = run.select(range(start, min(start + FRAMES_AT_ONCE, len(run))))
    kept = parts / f"{start}.npy"
    if kept.exists():
        indexed: NDArray[np.bool_] = np.load(kept)
        if indexed.shape == (len(part), len(alive)):
            return indexed
    grid = _points(space)
    points = [grid[i] for i in alive]
    finder = PeakFinder(Geometry.read(request.geometry))
    indexed = np.zeros((len(part), len(points)), bool)
    for found in search_frames(finder, part, points):
        frame = part[found.index]
        known: dict[tuple[bytes, bytes, float | None], bool] = {}
        for number, (point, peaks) in enumerate(zip(points, found.lists, strict=True)):
            if len(peaks) < point.min_peaks:
                continue
            key = (peaks.fs.tobytes(), peaks.ss.tobytes(), point.clen)
            if key not in known:
                offset = 0.0 if point.clen is None else point.clen - run.nominal_clen
                pattern = Pattern(peaks, frame.photon_energy, frame.camera_length + offset)
                known[key] = indexer.index([pattern])[0].indexed
            indexed[found.index, number] = known[key]
    with io.BytesIO() as buffer:
        np.save(buffer, indexed)
        write_whole(kept, buffer.getvalue())
    return indexed


@functools.cache
def _open(request: Request) -> tuple[Run, FastIndexer, ParameterSpace]:
    geometry = Geometry.read(request.geometry)
    run = Run.open(request.data, geometry)
    indexer = FastIndexer(geometry, Cell.read(request.cell))
    sample, _ = sample_frames(run, request.n_frames, request.seed)
    return run, indexer, search_space(request, run, geometry, sample)


def _row(
    name: str, request: Request, grid_best: float, evaluations: int, jobs: int
) -> dict[str, Any]:
    """Run a session and find out when it had come close."""
    run, indexer, space = _open(request)
    stderr.print(f"{name}: {request.searcher}", highlight=False)
    with tempfile.TemporaryDirectory() as directory:
        tune(request, Path(directory) / "s", budget=Budget(evaluations), jobs=jobs)
        trials = SessionStore.open(Path(directory) / "s").trials
    trials = [trial for trial in trials if trial.stage != "fresh"]
    reached: dict[Settings, float] = {}
    geometry, cell = Geometry.read(request.geometry), Cell.read(request.cell)
    with LiveEvaluator(
        run, geometry, cell, indexer, range(len(run)), jobs=jobs, max_decoys=0
    ) as everything:
        for n in range(1, len(trials) + 1):
            winner = best_trial(trials[:n], space)
            if winner is None:
                continue
            settings = winner.evaluation.settings
            if settings not in reached:
                reached[settings] = everything.evaluate(settings).rate
            if reached[settings] >= grid_best - CLOSE:
                break
    n_points = len(_points(space))
    spent = sum(trial.evaluation.n_frames for trial in trials[:n])
    rate = reached[settings] if reached else 0.0
    return {
        "run": name,
        "searcher": request.searcher,
        "grid_best_rate": grid_best,
        "rate": rate,
        "within_a_point": bool(rate >= grid_best - CLOSE),
        "evaluations": n,
        "frame_evaluations": spent,
        "grid_frame_evaluations": len(run) * n_points,
        "cost_ratio": spent / (len(run) * n_points),
        "core_seconds": sum(trial.evaluation.core_seconds for trial in trials[:n]),
    }


if __name__ == "__main__":
    main()
