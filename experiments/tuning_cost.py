"""What tuning costs, against an exhaustive grid over the same box.

    python -m experiments.tuning_cost [--seeds 10] [--work FOLDER] [--json]
    python -m experiments.tuning_cost --indexer crystfel --evaluations 12 [--work FOLDER] [--json]

The grid has 10 min_snr × 6 thresholds × 4 min_pix_count × 9 camera lengths. Prepared frames,
and leaving out points that have hopelessly lost, make it affordable here, but it is charged as
anybody else pays it: points × frames, and the processor time of as many plain evaluations (each
point once, on a random frame, tells the mean). A session ends with the first evaluation after
which its best settings, measured on *every* frame of the run, come within one percentage point of
the grid's best. It is charged with all that its process and their helpers did until then: looks,
the search for the geometry, proposals, programs' starts; not with that check.

The runs are the shared ``jf1m_lyso_60`` (where it is there) and a simulated one of 2,000 frames,
both with the embedded indexer. The run and the grid over the first seed's box are the same for all
seeds: these choose the sample and the searcher's random numbers.

With CrystFEL a grid would take days. There, on ``jf1m_lyso_60``, sessions spend their budget, and
the table has what it takes until the best set indexes `GOOD` frames, and the whole of it.

Frames, the grid's answers and the sessions are kept in ``--work`` and used again, so that an
interrupted computation goes on; after a change of the code take another folder.
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
import numpy as np

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import simulate_run
from experiments.exhaustive_grid import Grid, measure_grid, open_run
from experiments.session_cost import Spent, spent_by
from tuner.cli.options import print_json, progress_bar, stderr
from tuner.searchers import SEARCHERS
from tuner.session.request import Request
from tuner.session.trial import Trial, tuning_trials
from tuner.statistics import paired_difference
from wrappers.cell import Cell
from wrappers.indexers import IndexerChoice
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared/data/simulated"
RUNS = ("jf1m_lyso_60", "simulated")
CLOSE = 0.01
GOOD = 41
"""Frames of ``jf1m_lyso_60`` that a CrystFEL session has to index; the best known is one more."""
SAMPLE = 200
HEADER = (
    "| run | seed | searcher | grid's best | ours | ours - grid's | evaluations (proposed) "
    "| frame evaluations | of the grid's | core-seconds | of the grid's |\n|" + "---|" * 11
)
CRYSTFEL_HEADER = (
    f"| seed | searcher | indexed, by evaluation | evaluations until {GOOD} | calls' worth of "
    "frames | core-seconds | seconds | whole session: best | evaluations | core-seconds "
    "| seconds |\n|" + "---|" * 11
)


@click.command()
@click.option("--frames", default=2000, show_default=True, help="Of the simulated run.")
@click.option("--evaluations", default=30, show_default=True, help="Budget of each session.")
@click.option("--searchers", default="map,gp", show_default=True)
@click.option("--seed", default=0, show_default=True, help="The first one.")
@click.option("--seeds", "n_seeds", default=1, show_default=True, help="Sessions of each.")
@click.option(
    "--run", "only", type=click.Choice(RUNS), help="With the embedded indexer.  [default: both]"
)
@click.option("--indexer", type=click.Choice(["fast", "crystfel"]), default="fast")
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
    n_seeds: int,
    only: str | None,
    indexer: str,
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
    header, line = (HEADER, _line) if indexer == "fast" else (CRYSTFEL_HEADER, _crystfel_line)
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        if indexer == "fast":
            every = _against_grid(folder, names, only, frames, seed, n_seeds, evaluations, jobs)
        else:
            every = _with_crystfel(folder, names, seed, n_seeds, evaluations, jobs)
        for row in every:
            if not (rows or as_json):
                click.echo(header)
            rows.append(row)
            if not as_json:
                click.echo(line(row))
    if as_json:
        print_json({"runs": rows})
    elif indexer == "fast":
        if not all(row["within_a_point"] for row in rows):
            click.echo("\n!: did not come within a point of the grid's best in its budget")
        if n_seeds > 1:
            click.echo("\n" + "\n".join(_summaries(rows)))


def _against_grid(
    folder: Path,
    names: Sequence[str],
    only: str | None,
    frames: int,
    seed: int,
    n_seeds: int,
    evaluations: int,
    jobs: int,
) -> Iterator[dict[str, Any]]:
    for name, request in _runs(folder, only, frames, seed):
        grid = measure_grid(name, request, folder, jobs)
        requests = [
            replace(request, searcher=searcher, seed=seed + n)
            for n in range(n_seeds)
            for searcher in names
        ]
        yield from _rows(name, requests, grid, folder, evaluations, jobs)


def _line(row: dict[str, Any]) -> str:
    low, high = row["difference_ci95"]
    return (
        f"| {row['run']} | {row['seed']} | {row['searcher']} "
        f"| {_with_interval(row['grid_best_rate'], row['grid_best_ci95'])} "
        f"| {_with_interval(row['rate'], row['rate_ci95'])} "
        f"| {row['rate'] - row['grid_best_rate']:+.1%} [{low:+.1%}, {high:+.1%}] "
        f"| {row['evaluations']} ({row['proposed']}){'' if row['within_a_point'] else ' !'} "
        f"| {row['frame_evaluations']} | {row['cost_ratio']:.5f} "
        f"| {row['core_seconds']:.0f} | {row['core_seconds_ratio']:.5f} |"
    )


def _summaries(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence on all seeds of each run and searcher."""
    for run, searcher in dict.fromkeys((row["run"], row["searcher"]) for row in rows):
        those = [row for row in rows if (row["run"], row["searcher"]) == (run, searcher)]
        close = [row for row in those if row["within_a_point"]]
        spent = sorted(row["evaluations"] for row in close)
        ratio = np.median([row["core_seconds_ratio"] for row in those])
        yield (
            f"- {run}, {searcher}: within a point in {len(close)} of {len(those)} seeds, after "
            f"{', '.join(map(str, spent)) or 'no'} evaluations; median core-seconds {ratio:.4f} of "
            "the grid's"
        )


def _with_interval(rate: float, ci95: Sequence[float]) -> str:
    return f"{rate:.1%} [{ci95[0]:.1%}, {ci95[1]:.1%}]"


def _runs(
    folder: Path, only: str | None, n_frames: int, seed: int
) -> Iterator[tuple[str, Request]]:
    if SHARED.is_dir() and only != RUNS[1]:
        yield RUNS[0], _shared(seed)
    if only == RUNS[0]:
        return
    simulated = folder / f"simulated_{n_frames}_{seed}"
    experiment = demo_experiment(seed)
    experiment = replace(experiment, crystals=replace(experiment.crystals, hit_fraction=0.2))
    if not (simulated / "done").exists():
        with progress_bar("simulating", n_frames) as show:
            simulate_run(experiment, simulated, n_frames, progress=lambda done, total: show(done))
        (simulated / "done").touch()
    yield (
        f"simulated_{n_frames}",
        _request(simulated / "run.h5", simulated / "run.geom", simulated / "run.cell", seed),
    )


def _shared(seed: int) -> Request:
    return _request(SHARED / "jf1m_lyso_60.h5", SHARED / "jf1m.geom", SHARED / "lyso.cell", seed)


def _request(data: Path, geometry: Path, cell: Path, seed: int) -> Request:
    choice = IndexerChoice("fast")
    return Request(data, geometry, cell, n_frames=SAMPLE, seed=seed, indexer=choice)


def _rows(
    name: str,
    requests: Sequence[Request],
    grid: Grid,
    folder: Path,
    evaluations: int,
    jobs: int,
) -> Iterator[dict[str, Any]]:
    """Run a session for each request and find out when it had come close."""
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

        def close(winner: Trial) -> bool:
            return on_all_frames(winner.evaluation.settings).rate >= grid.best.rate - CLOSE

        for request in requests:
            stderr.print(f"{name}: {request.searcher}, seed {request.seed}", highlight=False)
            directory = folder / f"session_{name}_{request.searcher}_{request.seed}"
            spent = spent_by(request, directory, evaluations, jobs, close)
            yield _row(name, request, spent, on_all_frames, grid)


def _row(
    name: str,
    request: Request,
    spent: Spent,
    on_all_frames: Callable[[Settings], Evaluation],
    grid: Grid,
) -> dict[str, Any]:
    """Return what was reached, and what was paid until then."""
    trials = tuning_trials(spent.trials)
    reached = on_all_frames(trials[max(trials[-1].best, 0)].evaluation.settings)
    frame_evaluations = sum(trial.evaluation.n_frames for trial in trials)
    core_seconds = spent.core_seconds[len(trials) - 1]
    return {
        "run": name,
        "searcher": request.searcher,
        "seed": request.seed,
        "grid_best_rate": grid.best.rate,
        "grid_best_ci95": grid.best.ci95,
        "grid_best_settings": grid.best.settings.as_dict(),
        "rate": reached.rate,
        "rate_ci95": reached.ci95,
        "settings": reached.settings.as_dict(),
        "difference_ci95": paired_difference(reached, grid.best).ci95,
        "within_a_point": reached.rate >= grid.best.rate - CLOSE,
        "evaluations": len(trials),
        "proposed": sum(trial.stage not in ("start", "baseline") for trial in trials),
        "frame_evaluations": frame_evaluations,
        "grid_frame_evaluations": grid.frame_evaluations,
        "cost_ratio": frame_evaluations / grid.frame_evaluations,
        "core_seconds": core_seconds,
        "grid_core_seconds": grid.core_seconds,
        "core_seconds_ratio": core_seconds / grid.core_seconds,
        "seconds": spent.seconds[len(trials) - 1],
    }


def _with_crystfel(
    folder: Path, names: Sequence[str], seed: int, n_seeds: int, evaluations: int, jobs: int
) -> Iterator[dict[str, Any]]:
    """Run CrystFEL's sessions on the shared run, one after the other."""
    if not SHARED.is_dir():
        raise click.UsageError(f"CrystFEL's sessions need the shared run in {SHARED}")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + n_seeds):
        for searcher in names:
            request = replace(_shared(number), searcher=searcher, indexer=IndexerChoice("crystfel"))
            stderr.print(f"crystfel: {searcher}, seed {number}", highlight=False)
            directory = folder / f"session_crystfel_{searcher}_{number}"
            spent = spent_by(request, directory, evaluations, jobs, lambda winner: False)
            yield _crystfel_row(request, spent)


def _crystfel_row(request: Request, spent: Spent) -> dict[str, Any]:
    trials = tuning_trials(spent.trials)
    best = [trials[max(trial.best, 0)].evaluation.n_indexed for trial in trials]
    good = next((n for n, indexed in enumerate(best) if indexed >= GOOD), None)
    until = trials[: len(trials) if good is None else good + 1]
    n_frames = max(trial.evaluation.n_frames for trial in trials)
    return {
        "run": "jf1m_lyso_60",
        "searcher": request.searcher,
        "seed": request.seed,
        "indexed": [trial.evaluation.n_indexed for trial in trials],
        "frames": [trial.evaluation.n_frames for trial in trials],
        "good": good is not None,
        "evaluations": len(until),
        "calls": sum(trial.evaluation.n_frames for trial in until) / n_frames,
        "core_seconds": spent.core_seconds[len(until) - 1],
        "seconds": spent.seconds[len(until) - 1],
        "whole_session": {
            "indexed": best[-1],
            "evaluations": len(trials),
            "core_seconds": spent.core_seconds[-1],
            "seconds": spent.seconds[-1],
        },
    }


def _crystfel_line(row: dict[str, Any]) -> str:
    whole = row["whole_session"]
    return (
        f"| {row['seed']} | {row['searcher']} | {' '.join(map(str, row['indexed']))} "
        f"| {row['evaluations']}{'' if row['good'] else ' !'} | {row['calls']:.1f} "
        f"| {row['core_seconds']:.0f} | {row['seconds']:.0f} | {whole['indexed']} "
        f"| {whole['evaluations']} | {whole['core_seconds']:.0f} | {whole['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
