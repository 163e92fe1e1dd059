"""A session whose searcher knows no map, but which looked at its frames, shows what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.look import LOOK_FILE
from envs.response_map.stored import MAP_FILE, read_map
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.recommendation import read_recommendation
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.indexers import IndexerChoice


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of the grid searcher on a run of which the sample is a third; read-only."""
    folder = tmp_path_factory.mktemp("look")
    paths = simulate_run(demo_experiment(seed=1), folder / "run", 72)
    request = Request(
        paths.data,
        paths.geometry,
        paths.cell,
        searcher="random",
        indexer=IndexerChoice("fast"),
        n_frames=24,
    )
    session, seen = folder / "session", []

    def recommended() -> None:
        seen.append((read_recommendation(session).unconfirmed, (session / "report.html").exists()))

    budget = Budget(8)
    found = tune(request, session, budget=budget, cell_check=False, on_recommended=recommended)
    assert found is not None
    assert seen == [(False, False)], "a loop takes up the confirmed set before there is a report"
    return session


def test_its_map_is_of_the_sample_and_knows_every_outcome(session) -> None:
    assert (session / LOOK_FILE).exists()
    found, trials = read_map(session / MAP_FILE), SessionStore.open(session).trials
    whole = [t for t in trials if t.stage != "fresh" and t.evaluation.n_frames == 24]
    assert set(found.look.frames) == {o.frame for o in whole[0].evaluation.outcomes}
    forecast = found.forecast()
    measured = 0
    for trial in whole:
        column = found.column(trial.evaluation.settings)
        if column is None or (found.learnt.outcome[:, column] < 0).any():
            continue  # at quite another camera length
        measured += 1
        assert forecast.hits[column] == pytest.approx(trial.evaluation.hit_rate, abs=1e-9) or (
            trial.evaluation.settings.min_peaks < 5
        )
    assert measured >= 3


def test_the_report_shows_it_and_does_not_say_that_it_chose(session) -> None:
    text = (session / "report.html").read_text()
    assert '<section id="map">' in text and "The search did not go by it" in text
    assert '<table class="fates">' in text
