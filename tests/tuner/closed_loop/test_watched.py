"""A watch that re-tunes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.closed_loop.events import Tuned
from tuner.closed_loop.watched import WatchedRetuning
from tuner.recommendation import read_recommendation, write_recommendation
from tuner.session.config import SessionConfig
from wrappers.errors import InputError


def test_only_a_session_can_be_like_another(cli, tmp_path):
    with pytest.raises(InputError, match="--retune needs a session"):
        WatchedRetuning(tmp_path, Path("g"), tmp_path, jobs=1, say=print)
    code, _, err = cli("apply", "session", "run.h5", "-o", "x.cxi", "--retune")
    assert code == 2 and "--retune goes with --watch" in err


def test_what_was_better_is_in_force_again(tmp_path):
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "session.json").write_text("{}")
    for number, outcome in ((2, "better"), (3, "no better"), (10, "better"), (11, "failed")):
        document = {"number": number, "outcome": outcome, "kind": "tuned", "time": 1.0}
        (tmp_path / f"tuning-{number}.json").write_text(json.dumps(document))
    (tmp_path / "tuning-12.json").write_text("{")
    found = WatchedRetuning(tmp_path / "session", Path("g"), tmp_path, jobs=1, say=print)
    assert found.used == tmp_path / "tuning-10" and not found.under_way


@pytest.mark.parametrize(
    ("outcome", "goes_on"), [("failed", True), ("nothing", True), ("no better", False)]
)
def test_a_session_that_was_stopped_or_failed_is_followed_by_the_next(
    tmp_path, monkeypatch, outcome, goes_on
):
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "session.json").write_text("{}")
    (tmp_path / "tuning-2").mkdir()  # Ctrl-C
    orders = []

    class Done:
        def __init__(self, order):
            orders.append(order)

        def close(self):
            pass

        is_over, remark = True, ""

        def told(self):
            return Tuned(orders[-1].number, outcome)

    monkeypatch.setattr("tuner.closed_loop.watched.Session", Done)
    found = WatchedRetuning(tmp_path / "session", Path("g"), tmp_path, jobs=1, say=print)
    found.step([{"file": "a.h5", "alarms": ["an alarm"]}])
    found.step([{"file": "b.h5", "alarms": ["an alarm"]}])
    assert [order.number for order in orders] == ([3, 4] if goes_on else [3])


def test_a_session_that_was_stopped_is_gone_on_with(tmp_path, monkeypatch):
    for name in ("session", "tuning-2"):
        (tmp_path / name).mkdir()
        config = SessionConfig(data="/data/run7.h5", geometry="/data/run.geom").as_dict()
        (tmp_path / name / "session.json").write_text(json.dumps(config))
    orders, said = [], []
    monkeypatch.setattr("tuner.closed_loop.watched.Session", orders.append)
    found = WatchedRetuning(tmp_path / "session", Path("g"), tmp_path, jobs=1, say=said.append)
    (order,) = orders
    assert found.under_way or order.number == 2
    assert (order.number, order.data, order.geometry) == (2, "/data/run7.h5", "/data/run.geom")
    assert order.against == str(tmp_path / "session") and "--resume" in order.arguments()
    assert "tuning-2" in said[0]
    (tmp_path / "tuning-2.json").write_text(
        json.dumps({"number": 2, "outcome": "no better", "kind": "tuned", "time": 1.0})
    )
    WatchedRetuning(tmp_path / "session", Path("g"), tmp_path, jobs=1, say=said.append)
    assert len(orders) == 1, "nothing is done again"


@pytest.mark.slow
def test_a_set_that_has_become_wrong_is_replaced(cli, tmp_path):
    experiment = demo_experiment(seed=1)
    run = simulate_run(experiment, tmp_path / "run", 40)
    begin = ("-o", "session", "--indexer", "fast", "--frames", 20, "--evaluations", 3, "-j", 1)
    code, _, err = cli("tune", run.data, "-g", run.geometry, "-p", run.cell, *begin)
    assert code == 0, err
    # As if the detector gave far less signal: the threshold is too high for any peak.
    known = read_recommendation(Path("session"))
    write_recommendation(
        dataclasses.replace(known, settings=known.settings.replace(threshold=5000.0)),
        Path("session/recommended.toml"),
    )
    text = Path("session/recommended.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("settings_sha256")]
    Path("session/recommended.toml").write_text("\n".join(lines) + "\n")
    Path("raw").mkdir()
    for place in range(4):
        shutil.copy(run.data, f"raw/{place}.h5")
    code, _, err = cli(
        *("apply", "session", "--watch", "raw", "-o", "hits", "--settle", 0, "--idle", 1),
        *("-g", run.geometry, "--retune", "--sample", 20, "-j", 1, "--json"),
    )
    assert code == 0, err
    assert "re-tuning on" in err
    assert json.loads(Path("hits/tuning-2.json").read_text())["outcome"] == "better", err
    assert "the set of tuning-2 comes into force:" in err
