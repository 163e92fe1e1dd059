"""Honest comparisons: rates measured on the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.strata import Shares, shares, weights
from wrappers.errors import InputError

__all__ = [
    "SIGNIFICANT",
    "PairedDifference",
    "chance_of_less",
    "difference_interval",
    "paired_difference",
    "upper_limit",
]


SIGNIFICANT = 0.05
"""The chance of calling two equal sets different."""


MOST_SUMS = 1e6
"""Of coins in different strata, for which their chances are worked out exactly; with more of them
the normal distribution is as good."""


@dataclass(frozen=True)
class PairedDifference:
    """How two settings compare on the frames that both were measured on.

    Attributes
    ----------
    n_frames : int
        Frames that both have.
    gained, lost : int
        Frames that only the first, only the second indexed.
    difference : float
        Rate of the first minus rate of the second, estimated for the whole run.
    ci95 : (float, float)
        Its 95 % interval.
    p_value : float
        Exact two-sided McNemar test of no difference; with weights, see `chance_of_less`.
    """

    n_frames: int
    gained: int
    lost: int
    difference: float
    ci95: tuple[float, float]
    p_value: float

    @property
    def clear(self) -> bool:
        """Whether the two differ, by the exact test: the one criterion behind "more" and "less".

        The interval is an approximation and may end on either side of 0 where the test is close
        to its limit.
        """
        return self.p_value < SIGNIFICANT


def paired_difference(first: Evaluation, second: Evaluation) -> PairedDifference:
    """Compare two evaluations frame by frame.

    The interval is the adjusted Wald interval for paired proportions of Agresti and Min,
    Stat. Med. 24 (2005) 729, which adds half a frame to each cell of the two-by-two table;
    the test is McNemar's, exact. Where the frames were drawn by their promise, both are weighted.

    Raises
    ------
    InputError
        If the two have no frame in common.
    """
    pairs = _Pairs.of(first, second)
    seen = pairs.shares
    return PairedDifference(
        n_frames=pairs.gained.size,
        gained=int(pairs.gained.sum()),
        lost=int(pairs.lost.sum()),
        difference=seen.up - seen.down,
        ci95=difference_interval(seen, 1.959964),
        p_value=min(1.0, 2 * min(pairs.chance_of_less(), pairs.swapped.chance_of_less())),
    )


def upper_limit(first: Evaluation, second: Evaluation, error_rate: float) -> float:
    """Return how much higher the first one's rate may be, on the frames of both.

    It is the upper end of the interval of `paired_difference` at another level: the true
    difference lies above it with a probability of `error_rate`.

    Raises
    ------
    InputError
        If the two have no frame in common.
    """
    from scipy.special import ndtri  # takes a while to import

    return difference_interval(_Pairs.of(first, second).shares, float(-ndtri(error_rate)))[1]


def chance_of_less(first: Evaluation, second: Evaluation) -> float:
    """Return how likely the first one would win as little as it did, or less, by fair coins.

    A coin is tossed for each frame that only one of the two has indexed, and counts as many frames
    as the frame stands for. Without weights that is McNemar's exact one-sided test.

    Raises
    ------
    InputError
        If the two have no frame in common.
    """
    return _Pairs.of(first, second).chance_of_less()


@dataclass(frozen=True)
class _Pairs:
    """The frames that two evaluations have in common.

    Attributes
    ----------
    gained, lost : array of bool
        Whether only the first, only the second indexed it.
    strata : list of int
    sizes : tuple of int
        Of the strata; for a random sample, its own.
    """

    gained: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    strata: Sequence[int]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, first: Evaluation, second: Evaluation) -> _Pairs:
        there = {o.frame: o.indexed for o in second.outcomes}
        shared = [o for o in first.outcomes if o.frame in there]
        if not shared:
            raise InputError(
                "two evaluations of the session have no frame in common, so their rates cannot be "
                "compared: its record was put together from several; begin another session"
            )
        ours = np.array([o.indexed for o in shared])
        theirs = np.array([there[o.frame] for o in shared])
        return cls(
            ours & ~theirs,
            theirs & ~ours,
            [o.stratum for o in shared],
            first.stratum_sizes or (len(shared),),
        )

    @property
    def swapped(self) -> _Pairs:
        return replace(self, gained=self.lost, lost=self.gained)

    @property
    def shares(self) -> Shares:
        return shares(self.gained, self.strata, self.sizes, self.lost)

    def chance_of_less(self) -> float:
        from scipy.stats import binom, norm  # takes a while to import

        each = weights(self.strata, self.sizes)
        kinds, kind = np.unique(each, return_inverse=True)
        n = np.bincount(kind[self.gained | self.lost], minlength=len(kinds))
        most = int(np.argmax(n))
        if np.prod(np.delete(n, most) + 1.0) > MOST_SUMS:
            wanted, spread = each @ self.gained - kinds @ n / 2, sqrt(kinds**2 @ n) / 2
            return float(norm.cdf(wanted / spread))
        # What the coins of all strata but the one with most of them may add up to.
        sums, chances = np.zeros(1), np.ones(1)
        for weight, tosses in ((kinds[h], n[h]) for h in range(len(kinds)) if h != most):
            won = np.arange(tosses + 1)
            sums = np.add.outer(sums, weight * won).ravel()
            chances = np.multiply.outer(chances, binom.pmf(won, tosses, 0.5)).ravel()
        left = each @ self.gained - sums
        return float(chances @ binom.cdf(np.floor(left / kinds[most] + 1e-9), n[most], 0.5))


def difference_interval(seen: Shares, z: float) -> tuple[float, float]:
    """Return Agresti and Min's interval, of the random sample that would say the same."""
    n = seen.n_effective
    up, down, total = seen.up * n + 0.5, seen.down * n + 0.5, n + 2
    centre = (up - down) / total
    half = z * sqrt(up + down - (up - down) ** 2 / total) / total
    return max(centre - half, -1.0), min(centre + half, 1.0)
