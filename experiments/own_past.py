"""What a facility's own sessions are worth when the next run of their detector is tuned.

    python -m experiments.own_past FOLDER [--detector PILATUS] [--experiments 6] [--json]

Experiments of the shifted family with a detector that the train family lacks are rendered and
recorded in FOLDER (those that are there are left alone). Each in turn is the next run: on half of
the frames of each of the others there was a session, the map's model is refined on these, as
``sfx-tuner train --sessions`` does, and the run is tuned on half of its frames, from the shipped
model and from the refined one, and scored on the other half. Told are the points of merit that are
missed against the best recorded set, by indexed frames, and how well its lists are predicted.
Where no refined model predicts the left-out sessions better, none is written, and the shipped one
is taken, as a user would have to.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from envs.response_map.model import MapModel
from envs.response_map.stored import read_map
from envs.simulation.families import draw_experiments
from envs.strata import POOR
from experiments.record_frames import drawn_source, record_source
from experiments.record_looks import MOST_PIXELS
from tuner.cli.options import print_json, stderr
from tuner.comparison.searching import run_method
from tuner.comparison.statistics import bootstrap
from tuner.map_agent.own_past import Refinement, Run, log_likelihood, refine, run_of
from tuner.map_agent.policy import MapPolicy
from tuner.map_agent.searcher import MapAgentSearcher
from tuner.search.contract import SearcherKind, SearchTask
from tuner.session.budget import Budget
from tuner.session.trial import frames_spent

SEED = 7_000_003
FULL = 5
MOST = 30
TOLD = (2, 3, 5)
"""Full evaluations after whose frames the regret is told; the first is of CrystFEL's defaults."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--detector", default="PILATUS", show_default=True)
@click.option("--experiments", "n_experiments", default=6, show_default=True)
@click.option("--frames", default=200, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Sessions of each half.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path, detector: str, n_experiments: int, frames: int, seeds: int, as_json: bool
) -> None:
    """Print the table."""
    if folder.resolve() == RECORDS.resolve():
        raise click.UsageError("the benchmark's experiments are for judging: name another folder")
    records = _recorded(folder, detector, n_experiments, frames)
    rows = []
    for number, record in enumerate(records):
        past = [_finished(other, 0) for n, other in enumerate(records) if n != number]
        found = refine(past, MapModel.shipped())
        rows.append(_row(record, found, seeds))
    names = ("shipped", "refined")
    regrets = {name: np.array([row[name] for row in rows]) for name in names}
    lead = 100 * (regrets["shipped"] - regrets["refined"])
    led = {
        str(full): [float(lead[..., n].mean()), *bootstrap(lead[..., n])]
        for n, full in enumerate(TOLD)
    }
    figures = {
        "detector": detector,
        "n_experiments": len(records),
        "weights": [row["weight"] for row in rows],
        "log_likelihood": {name: [row[f"log_likelihood_{name}"] for row in rows] for name in names},
        "points_missed": {
            name: dict(zip(map(str, TOLD), (100 * each.mean(axis=(0, 1))).tolist(), strict=True))
            for name, each in regrets.items()
        },
        "lead": led,
    }
    if as_json:
        print_json(figures)
        return
    click.echo(f"{len(records)} experiments with {detector}, each tuned with what the others say")
    for row in rows:
        click.echo(
            f"  {row['name']}: a list's mean log-likelihood {row['log_likelihood_shipped']:.3f} by "
            f"the shipped model, {row['log_likelihood_refined']:.3f} by the refined one"
            f"{'' if row['weight'] else ' (none is better on the sessions)'}"
        )
    click.echo("points missed after so many full evaluations' frames; lead of the refined model")
    for n, full in enumerate(TOLD):
        missed = " ".join(f"{name} {100 * regrets[name][..., n].mean():.2f}," for name in names)
        mean, low, high = led[str(full)]
        click.echo(f"  {full:>4}: {missed} {mean:+.2f} [{low:+.2f}, {high:+.2f}]")


def _recorded(folder: Path, detector: str, n: int, frames: int) -> list[FrameRecord]:
    """Return the first experiments of the detector that have enough crystals."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = draw_experiments("shifted", 40 * n, SEED, most_pixels=MOST_PIXELS)
    found: list[FrameRecord] = []
    for number, draw in enumerate(draws):
        enough = draw.experiment.crystals.hit_fraction >= POOR
        if draw.kind != detector or not enough or len(found) == n:
            continue
        path = folder / f"shifted_{number:03d}.npz"
        if not path.exists():
            source = replace(drawn_source("shifted", number, draw), seed=SEED)
            stderr.print(record_source(source, path, frames), highlight=False)
        found.append(FrameRecord.read(path))
    if len(found) < 4:
        raise click.UsageError(f"{len(found)} experiments with {detector} were drawn: 4 are needed")
    return found


def _halves(record: FrameRecord, half: int) -> tuple[RecordedEvaluator, RecordedEvaluator]:
    order = np.random.default_rng(0).permutation(len(record.counts))
    tuned, scored = (order[order % 2 == part] for part in (half, 1 - half))
    return RecordedEvaluator(record, tuned.tolist()), RecordedEvaluator(record, scored.tolist())


def _search(tuning: RecordedEvaluator, policy: MapPolicy, seed: int, keep: Path | None) -> Any:
    made: list[MapAgentSearcher] = []

    def make(task: SearchTask) -> MapAgentSearcher:
        made.append(MapAgentSearcher(task, policy))
        return made[-1]

    kind = SearcherKind(make, handles_geometry=True, looks=True)
    budget = Budget(MOST, frames=FULL * tuning.n_frames)
    found = run_method(kind, tuning, tuning.space, budget=budget, seed=seed)
    if keep is not None:
        made[-1].keep_map(keep)
    return found


def _finished(record: FrameRecord, half: int) -> Run:
    """Return what a session on half of an experiment's frames has measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.npz"
        _search(_halves(record, half)[0], MapPolicy.shipped(), 0, path)
        return run_of(read_map(path), str(record.about.number))


def _row(record: FrameRecord, found: Refinement, seeds: int) -> dict[str, Any]:
    shipped = MapPolicy.shipped()
    refined = shipped if found.model is None else replace(shipped, model=found.model)
    own = [_finished(record, half) for half in (0, 1)]
    row: dict[str, Any] = {
        "name": f"shifted_{record.about.number:03d}",
        "weight": found.weight if found.model is not None else None,
    }
    for name, policy in (("shipped", shipped), ("refined", refined)):
        model = policy.model or MapModel.shipped()
        row[f"log_likelihood_{name}"] = log_likelihood(model, own)
        row[name] = [
            np.mean([_missed(record, policy, seed, half) for half in (0, 1)], axis=0)
            for seed in range(seeds)
        ]
    return row


def _missed(record: FrameRecord, policy: MapPolicy, seed: int, half: int) -> NDArray[np.float64]:
    """Return the regret after each of `TOLD`."""
    tuning, scoring = _halves(record, half)
    truth = scoring.merits()
    searched = _search(tuning, policy, seed, None)
    regrets = truth.max() - truth[[scoring.nearest(each) for each in searched.recommended]]
    spent = np.array(frames_spent(searched.trials)) / tuning.n_frames
    return np.array([regrets[max(int((spent <= full + 1e-9).sum()) - 1, 0)] for full in TOLD])


if __name__ == "__main__":
    main()
