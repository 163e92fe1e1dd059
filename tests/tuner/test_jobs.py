"""A session is the same whoever does its work."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest

from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import RunPaths, simulate_run
from tuner.cluster import connect
from tuner.recommendation import Recommendation
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.indexers import IndexerChoice

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    experiment = demo_experiment(1)
    crystals = dataclasses.replace(experiment.crystals, hit_fraction=0.6)
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_run(dataclasses.replace(experiment, crystals=crystals), folder / "run", 60)


def session(
    paths: RunPaths, folder: Path, jobs: int, cluster: str | None = None
) -> tuple[Recommendation, list[tuple[str, object]]]:
    """Return what is recommended and all trials but for their times."""
    request = Request(
        paths.data, paths.geometry, paths.cell, n_frames=30, seed=3, indexer=IndexerChoice("fast")
    )
    with connect(cluster, jobs) if cluster else nullcontext() as client:
        recommendation = tune(request, folder, budget=Budget(10), jobs=jobs, cluster=client)
    assert recommendation is not None
    trials = SessionStore.open(folder).trials
    return recommendation, [
        (trial.stage, trial.evaluation.with_cost(0.0, 0.0).as_dict()) for trial in trials
    ]


@pytest.fixture(scope="module")
def alone(paths, tmp_path_factory):
    return session(paths, tmp_path_factory.mktemp("alone") / "session", jobs=1)


@pytest.mark.parametrize(("jobs", "cluster"), [(2, None), (4, None), (2, "local")])
def test_the_number_of_processes_changes_nothing(paths, alone, tmp_path, jobs, cluster):
    if cluster:
        pytest.importorskip("distributed", reason="needs Dask: pip install distributed")
    recommendation, trials = session(paths, tmp_path / "session", jobs, cluster)
    assert trials == alone[1]
    assert recommendation.settings == alone[0].settings
    assert recommendation.evidence == alone[0].evidence
