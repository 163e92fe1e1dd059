"""A third part of each kind is one registration, and a session runs with it."""

from __future__ import annotations

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tests.array_source import ArraySource
from tuner.session.loop import Budget
from tuner.session.store import SessionStore
from tuner.tuning import Request, tune
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import SOURCES
from wrappers.frames.run import Run
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice

FRAMES = 16


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture(scope="module")
def run_session(paths, tmp_path_factory):
    """Run a short session; return its evaluations in order."""

    def run(jobs: int = 1, **changes):
        folder = tmp_path_factory.mktemp("session")
        request = Request(
            **{
                "data": paths.data,
                "geometry": paths.geometry,
                "cell": paths.cell,
                "searcher": "random",
                "n_frames": 8,
                "indexer": IndexerChoice("fast"),
                **changes,
            }
        )
        tune(request, folder, budget=Budget(evaluations=6), jobs=jobs)
        return [
            (trial.evaluation.settings, trial.evaluation.outcomes)
            for trial in SessionStore.open(folder).trials
        ]

    return run


@pytest.fixture(scope="module")
def from_files(run_session):
    return run_session()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_source(paths, run_session, from_files, jobs):
    def open_array(name: str, geometry: Geometry) -> FrameSource:
        run = Run.open(name.removeprefix("array://"), geometry)
        return ArraySource(geometry, [run[i] for i in range(len(run))])

    SOURCES.register("array", open_array)
    try:
        found = run_session(jobs, data=f"array://{paths.data}")
    finally:
        SOURCES.forget("array")
    assert found == from_files
    assert any(outcome.n_lattices for _, outcomes in found for outcome in outcomes)
