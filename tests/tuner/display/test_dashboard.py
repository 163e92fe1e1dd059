"""The dashboard: what it answers, whom it refuses, and how a browser follows it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tuner.display.dashboard import LINGER, LOOK, Dashboard
from tuner.display.progress import Progress
from tuner.report import write_report
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.loop import run_session
from tuner.session.store import SessionStore
from wrappers.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path, landscape, space) -> SessionStore:
    config = SessionConfig(data="run.h5", tuned=space.names)
    store = SessionStore.create(tmp_path / "session", config)
    run_session(store, landscape, space, searcher="random", seed=1, budget=Budget(4))
    return store


@pytest.fixture
def dashboard(store, monkeypatch) -> Iterator[Dashboard]:
    monkeypatch.setattr("tuner.display.dashboard.REST", 0.0)
    with Dashboard(store.directory) as dashboard:
        yield dashboard


def ask(dashboard: Dashboard, method: str = "GET", path: str = "/", **headers: str):
    port = int(dashboard.address.rstrip("/").rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def drawn(dashboard: Dashboard, tag: str) -> str:
    """The page once it is drawn anew."""
    for _ in range(600):
        answer, text = ask(dashboard, **{"If-None-Match": tag})
        if answer.status == 200:
            return text
        time.sleep(0.1)
    raise AssertionError("nothing new is drawn")


def test_it_shows_what_is_measured_once_there_is_something(dashboard):
    answer, text = ask(dashboard)
    assert answer.status == 200 and "once the first evaluation is measured" in text
    dashboard.update()
    text = drawn(dashboard, answer.headers["ETag"])
    assert "Running: " in text and '<section id="progress">' in text
    tag = ask(dashboard)[0].headers["ETag"]
    answer, text = ask(dashboard, **{"If-None-Match": tag})
    assert answer.status == 304 and text == ""


def test_it_says_what_is_under_way_and_what_is_left_of_the_budget(browser, store):
    progress = Progress(Budget(evaluations=8), store.trials)
    with Dashboard(store.directory, progress=progress) as dashboard:
        progress.show_progress(3, 24)
        answer, text = ask(dashboard, path="/status")
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
        assert json.loads(text)["spent"] == pytest.approx(0.5)
        assert "3/24 frames and decoys" in json.loads(text)["line"]
        dashboard.update()
        drawn(dashboard, dashboard.page()[0])
        browser.open(dashboard.address, 390)
        line = "document.getElementById('live').textContent"
        ends = time.monotonic() + 30
        while "4/8 evaluations" not in browser.evaluate(line) and time.monotonic() < ends:
            time.sleep(0.2)
        said = browser.evaluate(line)
        assert "Evaluation 4: 3/24 frames" in said and "best so far" in said
        bar = "document.querySelector('#live progress')"
        assert browser.evaluate(f"{bar}.value") == pytest.approx(0.5)
        assert browser.evaluate(f"{bar}.getBoundingClientRect().height") > 0
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        text = browser.evaluate("document.querySelector('main').innerText")
        # Nothing is recommended before the session has ended.
        assert "Best so far" in text and "Recommended" not in text
        assert browser.complaints == []
        browser.open("about:blank", 390)  # or it would miss the page that goes away


def test_the_page_is_there_before_anything_heavy_is_imported(tmp_path):
    """Of three seconds that a user waits, on a busy machine: here in processor time."""
    script = (
        "import sys, time, urllib.request\n"
        "from pathlib import Path\n"
        "from tuner.cli.session_display import display\n"
        "from tuner.display.dashboard import Dashboard\n"
        "if __name__ == '__main__':\n"
        f"    with Dashboard(Path({str(tmp_path)!r})) as dashboard:\n"
        "        page = urllib.request.urlopen(dashboard.address).read()\n"
        "        assert b'once the first evaluation' in page\n"
        "        heavy = {'numba', 'scipy.stats', 'matplotlib', 'pandas'} & {*sys.modules}\n"
        "        print(time.process_time(), *heavy)\n"
    )
    path = tmp_path / "page.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seconds, *heavy = done.stdout.split()
    assert heavy == [] and float(seconds) < 2


def test_drawing_leaves_the_session_most_of_the_time(dashboard, store, monkeypatch):
    monkeypatch.setattr("tuner.display.dashboard.REST", 1e6)
    dashboard.update()
    drawn(dashboard, dashboard.page()[0])
    first = dashboard.page()
    store.add(replace(store.trials[-1], number=len(store.trials), stage="search"))
    dashboard.update()
    assert dashboard.page() is first and dashboard._drawing is None


def test_only_this_page_and_only_reading(dashboard):
    for path in ("/session.json", "/../session.json", "/?x"):
        assert ask(dashboard, path=path)[0].status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert ask(dashboard, method)[0].status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("", 403),
        ("[", 403),
        ("localhost:9999", 200),  # a tunnel
        ("127.0.0.1", 200),
    ],
)
def test_a_foreign_name_for_this_machine_is_refused(dashboard, host, status):
    assert ask(dashboard, Host=host)[0].status == status


def test_it_listens_to_this_machine_alone(dashboard):
    assert dashboard._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="name another"):
            Dashboard(store.directory, taken.getsockname()[1])


def test_a_browser_follows_it_and_stays_where_it_was(browser, dashboard, store):
    dashboard.update()
    drawn(dashboard, dashboard.page()[0])
    browser.open(dashboard.address, 390)
    assert browser.complaints == []
    count = "document.querySelectorAll('.trials tbody tr').length"
    before = browser.evaluate(count)
    assert before == len(store.trials)
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'; scrollTo(0, 1500)")

    store.add(replace(store.trials[-1], number=len(store.trials), stage="search"))
    dashboard.update()
    ends = time.monotonic() + 60
    while browser.evaluate(count) == before and time.monotonic() < ends:
        time.sleep(0.2)
    assert browser.evaluate(count) == before + 1
    assert f"{before + 1} evaluations" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("scrollY") == 1500
    assert browser.complaints == []
    assert set(browser.requests) == {dashboard.address, f"{dashboard.address}status"}


def test_a_page_that_is_open_gets_the_report_in_the_end(browser, store):
    with Dashboard(store.directory) as dashboard:
        browser.open(dashboard.address, 1000)
        write_report(store, None, store.directory / "report.html")
    line = "document.getElementById('live').textContent"
    assert "The session has ended: this is its report" in browser.evaluate(line)
    rows = "document.querySelectorAll('.trials tbody tr').length"
    assert browser.evaluate(rows) == len(store.trials)
    time.sleep(2 * LOOK)
    assert "this is its report" in browser.evaluate(line), "it looks no more"
    assert browser.complaints == []


def test_where_no_page_is_open_the_end_waits_for_none(store):
    write_report(store, None, store.directory / "report.html")
    began = time.monotonic()
    with Dashboard(store.directory):
        pass
    assert time.monotonic() - began < LINGER


def test_a_page_says_where_the_report_is_when_the_session_is_stopped(browser, store):
    with pytest.raises(KeyboardInterrupt), Dashboard(store.directory) as dashboard:
        browser.open(dashboard.address, 1000)
        raise KeyboardInterrupt
    ends = time.monotonic() + 30
    line = "document.getElementById('live').textContent"
    while "stopped" not in browser.evaluate(line) and time.monotonic() < ends:
        time.sleep(0.2)
    assert str(store.directory / "report.html") in browser.evaluate(line)
