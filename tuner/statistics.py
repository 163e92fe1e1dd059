"""Honest comparisons: rates measured on the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy.stats import binomtest, norm

from envs.evaluation import Evaluation
from wrappers.errors import InputError

__all__ = ["SIGNIFICANT", "PairedDifference", "paired_difference", "upper_limit"]


SIGNIFICANT = 0.05
"""The chance of calling two equal sets different."""


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
        Rate of the first minus rate of the second.
    ci95 : (float, float)
        Its 95 % interval.
    p_value : float
        Exact two-sided McNemar test of no difference.
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
    the test is McNemar's, exact.

    Raises
    ------
    InputError
        If the two have no frame in common.
    """
    gained, lost, n = _discordant(first, second)
    p_value = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return PairedDifference(
        n_frames=n,
        gained=gained,
        lost=lost,
        difference=(gained - lost) / n,
        ci95=_interval(gained, lost, n, 1.959964),
        p_value=float(p_value),
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
    return _interval(*_discordant(first, second), float(norm.isf(error_rate)))[1]


def _discordant(first: Evaluation, second: Evaluation) -> tuple[int, int, int]:
    """Return how many frames only the first, only the second indexed, and how many both have."""
    a = {o.frame: o.indexed for o in first.outcomes}
    b = {o.frame: o.indexed for o in second.outcomes}
    shared = a.keys() & b.keys()
    if not shared:
        raise InputError(
            "two evaluations of the session have no frame in common, so their rates cannot be "
            "compared: its record was put together from several; begin another session"
        )
    gained = sum(a[frame] and not b[frame] for frame in shared)
    lost = sum(b[frame] and not a[frame] for frame in shared)
    return gained, lost, len(shared)


def _interval(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    up, down, total = gained + 0.5, lost + 0.5, n + 2
    centre = (up - down) / total
    half = z * sqrt(up + down - (up - down) ** 2 / total) / total
    return max(centre - half, -1.0), min(centre + half, 1.0)
