"""What tuning costs, against an exhaustive grid over the same box.

    python -m experiments.tuning_cost [--work FOLDER] [--json]

The grid has 10 min_snr × 6 thresholds × 4 min_pix_count × 9 camera lengths. Prepared frames,
and leaving out points that have hopelessly lost, make it affordable here, but it is charged as
anybody else pays it: points × frames, and the processor time of as many plain evaluations (each
point once, on a random frame, tells the mean). A searcher is charged all its evaluations up to the
first after which its best settings, measured on *every* frame of the run, come within one
percentage point of the grid's best.

The runs are the shared ``jf1m_lyso_60`` (where it is there) and a simulated one of 2,000 frames,
both with the embedded indexer. Frames, the grid's answers and the sessions are kept in ``--work``
and used again, so that an interrupted computation goes on; after a change of the code take
another folder.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import simulate_run
from experiments.exhaustive_grid import Grid, measure_grid, open_run
from tuner.cli.options import print_json, progress_bar, stderr
from tuner.searchers import SEARCHERS
from tuner.session.loop import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.statistics import paired_difference
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.indexers import IndexerChoice
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared/data/simulated"
CLOSE = 0.01
SAMPLE = 200
HEADER = (
    "| run | searcher | grid's best | ours | ours - grid's | evaluations | frame evaluations "
    "| of the grid's | core-seconds | of the grid's |\n|" + "---|" * 10
)


@click.command()
@click.option("--frames", default=2000, show_default=True, help="Of the simulated run.")
@click.option("--evaluations", default=30, show_default=True, help="Budget of each session.")
@click.option("--searchers", default="gp,ppo,tpe,cmaes,random", show_default=True)
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
            grid = measure_grid(name, request, folder, jobs)
            requests = [replace(request, searcher=searcher) for searcher in names]
            for row in _rows(name, requests, grid, folder, evaluations, jobs):
                if not (rows or as_json):
                    click.echo(HEADER)
                rows.append(row)
                if not as_json:
                    click.echo(_line(row))
    if as_json:
        print_json({"runs": rows})
    elif not all(row["within_a_point"] for row in rows):
        click.echo("\n!: did not come within a point of the grid's best in its budget")


def _line(row: dict[str, Any]) -> str:
    low, high = row["difference_ci95"]
    return (
        f"| {row['run']} | {row['searcher']} "
        f"| {_with_interval(row['grid_best_rate'], row['grid_best_ci95'])} "
        f"| {_with_interval(row['rate'], row['rate_ci95'])} "
        f"| {row['rate'] - row['grid_best_rate']:+.1%} [{low:+.1%}, {high:+.1%}] "
        f"| {row['evaluations']}{'' if row['within_a_point'] else ' !'} "
        f"| {row['frame_evaluations']} | {row['cost_ratio']:.5f} "
        f"| {row['core_seconds']:.0f} | {row['core_seconds_ratio']:.5f} |"
    )


def _with_interval(rate: float, ci95: Sequence[float]) -> str:
    return f"{rate:.1%} [{ci95[0]:.1%}, {ci95[1]:.1%}]"


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


def _rows(
    name: str,
    requests: Sequence[Request],
    grid: Grid,
    folder: Path,
    evaluations: int,
    jobs: int,
) -> Iterator[dict[str, Any]]:
    """Run a session with each searcher and find out when it had come close."""
    run, indexer, _ = open_run(requests[0])
    assert requests[0].cell is not None
    cell = Cell.read(requests[0].cell)
    everything = LiveEvaluator(
        run,
        cell,
        indexer,
        range(len(run)),
        jobs=jobs,
        max_decoys=0,
        cache=folder / f"indexed_{name}",
    )
    with everything:
        on_all_frames = functools.cache(everything.evaluate)
        for request in requests:
            stderr.print(f"{name}: {request.searcher}", highlight=False)
            directory = folder / f"session_{name}_{request.searcher}_{request.seed}"
            tune(
                request,
                directory,
                budget=Budget(evaluations),
                jobs=jobs,
                resume=directory.exists(),
            )
            trials = [t for t in SessionStore.open(directory).trials if t.stage != "fresh"]
            yield _row(name, request.searcher, trials, on_all_frames, grid)


def _row(
    name: str,
    searcher: str,
    trials: Sequence[Trial],
    on_all_frames: Callable[[Settings], Evaluation],
    grid: Grid,
) -> dict[str, Any]:
    """Return what was reached, and what was paid until then."""
    for n in range(1, len(trials) + 1):
        winner = trials[max(trials[n - 1].best, 0)]
        reached = on_all_frames(winner.evaluation.settings)
        close = reached.rate >= grid.best.rate - CLOSE
        if close:
            break
    last = trials[max(trials[-1].best, 0)]
    at_the_end = on_all_frames(last.evaluation.settings)
    spent = [trial.evaluation for trial in trials[:n]]
    frame_evaluations = sum(evaluation.n_frames for evaluation in spent)
    core_seconds = sum(evaluation.core_seconds for evaluation in spent)
    return {
        "run": name,
        "searcher": searcher,
        "grid_best_rate": grid.best.rate,
        "grid_best_ci95": grid.best.ci95,
        "grid_best_settings": grid.best.settings.as_dict(),
        "rate": reached.rate,
        "rate_ci95": reached.ci95,
        "settings": reached.settings.as_dict(),
        "difference_ci95": paired_difference(reached, grid.best).ci95,
        "within_a_point": close,
        "evaluations": n,
        "frame_evaluations": frame_evaluations,
        "grid_frame_evaluations": grid.frame_evaluations,
        "cost_ratio": frame_evaluations / grid.frame_evaluations,
        "core_seconds": core_seconds,
        "grid_core_seconds": grid.core_seconds,
        "core_seconds_ratio": core_seconds / grid.core_seconds,
        "whole_session": {
            "rate": at_the_end.rate,
            "evaluations": len(trials),
            "frame_evaluations": sum(trial.evaluation.n_frames for trial in trials),
            "core_seconds": sum(trial.evaluation.core_seconds for trial in trials),
        },
    }


if __name__ == "__main__":
    main()
