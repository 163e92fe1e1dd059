"""What the frames of a night say: is there beam, has a rate changed, is a set better.

Pure functions of counts. What is watched are five shares of the frames, each with an interval in
which it should be:

- hits, and frames of a sample that index. At first the intervals are the session's. They are
  narrowed to those of the blocks that follow (`Settled`), twice, as there are more of them. A rate
  that scatters from block to block by more than chance, as a jet's does, is worth fewer frames:
  intervals and alarms count them divided by how much more it does (`scatter`), and nothing is
  said of it before a few blocks have shown that.
- frames that are clearly brighter than those last tuned on, or darker (`of_other_light`), and
  indexed frames that put the detector elsewhere than the set does (`sampled`): at most half of
  them, or as many as there were when the rates settled. A half is far from what happens by
  chance, and reached at once when the background or the detector changes, long before it costs
  many frames.

The test that proves: of frames that only one of two sets indexes let k of n be the new one's. Where
the new set is no better, k is at most binomial with one half, and the evidence against it, that of
`tuner.apply.drift.log_evidence`, ever reaches 1/a with a chance of at most a, looked at as often as
one likes. So a set that is no better stays with a chance of at most `CHANCE`.

A set that has the detector where the lattices put it need not index more, and is proved to be no
worse: to lose less than `MARGIN` of the frames that either set indexes. Of each of these let D be 1
where only the new set indexes it, -1 where only the old one does, else 0. Where the new set loses
more than the margin, betting a share of all that one has on each next D being above it,
1 + stake (D + margin), never gains on average, so it multiplies by 1/a with a chance of at most a
(Waudby-Smith and Ramdas, J. R. Stat. Soc. B 86 (2024) 1). Several stakes share what there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from envs.evaluation import wilson_interval
from tuner.apply.drift import log_evidence, raised
from tuner.closed_loop.events import Alarmed, Beam, Block, Pairs, Proof, Settled

__all__ = [
    "BRIGHTER",
    "CHANCE",
    "CLEN_OFF",
    "DARK",
    "DARKER",
    "HIT_RATE",
    "INDEXING_RATE",
    "MARGIN",
    "ODD",
    "OTHER_LIGHT",
    "PIXELS_OFF",
    "PLACE",
    "Counts",
    "Test",
    "alarm",
    "beam_of",
    "chance_of_gain",
    "counted",
    "is_elsewhere",
    "of_other_light",
    "scatter",
    "settled",
    "verdict",
]

CHANCE = 0.01
"""That a set which is no better than the one before stays."""

MARGIN = 0.1
"""Of the frames that either set indexes: a set that loses fewer than so many is no worse."""
STAKES = (0.1, 0.2, 0.4, 0.8)
"""Of what there is, each with an equal part of it; all below 1 / (1 - `MARGIN`)."""

DARK = 0.15
"""Of the level of frames with beam: below, there is none."""
SOME, MOST = 0.2, 0.8
"""Share of dark frames from which on a block has beam in part, and has none."""
FEW_HITS = 0.02
"""Dark frames with more hits than that have beam all the same: an attenuated one."""

OTHER_LIGHT = 1.5
"""Times the light of the frames last tuned on, or the inverse: beyond, it is another one."""

CLEN_OFF, PIXELS_OFF = 0.005, 1.5
"""Of the camera length, and pixels of the beam's place: farther off, the detector is elsewhere."""

BATCHES = (1, 2, 4)
"""Blocks whose mean is taken, to see how much a rate scatters; longer ones would hide a change."""
FEW_CHANGES = 3
"""From block to block, of which none is left out."""

HIT_RATE, INDEXING_RATE = "hit rate", "indexing rate"
BRIGHTER, DARKER = "share of brighter frames", "share of darker frames"
PLACE = "share of frames with another geometry"
ODD: Mapping[str, tuple[float, float]] = dict.fromkeys((BRIGHTER, DARKER, PLACE), (0.0, 0.5))
"""Shares that are as good as any below these."""

Counts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Test:
    """A test of the rates: the `number`-th one, which ends after `length` frames."""

    number: int
    length: int
    counts: Counts = field(default_factory=dict)


def counted(counts: Counts, block: Block) -> Counts:
    """Return counts with those of a further block."""
    own = {
        HIT_RATE: (block.n_hits, block.n_frames),
        INDEXING_RATE: (block.n_indexed, block.n_sampled),
        BRIGHTER: (block.n_brighter, block.n_light),
        DARKER: (block.n_darker, block.n_light),
        PLACE: (block.n_elsewhere, block.n_placed),
    }
    own = {rate: (k, n) for rate, (k, n) in own.items() if n}
    known = {rate: counts.get(rate, (0, 0)) for rate in own}
    added = {rate: (known[rate][0] + k, known[rate][1] + n) for rate, (k, n) in own.items()}
    return {**counts, **added}


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


def of_other_light(reference: float | None, levels: Sequence[float]) -> tuple[int, int]:
    """Return how many frames are brighter, and darker, than some others by over `OTHER_LIGHT`.

    Parameters
    ----------
    reference : float or None
        Level of the others; None or 0 where nobody knows: then none are.
    levels : sequence of float
    """
    if not reference or reference < 0:
        return 0, 0
    brighter = sum(level > OTHER_LIGHT * reference for level in levels)
    return brighter, sum(level * OTHER_LIGHT < reference for level in levels)


def is_elsewhere(tests: Iterable[Test], high: float) -> bool:
    """Return whether by any test under way more than a share of the frames put the detector so."""
    counts = (test.counts.get(PLACE, (0, 0)) for test in tests)
    return any(k > high * n for k, n in counts)


def verdict(pairs: Pairs, most: int, proof: Proof = "better") -> bool | None:
    """Return whether a new set is proved to be better, or no worse; None while that is open.

    Parameters
    ----------
    pairs : Pairs
    most : int
        Frames after which a set that is not proved is not kept.
    proof : str
    """
    k, n = pairs.new_only, pairs.new_only + pairs.old_only
    evidence = (
        log_evidence(k, n, (0.0, 0.5)) if proof == "better" else _log_evidence_of_no_worse(pairs)
    )
    if evidence >= -math.log(CHANCE):
        return True
    if log_evidence(k, n, (0.5, 1.0)) >= -math.log(CHANCE) or pairs.n >= most:
        return False
    return None


def _log_evidence_of_no_worse(pairs: Pairs) -> float:
    """Return the log of the evidence that a set loses less than the margin."""
    counts = (pairs.new_only, 1), (pairs.old_only, -1), (pairs.both, 0)
    logs = [sum(n * math.log1p(stake * (d + MARGIN)) for n, d in counts) for stake in STAKES]
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))


def chance_of_gain(pairs: Pairs) -> float:
    """Return how likely a set that is no better gains as many frames, or more (sign test).

    That is so on frames that the set was not chosen on.
    """
    n = pairs.new_only + pairs.old_only
    return sum(math.comb(n, k) for k in range(pairs.new_only, n + 1)) / 2**n


def alarm(
    tests: Iterable[Test],
    intervals: Mapping[str, tuple[float, float]],
    by_block: Mapping[str, float],
    n_rates: int,
) -> Alarmed | None:
    """Return which rate has left its interval, by any of the tests under way; None for none.

    Parameters
    ----------
    tests : iterable of Test
    intervals : mapping of str to (float, float)
        Of the rates that are watched.
    by_block : mapping of str to float
        See `scatter`.
    n_rates : int
        Among which the chance of a false alarm is shared.
    """
    for test in tests:
        for rate, interval in intervals.items():
            k, n = test.counts.get(rate, (0, 0))
            worth = by_block.get(rate, 1.0)
            if raised(k / worth, n / worth, interval, test.number, n_rates):
                return Alarmed(rate, k, n, *interval)
    return None


def settled(
    blocks: Sequence[Counts],
    known: Mapping[str, tuple[float, float]],
    n_frames: int,
    n_indexed: int,
) -> Settled | None:
    """Return the rates of blocks as intervals, or None where these are too few frames for it.

    Parameters
    ----------
    blocks : sequence of Counts
    known : mapping of str to (float, float)
        The intervals so far, which are narrowed. One that a rate is not in stays: it is for the
        tests to say whether that is chance.
    n_frames, n_indexed : int
        Frames that are needed, and of them such that were given to the indexer, where any were.
    """
    rates = {rate: None for block in blocks for rate in block}
    by_rate = {rate: [block[rate] for block in blocks if rate in block] for rate in rates}
    totals = {rate: (sum(k for k, _ in c), sum(n for _, n in c)) for rate, c in by_rate.items()}
    n, n_asked = (totals.get(rate, (0, 0))[1] for rate in (HIT_RATE, INDEXING_RATE))
    if n < n_frames or 0 < n_asked < n_indexed:
        return None
    intervals, by_block = {}, scatter(blocks)
    for rate, (k, n) in totals.items():
        worth = by_block.get(rate, 1.0)
        low, high = wilson_interval(k / worth, n / worth)
        least, most = ODD.get(rate, (low, high))
        before = known.get(rate, (0.0, 1.0))
        is_in = before[0] <= k / n <= before[1]
        intervals[rate] = (min(low, least), max(high, most)) if is_in else before
    return Settled(intervals)


def scatter(blocks: Sequence[Counts]) -> dict[str, float]:
    """Return how much more rates change from block to block than chance lets them, where they do.

    It is the mean of the squared changes over their variance, and the largest such of single blocks
    and of means of several: a rate that wanders hardly changes from one block to the next. Of four
    changes and more the largest is left out: one change of a rate for good is no scatter. A rate
    that wanders for longer than the blocks that are known is not seen through.

    Parameters
    ----------
    blocks : sequence of Counts
    """
    found = {}
    for rate in (HIT_RATE, INDEXING_RATE):
        counts = [block[rate] for block in blocks if rate in block]
        k, n = (sum(each) for each in zip(*counts, strict=True)) if counts else (0, 0)
        if not 0 < k < n:
            continue
        worth = max(
            _dispersion(batches, k / n)
            for size in BATCHES
            # Means of several blocks would make the most of a change that is not left out.
            if len(batches := _batches(counts, size)) > FEW_CHANGES + 1 or size == 1
        )
        if worth > 1:
            found[rate] = round(worth, 4)
    return found


def _batches(counts: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the counts of `size` blocks at a time, the last ones whole."""
    ends = range(len(counts), size - 1, -size)
    parts = [counts[end - size : end] for end in reversed(ends)]
    return [(sum(k for k, _ in part), sum(n for _, n in part)) for part in parts]


def _dispersion(counts: Sequence[tuple[int, int]], rate: float) -> float:
    """Return the mean of the squared changes over their variance; 1 where nobody knows."""
    if len(counts) <= FEW_CHANGES:
        return 1.0
    variance = rate * (1 - rate)
    changes = sorted(
        (k1 / n1 - k0 / n0) ** 2 / (variance * (1 / n0 + 1 / n1))
        for (k0, n0), (k1, n1) in pairwise(counts)
    )
    kept = changes[:-1] if len(changes) > FEW_CHANGES else changes
    return sum(kept) / len(changes)
