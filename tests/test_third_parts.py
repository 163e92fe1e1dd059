"""A third part of each kind is one registration, and a session runs with it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tests.array_source import ArraySource
from tests.third_parts import StrictFinder, doubled, in_words, third_indexer
from tuner.apply.applying import session_indexer
from tuner.cli.main import cli
from tuner.export.exporters import TARGETS, Target
from tuner.recommendation import read_recommendation
from tuner.search.contract import SearcherKind, SearchTask
from tuner.searchers import SEARCHERS
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import SOURCES
from wrappers.frames.run import Run
from wrappers.frames.source import FrameSource
from wrappers.indexers import INDEXERS, IndexerChoice, IndexerKind
from wrappers.peak_finders import PEAK_FINDERS, PeakFinderKind
from wrappers.peakfinding.peakfinder8 import PeakFinder

FRAMES = 16


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture(scope="module")
def run_trials(paths, tmp_path_factory):
    """Run a short session; return its trials in order."""

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
        return SessionStore.open(folder).trials

    return run


@pytest.fixture(scope="module")
def run_session(run_trials):
    """Run a short session; return its evaluations in order."""

    def run(jobs: int = 1, **changes):
        return [
            (trial.evaluation.settings, trial.evaluation.outcomes)
            for trial in run_trials(jobs, **changes)
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


class Corners:
    """Visits two corners of the box and says so; it knows nothing of the geometry."""

    reason = "a corner"

    def __init__(self, task: SearchTask) -> None:
        self.left = [{p.name: p.clip(edge(p)) for p in task.space.parameters} for edge in EDGES]

    def suggest(self):
        return dict(self.left[0]) if self.left else None

    def ingest(self, values, merit, evaluation) -> None:
        if self.left and dict(values) == self.left[0]:
            self.left.pop(0)


EDGES = (lambda p: p.low, lambda p: p.high)


def test_a_searcher(run_trials):
    SEARCHERS.register("corners", SearcherKind(Corners, "two corners", starts_itself=True))
    try:
        trials = run_trials(searcher="corners")
    finally:
        SEARCHERS.forget("corners")
    searched = [trial for trial in trials if trial.stage == "search"]
    assert [trial.stage for trial in trials[:3]] == ["start", "baseline", "search"]
    assert searched[0].evaluation.settings.min_snr == 3
    assert {trial.reason for trial in searched} == {"a corner"}


def test_a_searcher_that_is_not_registered_is_refused(run_trials):
    with pytest.raises(InputError, match="no searcher 'corners'; choose one of map"):
        run_trials(searcher="corners")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_peak_finder(paths, run_session, from_files, jobs):
    PEAK_FINDERS.register("strict", PeakFinderKind(StrictFinder), aliases=("severe",))
    try:
        found = run_session(jobs, peak_finder="severe")
    finally:
        PEAK_FINDERS.forget("strict")
    assert found[:2] == from_files[:2], "what it is held against is peakfinder8's in any case"
    # What is best may be one of those, and is then measured at the lattices' geometry, too.
    own = [(settings, outcomes) for settings, outcomes in found if settings.peak_finder == "strict"]
    assert len(own) >= 3
    geometry = Geometry.read(paths.geometry)
    run, finder = Run.open(paths.data, geometry), PeakFinder(geometry)
    for settings, outcomes in own:
        for outcome in outcomes:
            peaks = finder.find(run[outcome.frame], doubled(settings))
            assert outcome.n_peaks == len(peaks)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_indexer(paths, tmp_path, from_files, jobs):
    INDEXERS.register("third", IndexerKind(third_indexer, "somebody's"))
    arguments = f"tune {paths.data} -g {paths.geometry} -p {paths.cell} --searcher random"
    arguments += f" --frames 8 --evaluations 6 --indexer third -j {jobs} -o {tmp_path / 's'}"
    try:
        done = CliRunner().invoke(cli, arguments.split())
        assert done.exit_code == 0, done.output
        recommendation = read_recommendation(tmp_path / "s")
        assert session_indexer(recommendation).settled() == IndexerChoice("third")
    finally:
        INDEXERS.forget("third")
    assert recommendation.provenance["indexer"] == "third, of nobody's"
    found = SessionStore.open(tmp_path / "s").trials
    assert [(t.evaluation.settings, t.evaluation.outcomes) for t in found] == from_files


def test_an_export_target(paths, tmp_path):
    (tmp_path / "recommended.toml").write_text("[settings]\nmin_snr = 4.5\n")
    target = Target(in_words, "recommended.txt", "plain words", needs_geometry=False)
    TARGETS.register("words", target)
    arguments = f"export {tmp_path} --to words -o {tmp_path / 'out.txt'}"
    try:
        done = CliRunner().invoke(cli, arguments.split())
    finally:
        TARGETS.forget("words")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.txt").read_text() == "min_snr is 4.5\n"
    assert "clen is not held" in done.output
    refused = CliRunner().invoke(cli, arguments.split())
    assert refused.exit_code == 2 and "choose one of crystfel, align_detector" in refused.output
