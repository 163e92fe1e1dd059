"""The report: what it says, that nothing breaks it, and how a browser takes it."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.cli import main
from tuner.recommendation import Recommendation, read_recommendation, recommend
from tuner.report import write_report
from tuner.report.findings import find
from tuner.report.frames import choose_frames, compare_frames
from tuner.report.model import Axis, Response, importance
from tuner.report.trials import responses
from tuner.session.budget import Budget
from tuner.session.choice import with_best
from tuner.session.config import SessionConfig
from tuner.session.loop import run_session
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.tuning import tune
from wrappers.indexers import IndexerChoice
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """A session on real (simulated) frames, with the run beside it; read-only."""
    folder = tmp_path_factory.mktemp("report")
    paths = simulate_run(demo_experiment(seed=1), folder / "run", 24)
    request = Request(
        paths.data, paths.geometry, paths.cell, indexer=IndexerChoice("fast"), n_frames=24
    )
    assert tune(request, folder / "session", budget=Budget(6)) is not None
    return folder / "session"


@pytest.fixture
def known(tmp_path, landscape, space):
    """A longer session whose run was made up."""
    store = SessionStore.create(tmp_path / "known", SessionConfig(data="run.h5", tuned=space.names))
    outcome = run_session(store, landscape, space, searcher="random", seed=1, budget=Budget(20))
    assert outcome is not None
    provenance = {"tuned": list(space.names), "geometry_clen": 0.0784}
    return store, recommend(outcome.best, outcome.baseline, provenance)


def add(store: SessionStore, stage: str, measured: Evaluation, reason: str = "") -> None:
    trial = Trial(len(store.trials), stage, measured, reason)
    store.add(with_best([*store.trials, trial], store.config.tuned)[-1])


def report(store: SessionStore, recommendation: Recommendation | None) -> str:
    path = store.directory / "report.html"
    write_report(store, recommendation, path)
    return path.read_text()


def evaluation(settings: Settings, indexed: list[bool], **others) -> Evaluation:
    outcomes = tuple(FrameOutcome(i, 20, True, int(yes)) for i, yes in enumerate(indexed))
    return Evaluation(settings, outcomes, **others)


def test_it_holds_every_part_in_order_and_nothing_from_elsewhere(session):
    text = (session / "report.html").read_text()
    parts = ("progress", "responses", "importance", "frames", "geometry", "evaluations", "apply")
    places = [text.index(f'<section id="{part}">') for part in parts]
    assert text.index('class="headline"') < places[0] and places == sorted(places)
    assert "A blank" in text and "A hit gained" in text
    assert "Spots and panels" in text and 'aria-label="The detector&#39;s panels' in text
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    assert len(text) < 5e6
    assert f"{read_recommendation(session).evidence['indexing_rate']:.1%}"[:-1] in text


def test_the_same_session_gives_the_same_file(known):
    assert report(*known) == report(*known)


def test_settings_that_never_changed_are_named_and_not_drawn(tmp_path):
    config = SessionConfig(data="run.h5", tuned=("min_snr", "threshold"))
    store = SessionStore.create(tmp_path / "few", config)
    for stage, threshold in (("baseline", 800), ("search", 50)):
        add(store, stage, evaluation(Settings(min_snr=5, threshold=threshold), [True, False]))
    shown = responses(find(store, None))
    assert shown is not None
    assert [*shown.pictures] == ["threshold"] and shown.constant == ("min_snr",)
    text = report(store, None)
    assert "The same in all evaluations: <code>min_snr</code>." in text
    assert "indexed frames against min_snr" not in text


def test_predicted_reflections_are_where_the_peaks_are(session):
    store, recommendation = SessionStore.open(session), read_recommendation(session)
    found = find(store, recommendation)
    assert found.best is not None and found.baseline is not None
    gallery = compare_frames(store, found.best, found.baseline)
    gained = next(each for each in gallery.comparisons if each.kind == "gained")
    assert gallery.note == ""
    assert gained.recommended.outcome.indexed and not gained.default.outcome.indexed
    assert len(gained.recommended.peaks) == gained.recommended.outcome.n_peaks
    apart = gained.recommended.peaks[:, None] - gained.recommended.predicted[None]
    assert np.median(np.linalg.norm(apart, axis=2).min(axis=1)) < 1  # pixel
    # They are few enough for that to mean something.
    width, height = gained.size
    assert len(gained.recommended.predicted) < width * height / 500
    assert (gained.recommended.predicted < [width, height]).all()
    assert len(gained.default.predicted) == 0


def test_frames_are_left_out_with_a_sentence_where_the_run_is_gone(known):
    text = report(*known)
    assert "No pictures of frames: " in text and "run.h5 is not there" in text


def test_frames_are_left_out_where_the_run_has_changed(session, tmp_path):
    store = SessionStore.open(session)
    other = SessionStore(session, replace(store.config, data_sha256="sha256:0"), store.trials)
    best = store.trials[-1].evaluation
    assert "no longer what the session was run with" in compare_frames(other, best, best).note


def test_typical_frames_are_chosen():
    def of(indexed: list[int], n_peaks: list[int]) -> Evaluation:
        return Evaluation(
            CRYSTFEL_DEFAULTS,
            tuple(
                FrameOutcome(i, n, n > 0, yes)
                for i, (yes, n) in enumerate(zip(indexed, n_peaks, strict=True))
            ),
        )

    best = of([1, 1, 1, 0, 0, 1], [30, 10, 20, 9, 0, 5])
    assert choose_frames(best, of([0, 0, 0, 1, 0, 1], [9] * 6)) == {
        "gained": 2,
        "lost": 3,
        "blank": 4,
    }
    assert choose_frames(best, best) == {"kept": 2, "blank": 4}


def test_a_session_that_indexed_nothing_says_so(tmp_path):
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=("min_snr",)))
    add(store, "baseline", evaluation(CRYSTFEL_DEFAULTS, [False] * 5))
    assert "No settings have indexed any frame." in report(store, None)


def test_failed_trials_unknown_numbers_and_odd_names_do_no_harm(tmp_path):
    name = "<script>alert(1)</script>.h5"
    store = SessionStore.create(tmp_path / "s", SessionConfig(data=name, tuned=("min_snr", "clen")))
    settings = CRYSTFEL_DEFAULTS
    baseline = evaluation(settings, [True, False, False], scale_deviation=math.nan)
    add(store, "baseline", baseline)
    add(store, "search", Evaluation(settings, (), failure="indexamajig died <b>"))
    best = evaluation(
        settings.replace(min_snr=4), [True] * 3, refined={"clen": (0.1, math.nan)}, n_decoys=3
    )
    add(store, "search", best, reason="a <i>reason</i>")
    text = report(store, recommend(best, baseline, {"tuned": ["min_snr", "clen"]}))
    assert "failed: indexamajig died &lt;b&gt;" in text
    assert "<script>" not in text and "<i>reason" not in text
    assert "does not come from this session" in report(store, Recommendation(settings, {}, {}))


def test_what_was_edited_by_hand_is_not_given_the_sessions_rates(tmp_path):
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=("min_snr",)))
    settings = CRYSTFEL_DEFAULTS
    baseline = evaluation(settings, [True, False, False, False])
    best = evaluation(settings.replace(min_snr=4), [True, True, True, False])
    add(store, "baseline", baseline)
    add(store, "search", best)
    own = recommend(best, baseline, {"tuned": ["min_snr"]})
    assert "The recommended settings index 75.0" in report(store, own)
    edited = replace(own, settings=settings.replace(min_snr=5.5))
    text = report(store, edited)
    assert "The session&#39;s own settings index 75.0" in text
    assert "edited by hand since (min_snr is 5.5, was 4)" in text
    found = find(store, edited)
    assert found.best is best and found.best_value("min_snr") == 4
    # Even where the session has measured what it was changed to.
    assert "edited by hand since (min_snr is 5, was 4)" in report(
        store, replace(own, settings=settings)
    )
    # What was put in its place from another session is that one's.
    foreign = recommend(evaluation(settings.replace(min_snr=6), [True] * 4), baseline, {})
    text = report(store, foreign)
    assert "does not come from this session" in text and "settings index 75.0" in text


@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_unfinished_session_tells_its_best_so_far(known, n):
    store, _ = known
    part = SessionStore(store.directory, store.config, store.trials[:n])
    found = find(part, None)
    assert found.recommendation is not None
    assert not found.finished
    assert found.best is max((t.evaluation for t in part.trials), key=lambda e: e.rate)


def test_an_interrupted_session_has_a_report_that_says_so(known):
    text = report(known[0], None)
    assert "So far the best settings index" in text and "--resume" in text
    assert "sfx-tuner apply" not in text


def test_defaults_that_nothing_beats_are_not_compared_with_themselves(tmp_path):
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=("min_snr",)))
    baseline = evaluation(CRYSTFEL_DEFAULTS, [True, False, True, False])
    add(store, "baseline", baseline)
    assert "defaults index 50.0\u00a0% of the frames: the best so far." in report(store, None)
    finished = recommend(baseline, baseline, {"tuned": ["min_snr"]})
    assert "defaults index 50.0\u00a0% of the frames: the best." in report(store, finished)


def test_a_gain_within_its_interval_is_not_called_one(tmp_path):
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=("min_snr",)))
    baseline = evaluation(CRYSTFEL_DEFAULTS, [True, False, True, False])
    best = evaluation(CRYSTFEL_DEFAULTS.replace(min_snr=4), [True, True, True, False])
    add(store, "baseline", baseline)
    add(store, "search", best)
    assert "not clearly different from" in report(store, recommend(best, baseline, {}))


@pytest.mark.parametrize(("gained", "clear"), [(5, False), (6, True)])
def test_more_than_is_said_by_the_exact_test_alone(tmp_path, gained, clear):
    """Of five discordant frames the interval says more (p = 0.06 by the test), of six both do."""
    store = SessionStore.create(tmp_path / "s", SessionConfig(data="run.h5", tuned=("min_snr",)))
    baseline = evaluation(CRYSTFEL_DEFAULTS, [False] * 40)
    best = evaluation(CRYSTFEL_DEFAULTS.replace(min_snr=4), [i < gained for i in range(40)])
    add(store, "baseline", baseline)
    add(store, "search", best)
    own = recommend(best, baseline, {})
    assert own.evidence["gain_ci95"][0] > 0
    assert (own.evidence["gain_p"] < 0.05) == clear
    text = report(store, own)
    assert (", more than the" in text) == clear
    assert ("not clearly different from" in text) != clear


def test_characters_that_are_not_seen_are_spelled_out(tmp_path):
    name = "a\udce9\u2028b\x1b[31m\u202ec<&>.h5"
    store = SessionStore.create(tmp_path / "s", SessionConfig(data=name, tuned=("min_snr",)))
    add(store, "baseline", evaluation(CRYSTFEL_DEFAULTS, [True] * 5))
    add(store, "search", evaluation(CRYSTFEL_DEFAULTS, [True] * 5), reason="`x`\x00</td><b>\u2029")
    text = report(store, None)
    assert r"a\xe9\u2028b\x1b[31m\u202ec&lt;&amp;&gt;.h5" in text and "</td><b>" not in text
    assert not set("\u2028\u2029\u202e\x1b\x00") & set(text)


def test_the_response_knows_where_it_was_measured(make_landscape, space):
    landscape, rng = make_landscape(), np.random.default_rng(0)
    at = space.base.replace(clen=landscape.true_clen)
    points = [
        at.replace(min_snr=round(snr, 2), threshold=round(threshold, 1))
        for snr, threshold in zip(rng.uniform(3, 6, 25), rng.uniform(20, 90, 25), strict=True)
    ]
    evaluations = [landscape.evaluate(point) for point in points]
    response = Response([Axis.of(name, points) for name in ("min_snr", "threshold")], evaluations)
    tests = [at.replace(min_snr=snr, threshold=t) for snr in (3.5, 4.3, 5.5) for t in (30, 40, 80)]
    rate, known = response.predict(np.array([response.place(each) for each in tests]))
    truth = [landscape.evaluate(each).rate for each in tests]
    assert np.abs(rate - truth).max() < 0.1
    far = response.predict(np.array([[9.0, 9.0]]))[1]
    assert far[0] < 0.1 < known.min()


def test_the_setting_that_matters_is_the_most_important():
    rng = np.random.default_rng(0)
    points = [
        CRYSTFEL_DEFAULTS.replace(min_snr=float(a), threshold=float(b))
        for a, b in zip(rng.uniform(3, 9, 60), rng.uniform(10, 90, 60), strict=True)
    ]
    merits = [-((point.min_snr - 5) ** 2) for point in points]
    first, second = importance(points, merits, ["threshold", "min_snr"])
    assert first.name == "min_snr" and first.low > second.share
    assert first.low <= first.share <= first.high


def test_the_command_makes_it_anew(session, tmp_path, monkeypatch, capsys):
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sfx-tuner", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert run(session, "-o", tmp_path / "new.html", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trials"] >= 6
    assert (tmp_path / "new.html").read_bytes() == (session / "report.html").read_bytes()
    assert run(session, "-o", session / "report.html", "--json") == 0, "its own, by name"
    capsys.readouterr()
    assert run(session, "-o", session / "trials.csv", "--force") == 2
    assert "is read by this command" in capsys.readouterr().err
    assert run(tmp_path) == 2
    assert "holds no session" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_a_complaint(browser, session, width, scheme):
    browser.scheme(scheme)
    browser.open((session / "report.html").as_uri(), width)
    assert browser.complaints == []
    assert browser.requests == [(session / "report.html").as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('svg[role=img]').length") > 15
    said = browser.evaluate(
        "[...document.querySelectorAll('svg use title')].map(e => e.textContent)"
    )
    assert any(" frames indexed, " in words and "min_snr" in words for words in said)
    # Only tables may be wider than the page, and then they scroll by themselves; what lies beyond
    # the edge of a picture is not shown.
    wider = "[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll') && "
    wider += "!each.ownerSVGElement && "
    wider += f"each.getBoundingClientRect().right > {width} + 1).length"
    assert browser.evaluate(wider) == 0
    seen = "[...document.images, ...document.querySelectorAll('image')].length"
    assert browser.evaluate(seen) >= 2
