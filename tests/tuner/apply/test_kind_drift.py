"""Kinds of frames that become more frequent: since when, and how it is said."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from tuner.apply import kind_drift
from tuner.apply.kind_drift import KindWatch, change_point, changes, in_words
from wrappers.frame_kinds import FrameKinds, Told
from wrappers.frame_kinds.features import FEATURES, Reference
from wrappers.frame_kinds.kinds import Part

ICE = "powder or ice ring"


def kinds(**n_frames: float) -> FrameKinds:
    point = (0.0,) * len(FEATURES)
    identity = tuple(map(tuple, np.eye(len(FEATURES)).tolist()))
    parts = tuple(
        Part(name.replace("_", " "), 0.0, n, point, identity) for name, n in n_frames.items()
    )
    reference = Reference(1.0, 1.0, 0.1, (), (), 0.0, 1.0, (), ())
    return FrameKinds(reference, parts, (2, 2), int(sum(n_frames.values())), ())


def told(names: list[str], first: int = 0) -> list[Told]:
    return [Told(first + i, name, False, ()) for i, name in enumerate(names)]


def names(share_before: float, share_after: float, change: int, n: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    share = np.where(np.arange(n) < change, share_before, share_after)
    return [ICE if flag else "blank" for flag in generator.random(n) < share]


def test_the_alarm_says_since_when():
    watch = KindWatch(kinds(blank=490, powder_or_ice_ring=10))
    run, alarms = names(0.02, 0.33, 4200, 6000), []
    for first in range(0, 6000, 100):
        alarms += watch.count(told(run[first : first + 100], first))
    (alarm,) = alarms
    assert alarm.kind == ICE
    assert alarm.since == pytest.approx(4200, abs=30)
    assert alarm.before == pytest.approx(0.02)
    # It is raised soon, with few frames behind the change; the end of the run tells the share.
    assert alarm.k / alarm.n > 0.2
    (said,) = changes(range(6000), run)
    assert said.since == pytest.approx(4200, abs=30)
    assert str(said).startswith(f"since frame {said.since:,} a third of the frames have a powder")


def test_a_steady_run_raises_none():
    watch = KindWatch(kinds(blank=450, powder_or_ice_ring=50))
    run = names(0.1, 0.1, 0, 5000, seed=1)
    assert not any(watch.count(told(run[i : i + 100], i)) for i in range(0, 5000, 100))
    assert changes(range(5000), run) == []


def test_false_changes_are_as_rare_as_is_said():
    steady = [changes(range(400), names(0.1, 0.1, 0, 400, seed)) for seed in range(200)]
    assert sum(map(bool, steady)) <= 6


def test_a_kind_that_becomes_rarer_is_no_alarm():
    watch = KindWatch(kinds(blank=250, powder_or_ice_ring=250))
    assert watch.count(told(["blank"] * 3000)) == []
    assert changes(range(400), [*[ICE] * 200, *["blank"] * 200]) == []


def test_what_was_said_is_not_said_again_but_what_comes_on_top():
    watch = KindWatch(kinds(blank=500))
    third = [ICE, "blank", "blank"] * 100
    assert len(watch.count(told(third))) == 1
    for first in (300, 600):
        assert watch.count(told(third, first)) == []
        watch.begin_test()
    (alarm,) = watch.count(told([ICE] * 200, 900))
    assert alarm.since == pytest.approx(900, abs=5) and alarm.before == pytest.approx(
        1 / 3, abs=0.01
    )
    assert watch.n_tests == 3


def test_a_night_is_not_remembered_whole(monkeypatch):
    monkeypatch.setattr(kind_drift, "REMEMBERED", 1000)
    watch, held, steady = KindWatch(kinds(blank=450, powder_or_ice_ring=50)), [], []
    for file in range(60):
        run = names(0.1, 0.1, 0, 500, seed=file)
        steady += watch.count(told(run, 500 * file))
        watch.begin_test()
        held.append(len(pickle.dumps(watch)))
    assert steady == []
    assert max(held[4:]) < 1.1 * held[4], "it holds no more after a night than after an hour"
    alarms = []
    for file in range(60, 64):
        run = names(0.1, 0.4, 30250 - 500 * file, 500, seed=file)
        alarms += watch.count(told(run, 500 * file))
        watch.begin_test()
    assert alarms[0].since == pytest.approx(30250, abs=30)
    # Of a run, which is one test, all is remembered, however long it is.
    watch, alarms = KindWatch(kinds(blank=490, powder_or_ice_ring=10)), []
    run = names(0.02, 0.03, 4000, 20000)
    for first in range(0, 20000, 100):
        alarms += watch.count(told(run[first : first + 100], first))
    assert all(alarm.n > 1000 for alarm in alarms)


def test_the_change_is_where_it_is():
    flags = np.array([False] * 70 + [True] * 30)
    place, gain = change_point(flags.astype(int), np.ones(100, int))
    assert place == 70 and gain > 40


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.333, "a third"), (0.5, "half"), (0.42, "42%"), (0.99, "nearly all"), (0.01, "1%")],
)
def test_shares_in_words(share, words):
    assert in_words(share) == words


def test_shares_are_those_of_names_not_of_parts():
    two = kinds(blank=100)
    two = dataclasses.replace(two, parts=(*two.parts, *two.parts))
    assert two.shares() == {"blank": 1.0}
