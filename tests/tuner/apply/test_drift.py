"""Alarms: how often they are false, and how soon they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from tuner.apply.applying import VetoCheck, rate_alarms
from tuner.apply.drift import Alarm, RateWatch, log_evidence
from tuner.recommendation import Recommendation
from wrappers.settings import Settings


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0.05, 0.95))
def test_the_evidence_is_the_mixture_over_the_likelihood(hits, misses, p):
    def likelihood(q: float) -> float:
        return q**hits * (1 - q) ** misses

    # Uniform in the arcsine of the root of the rate.
    mixture = integrate.quad(lambda t: likelihood(math.sin(t) ** 2), 0, math.pi / 2)[0]
    expected = mixture / (math.pi / 2) / likelihood(p)
    assert log_evidence(hits, hits + misses, (p, p)) == pytest.approx(math.log(expected), abs=1e-6)


@given(st.floats(0.05, 0.95), st.integers(1, 30))
def test_the_evidence_against_the_truth_is_1_on_average(p, n):
    k = np.arange(n + 1)
    chance = special.comb(n, k) * p**k * (1 - p) ** (n - k)
    evidence = np.exp([log_evidence(int(each), n, (p, p)) for each in k])
    assert (chance * evidence).sum() == pytest.approx(1)


def test_rates_of_0_and_1():
    assert log_evidence(0, 0, (0.2, 0.4)) == 0
    assert log_evidence(0, 50, (0.0, 0.1)) < 0
    assert log_evidence(1, 50, (0.0, 0.0)) == math.inf
    assert log_evidence(50, 50, (0.9, 1.0)) < 0
    assert log_evidence(49, 50, (1.0, 1.0)) == math.inf


def first_alarm(frames: np.ndarray, watch: RateWatch) -> int | None:
    """Look after every frame; return after how many the alarm came."""
    for number, hit in enumerate(frames, start=1):
        if watch.count("hit rate", int(hit), 1) is not None:
            return number
    return None


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.36])
def test_looking_after_every_frame_of_many_runs_hardly_ever_cries_wolf(rate):
    """An ordinary 5 % test looked at so often is wrong in most of these sessions."""
    rng = np.random.default_rng(1)
    interval = (0.05, 0.1) if rate < 0.1 else (0.3, 0.36)
    false = naive = 0
    for _ in range(100):
        watch = RateWatch({"hit rate": interval})
        alarmed = wrong = False
        for _ in range(3):
            watch.begin_run()
            frames = rng.random(600) < rate
            alarmed |= first_alarm(frames, watch) is not None
            n = np.arange(1, 601)
            seen = np.cumsum(frames) / n
            nearest = np.clip(seen, *interval)
            z = np.abs(seen - nearest) / np.sqrt(nearest * (1 - nearest) / n)
            wrong |= bool((z[20:] > 1.96).any())
        false += alarmed
        naive += wrong
    assert false <= 5
    assert naive >= 25


def test_a_halved_rate_is_noticed_soon():
    rng = np.random.default_rng(2)
    needed = []
    for _ in range(50):
        watch = RateWatch({"hit rate": (0.3, 0.36)})
        watch.begin_run()
        found = first_alarm(rng.random(2000) < 0.15, watch)
        assert found is not None
        needed.append(found)
    assert np.median(needed) < 120


def test_good_runs_before_do_not_hide_a_bad_one():
    rng = np.random.default_rng(3)
    watch = RateWatch({"hit rate": (0.3, 0.36)})
    for _ in range(20):
        watch.begin_run()
        assert watch.count("hit rate", int((rng.random(5000) < 0.33).sum()), 5000) is None
    watch.begin_run()
    alarm = watch.count("hit rate", 45, 300)
    assert alarm == Alarm("hit rate", 45, 300, (0.3, 0.36))
    assert str(alarm) == (
        "the hit rate is 15.0% (45 of 300 frames), outside the [30.0%, 36.0%] of the session: "
        "a re-tune is due"
    )
    assert watch.count("hit rate", 0, 300) is None, "told once a run"


def test_a_rise_is_told_too_and_a_new_interval_is_taken_up():
    watch = RateWatch({"hit rate": (0.3, 0.36), "indexing rate": (0.2, 0.3)})
    watch.begin_run()
    assert watch.count("hit rate", 200, 300) is not None
    assert watch.count("indexing rate", 75, 300) is None
    watch.begin_run({"hit rate": (0.6, 0.7)})
    assert watch.count("hit rate", 200, 300) is None
    assert watch.count("indexing rate", 0, 300) is None, "no longer watched"


def test_one_run_is_held_against_the_session_as_well():
    """Without a watch: 4 % of hits where the session had 40, and an indexing rate as before."""
    session = Recommendation(Settings(), {"n_frames": 200, "n_hits": 80, "n_indexed": 60}, {})
    check = VetoCheck(100, 30, 0, "fast")
    assert rate_alarms(session, 400, 1000, check) == []
    (alarm,) = rate_alarms(session, 40, 1000, check)
    assert "the hit rate is 4.0% (40 of 1000 frames), outside the" in str(alarm)
    names = [each.name for each in rate_alarms(session, 400, 1000, VetoCheck(100, 2, 0, "fast"))]
    assert names == ["indexing rate"]
