"""When a session ends before its budget, and what one leaves that was stopped by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.recommendation import UNCONFIRMED, read_recommendation
from tuner.report.findings import find
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.loop import run_session
from tuner.session.request import Request, begun_with
from tuner.session.stopping import why_stop
from tuner.session.store import MemoryLog, SessionStore
from tuner.session.trial import Trial
from tuner.tuning import tune
from wrappers.indexers import IndexerChoice
from wrappers.settings import Settings

N = 100


def trial(number: int, n_indexed: int, n_hits: int, n_peaks: int, first: int = 0) -> Trial:
    """A trial that indexes the frames from `first` on, of which `n_hits` are hits."""
    outcomes = tuple(
        FrameOutcome(i, n_peaks, i < n_hits, int(first <= i < first + n_indexed)) for i in range(N)
    )
    return Trial(number, "search", Evaluation(Settings(min_peaks=10), outcomes))


def test_where_next_to_every_frame_is_indexed_there_is_nothing_to_gain() -> None:
    winner = trial(0, 98, 100, 40)
    assert "98 of 100 frames are indexed" in why_stop(winner, [winner])
    assert why_stop(trial(0, 90, 100, 40), [trial(0, 90, 100, 40)]) == ""


def test_where_every_hit_is_indexed_looser_sets_have_to_have_gained_nothing() -> None:
    winner = trial(0, 60, 60, 40)
    same, looser = trial(1, 60, 60, 41), trial(2, 60, 70, 60)
    assert why_stop(winner, [winner, same]) == "", "no set with more peaks was tried"
    assert why_stop(winner, [winner, looser]) == "", "one is not enough"
    found = why_stop(winner, [winner, looser, trial(3, 60, 70, 80)])
    assert "60 of 60 hits are indexed" in found and "no frames beyond" in found
    gaining = trial(3, 60, 70, 80, first=5)
    assert why_stop(winner, [winner, looser, gaining]) == "", "five frames are to be gained"
    flood = trial(3, 10, 100, 900)
    assert why_stop(winner, [winner, looser, flood]) == "", "noise says nothing"
    assert why_stop(trial(0, 50, 60, 40), [looser, trial(3, 50, 70, 80)]) == "", "ten hits are not"


def test_a_session_says_why_it_stopped(make_landscape, space) -> None:
    log = MemoryLog([])
    outcome = run_session(
        log, make_landscape(), space, searcher="gp", seed=1, budget=Budget(60), stop_early=True
    )
    assert outcome is not None and outcome.stopped and len(log.trials) < 60
    whole = MemoryLog([])
    outcome = run_session(whole, make_landscape(), space, searcher="gp", seed=1, budget=Budget(12))
    assert outcome is not None and not outcome.stopped


def test_it_is_the_default_and_old_sessions_spend_their_budget() -> None:
    assert Request("run.h5", Path("a.geom"), None).stop_early
    assert not begun_with(SessionConfig(data="run.h5"))[0].stop_early


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Request]:
    """A session that was stopped by hand at its fourth evaluation, and what it was asked."""
    folder = tmp_path_factory.mktemp("stopped")
    paths = simulate_run(demo_experiment(seed=1), folder / "run", 20)
    request = Request(
        paths.data,
        paths.geometry,
        paths.cell,
        searcher="random",
        indexer=IndexerChoice("fast"),
        n_frames=20,
        stop_early=False,
    )

    def stop(trial: Trial) -> None:
        if trial.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(request, folder / "session", budget=Budget(5), on_trial=stop, cell_check=False)
    return folder / "session", request


def test_the_best_so_far_of_a_stopped_session_can_be_used(cli, stopped, tmp_path) -> None:
    session, _ = stopped
    store, kept = SessionStore.open(session), read_recommendation(session)
    best = store.trials[store.trials[-1].best].evaluation
    assert kept.unconfirmed and kept.caution == UNCONFIRMED and kept.settings == best.settings
    assert kept.evidence["n_indexed"] == best.n_indexed > 0
    assert not find(store, kept).finished
    code, _, err = cli("export", session, "--to", "json", "-o", tmp_path / "set.json")
    assert code == 0 and "unconfirmed" in err
    assert "unconfirmed" in (tmp_path / "set.json").read_text()
    code, _, _ = cli("export", session, "--to", "crystfel", "-o", tmp_path / "index.sh")
    assert code == 0 and "unconfirmed" in (tmp_path / "index.sh").read_text()
    code, _, err = cli(*("apply", session, store.config.data, "-o", tmp_path / "hits.cxi", "-j", 1))
    assert code == 0 and "unconfirmed" in err
    code, _, _ = cli("report", session, "-o", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert code == 0 and "so far" in text.lower() and "unconfirmed" in text


def test_a_session_that_ends_confirms_it(stopped, tmp_path) -> None:
    session, request = stopped
    shutil.copytree(session, tmp_path / "session")
    found = tune(request, tmp_path / "session", budget=Budget(5), resume=True, cell_check=False)
    assert found is not None and not found.unconfirmed and found.caution == ""
    assert not read_recommendation(tmp_path / "session").unconfirmed
