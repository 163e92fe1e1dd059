"""What a closed loop does next, as pure functions of what has happened.

The phases of a night:

    collecting → tuning → watching → (an alarm) collecting → tuning → proving → watching …

- *collecting*: frames are kept for a session, those that came since the alarm.
- *tuning*: the session runs beside the reduction.
- *proving*: its set is in force, and frames that come now are indexed with it and with the set
  before. It stays once it is proved to be better, else the set before is taken back.
- *watching*: the rates are held against intervals, as `tuner.apply.drift` does.

A session that finds nothing better, or whose set is taken back, ends in *watching*, too. The set in
force is then as good as any, and its rates of today are what the next ones are held against.

Frames without beam count for nothing: they raise no alarm, and no session has them.

The test that proves: of frames that only one of two sets indexes let k of n be the new one's. Where
the new set is no better, k is at most binomial with one half, and the evidence against it, that of
`tuner.apply.drift.log_evidence`, ever reaches 1/a with a chance of at most a, looked at as often as
one likes. So a set that is no better stays with a chance of at most `CHANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from envs.evaluation import wilson_interval
from tuner.apply.drift import log_evidence, raised
from tuner.closed_loop.events import (
    Alarmed,
    Beam,
    Block,
    Event,
    Kept,
    Pairs,
    Returned,
    Settled,
    Tuned,
    Tuning,
)

__all__ = [
    "CHANCE",
    "CUSTOMARY",
    "KeptBlock",
    "Rules",
    "State",
    "after",
    "beam_of",
    "chance_of_gain",
    "due",
    "replayed",
    "verdict",
]

CUSTOMARY = 0
"""Number of the set before any session."""

CHANCE = 0.01
"""That a set which is no better than the one before stays."""

DARK = 0.15
"""Of the level of frames with beam: below, there is none."""
SOME, MOST = 0.2, 0.8
"""Share of dark frames from which on a block has beam in part, and has none."""
FEW_HITS = 0.02
"""Dark frames with more hits than that have beam all the same: an attenuated one."""

HIT_RATE, INDEXING_RATE = "hit rate", "indexing rate"

Phase = Literal["collecting", "tuning", "proving", "watching"]
Counts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Rules:
    """How many frames each step takes.

    Attributes
    ----------
    n_tuning : int
        Frames that a session has.
    n_first_hits : int
        Hits among them, before the first one.
    n_proof : int
        Frames, at most, on which a new set may prove itself.
    n_settled : int
        Frames that say what the rates are now.
    n_settled_indexed : int
        Of them, those that were given to the indexer, where any are.
    n_tests : tuple of int
        Frames after which a new test of the rates is begun, for each of several tests at a time: a
        short one is not held up by many good frames, a long one sees a small change.
    """

    n_tuning: int = 400
    n_first_hits: int = 10
    n_proof: int = 1000
    n_settled: int = 500
    n_settled_indexed: int = 100
    n_tests: tuple[int, ...] = (250, 2000)


@dataclass(frozen=True)
class KeptBlock:
    """A block that is kept for a session."""

    number: int
    n_frames: int
    n_hits: int
    level: float | None


@dataclass(frozen=True)
class Test:
    """A test of the rates: the `number`-th one, which ends after `length` frames."""

    number: int
    length: int
    counts: Counts = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Where a night is.

    Attributes
    ----------
    phase : str
    used : int
        Number of the session whose set is in force.
    before : int
        Of the set that is taken back if that one does not prove itself.
    n_sessions : int
        That have begun.
    next_block, next_frame : int
    kept : tuple of KeptBlock
        For the session to come, or of the one under way.
    intervals : mapping
        Of the rates; empty while they are still to be settled.
    counts : mapping
        Of frames since, by rate, while the intervals are to be settled.
    tests : tuple of Test
        That are under way: one for each of `Rules.n_tests`.
    n_tests : int
        That have begun.
    pairs : Pairs
        Fresh frames with both sets.
    level : float or None
        Of frames with beam: mean of the usable pixels.
    """

    phase: Phase = "collecting"
    used: int = CUSTOMARY
    before: int = CUSTOMARY
    n_sessions: int = 0
    next_block: int = 1
    next_frame: int = 0
    kept: tuple[KeptBlock, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    tests: tuple[Test, ...] = ()
    n_tests: int = 0
    pairs: Pairs = Pairs()  # noqa: RUF009 (frozen)
    level: float | None = None


def after(state: State, event: Event, rules: Rules) -> State:
    """Return the state that an event leads to."""
    match event:
        case Block():
            return _after_block(state, event, rules)
        case Alarmed():
            return replace(state, phase="collecting", kept=(), tests=())
        case Tuning():
            return replace(state, phase="tuning", n_sessions=event.number)
        case Tuned(outcome="first"):
            return _watching(_seen(state), event.intervals, rules, event.number)
        case Tuned(outcome="better"):
            state = replace(_seen(state), used=event.number, before=state.used, pairs=Pairs())
            return replace(state, phase="proving", kept=(), intervals=event.intervals)
        case Tuned():
            if state.used == CUSTOMARY:  # there is nothing to go on with but further frames
                return replace(state, phase="collecting", kept=())
            return _watching(_seen(state), {}, rules)
        case Kept():
            return _watching(state, state.intervals, rules)
        case Returned():
            return _watching(state, {}, rules, event.used)
        case Settled():
            return _watching(state, event.intervals, rules)
    return state


def _after_block(state: State, block: Block, rules: Rules) -> State:
    state = replace(
        state,
        next_block=block.number + 1,
        next_frame=block.first + block.n_frames + block.n_unreadable,
    )
    if block.beam != "on":
        return state
    if state.phase == "collecting":
        return _collected(state, block, rules)
    if state.phase == "proving":
        return replace(state, pairs=state.pairs + block.pairs)
    if state.phase != "watching":
        return state
    if not state.intervals:
        return replace(state, counts=_counted(state.counts, block))
    n, tests = state.n_tests, []
    for test in state.tests:
        if test.counts.get(HIT_RATE, (0, 0))[1] >= test.length:
            n += 1
            test = Test(n, test.length)
        tests.append(replace(test, counts=_counted(test.counts, block)))
    return replace(state, tests=tuple(tests), n_tests=n)


def _counted(counts: Counts, block: Block) -> Counts:
    own = {HIT_RATE: (block.n_hits, block.n_frames)}
    if block.n_sampled:
        own[INDEXING_RATE] = block.n_indexed, block.n_sampled
    known = {rate: counts.get(rate, (0, 0)) for rate in own}
    added = {rate: (known[rate][0] + k, known[rate][1] + n) for rate, (k, n) in own.items()}
    return {**counts, **added}


def _collected(state: State, block: Block, rules: Rules) -> State:
    kept = (*state.kept, KeptBlock(block.number, block.n_frames, block.n_hits, block.level))
    if state.used == CUSTOMARY:
        # Nobody knows yet how bright a frame is, and frames with hits may be waited for.
        level = max((each.level for each in kept if each.level is not None), default=None)
        dark = -math.inf if level is None or level <= 0 else DARK * level
        kept = tuple(each for each in kept if each.level is None or each.level >= dark)
        while sum(each.n_frames for each in kept[1:]) >= rules.n_tuning:
            kept = kept[1:]
        state = replace(state, level=level)
    return replace(state, kept=kept)


def _seen(state: State) -> State:
    """Take the session's frames as what frames with beam look like."""
    levels = [each.level for each in state.kept if each.level is not None]
    return replace(state, level=median(levels) if levels else state.level)


def beam_of(reference: float | None, levels: Sequence[float], n_hits: int, n_frames: int) -> Beam:
    """Return whether the beam was on.

    Parameters
    ----------
    reference : float or None
        Level of frames with beam; None or 0 where nobody knows.
    levels : sequence of float
        Of some of the frames.
    n_hits, n_frames : int
        Of all of them.
    """
    if not reference or reference < 0 or not levels:
        return "on"
    dark = sum(level < DARK * reference for level in levels) / len(levels)
    if dark < SOME or n_hits > FEW_HITS * n_frames:
        return "on"
    return "off" if dark > MOST else "partly"


def _watching(
    state: State,
    intervals: Mapping[str, tuple[float, float]],
    rules: Rules,
    used: int | None = None,
) -> State:
    """Begin to test the rates."""
    lengths = rules.n_tests if intervals else ()
    used = state.used if used is None else used
    return replace(
        state,
        phase="watching",
        used=used,
        before=used,
        kept=(),
        intervals=intervals,
        counts={},
        tests=tuple(Test(state.n_tests + 1 + i, length) for i, length in enumerate(lengths)),
        n_tests=state.n_tests + len(lengths),
        pairs=Pairs(),
    )


def due(state: State, rules: Rules) -> Event | None:
    """Return what is to be done now, or None to go on with further frames."""
    match state.phase:
        case "collecting":
            enough = sum(each.n_frames for each in state.kept) >= rules.n_tuning
            n_hits = sum(each.n_hits for each in state.kept)
            if enough and (state.used != CUSTOMARY or n_hits >= rules.n_first_hits):
                return Tuning(state.n_sessions + 1, tuple(each.number for each in state.kept))
        case "proving":
            kept = verdict(state.pairs, rules.n_proof)
            if kept is True:
                return Kept(state.used, state.pairs)
            if kept is False:
                return Returned(state.before, state.used, state.pairs)
        case "watching":
            return _alarm(state) if state.intervals else _settled(state, rules)
    return None


def verdict(pairs: Pairs, most: int) -> bool | None:
    """Return whether a new set is proved to be better; None while that is open.

    Parameters
    ----------
    pairs : Pairs
    most : int
        Frames after which a set that is not proved is not kept.
    """
    k, n = pairs.new_only, pairs.new_only + pairs.old_only
    if log_evidence(k, n, (0.0, 0.5)) >= -math.log(CHANCE):
        return True
    if log_evidence(k, n, (0.5, 1.0)) >= -math.log(CHANCE) or pairs.n >= most:
        return False
    return None


def chance_of_gain(pairs: Pairs) -> float:
    """Return how likely a set that is no better gains as many frames, or more (sign test)."""
    n = pairs.new_only + pairs.old_only
    return sum(math.comb(n, k) for k in range(pairs.new_only, n + 1)) / 2**n


def _alarm(state: State) -> Alarmed | None:
    for test in state.tests:
        for rate, interval in state.intervals.items():
            k, n = test.counts.get(rate, (0, 0))
            if raised(k, n, interval, test.number, len(state.intervals)):
                return Alarmed(rate, k, n, *interval)
    return None


def _settled(state: State, rules: Rules) -> Settled | None:
    hits, indexed = (state.counts.get(rate, (0, 0)) for rate in (HIT_RATE, INDEXING_RATE))
    if hits[1] < rules.n_settled or 0 < indexed[1] < rules.n_settled_indexed:
        return None
    known = {HIT_RATE: hits, INDEXING_RATE: indexed}
    return Settled({rate: wilson_interval(*counts) for rate, counts in known.items() if counts[1]})


def replayed(events: Iterable[Event], rules: Rules) -> State:
    """Return the state that a log leads to."""
    state = State()
    for event in events:
        state = after(state, event, rules)
    return state
