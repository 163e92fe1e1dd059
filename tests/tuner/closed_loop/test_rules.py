"""What a loop decides, without a frame: whatever happens, some things never do."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.closed_loop.events import (
    Alarmed,
    Begun,
    Block,
    Event,
    Kept,
    Pairs,
    Resumed,
    Returned,
    Rose,
    Settled,
    Tuned,
    Tuning,
    append_event,
    read_events,
)
from tuner.closed_loop.evidence import (
    BRIGHTER,
    CHANCE,
    DARKER,
    PLACE,
    beam_of,
    chance_of_gain,
    of_other_light,
    scatter,
    verdict,
)
from tuner.closed_loop.rules import CUSTOMARY, Rules, State, after, due, replayed
from tuner.closed_loop.words import in_words
from wrappers.errors import InputError

RULES = Rules(
    n_tuning=100,
    n_first_hits=10,
    n_proof=200,
    n_settled=(200, 1000),
    n_settled_indexed=20,
)
EVIDENCE = {"hit rate": (0.4, 0.6), "indexing rate": (0.3, 0.5)}


def block(state: State, n_hits: int, n_indexed: int = 8, **changes) -> Block:
    """Return the next block of 50 frames."""
    made = Block(
        number=state.next_block,
        first=state.next_frame,
        n_frames=50,
        n_unreadable=0,
        n_hits=n_hits,
        used=state.used,
        level=10.0,
        n_sampled=20 if state.phase in ("watching", "proving") else 0,
        n_indexed=n_indexed if state.phase in ("watching", "proving") else 0,
    )
    return replace(made, **changes)


def decided(state: State, log: list[Event]) -> State:
    while (event := due(state, RULES)) is not None:
        log.append(event)
        state = after(state, event, RULES)
    return state


def told(state: State, event: Event, log: list[Event]) -> State:
    log.append(event)
    return decided(after(state, event, RULES), log)


def watching() -> tuple[State, list[Event]]:
    """Return a night whose first set is in force."""
    log: list[Event] = []
    state = State()
    for _ in range(2):
        state = told(state, block(state, 25), log)
    return told(state, Tuned(1, "first", intervals=EVIDENCE), log), log


def kinds(log: list[Event]) -> list[str]:
    return [event.kind for event in log if event.kind != "block"]


def test_a_night_without_a_change():
    state, log = watching()
    rng = random.Random(1)
    for _ in range(400):
        state = told(state, block(state, sum(rng.random() < 0.5 for _ in range(50))), log)
    assert kinds(log) == ["tuning", "tuned", "settled", "settled"] and state.used == 1
    assert state.n_tests > 5, "a new test is begun now and then"


def test_a_change_is_mended():
    state, log = watching()
    while state.phase == "watching":
        state = told(state, block(state, 5, 2), log)
    assert isinstance(log[-1], Alarmed) and len(log) < 10
    while state.phase == "collecting":
        state = told(state, block(state, 5), log)
    assert isinstance(log[-1], Tuning) and log[-1].number == 2
    alarm = next(place for place, event in enumerate(log) if isinstance(event, Alarmed))
    since = {event.number for event in log[alarm:] if isinstance(event, Block)}
    assert {*log[-1].blocks} == since, "all its frames have come since the alarm"
    state = told(state, block(state, 5), log)
    assert state.used == 1, "the old set stays in force meanwhile"
    state = told(state, Tuned(2, "better", pairs=Pairs(100, 30, 0), intervals=EVIDENCE), log)
    assert (state.phase, state.used, state.before) == ("proving", 2, 1)
    while state.phase == "proving":
        state = told(state, block(state, 25, pairs=Pairs(40, 6, 0)), log)
    assert isinstance(log[-1], Kept) and state.used == 2 and state.phase == "watching"


def test_a_session_has_no_frames_of_two_series():
    log: list[Event] = []
    for beam in ("on", "off"):
        state = told(State(), block(State(), 25), log)
        state = told(state, block(state, 25, begins_series=True, beam=beam), log)
        assert state.phase == "collecting" and len(state.kept) == (beam == "on")
    for _ in range(2):
        state = told(state, block(state, 25), log)
    assert log[-1] == replace(Tuning(1, (3, 4)), time=log[-1].time)
    # A set in force, and what is known of it, stays: frames have an energy and a distance each.
    state, log = watching()
    n = len(state.blocks)
    state = told(state, block(state, 25, begins_series=True), log)
    assert state.phase == "watching" and len(state.blocks) == n + 1


def test_a_change_is_noticed_however_long_all_was_well():
    state, log = watching()
    for _ in range(100):
        state = told(state, block(state, 25), log)
    n = len(log)
    while state.phase == "watching":
        state = told(state, block(state, 5, 2), log)
    assert len(log) - n <= 8, "400 frames at most"
    # A small change takes the long test.
    state, log = watching()
    for _ in range(100):
        state = told(state, block(state, 17, 8), log)
    assert "alarm" in kinds(log)


ICE = "powder or ice ring"


def by_kind(rng: random.Random, share: float) -> dict[str, int]:
    n_ice = sum(rng.random() < share for _ in range(50))
    return {"blank": 50 - n_ice, **({ICE: n_ice} if n_ice else {})}


def test_a_kind_that_becomes_more_frequent_is_said_once_and_with_the_alarm():
    state, log = watching()
    rng = random.Random(1)
    for _ in range(40):
        state = told(state, block(state, 25, kinds=by_kind(rng, 0.02)), log)
    change = state.next_frame
    while state.phase == "watching":
        state = told(state, block(state, 12, 4, kinds=by_kind(rng, 0.33)), log)
    (rose,) = (event for event in log if isinstance(event, Rose))
    assert abs(rose.since - change) <= 50 and rose.before < 0.06
    assert log.index(rose) - [e.first for e in log if isinstance(e, Block)].index(change) < 12
    (alarmed,) = (event for event in log if isinstance(event, Alarmed))
    assert alarmed.of_kinds == (in_words(rose),)
    assert f"since frame {rose.since:,}" in in_words(rose) and "powder or ice ring" in in_words(
        rose
    )
    assert in_words(alarmed).endswith(in_words(rose))
    for _ in range(60):
        state = told(state, block(state, 25, kinds=by_kind(rng, 0.33)), log)
    assert sum(isinstance(event, Rose) for event in log) == 1
    assert state == replayed(log, RULES)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_kinds_that_stay_as_frequent_are_not_said(share):
    state, log = watching()
    rng = random.Random(2)
    for _ in range(300):
        state = told(state, block(state, 25, kinds=by_kind(rng, share)), log)
    assert not any(isinstance(event, Rose) for event in log)


def test_a_set_that_does_not_prove_itself_goes_and_the_rates_of_today_are_normal():
    state, log = watching()
    while state.phase == "watching":
        state = told(state, block(state, 5, 2), log)
    while state.phase == "collecting":
        state = told(state, block(state, 5), log)
    state = told(state, Tuned(2, "better", pairs=Pairs(100, 8, 1), intervals=EVIDENCE), log)
    while state.phase == "proving":
        state = told(state, block(state, 5, pairs=Pairs(40, 1, 1)), log)
    assert isinstance(log[-1], Returned) and (log[-1].used, log[-1].instead_of) == (1, 2)
    assert (state.used, state.intervals) == (1, {})
    n = len(kinds(log))
    for _ in range(100):
        state = told(state, block(state, 5, 2), log)
    assert kinds(log)[n:] == ["settled", "settled"], "no storm of alarms"
    low, high = state.intervals["hit rate"]
    assert low < 0.1 < high


def test_what_settles_narrows_the_intervals():
    state, log = watching()
    rng = random.Random(3)

    def come(rate: float, n: int) -> None:
        nonlocal state
        for _ in range(n):
            if state.phase == "watching":
                hits = sum(rng.random() < rate for _ in range(50))
                state = told(state, block(state, hits), log)

    come(0.5, 40)
    assert kinds(log)[2:] == ["settled", "settled"]
    low, high = state.intervals["hit rate"]
    assert 0.44 < low < 0.5 < high < 0.56, "the session's was from 0.4 to 0.6"
    come(0.41, 60)
    assert kinds(log)[4:5] == ["alarm"], "a rate that the session's interval would have borne"


def test_a_rate_that_scatters_raises_no_alarm():
    nights = 0
    for seed in range(20):
        rng = random.Random(seed)
        state, log = watching()
        for _ in range(200):
            rate = rng.uniform(0.35, 0.65)
            hits = sum(rng.random() < rate for _ in range(50))
            state = told(state, block(state, hits), log)
        nights += "alarm" in kinds(log)
    assert nights <= 1


def test_a_rate_that_wanders_scatters():
    """Neighbouring blocks are alike, and means of several are not."""
    wave = [250 + round(60 * math.sin(2 * math.pi * place / 16)) for place in range(40)]
    scattered = scatter([{"hit rate": (k, 500)} for k in wave])["hit rate"]
    near = scatter([{"hit rate": (k, 500)} for k in wave[:4]])["hit rate"]
    assert near < 4 < 15 < scattered
    assert scatter([{"hit rate": (250, 500)}] * 40) == scatter([]) == {}
    step = [{"hit rate": (k, 500)} for k in (250,) * 8 + (150,) * 12]
    assert scatter(step) == {}, "one change for good is none"


@pytest.mark.parametrize(
    ("changes", "rate", "words"),
    [
        ({"n_light": 50, "n_brighter": 45}, BRIGHTER, "frames are over 1.5 times brighter"),
        ({"n_light": 50, "n_darker": 40}, DARKER, "frames are over 1.5 times darker"),
        ({"n_placed": 12, "n_elsewhere": 12}, PLACE, "indexed frames put the detector over 0.5%"),
    ],
)
def test_light_and_geometry_are_noticed_soon(changes, rate, words):
    state, log = watching()
    for _ in range(30):
        usual = {"n_light": 50, "n_brighter": 15, "n_darker": 15}
        usual |= {"n_placed": 8, "n_elsewhere": 1}
        state = told(state, block(state, 25, **usual), log)
    assert kinds(log) == ["tuning", "tuned", "settled", "settled"]
    n = len(log)
    while state.phase == "watching":
        state = told(state, block(state, 25, **changes), log)
    assert len(log) - n <= 8, "400 frames at most"
    assert isinstance(log[-1], Alarmed) and log[-1].rate == rate and words in in_words(log[-1])
    # Where no set mends it, the night goes on with it.
    while state.phase == "collecting":
        state = told(state, block(state, 25, **changes), log)
    state = told(state, Tuned(2, "no better"), log)
    n = len(kinds(log))
    for _ in range(100):
        state = told(state, block(state, 25, **(changes if rate == PLACE else {})), log)
    assert kinds(log)[n:] == ["settled", "settled"]


ELSEWHERE = {"n_placed": 12, "n_elsewhere": 12}
BRIGHT = {"n_light": 50, "n_brighter": 50}


def retuned(state: State, outcome: str, log: list[Event], **changes) -> State:
    """Return the state behind the session that an alarm has called due."""
    while state.phase == "collecting":
        state = told(state, block(state, 25, **changes), log)
    return told(state, Tuned(state.n_sessions, outcome, intervals=EVIDENCE), log)


@pytest.mark.parametrize("tells", [False, True])
def test_light_and_place_that_change_together(tells):
    """The alarm is the light's: a session that does not look for the place settles none."""
    state, log = watching()
    bright = BRIGHT | (ELSEWHERE if tells else {})
    while state.phase == "watching":
        state = told(state, block(state, 25, **bright), log)
    assert log[-1].rate == BRIGHTER and state.of_place == tells
    state = retuned(state, "no better", log, **BRIGHT)
    if not tells:
        while state.phase == "watching" and len(log) < 60:
            state = told(state, block(state, 25, **ELSEWHERE), log)
        assert isinstance(log[-1], Alarmed) and log[-1].rate == PLACE
        assert state == replayed(log, RULES) and state.of_place
        state = retuned(state, "no better", log)
    n = len(kinds(log))
    for _ in range(100):
        state = told(state, block(state, 25, **ELSEWHERE), log)
    assert kinds(log)[n:] == ["settled", "settled"], "no session has mended it: it is borne"


def test_a_set_that_has_moved_is_proved_on_fresh_frames():
    state, log = watching()
    while state.phase == "watching":
        state = told(state, block(state, 25, **ELSEWHERE), log)
    state = retuned(state, "moved", log)
    alarmed = state
    assert (state.phase, state.used, state.before) == ("proving", 2, 1)
    while state.phase == "proving":
        state = told(state, block(state, 25, pairs=Pairs(40, 1, 1, 20)), log)
    assert (
        isinstance(log[-1], Kept) and state.used == 2 and "to be no worse and" in in_words(log[-1])
    )
    for pairs in (Pairs(40, 0, 6, 14), Pairs(40)):
        state, log = alarmed, []
        while state.phase == "proving":
            state = told(state, block(state, 25, pairs=pairs), log)
        assert isinstance(log[-1], Returned) and state.used == 1
        assert "the set of tuning-2 is not proved to be no worse: the set of" in in_words(log[-1])


def test_other_light():
    assert of_other_light(10.0, [10.0, 14.0, 7.0, 16.0, 6.0, 0.0]) == (1, 2)
    assert of_other_light(None, [1.0]) == of_other_light(-1.0, [1.0]) == (0, 0)


def test_sessions_that_fail_are_tried_again_more_and_more_seldom():
    log: list[Event] = []
    state, begun = State(), []
    for _ in range(400):
        state = told(state, block(state, 25), log)
        if state.phase == "tuning":
            begun.append(state.next_frame)
            state = told(state, Tuned(state.n_sessions, "failed", "no indexer"), log)
    waits = [after - before for before, after in pairwise(begun)]
    assert waits[0] == 100 and waits == sorted(waits) and waits[-1] >= 3000
    assert state == replayed(log, RULES)


def test_no_beam_is_no_alarm_and_no_frame_of_a_session():
    state, log = watching()
    for _ in range(500):  # an hour
        state = told(state, block(state, 0, 0, beam="off", level=0.1), log)
    assert kinds(log) == ["tuning", "tuned"]
    while state.phase == "watching":
        state = told(state, block(state, 5, 2), log)
    for beam in ("off", "partly", "off"):
        state = told(state, block(state, 0, beam=beam, level=0.1), log)
    assert state.phase == "collecting" and state.kept == ()


def test_the_first_session_waits_for_hits_and_light():
    log: list[Event] = []
    state = State()
    for _ in range(10):
        state = told(state, block(state, 0, level=0.2), log)
    assert state.phase == "collecting" and sum(each.n_frames for each in state.kept) == 100
    state = told(state, block(state, 25), log)
    assert [each.n_hits for each in state.kept] == [25], "the dark ones are let go"
    state = told(state, block(state, 25), log)
    assert isinstance(log[-1], Tuning) and log[-1].blocks == (11, 12)
    state = told(state, Tuned(1, "nothing", "no frame indexes"), log)
    assert (state.phase, state.used, state.kept) == ("collecting", CUSTOMARY, ())


@pytest.mark.parametrize(
    ("reference", "levels", "n_hits", "beam"),
    [
        (None, [0.0] * 10, 0, "on"),
        (10.0, [9.0] * 10, 0, "on"),
        (10.0, [0.1] * 10, 0, "off"),
        (10.0, [0.1] * 10, 30, "on"),
        (10.0, [0.1] * 5 + [11.0] * 5, 0, "partly"),
        (10.0, [0.1] + [11.0] * 9, 0, "on"),
        (-0.1, [0.1] * 10, 0, "on"),
        (10.0, [], 0, "on"),
    ],
)
def test_beam(reference, levels, n_hits, beam):
    assert beam_of(reference, levels, n_hits, 100) == beam


def test_a_set_that_is_no_better_stays_as_seldom_as_is_stated():
    rng = random.Random(5)
    stays = 0
    for _ in range(2000):
        pairs = Pairs()
        while (kept := verdict(pairs, 1000)) is None:
            new, old = (sum(rng.random() < 0.05 for _ in range(20)) for _ in range(2))
            pairs += Pairs(20, new, old)
        stays += kept
    assert stays <= 2000 * CHANCE
    assert verdict(Pairs(100, 10, 0), 1000) is True
    assert verdict(Pairs(100, 0, 10), 1000) is False
    assert chance_of_gain(Pairs(50, 5, 0)) == 1 / 32 and chance_of_gain(Pairs(50, 0, 0)) == 1


def test_a_set_that_is_worse_by_the_margin_stays_as_seldom_as_is_stated():
    rng = random.Random(6)

    def stays(new: float, old: float) -> float:
        kept = 0
        for _ in range(400):
            pairs = Pairs()
            while (proved := verdict(pairs, 4000, "no worse")) is None:
                drawn = rng.choices(("new", "old", "both", ""), (new, old, 0.35, 0.6), k=40)
                pairs += Pairs(40, *(drawn.count(each) for each in ("new", "old", "both")))
            kept += proved
        return kept / 400

    assert stays(0.02, 0.02 + 0.1 * 0.42) <= 2 * CHANCE
    assert stays(0.02, 0.02) > 0.95, "one that is as good is kept"


answers = st.sampled_from(["better", "moved", "no better", "nothing", "failed"])
steps = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.integers(0, 20),
        st.sampled_from(["on", "on", "on", "partly", "off"]),
        st.integers(0, 6),
        st.integers(0, 6),
        st.one_of(st.none(), answers),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_happens(several):
    log: list[Event] = []
    state = State()
    for n_hits, n_indexed, beam, new, old, answer in several:
        before = state
        if state.phase == "tuning" and answer is not None:
            first = state.used == CUSTOMARY and answer in ("better", "moved", "no better")
            outcome = "first" if first else answer
            state = told(state, Tuned(state.n_sessions, outcome, intervals=EVIDENCE), log)
            assert state.used in (before.used, before.n_sessions)
        pairs = Pairs(40, new, old) if state.phase == "proving" else Pairs()
        came = block(state, n_hits, n_indexed, beam=beam, pairs=pairs)
        now, n = state, len(log)
        state = told(state, came, log)
        if beam != "on":
            assert len(log) == n + 1, "nothing is decided by frames without beam"
            assert state == replace(now, next_block=state.next_block, next_frame=state.next_frame)
    assert state == replayed(log, RULES), "the log says all"
    known, waiting, next_frame = {CUSTOMARY}, None, 0
    for place, event in enumerate(log):
        match event:
            case Block():
                assert event.used in known and event.first == next_frame
                next_frame += event.n_frames + event.n_unreadable
            case Tuning():
                assert waiting is None, "one session at a time"
                waiting = event.number
                beam = {each.number: each.beam for each in log[:place] if isinstance(each, Block)}
                assert all(beam[number] == "on" for number in event.blocks)
            case Tuned():
                assert event.number == waiting
                waiting = None
                if event.outcome in ("first", "better", "moved"):
                    known.add(event.number)
            case Returned():
                assert event.used in known and event.used < event.instead_of
            case Alarmed() | Settled() | Kept():
                assert waiting is None


def test_the_log_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "night.jsonl"
    _, log = watching()
    written = [
        Begun("a+tcp://b:1", "g.geom", ("-p", "x"), 400, 500, 15.0, 50, "0"),
        *log,
        Resumed(),
    ]
    for event in written:
        append_event(path, event)
    found = read_events(path)
    assert [replace(e, time=0) for e in found] == [replace(e, time=0) for e in written]
    whole = path.read_text()
    path.write_text(whole + '{"time": 1, "ki')
    assert len(read_events(path, mend=True)) == len(written) and path.read_text() == whole
    path.write_text(whole.replace('"n_hits": 25', '"n_hits": -25', 1))
    with pytest.raises(InputError, match=r"line 2 is damaged: block.n_hits is -25"):
        read_events(path)
    path.write_text('{"time": 1, "kind": "swap"}\n')
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_events(path)
