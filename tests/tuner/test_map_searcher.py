"""The searcher that goes by the response map, on rendered frames with the real indexer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace, make_space
from envs.response_map.session_map import Forecast
from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import simulate_run
from tuner.comparison.searching import run_method
from tuner.comparison.store import ComparisonStore
from tuner.search import map_searcher
from tuner.search.contract import SearchTask
from tuner.search.map_gp import GpSession
from tuner.search.map_searcher import best_candidate, make_map
from tuner.session.budget import Budget
from tuner.session.loop import run_session
from tuner.session.store import MemoryLog
from tuner.session.trial import Trial
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import background_level
from wrappers.lattices.fast_indexer import FastIndexer

N_FRAMES = 24


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> LiveEvaluator:
    folder: Path = tmp_path_factory.mktemp("map") / "run"
    paths = simulate_run(demo_experiment(), folder, N_FRAMES)
    geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
    run = open_source(paths.data, geometry)
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(N_FRAMES)) as live:
        yield live


@pytest.fixture(scope="module")
def box(evaluator: LiveEvaluator) -> ParameterSpace:
    run = evaluator._run
    return make_space(
        DEFAULT_TUNED,
        background=background_level(run, range(N_FRAMES)),
        camera_length=run.nominal_clen,
        pixel_size=1 / run.geometry.panels[0].res,
        largest_radius=500,
    )


def session(
    evaluator: LiveEvaluator, box: ParameterSpace, trials: list[Trial], searcher: str
) -> MemoryLog:
    log = MemoryLog(trials)
    run_session(log, evaluator, box, searcher=searcher, seed=1, budget=Budget(8))
    return log


def tried(log: MemoryLog) -> list[tuple]:
    return [(t.stage, t.evaluation.settings, t.evaluation.n_indexed, t.best) for t in log.trials]


@pytest.mark.parametrize("searcher", ["map", "map-gp"])
def test_it_finds_what_is_good_at_once_and_ends_by_itself(
    evaluator: LiveEvaluator, box: ParameterSpace, searcher: str
) -> None:
    whole = session(evaluator, box, [], searcher)
    stages = [trial.stage for trial in whole.trials]
    assert stages[:2] == ["baseline", "search"]  # no initial design
    searched = [trial for trial in whole.trials if trial.stage == "search"]
    assert len(searched) < 8
    best = max(trial.evaluation.n_indexed for trial in whole.trials)
    assert max(t.evaluation.n_indexed for t in searched[:2]) >= best - 1
    assert "the map expects" in searched[0].reason
    baseline = whole.trials[0].evaluation.n_indexed
    assert best > baseline
    for cut in (1, len(whole.trials) - 1):
        again = session(evaluator, box, whole.trials[:cut], searcher)
        assert tried(again) == tried(whole), cut
    # Whole evaluations find other peaks than those before: more than in a twentieth of the hits.
    lists = [
        np.array([each.n_peaks for each in trial.evaluation.outcomes])
        for trial in whole.trials
        if trial.evaluation.n_frames == N_FRAMES
    ]
    for n, later in enumerate(lists):
        for earlier in lists[:n]:
            hits = earlier >= 10
            away = np.abs(np.log1p(later) - np.log1p(earlier))[hits].mean()
            assert away > 0.05 or ((later >= 10) != hits).any()


def test_a_sure_gain_comes_before_what_may_be_a_flood_of_noise() -> None:
    poor, sure = np.full(50, 0.1), np.full(50, 0.3)
    # Every frame is a hit of the flood: expected to be better than the sure set, but who knows.
    flood = np.tile([0.1, 0.9], 25)
    rates = np.column_stack([poor, sure, flood])
    forecast = Forecast(rates, np.array([0.1, 0.3, 1.0]), np.zeros(3), np.zeros((1, 3)))
    assert forecast.merits(0.2).mean(axis=0).argmax() == 2
    assert best_candidate(forecast, [0, 1, 2], [0], 0.2, "crystfel") == 1
    assert best_candidate(forecast, [0, 1, 2], [0, 1], 0.2, "crystfel") == 2


def test_the_gaussian_process_goes_through_what_was_measured_and_leaves_the_map_elsewhere(
    evaluator: LiveEvaluator, box: ParameterSpace
) -> None:
    process = GpSession(evaluator, box, seed=1, penalty=0.2)
    response = process.map
    before = process.expect({})
    assert before.mean == pytest.approx(response.forecast(1).mean, abs=0.06)
    column = int(np.argmax(before.mean))
    settings = response.settings[column]
    measured = evaluator.evaluate(settings)
    poor = replace(
        measured, outcomes=tuple(replace(each, n_lattices=0) for each in measured.outcomes)
    )
    after = process.expect({column: poor})
    assert after.mean[column] == pytest.approx(0, abs=0.01)
    moved = before.mean - after.mean
    points = process.points()
    away = np.linalg.norm(points - points[column], axis=1)
    assert moved[away < 0.15].mean() > moved[away > 0.8].mean() + 0.1
    part = replace(poor, outcomes=poor.outcomes[:6])
    assert after.mean[column] < process.expect({column: part}).mean[column] < before.mean[column]


def test_of_equal_improvements_the_cheaper_is_taken() -> None:
    best = np.full(50, 0.3)
    better = np.tile([0.25, 0.37], 25)
    rates = np.column_stack([best, better, better + 0.2 * 0.2 / 1.2])  # the merit of both is equal
    forecast = Forecast(rates, np.array([0.3, 0.4, 0.6]), np.zeros(3), np.zeros((1, 3)))
    assert best_candidate(forecast, [0, 1, 2], [0], 0.2, "fast") == 1


def test_where_the_map_is_wrong_it_says_so_and_what_was_measured_counts(
    evaluator: LiveEvaluator, box: ParameterSpace
) -> None:
    searcher = make_map(SearchTask(box, seed=1, looks=evaluator))
    values = searcher.suggest()
    evaluation = evaluator.evaluate(box.settings(values))
    assert evaluation.n_indexed > 5
    none = [replace(each, n_lattices=0) for each in evaluation.outcomes]
    wrong = replace(evaluation, outcomes=tuple(none))
    said = {}
    for each in (evaluation, wrong):
        searcher = make_map(SearchTask(box, seed=1, looks=evaluator))
        searcher.suggest()
        searcher.ingest(values, 0.0, each)
        said[each.n_indexed] = searcher.reason
    assert "wrong" not in said[evaluation.n_indexed]
    assert "0 % of 24 frames were indexed where" in said[0]
    assert "what was measured counts" in said[0]


def test_an_evaluation_is_charged_with_the_looks_before_it(
    evaluator: LiveEvaluator, box: ParameterSpace
) -> None:
    evaluator.evaluate(box.base)
    started = time.perf_counter()
    evaluator.look([box.base.replace(min_snr=3 + n / 99) for n in range(200)])
    spent = time.perf_counter() - started
    assert evaluator.evaluate(box.base).seconds >= 0.9 * spent
    assert evaluator.evaluate(box.base).seconds < spent


def test_where_there_are_no_frames_it_is_refused(make_landscape, space) -> None:
    with pytest.raises(InputError, match="looks at frames"):
        run_session(
            MemoryLog([]), make_landscape(), space, searcher="map", seed=1, budget=Budget(4)
        )


@pytest.fixture
def glimpses(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have the map measure sets on six of the frames first, with the embedded indexer, too."""
    monkeypatch.setattr(map_searcher, "GLIMPSING", {"fast"})
    monkeypatch.setattr(map_searcher, "GLIMPSE", 6)
    monkeypatch.setattr(map_searcher, "WHOLE", 12)
    return 6


def test_sets_are_glimpsed_and_the_best_is_measured_on_every_frame(
    evaluator: LiveEvaluator, box: ParameterSpace, glimpses: int
) -> None:
    log = MemoryLog([])
    outcome = run_session(log, evaluator, box, searcher="map", seed=1, budget=Budget(20))
    searched = [trial for trial in log.trials if trial.stage == "search"]
    frames = [trial.evaluation.n_frames for trial in searched]
    assert set(frames) == {glimpses, N_FRAMES}
    assert frames[:2] == [N_FRAMES, glimpses]
    assert "the map expects no set to gain" in outcome.stopped
    assert outcome.best.n_frames == N_FRAMES
    # Nothing is glimpsed or measured twice, and what was only glimpsed is never the best so far.
    for n in {*frames}:
        these = [t.evaluation.settings for t in searched if t.evaluation.n_frames == n]
        assert len({*these}) == len(these)
    assert all(log.trials[t.best].evaluation.n_frames == N_FRAMES for t in log.trials)
    best = max(trial.evaluation.n_indexed for trial in log.trials)
    assert outcome.best.n_indexed >= best - 1


def test_a_budget_that_ends_after_a_glimpse_leaves_what_was_measured_on_every_frame(
    evaluator: LiveEvaluator, box: ParameterSpace, glimpses: int
) -> None:
    log = MemoryLog([])
    outcome = run_session(log, evaluator, box, searcher="map", seed=1, budget=Budget(3))
    assert [trial.evaluation.n_frames for trial in log.trials[:3]] == [N_FRAMES, N_FRAMES, glimpses]
    assert outcome.best.n_frames == N_FRAMES


def test_what_fails_is_not_proposed_again(
    evaluator: LiveEvaluator, box: ParameterSpace, glimpses: int
) -> None:
    searcher = make_map(SearchTask(box, seed=1, looks=evaluator))
    values = searcher.suggest()
    failed = Evaluation(box.settings(values), (), failure="the indexer has died")
    searcher.ingest(values, 0.0, failed)
    assert searcher.suggest() != values


def test_a_session_of_glimpses_that_was_interrupted_goes_on_where_it_was(
    evaluator: LiveEvaluator, box: ParameterSpace, glimpses: int
) -> None:
    whole = session(evaluator, box, [], "map")
    for n in (2, 3):
        assert tried(session(evaluator, box, whole.trials[:n], "map")) == tried(whole)


def test_a_comparison_has_it_search_like_any_other(
    evaluator: LiveEvaluator, box: ParameterSpace
) -> None:
    recorded = ComparisonStore(None, "").recorded(evaluator, "frames")
    searched = run_method("map", recorded, box, budget=3, seed=1)
    assert [trial.stage for trial in searched.trials[:2]] == ["baseline", "search"]
