"""Frames in a browser, as settings are moved."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from envs.strata import Sample
from tuner.cli.view import cell_of
from tuner.recommendation import applied_settings, read_recommendation
from tuner.session.config import SessionConfig
from tuner.session.start import read_start
from tuner.session.store import SessionStore
from tuner.view.server import ViewServer
from tuner.view.sight import MOVED, Sight
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings

FRAMES = 12
MARKED = Settings(min_snr=4.5, threshold=30, clen=0.08)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture(scope="module")
def run(paths):
    return Run.open(paths.data, Geometry.read(paths.geometry))


@pytest.fixture(scope="module")
def sight(paths, run):
    frames = Sample(tuple(range(FRAMES)))
    with Sight(run, frames, Cell.read(paths.cell), MARKED, jobs=1, memory=1 << 30) as sight:
        yield sight


@pytest.fixture
def server(sight, tmp_path):
    with ViewServer(sight, "run.h5", tmp_path / "chosen.toml") as server:
        yield server


def test_peaks_are_those_of_the_peak_finder(run, sight):
    settings = sight.settings({"min_snr": 5.5, "threshold": 60})
    assert settings == MARKED.replace(min_snr=5.5, threshold=60)
    finder = NamedFinder(run.geometry)
    for place in (0, 3):
        found = sight.peaks(place, settings)
        assert found["n"] == len(finder.find(run[place], settings))
        assert found["hit"] == (found["n"] >= settings.min_peaks)


def test_hits_are_counted_and_the_rate_is_predicted_once_there_is_a_map(run, sight):
    strict, loose = (sight.settings({"threshold": value}) for value in (3000, 30))
    assert sight.effect(strict)["rate"] is None
    sight.prepare()
    effect = sight.effect(loose)
    counts = [len(NamedFinder(run.geometry).find(run[i], loose)) for i in range(FRAMES)]
    assert effect["hits"] == sum(n >= loose.min_peaks for n in counts)
    assert effect["rate"] > 0.3
    assert sight.effect(strict)["rate"] < 0.1
    assert effect["stage"].endswith(f"of {FRAMES} frames")


@pytest.mark.parametrize(
    "values",
    [{"min_snr": -1}, {"min_snr": "x"}, {"clen": 0.1}, {"min_snr": float("nan")}, [1], {"a": 1}],
)
def test_values_that_make_no_settings_are_refused(sight, values):
    with pytest.raises(InputError):
        sight.settings(values)


def ask(
    server: ViewServer, path: str, question: Any, method: str = "POST", **headers: str
) -> tuple[int, str]:
    port = urlsplit(server.address).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    usual = {"X-Secret": server.secret}
    body = question if isinstance(question, bytes) else json.dumps(question)
    connection.request(method, path, body, usual | headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_only_its_own_page_may_ask(server, tmp_path):
    question = {"settings": {"min_snr": 4.0}}
    assert ask(server, "/use", question, **{"X-Secret": "guess"})[0] == 403
    assert ask(server, "/use", question, Host="evil.example")[0] == 403
    assert ask(server, "/", {}, "GET", Host="evil.example")[0] == 403
    assert ask(server, "/", {}, "GET")[0] == 403, "another user of the machine"
    assert ask(server, "/?key=guess", {}, "GET", Cookie=f"{server.cookie}=guess")[0] == 403
    assert ask(server, "/", {}, "GET", Cookie="\x01=;;=")[0] == 403
    assert ask(server, f"/?key={server.secret}", {}, "GET")[0] == 303
    status, page = ask(server, "/", {}, "GET", Cookie=f"{server.cookie}={server.secret}")
    assert status == 200 and "<html" in page
    assert not (tmp_path / "chosen.toml").exists()
    assert ask(server, "/use", question)[0] == 200


@pytest.mark.parametrize(
    ("path", "question", "code"),
    [
        ("/peaks", {"frame": 99}, 400),
        ("/peaks", {"frame": "0"}, 400),
        ("/peaks", {"frame": True}, 400),
        ("/peaks", b"{", 400),
        ("/peaks", b"[]", 400),
        ("/peaks", b"[" * 10000, 400),
        ("/peaks", b" " * 20000, 400),
        ("/effect", {"settings": {"min_snr": 1e400}}, 400),
        ("/elsewhere", {}, 404),
    ],
)
def test_a_question_that_makes_no_sense_gets_a_sentence(server, path, question, code):
    status, text = ask(server, path, question)
    assert status == code
    assert code == 404 or json.loads(text)["error"]


def test_the_chosen_set_is_one_that_a_session_starts_from(server, tmp_path):
    status, text = ask(server, "/use", {"settings": {"min_snr": 6.25, "min_peaks": 15}})
    assert status == 200 and str(tmp_path / "chosen.toml") in json.loads(text)["said"]
    start = read_start(tmp_path / "chosen.toml")
    assert start.settings == MARKED.replace(min_snr=6.25, min_peaks=15, clen=None)
    assert start.clen_change == pytest.approx(0.08 - 0.0788)
    # Peaks and apply take it, too, and move the detector by as much.
    applied = applied_settings(read_recommendation(tmp_path / "chosen.toml"), 0.1)
    assert applied.clen == pytest.approx(0.1 + 0.0012)
    assert {*MOVED} <= {*start.given}


def test_rings_are_where_the_set_has_the_detector(paths, run):
    def facts(**changes: float) -> dict[str, Any]:
        settings = MARKED.replace(**changes)
        with Sight(run, Sample((0,)), None, settings, jobs=1, memory=0) as sight:
            return sight.picture(0)[1]

    usual, longer = facts(clen=0.08), facts(clen=0.084)
    assert longer["rings"][0][1] == pytest.approx(1.05 * usual["rings"][0][1])
    pixel = 1 / run.geometry.panels[0].res
    moved = facts(clen=0.08, shift_x=10 * pixel)
    assert moved["beam"][0] == pytest.approx(usual["beam"][0] - 10)
    assert moved["origin"] == usual["origin"]


def until(true: Callable[[], Any]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it does not come about")


@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_moves_settings_and_looks_at_frames(browser, server, tmp_path, width):
    browser.open(server.address, width)

    def text(name: str) -> str:
        return browser.evaluate(f"document.getElementById('{name}').textContent")

    until(lambda: "peak" in text("found") and "predicted" in text("rate"))
    first, hits = text("found"), text("hits")
    browser.evaluate(
        "(() => { const s = document.getElementById('threshold'); s.value = s.max;"
        " s.dispatchEvent(new Event('input')); })()"
    )
    until(lambda: text("found") != first and text("hits") != hits)
    browser.evaluate("document.getElementById('recommended').click()")
    until(lambda: text("found") == first and text("hits") == hits)
    browser.evaluate("document.getElementById('on').click()")
    until(lambda: "(2 of 12)" in text("name") and "peak" in text("found"))
    browser.evaluate("document.getElementById('use').click()")
    until(lambda: "written" in text("said"))
    assert read_start(tmp_path / "chosen.toml").settings.min_snr == MARKED.min_snr
    drawn = browser.evaluate(
        "(() => { const c = document.getElementById('canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
        " for (let i = 0; i < d.length; i += 4) s.add(d[i]); return s.size; })()"
    )
    assert drawn > 20
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []
    assert {request.rsplit(":", 1)[0] for request in browser.requests} == {"http://127.0.0.1"}
    browser.screenshot(tmp_path / "view.png")


def test_without_a_cell_hits_are_counted_and_no_rate_is_made_up(run):
    with Sight(run, Sample((0, 1, 2, 3)), None, None, jobs=1, memory=1 << 28) as sight:
        sight.prepare()
        effect = sight.effect(sight.marked)
        assert effect["n"] == 4 and effect["rate"] is None
        assert "no cell" in effect["stage"]
        assert sight.describe()["recommended"] is False


def test_a_session_beside_a_run_lends_its_cell(paths, tmp_path):
    SessionStore.create(tmp_path / "session", SessionConfig(cell=str(paths.cell)))
    assert cell_of(tmp_path / "session") == paths.cell
    SessionStore.create(tmp_path / "other", SessionConfig(cell="gone.cell"))
    assert cell_of(tmp_path / "other") is None
    assert cell_of(tmp_path / "recommended.toml") is None


def test_the_command_serves_until_ctrl_c(cli, paths, monkeypatch):
    asked = []

    def look(server: ViewServer) -> None:
        known = {"Cookie": f"{server.cookie}={server.secret}"}
        asked.append(ask(server, "/", {}, "GET", **known))
        raise KeyboardInterrupt

    monkeypatch.setattr(ViewServer, "wait", look)
    code, _, err = cli("view", paths.data, "-g", paths.geometry, "-j", 1, "--frames", 3)
    assert code == 0
    assert "3 frames at http://127.0.0.1:" in err
    assert asked[0][0] == 200 and "data-given" in asked[0][1]
    assert threading.active_count() < 20
    code, _, err = cli("view", paths.data)
    assert code == 2 and "lacks the detector's geometry" in err
