"""The sentences on camera length and beam centre: what is off, by how much, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.recommendation import drift_of, read_recommendation, recommend, write_recommendation
from tuner.report import write_report
from tuner.report.detector import Statement, detector_statements
from tuner.session.choice import with_best
from tuner.session.config import SessionConfig
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

NOMINAL, PIXEL = 0.12463, 75e-6
TRUE = NOMINAL + 0.00267
RIGHT = {"clen": (NOMINAL, 1e-5), "shift_x": (1e-6, 1e-6), "shift_y": (-2e-6, 1e-6)}


def said(
    settings: Settings | None = None,
    refined: dict[str, tuple[float, float]] | None = None,
    tuned: tuple[str, ...] = ("clen",),
    n_indexed: int = 40,
    **provenance: Any,
) -> tuple[Statement, ...]:
    return detector_statements(
        settings or CRYSTFEL_DEFAULTS.replace(clen=NOMINAL),
        {**RIGHT, **(refined or {})},
        n_indexed,
        {"tuned": list(tuned), "geometry_clen": NOMINAL, "pixel_size": PIXEL, **provenance},
        None,
    )


def evaluation(settings: Settings, lengths: np.ndarray | None = None, **others: Any) -> Evaluation:
    n = 40
    outcomes = tuple(FrameOutcome(i, 20, True, 1) for i in range(n))
    clens = () if lengths is None else tuple((i, float(x), 1e-5) for i, x in enumerate(lengths))
    return Evaluation(settings, outcomes, frame_clens=clens, **others)


def test_a_camera_length_that_is_wrong_is_said_in_per_cent_and_millimetres():
    length, centre = said(CRYSTFEL_DEFAULTS.replace(clen=TRUE), {"clen": (TRUE, 2e-5)})
    assert str(length) == (
        "The geometry's camera length is 2.1 % (2.67 ± 0.02 mm) too short: the lattices give "
        "127.300 mm, the geometry has 124.630 mm. The recommended set corrects it."
    )
    assert not length.warning
    assert str(centre) == "The geometry's beam centre is right within 0.2 px."


def test_a_camera_length_that_the_lattices_leave_open_is_not_called_right():
    length, _ = said(refined={"clen": (0.98 * NOMINAL, 0.02 * NOMINAL)})
    assert length.warning
    assert str(length) == (
        "The lattices place the camera length no better than 124.630 ± 2 mm, so they do not say "
        "whether the geometry's 124.630 mm is right: few of them, or wrong ones."
    )


def test_a_centre_is_right_within_what_is_known_of_it():
    _, centre = said(refined={"shift_x": (1e-6, 6e-5)})
    assert str(centre) == "The geometry's beam centre is right within 2 px."


def test_a_centre_that_the_clearest_frames_contradict_is_not_right():
    settings = CRYSTFEL_DEFAULTS.replace(clen=NOMINAL)
    known = {"tuned": ["clen"], "geometry_clen": NOMINAL, "pixel_size": PIXEL}
    _, centre = detector_statements(settings, RIGHT, 40, known, None, [3e-4, -2.25e-4])
    assert centre.warning
    assert str(centre).startswith("The beam centre is off by +4.0 px in x and -3.0 px in y")
    assert "shift_x = +0.300 mm, shift_y = -0.225 mm" in str(centre)


def test_what_was_not_tuned_is_warned_of():
    length, centre = said(
        refined={"clen": (0.12, 2e-5), "shift_y": (30e-6, 1e-6)}, tuned=("min_snr",)
    )
    assert length.warning and "3.7 % (4.63 ± 0.02 mm) too long" in str(length)
    assert "clen was not tuned" in str(length)
    assert centre.warning and "off by 0.4 ± 0.01 px (30 ± 1 µm) in y" in str(centre)
    assert "shift_y = +0.030 mm" in str(centre) and "add shift_y to --tune" in str(centre)
    assert "`shift_y`" in centre.text


def test_what_is_right_is_said_to_be_right_and_how_well_that_is_known():
    length, _ = said()
    assert str(length).startswith(
        "The geometry's camera length, 124.630 mm, is right within 0.05 %"
    )
    vague, _ = said(refined={"clen": (NOMINAL * 1.004, NOMINAL * 0.003)})
    assert "is right within 0.6 %" in str(vague)


def test_there_is_one_estimate_or_a_reason_for_two():
    kept = CRYSTFEL_DEFAULTS.replace(clen=TRUE)
    close = str(said(kept, {"clen": (TRUE + 1e-5, 1e-5)})[0])
    assert close.count("127.3") == 1
    apart = said(kept, {"clen": (TRUE + 1e-3, 1e-5)})[0]
    assert "128.300 mm" in str(apart) and "keeps 127.300 mm, which the search took from" in str(
        apart
    )


@pytest.mark.parametrize("refined", [1.05, 1.08])
def test_at_the_edge_of_its_range_nothing_has_an_error(refined):
    bounds = [0.95 * NOMINAL, 1.05 * NOMINAL]
    settings = CRYSTFEL_DEFAULTS.replace(clen=bounds[1])
    given = {"clen": (refined * NOMINAL, 2e-5)}
    length, _ = said(settings, given, clen_bounds=bounds)
    assert length.warning and "at the edge of its range, 118.398 to 130.862 mm" in str(length)
    assert "±" not in str(length) and "--clen-range" in str(length)
    asks = f"the lattices ask for {1e3 * refined * NOMINAL:.3f} mm"
    assert (asks in str(length)) is (refined > 1.05)
    best = evaluation(settings, refined=given)
    provenance = {"tuned": ["clen"], "clen_bounds": bounds}
    assert "clen_se" not in recommend(best, best, provenance).evidence
    inside = replace(best, settings=settings.replace(clen=TRUE), refined={"clen": (TRUE, 2e-5)})
    assert recommend(inside, inside, provenance).evidence["clen_se"] == 2e-5


def test_too_few_frames_say_nothing():
    assert said(n_indexed=2) == ()


def test_an_older_session_knows_no_pixels_and_is_spoken_of_in_micrometres():
    centre = detector_statements(
        CRYSTFEL_DEFAULTS, {**RIGHT, "shift_x": (-90e-6, 2e-6)}, 9, {"tuned": []}, None
    )[-1]
    assert "off by 90 ± 2 µm in x" in str(centre) and "px" not in str(centre)


def test_two_camera_lengths_in_a_run_are_said_first_and_have_no_error(tmp_path):
    rng = np.random.default_rng(0)
    lengths = np.where(np.arange(40) < 25, 0.08, 0.0816) + 1e-5 * rng.standard_normal(40)
    settings = CRYSTFEL_DEFAULTS.replace(clen=0.08086)
    refined = {**RIGHT, "clen": (0.08086, 0.00018)}
    best = evaluation(settings.replace(min_snr=4), lengths, refined=refined)
    config = SessionConfig(data="run.h5", tuned=("min_snr", "clen"))
    store = SessionStore.create(tmp_path / "s", config)
    baseline = evaluation(settings, refined=refined)
    trials = [Trial(0, "baseline", baseline), Trial(1, "search", best)]
    for trial in with_best(trials, config.tuned):
        store.add(trial)
    own = recommend(best, baseline, {"tuned": ["min_snr", "clen"], "geometry_clen": 0.08})
    assert "clen_se" not in own.evidence and "before frame 25" in own.evidence["drift"]
    write_recommendation(own, store.directory / "recommended.toml")
    # What is read again, session and recommendation, says the same.
    store = SessionStore.open(store.directory)
    assert drift_of(store.trials[1].evaluation) == drift_of(best)
    write_report(store, read_recommendation(store.directory), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    first_screen = text[: text.index('id="progress"')]
    assert "The camera length changes within the run: " in first_screen
    assert "80.860 mm" in first_screen and "±" not in first_screen
    assert "Own camera lengths of 40 indexed frames over the run" in text
