"""Whether a rate has left its interval: a test that may be looked at as often as one likes.

A tuned set comes with 95 % intervals of its hit and indexing rates. Frames then come in for hours,
and the rates are looked at all the time: an ordinary test at 5 % would sooner or later cry wolf
for certain. The rule here:

- A test is begun for each run, so that many good frames of yesterday cannot hide a bad hour.
- Its evidence against a rate p, after k of n frames, is the likelihood of a rate that is not known
  (uniform in arcsine, Krichevsky and Trofimov's mixture) over that of p:
  E(p) = B(k + ½, n − k + ½) / B(½, ½) / (p^k (1 − p)^(n − k)).
  While the rate is p, E(p) is a martingale that starts from 1; by Ville's inequality it ever
  reaches 1/a with a chance of a at most, however often it is looked at.
- An alarm is raised when E(p) ≥ 1/a for *every* p of the interval.
- The j-th test may err with a = 5 % · 6/(π² j²), halved where two rates are watched. These shares
  add up to 5 %: that is the chance of ever raising a false alarm, over all runs.

What is assumed is that frames are independent of each other and that the rate is constant within
a run as long as nothing is wrong. A jet that comes and goes does change the hit rate, and is told.

Robbins, Ann. Math. Stat. 41 (1970) 1397; Ramdas et al., Stat. Sci. 38 (2023) 576.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Alarm", "RateWatch", "log_evidence", "raised"]

CHANCE = 0.05
"""Of ever raising a false alarm."""

Interval = tuple[float, float]


def log_evidence(k: float, n: float, interval: Interval) -> float:
    """Return the log of the evidence that the rate behind `k` of `n` is not in an interval.

    It is that against the interval's likeliest rate, 0 before the first frame.
    """
    low, high = interval
    rate = min(max(k / n if n else low, low), high)
    likelihood = 0.0
    for count, share in ((k, rate), (n - k, 1 - rate)):
        if count:
            if share <= 0:
                return math.inf
            likelihood += count * math.log(share)
    return _log_beta(k + 0.5, n - k + 0.5) - _log_beta(0.5, 0.5) - likelihood


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def raised(k: float, n: float, interval: Interval, n_tests: int, n_rates: int) -> bool:
    """Return whether `k` of `n` raise an alarm.

    Parameters
    ----------
    k, n : float
        Counted by the test under way.
    interval : (float, float)
        In which the rate should be.
    n_tests : int
        That were begun, with this one.
    n_rates : int
        That are watched.
    """
    share = CHANCE * 6 / (math.pi * n_tests) ** 2 / n_rates
    return log_evidence(k, n, interval) >= -math.log(share)


@dataclass(frozen=True)
class Alarm:
    """A rate that has left its interval.

    Attributes
    ----------
    name : str
        Of the rate.
    k, n : int
        What was counted in this run.
    interval : (float, float)
    """

    name: str
    k: int
    n: int
    interval: Interval

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"the {self.name} is {self.k / self.n:.1%} ({self.k} of {self.n} frames), outside the "
            f"[{low:.1%}, {high:.1%}] of the session: a re-tune is due"
        )


class RateWatch:
    """Watches rates over one run after the other, by the rule above.

    Parameters
    ----------
    intervals : mapping of str to (float, float)
        The 95 % interval of each rate, by name.
    n_tests : int
        Tests that were begun before, by a watch that this one goes on with.
    """

    def __init__(self, intervals: Mapping[str, Interval], n_tests: int = 0) -> None:
        self._intervals = dict(intervals)
        self.n_tests = n_tests
        self._counts: dict[str, tuple[int, int]] = {}
        self._raised: set[str] = set()

    def begin_run(self, intervals: Mapping[str, Interval] | None = None) -> None:
        """Begin a new test of each rate, of other intervals where a new set was taken up."""
        if intervals is not None:
            self._intervals = dict(intervals)
        self.n_tests += 1
        self._counts = dict.fromkeys(self._intervals, (0, 0))
        self._raised = set()

    def count(self, name: str, k: int, n: int) -> Alarm | None:
        """Count `k` of `n` further frames; return an alarm when it is raised, once a run."""
        if name not in self._counts:
            return None
        before_k, before_n = self._counts[name]
        k, n = before_k + k, before_n + n
        self._counts[name] = k, n
        interval = self._intervals[name]
        if name in self._raised or not raised(k, n, interval, self.n_tests, len(self._intervals)):
            return None
        self._raised.add(name)
        return Alarm(name, k, n, interval)
