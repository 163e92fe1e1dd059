"""What a closed loop does next, as pure functions of what has happened.

The phases of a night:

    collecting → tuning → watching → (an alarm) collecting → tuning → proving → watching …

- *collecting*: frames are kept for a session, those that came since the alarm.
- *tuning*: the session runs beside the reduction.
- *proving*: its set is in force, and frames that come now are indexed with it and with the set
  before. It stays once it is proved to be better, or no worse where it has the detector where the
  lattices put it; else the set before is taken back.
- *watching*: the rates are held against intervals, as `tuner.apply.drift` does.

A session that finds nothing better, or whose set is taken back, ends in *watching*, too. The set in
force is then as good as any, and its rates of today are what the next ones are held against.

Frames without beam count for nothing: they raise no alarm, and no session has them. Nor has one
frames of two series with another energy or distance: the kept ones are let go where one begins.

What the frames say of all this is in `evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from tuner.closed_loop.events import (
    Alarmed,
    Block,
    Event,
    Kept,
    Pairs,
    Proof,
    Returned,
    Rose,
    Settled,
    Tuned,
    Tuning,
)
from tuner.closed_loop.evidence import (
    DARK,
    HIT_RATE,
    ODD,
    PLACE,
    Counts,
    Test,
    alarm,
    counted,
    is_elsewhere,
    scatter,
    settled,
    verdict,
)
from tuner.closed_loop.kinds import risen, rose_words

__all__ = [
    "CUSTOMARY",
    "KeptBlock",
    "Rules",
    "State",
    "after",
    "due",
    "replayed",
]

CUSTOMARY = 0
"""Number of the set before any session."""

Phase = Literal["collecting", "tuning", "proving", "watching"]


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
        Frames, at most, on which a new set may prove to be better.
    n_proof_no_worse : int
        And to be no worse: only those that index tell.
    n_settled : tuple of int
        Frames that say what the rates are now, at first and once more.
    n_settled_indexed : int
        Of them, those that were given to the indexer, where any are.
    n_settled_blocks : int
        In how many blocks they came, at least: they say how much the rates scatter.
    n_scatter_blocks : int
        How many of the last blocks say that from then on.
    most_waited : int
        Frames, at most, that are let go before another session is tried where the first ones fail,
        in sessions' worth: none after one, then twice as many each time.
    n_tests : tuple of int
        Frames after which a new test of the rates is begun, for each of several tests at a time: a
        short one is not held up by many good frames, a long one sees a small change.
    """

    n_tuning: int = 400
    n_first_hits: int = 10
    n_proof: int = 1000
    n_proof_no_worse: int = 4000
    n_settled: tuple[int, ...] = (500, 2500)
    n_settled_indexed: int = 100
    n_settled_blocks: int = 4
    n_scatter_blocks: int = 40
    most_waited: int = 32
    n_tests: tuple[int, ...] = (250, 2000, 10000)


@dataclass(frozen=True)
class KeptBlock:
    """A block that is kept for a session."""

    number: int
    n_frames: int
    n_hits: int
    level: float | None


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
    first : int
        Of the session whose set came into force first, and whose kinds of frames are told.
    n_sessions : int
        That have begun.
    next_block, next_frame : int
    kept : tuple of KeptBlock
        For the session to come, or of the one under way.
    intervals : mapping
        Of the rates; empty while they are still to be settled.
    blocks : tuple of mapping
        Counts by rate of each block since the set came into force, the last ones once the rates
        have settled: they say how much the rates scatter.
    n_settled : int
        How often they have.
    n_failed : int
        Sessions that have failed, one after the other, before there was a first set.
    n_let_go : int
        Frames that are let go before the next one.
    tests : tuple of Test
        That are under way: one for each of `Rules.n_tests`.
    n_tests : int
        That have begun.
    pairs : Pairs
        Fresh frames with both sets.
    proof : str
        What the set in force is to be proved by them.
    of_place : bool
        Whether the last alarm came while the lattices put the detector elsewhere.
    level : float or None
        Of frames with beam: mean of the usable pixels.
    told : tuple of Block
        Blocks with beam of which frames were told by kind.
    risen : mapping of str to int
        Kinds that have become more frequent, and since which frame.
    of_kinds : tuple of str
        Which have since the set came into force, a sentence each.
    """

    phase: Phase = "collecting"
    used: int = CUSTOMARY
    before: int = CUSTOMARY
    first: int = CUSTOMARY
    n_sessions: int = 0
    next_block: int = 1
    next_frame: int = 0
    kept: tuple[KeptBlock, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    blocks: tuple[Counts, ...] = ()
    n_settled: int = 0
    n_failed: int = 0
    n_let_go: int = 0
    tests: tuple[Test, ...] = ()
    n_tests: int = 0
    pairs: Pairs = Pairs()  # noqa: RUF009 (frozen)
    proof: Proof = "better"
    of_place: bool = False
    level: float | None = None
    told: tuple[Block, ...] = ()
    risen: Mapping[str, int] = field(default_factory=dict)
    of_kinds: tuple[str, ...] = ()


def after(state: State, event: Event, rules: Rules) -> State:
    """Return the state that an event leads to."""
    match event:
        case Block():
            return _after_block(state, event, rules)
        case Alarmed():
            high = state.intervals.get(PLACE, ODD[PLACE])[1]
            of_place = event.rate == PLACE or is_elsewhere(state.tests, high)
            return replace(state, phase="collecting", kept=(), tests=(), of_place=of_place)
        case Tuning():
            return replace(state, phase="tuning", n_sessions=event.number)
        case Rose():
            since = {**state.risen, event.of: event.since}
            return replace(state, risen=since, of_kinds=(*state.of_kinds, rose_words(event)))
        case Tuned(outcome="first"):
            state = replace(_seen(state), first=event.number)
            return _watching(state, event.intervals, rules, event.number)
        case Tuned(outcome="better" | "moved"):
            state = replace(_seen(state), used=event.number, before=state.used, pairs=Pairs())
            proof: Proof = "better" if event.outcome == "better" else "no worse"
            return replace(state, phase="proving", kept=(), intervals=event.intervals, proof=proof)
        case Tuned():
            if state.used == CUSTOMARY:  # there is nothing to go on with but further frames
                let_go = rules.n_tuning * min(2**state.n_failed - 1, rules.most_waited)
                failed = state.n_failed + 1
                return replace(state, phase="collecting", kept=(), n_failed=failed, n_let_go=let_go)
            return _watching(_seen(state), {}, rules)
        case Kept():
            return _watching(state, state.intervals, rules)
        case Returned():
            return _watching(state, {}, rules, event.used)
        case Settled():
            state = replace(
                state,
                intervals={**ODD, **event.intervals},
                n_settled=state.n_settled + 1,
            )
            # Tests go on: while a rate is in its interval they err as seldom, whatever it is.
            return state if state.tests else _tested(state, rules)
    return state


def _after_block(state: State, block: Block, rules: Rules) -> State:
    state = replace(
        state,
        next_block=block.number + 1,
        next_frame=block.first + block.n_frames + block.n_unreadable,
    )
    if block.begins_series and state.phase == "collecting":
        state = replace(state, kept=())
    if block.beam != "on":
        return state
    if block.kinds:
        state = replace(state, told=(*state.told, block))
    if state.phase == "collecting":
        return _collected(state, block, rules)
    if state.phase == "proving":
        return replace(state, pairs=state.pairs + block.pairs)
    if state.phase != "watching":
        return state
    blocks = (*state.blocks, counted({}, block))
    if state.n_settled == len(rules.n_settled):
        blocks = blocks[-rules.n_scatter_blocks :]
    state = replace(state, blocks=blocks)
    n, tests = state.n_tests, []
    for test in state.tests:
        if test.counts.get(HIT_RATE, (0, 0))[1] >= test.length:
            n += 1
            test = Test(n, test.length)
        tests.append(replace(test, counts=counted(test.counts, block)))
    return replace(state, tests=tuple(tests), n_tests=n)


def _collected(state: State, block: Block, rules: Rules) -> State:
    if state.n_let_go > 0:
        return replace(state, n_let_go=state.n_let_go - block.n_frames)
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


def _watching(
    state: State,
    intervals: Mapping[str, tuple[float, float]],
    rules: Rules,
    used: int | None = None,
) -> State:
    """Begin to test the rates, which are still to be settled."""
    used = state.used if used is None else used
    state = replace(
        state,
        phase="watching",
        used=used,
        before=used,
        kept=(),
        intervals={**ODD, **intervals} if intervals else {},
        blocks=(),
        n_settled=0,
        n_failed=0,
        of_kinds=(),
        tests=(),
        pairs=Pairs(),
    )
    return _tested(state, rules) if intervals else state


def _tested(state: State, rules: Rules) -> State:
    tests = (Test(state.n_tests + 1 + i, length) for i, length in enumerate(rules.n_tests))
    return replace(state, tests=tuple(tests), n_tests=state.n_tests + len(rules.n_tests))


def due(state: State, rules: Rules) -> Event | None:
    """Return what is to be done now, or None to go on with further frames."""
    if (rose := risen(state.told, state.risen)) is not None:
        return rose
    match state.phase:
        case "collecting":
            enough = sum(each.n_frames for each in state.kept) >= rules.n_tuning
            n_hits = sum(each.n_hits for each in state.kept)
            if enough and (state.used != CUSTOMARY or n_hits >= rules.n_first_hits):
                return Tuning(state.n_sessions + 1, tuple(each.number for each in state.kept))
        case "proving":
            most = rules.n_proof if state.proof == "better" else rules.n_proof_no_worse
            kept = verdict(state.pairs, most, state.proof)
            if kept is True:
                return Kept(state.used, state.pairs, state.proof)
            if kept is False:
                return Returned(state.before, state.used, state.pairs, state.proof)
        case "watching":
            return _alarmed(state, rules) or _settled(state, rules)
    return None


def _alarmed(state: State, rules: Rules) -> Alarmed | None:
    watched = state.intervals
    if len(state.blocks) < rules.n_settled_blocks:
        watched = {rate: watched[rate] for rate in watched if rate in ODD}
    found = alarm(state.tests, watched, scatter(state.blocks), len(state.intervals))
    return None if found is None else replace(found, of_kinds=state.of_kinds)


def _settled(state: State, rules: Rules) -> Settled | None:
    if state.n_settled >= len(rules.n_settled) or len(state.blocks) < rules.n_settled_blocks:
        return None
    n_frames = rules.n_settled[state.n_settled]
    # Only a session that has looked for another place, in vain, says that there is none.
    known = state.intervals or ({} if state.of_place else {PLACE: ODD[PLACE]})
    return settled(state.blocks, known, n_frames, rules.n_settled_indexed)


def replayed(events: Iterable[Event], rules: Rules) -> State:
    """Return the state that a log leads to."""
    state = State()
    for event in events:
        state = after(state, event, rules)
    return state
