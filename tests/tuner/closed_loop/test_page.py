"""The page of a night: what it shows, and who may ask for it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.tuner.closed_loop.test_rules import EVIDENCE, block, told, watching
from tuner.closed_loop.events import Event, Noted, Pairs, Tuned
from tuner.closed_loop.page import NightPage, night_content
from tuner.closed_loop.rules import State
from wrappers.errors import InputError


@pytest.fixture(scope="module")
def night() -> tuple[list[Event], State]:
    """Return a night with a change, a set that is proved, a beam stop, and a stranger's word."""
    state, log = watching()
    for _ in range(20):
        state = told(state, block(state, 25, kinds={"blank": 25, "single crystal": 25}), log)
    while state.phase == "watching":
        icy = {"blank": 30, "powder or ice ring": 17, "jet streak": 3}
        state = told(state, block(state, 5, 2, kinds=icy), log)
    while state.phase == "collecting":
        state = told(state, block(state, 5), log)
    why = "of 100 frames since the alarm 40 index with the new set, 12 with the one in force"
    state = told(state, Tuned(2, "better", why, Pairs(100, 30, 2), EVIDENCE), log)
    while state.phase == "proving":
        state = told(state, block(state, 25, pairs=Pairs(40, 6, 0)), log)
    for _ in range(3):
        state = told(state, block(state, 0, 0, beam="off", level=0.1), log)
    state = told(state, Noted("<script>alert(1)</script>"), log)
    return log, told(state, block(state, 25, received=2000, dropped=12), log)


def asked(address: str, **headers: str):
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10)


def test_a_night_is_shown_to_this_machine(night):
    log, state = night
    with NightPage(Path("night")) as page:
        with asked(page.address) as answer:
            assert "The customary set is in force" in answer.read().decode()
        page._rested = 0.0
        page.show(log, state)
        with asked(page.address) as answer:
            text, tag = answer.read().decode(), answer.headers["ETag"]
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
        assert "The set of tuning-2 is in force; watching the rates." in text
        assert "is proved to be better and stays" in text and "of 50 frames), outside [" in text
        assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text
        assert "since frame 1,100 a third of the frames have a powder or ice ring" in text
        assert "<td>powder or ice ring</td>" in text and "<td>salt</td>" not in text
        assert "12</b><span>of 2,000 frames dropped" in text
        with pytest.raises(urllib.error.HTTPError) as same:
            asked(page.address, **{"If-None-Match": tag})
        assert same.value.code == 304
        with pytest.raises(urllib.error.HTTPError) as foreign:
            asked(page.address, Host="evil.example")
        assert foreign.value.code == 403
        with asked(page.address + "status") as answer:
            assert json.load(answer)["line"] == "watching the rates"
        with pytest.raises(InputError, match="--dashboard cannot have port"):
            NightPage(Path("night"), int(page.address.rsplit(":", 1)[1].strip("/")))


def test_drawing_holds_up_nobody(night, monkeypatch):
    log, state = night
    begun, may_end = threading.Event(), threading.Event()

    def slow(*given):
        begun.set()
        assert may_end.wait(30)
        return night_content(*given)

    monkeypatch.setattr("tuner.closed_loop.page.night_content", slow)
    with NightPage(Path("night")) as page:
        page.show(log[:-1], state)
        drawing = threading.Thread(target=page.page)
        drawing.start()
        assert begun.wait(30)
        showing = threading.Thread(target=page.show, args=(log, state), daemon=True)
        showing.start()
        showing.join(10)
        held_up = showing.is_alive()
        may_end.set()
        drawing.join()
        assert not held_up, "the reduction waits for nobody's page"
        tag, _ = page.page()
        assert tag == f'"{len(log) - 1}"', "what was drawn is that of before"


def test_it_fits_a_window(browser, night, tmp_path):
    log, state = night
    with NightPage(Path("night")) as page:
        page.show(log, state)
        for width in (1400, 390):
            browser.open(page.address, width)
            assert browser.complaints == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("document.querySelectorAll('figure svg').length") == 2
            browser.screenshot(tmp_path / f"page{width}.png")
