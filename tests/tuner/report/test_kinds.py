"""The report's section on the kinds of frames."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.recommendation import recommend
from tuner.report import write_report
from tuner.report.findings import find
from tuner.report.kinds import kinds_section
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.kinds import TOLD_FILE
from tuner.session.loop import run_session
from tuner.session.store import SessionStore
from wrappers.frame_kinds import KINDS

NAMES = [*KINDS]


@pytest.fixture
def session(tmp_path, landscape, space):
    """A session of 200 frames; since frame 120 a third have a ring, and none of those index."""
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=space.names))
    outcome = run_session(store, landscape, space, searcher="random", seed=1, budget=Budget(4))
    frames = np.arange(200)
    kinds = np.where((frames >= 120) & (frames % 3 == 0), NAMES.index("powder or ice ring"), 0)
    kinds[5] = NAMES.index("beam off")
    np.savez(store.directory / TOLD_FILE, frames=frames, kinds=kinds, spread=frames[::2])
    return store, recommend(outcome.best, outcome.baseline, {"geometry_clen": 0.0784})


def test_shares_are_the_runs_and_rates_the_samples(session):
    section = kinds_section(find(*session), pictures=False)
    assert section is not None and section.n_spread == 100
    rows = {row.name: row for row in section.rows}
    assert list(rows) == ["blank", "powder or ice ring", "beam off"]
    ring = rows["powder or ice ring"]
    assert (ring.told.k, ring.indexed.n) == (14, 27)
    assert ring.told.ci95[0] < ring.told.share == 0.14 < ring.told.ci95[1]
    assert rows["beam off"].told.k == 0 and rows["beam off"].indexed.n == 1
    best = find(*session).best
    indexed = {outcome.frame for outcome in best.outcomes if outcome.indexed}
    assert ring.indexed.k == len([f for f in range(120, 200, 3) if f in indexed])
    assert sum(row.indexed.k for row in rows.values()) == best.n_indexed
    (change,) = section.changes
    assert change.startswith("since frame 120 a third of the frames have a powder or ice ring")


def test_the_page_says_so_and_why_there_are_no_pictures(session):
    store, recommendation = session
    path = store.directory / "report.html"
    write_report(store, recommendation, path)
    text = path.read_text()
    assert '<section id="kinds">' in text and 'href="#kinds"' in text
    assert "Since frame 120 a third of the frames" in text
    assert "No pictures of the kinds: run.h5 is not there" in text


def test_without_kinds_there_is_no_section(session):
    store, recommendation = session
    (store.directory / TOLD_FILE).write_bytes(b"no archive")
    assert kinds_section(find(store, recommendation), pictures=False) is None
    (store.directory / TOLD_FILE).unlink()
    write_report(store, recommendation, store.directory / "report.html")
    assert 'id="kinds"' not in (store.directory / "report.html").read_text()
