"""Whether a kind of frames has become more frequent, since when, and whether one is new.

The test is that of `tuner.apply.drift`: the share of each troublesome kind among the frames of a
run against the 95 % interval of its share among the frames that the kinds were learnt of. Since
when is the likeliest single change of the share within the run.

Within a run a change is also told without anything known of earlier ones, where the likelihood of
two shares, one before and one behind the likeliest place, is that of one share times `CHANCE`'s
inverse, times the number of places and kinds (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import wilson_interval
from tuner.apply.drift import RateWatch
from wrappers.frame_kinds import UNNAMED, FrameKinds, Told

__all__ = [
    "CHANCE",
    "WORDS",
    "KindAlarm",
    "KindWatch",
    "change_point",
    "changes",
    "in_words",
    "rise",
]

WORDS = {
    "powder or ice ring": "have a powder or ice ring",
    "salt": "show salt",
    "jet streak": "have a jet streak",
    "beam off": "were taken with the beam off",
    "detector fault": "show a detector at fault",
    UNNAMED: "are of a kind that has no name",
}
"""The kinds that are watched, and what is said of their frames."""

SHARES = {
    0.1: "a tenth",
    0.2: "a fifth",
    0.25: "a quarter",
    1 / 3: "a third",
    0.5: "half",
    2 / 3: "two thirds",
    0.75: "three quarters",
    0.9: "nine tenths",
}
CHANCE = 0.01
"""Of telling a change within a run where there is none."""
LEAST_CHANGE = 0.02
"""A share that has grown by less is not worth a word."""

REMEMBERED = 100_000
"""Frames before a test among which a change may have been, too: a stream has one test after the
other, and no end; a run has one."""

ABOUT = 0.08
"""A share within this fraction of one that has a word is called by it."""


@dataclass(frozen=True)
class KindAlarm:
    """A kind that has become more frequent.

    Attributes
    ----------
    kind : str
    since : int
        The frame of the run since which it is.
    k, n : int
        Frames of the kind since then, of all since then.
    before : float
        Its share before.
    """

    kind: str
    since: int
    k: int
    n: int
    before: float

    def __str__(self) -> str:
        share = in_words(self.k / self.n)
        comma = "," if share[0].isdigit() else ""
        return (
            f"since frame {self.since:,}{comma} {share} of the frames "
            f"{WORDS[self.kind]} ({self.k:,} of {self.n:,}; before, {self.before:.1%})"
        )


def in_words(share: float) -> str:
    """Return a share in words, such as "a third", or in per cent where there is no word."""
    nearest = min(SHARES, key=lambda each: abs(math.log(each / max(share, 1e-9))))
    if abs(share / nearest - 1) <= ABOUT:
        return SHARES[nearest]
    return "nearly all" if share > 0.97 else f"{share:.0%}"


def changes(frames: Sequence[int], names: Sequence[str]) -> list[KindAlarm]:
    """Return which kinds have become more frequent within a run.

    Parameters
    ----------
    frames : sequence of int
        Indices in the run, in their order.
    names : sequence of str
        Kind of each.
    """
    one_each = np.ones(len(names), int)
    found = (
        rise(kind, frames, np.array([name == kind for name in names], int), one_each, CHANCE)
        for kind in WORDS
    )
    return [each for each in found if each is not None]


def rise(
    kind: str, first: Sequence[int], k: NDArray[np.int64], n: NDArray[np.int64], chance: float
) -> KindAlarm | None:
    """Return since when a kind is more frequent in groups of frames that follow each other.

    Parameters
    ----------
    kind : str
        Of `WORDS`.
    first : sequence of int
        Number of each group's first frame.
    k, n : int array (n_groups,)
        Frames of the kind, and all that were told.
    chance : float
        Of telling a change of any of the kinds where there is none.
    """
    if not 0 < k.sum() < n.sum():
        return None
    place, gain = change_point(k, n)
    if not place or gain <= -math.log(chance / (len(WORDS) * len(k))):
        return None
    before, since = k[:place].sum() / n[:place].sum(), k[place:].sum() / n[place:].sum()
    if since <= before + LEAST_CHANGE:
        return None
    return KindAlarm(
        kind, int(first[place]), int(k[place:].sum()), int(n[place:].sum()), float(before)
    )


def change_point(k: NDArray[np.int64], n: NDArray[np.int64]) -> tuple[int, float]:
    """Return the likeliest place from which on the rate is another one, in groups of frames.

    And by how much two rates have the larger log-likelihood than one.

    Parameters
    ----------
    k, n : int array (n_groups,)
        Frames that count, and all, of each group.
    """
    k_before, n_before = np.cumsum(k) - k, np.cumsum(n) - n
    fit = _log_likelihood(k_before, n_before)
    fit = fit + _log_likelihood(k.sum() - k_before, n.sum() - n_before)
    place = int(np.argmax(fit))
    return place, float(fit[place] - fit[0])


def _log_likelihood(k: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return that of k of n at their own rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = k * np.log(k / n), (n - k) * np.log((n - k) / n)
    return np.asarray(np.nan_to_num(terms[0]) + np.nan_to_num(terms[1]))


class KindWatch:
    """Watches the kinds of frames over one run after the other.

    Parameters
    ----------
    kinds : FrameKinds
        What is known of the frames before.
    n_tests : int
        Tests that were begun before, by a watch that this one goes on with.
    """

    def __init__(self, kinds: FrameKinds, n_tests: int = 0) -> None:
        n = sum(part.n_frames for part in kinds.parts)
        self._shares = {kind: kinds.shares().get(kind, 0.0) for kind in WORDS}
        self._known = {kind: wilson_interval(share * n, n) for kind, share in self._shares.items()}
        self._watch = RateWatch(self._known, n_tests)
        self._frames: list[int] = []
        self._names: list[str] = []
        self.begin_test()

    @property
    def n_tests(self) -> int:
        """Tests that were begun."""
        return self._watch.n_tests

    def begin_test(self) -> None:
        """Begin a new test of each kind; all but the last frames before it are forgotten."""
        del self._frames[:-REMEMBERED], self._names[:-REMEMBERED]
        self._watch.begin_run(self._known)

    def count(self, told: Sequence[Told]) -> list[KindAlarm]:
        """Count further frames; return the alarms that are raised.

        What a kind's share is then, is what the next tests hold it against.
        """
        self._frames += [each.frame for each in told]
        self._names += [each.name for each in told]
        alarms = []
        for kind, known in self._known.items():
            k = sum(each.name == kind for each in told)
            raised = self._watch.count(kind, k, len(told))
            if raised is None or raised.k / raised.n <= known[1]:
                continue
            flags = np.array([name == kind for name in self._names], int)
            place, _ = change_point(flags, np.ones(len(flags), int))
            k, n = int(np.count_nonzero(flags[place:])), len(flags) - place
            if k / n <= known[1]:  # the likeliest change is back to what was known
                place, k, n = len(flags) - raised.n, raised.k, raised.n
            alarms.append(KindAlarm(kind, self._frames[place], k, n, self._shares[kind]))
        for alarm in alarms:
            low, high = self._known[alarm.kind]
            self._known[alarm.kind] = low, max(high, wilson_interval(alarm.k, alarm.n)[1])
            self._shares[alarm.kind] = alarm.k / alarm.n
        return alarms
