"""The map and the list of frames in the report: of a real session, and in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from envs.response_map.stored import MAP_FILE
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.recommendation import read_recommendation
from tuner.report import write_report
from tuner.report.findings import find
from tuner.report.frame_list import FATES, list_frames
from tuner.report.map_picture import _outline, _place, chart
from tuner.report.seen_map import SeenMap, seen_map
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.tuning import tune
from wrappers.indexers import IndexerChoice

N_FRAMES = 24


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session that went by the map; read-only."""
    folder = tmp_path_factory.mktemp("map")
    paths = simulate_run(demo_experiment(seed=1), folder / "run", N_FRAMES)
    request = Request(
        paths.data,
        paths.geometry,
        paths.cell,
        searcher="map",
        indexer=IndexerChoice("fast"),
        n_frames=N_FRAMES,
    )
    assert tune(request, folder / "session", budget=Budget(6)) is not None
    return folder / "session"


def seen(session: Path) -> tuple:
    store = SessionStore.open(session)
    found = find(store, read_recommendation(session))
    return found, seen_map(found)


def test_the_map_knows_every_outcome_of_the_session(mapped) -> None:
    found, shown = seen(mapped)
    assert isinstance(shown, SeenMap)
    whole = [trial for trial in found.trials if trial.evaluation.n_frames == N_FRAMES]
    for trial in whole:
        column = shown.found.column(trial.evaluation.settings)
        if column is not None and shown.found.learnt.outcome[0, column] >= 0:
            # What was measured takes the place of what was expected.
            assert shown.forecast.mean[column] == pytest.approx(trial.evaluation.rate)
    best = shown.found.column(found.recommendation.settings)
    assert best is not None and shown.good[best]


def test_the_page_shows_each_set_with_its_number_and_each_measured_set(mapped) -> None:
    found, shown = seen(mapped)
    drawn = chart(found, shown)
    assert drawn is not None and len(drawn.panels) == 4
    cells = [cell for panel in drawn.panels for cell in panel.cells]
    assert len(cells) == drawn.n_sets == 240
    rates = [float(re.search(r": ([\d.]+) ±", cell.words).group(1)) for cell in cells]
    assert sorted(rates) == pytest.approx(sorted(100 * shown.forecast.mean[:240]), abs=0.051)
    points = [point for panel in drawn.panels for point in panel.points]
    assert {point.number for point in points} == {
        trial.number for trial in found.trials if trial.stage not in ("confirm", "fresh")
    }
    assert any(point.best for point in points)
    text = (mapped / "report.html").read_text()
    assert '<section id="map">' in text and "may be as good as the best" in text


def test_a_session_without_a_map_keeps_its_page_and_a_damaged_one_says_so(mapped, tmp_path) -> None:
    copy = tmp_path / "session"
    shutil.copytree(mapped, copy)
    store, recommendation = SessionStore.open(copy), read_recommendation(copy)
    (copy / MAP_FILE).write_bytes(b"no map")
    write_report(store, recommendation, copy / "damaged.html")
    text = (copy / "damaged.html").read_text()
    assert "No map here" in text and "is damaged" in text
    assert '<section id="frames">' in text and '<table class="fates">' not in text
    (copy / MAP_FILE).unlink()
    write_report(store, recommendation, copy / "without.html")
    assert '<section id="map">' not in (copy / "without.html").read_text()


def test_every_frame_has_one_fate(mapped) -> None:
    found, shown = seen(mapped)
    listed = list_frames(found, shown)
    assert listed is not None
    frames = [line.frame for kind in listed.fates for line in kind.lines]
    assert sorted(frames) == sorted(shown.found.look.frames)
    assert sum(kind.share for kind in listed.fates) == pytest.approx(1)
    by_kind = {kind.key: {line.frame for line in kind.lines} for kind in listed.fates}
    ours, theirs = listed.best.indexed_frames, listed.bar.indexed_frames
    assert by_kind.get("gained", set()) == ours - theirs
    assert by_kind.get("lost", set()) == theirs - ours
    assert by_kind.get("anyway", set()) == ours & theirs
    assert {*listed.typical()} <= {*FATES}


def test_frames_without_a_crystal_are_called_blank(shared_data, tmp_path) -> None:
    """On CrystFEL's simulated run, whose truth is known, with the counts of its map alone."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "simulated" / "jf1m_lyso_60_truth.h5") as truth:
        blank = {i for i, kind in enumerate(truth["class"][:].astype(str)) if kind == "blank"}
    folder = shared_data / "simulated"
    request = Request(
        folder / "jf1m_lyso_60.h5",
        folder / "jf1m.geom",
        folder / "lyso.cell",
        searcher="map",
        indexer=IndexerChoice("fast"),
        n_frames=60,
    )
    tune(request, tmp_path / "jf", budget=Budget(6), cell_check=False)
    found, shown = seen(tmp_path / "jf")
    kinds = {
        kind.key: {line.frame for line in kind.lines} for kind in list_frames(found, shown).fates
    }
    assert len(kinds["blank"] & blank) >= 0.9 * len(blank)
    assert len(kinds["blank"] - blank) <= 2
    assert not any(kinds.get(key, set()) & blank for key in ("anyway", "gained"))
    assert len(kinds.get("unsolved", set()) & blank) <= 1, "noise may make a hit"


def test_an_outline_runs_around_what_is_inside() -> None:
    inside = np.zeros((3, 4), bool)
    inside[1, 1:3] = True
    path = _outline(inside)
    assert path.count("h") == 4 and path.count("v") == 2
    assert _outline(np.zeros((2, 2), bool)) == ""


def test_a_value_is_placed_among_the_levels() -> None:
    assert _place([1.0, 10.0, 100.0], 10.0) == (1.0, False)
    assert _place([1.0, 10.0, 100.0], 10**0.5) == (pytest.approx(0.5), False)
    assert _place([1.0, 10.0, 100.0], 800.0) == (2.0, True)
    assert _place([5.0], 5.0) == (0.0, False)


@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_numbers_where_it_is_pointed_at(browser, mapped, width) -> None:
    browser.open((mapped / "report.html").as_uri(), width)
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    hidden = (
        "[...document.querySelectorAll('.map .tip')].filter(e => e.getBoundingClientRect().width)"
    )
    assert browser.evaluate(f"{hidden}.length") == 0
    x, y = browser.evaluate(
        "(() => { const cell = document.querySelector('.map .cell rect'); "
        "cell.scrollIntoView({block: 'center', behavior: 'instant'}); "
        "const box = cell.getBoundingClientRect(); "
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    browser.point(x, y)
    shown = browser.evaluate(f"{hidden}.map(e => e.textContent)")
    assert len(shown) == 1 and re.match(r"min_snr .*: [\d.]+ ± [\d.]+ %, hits", shown[0])
    # It stays within its panel, and the number in the cell can be read.
    inside = f"{hidden}.every(e => e.getBoundingClientRect().right <= {width})"
    assert browser.evaluate(inside)
    size = "document.querySelector('.map .n').getBoundingClientRect().height"
    assert browser.evaluate(size) >= 9


def test_it_can_be_printed(browser, mapped, tmp_path) -> None:
    browser.open((mapped / "report.html").as_uri(), 1400)
    browser.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
