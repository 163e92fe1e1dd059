"""Whether the camera length changes within a run, by the indexed frames' own camera lengths.

Each indexed frame's lattice gives a camera length with a formal standard error
(`geometry_refinement`). One camera length for all of them, as the mean of a run claims, is tested
in three ways, each at a third of `FALSE_ALARMS`, which is therefore the chance that frames of one
camera length are called anything else:

- *trend*: Kendall's rank correlation of camera length and frame number;
- *step*: Pettitt's change-point statistic (Appl. Stat. 28 (1979) 126), whose distribution comes
  from permutations of the frames;
- *scatter*: how many frames lie more than `FAR` of their own errors from the median, compared with
  the binomial distribution of a chance of one in twenty. That leaves room for formal errors that
  are half of the true ones (1.2 %) and for wrong lattices. Where the values that scatter fall into
  two heaps, these are named.

The first two use ranks and the order only: they hold whatever the frames' errors are. A change of
less than `LEAST` is not told, as it moves no peak by as much as the indexer would notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FALSE_ALARMS", "Drift", "find_drift"]

Floats = NDArray[np.float64]

FALSE_ALARMS = 0.01
"""The chance that a run of one camera length is said to have more."""

LEAST = 5e-4
"""Relative change of the camera length: a quarter of a pixel, 500 pixels from the beam."""

LEAST_SCATTER = 5e-3
"""Relative scatter that is more than crystals' cells differ by."""

FEWEST = 10
"""Frames below which nothing is said."""

FAR = 5.0
CHANCE_FAR = 0.05
"""Of a frame of a good run to lie that far from the others."""

_PERMUTATIONS = 3000


@dataclass(frozen=True)
class Drift:
    """How the camera length changes within a run.

    Attributes
    ----------
    kind : {"trend", "step", "groups", "scatter"}
    scatter, error : float
        Robust standard deviation of the frames' camera lengths, and the median of their own errors,
        both relative.
    first, last : float
        In metres: at the first and the last frame (trend), before and after (step), of either
        group. The median both times where the frames only scatter.
    at : int
        Frame number from which on the second holds (step); or -1.
    """

    kind: Literal["trend", "step", "groups", "scatter"]
    scatter: float
    error: float
    first: float
    last: float
    at: int = -1

    @property
    def size(self) -> float:
        """The change, or the scatter, relative to the camera length."""
        return self.scatter if self.kind == "scatter" else abs(self.last / self.first - 1)

    @property
    def grave(self) -> bool:
        """Whether one camera length will not do; crystals of differing cells scatter as well."""
        return self.kind != "scatter" or self.scatter >= LEAST_SCATTER

    def __str__(self) -> str:
        first, last = (f"{1e3 * length:.3f} mm" for length in (self.first, self.last))
        by = f"{100 * self.size:.2g} %"
        alone = f"each frame knows its own to {100 * self.error:.1g} %"
        if self.kind == "step":
            return (
                f"The camera length changes within the run: {first} before frame {self.at}, {last} "
                f"from there on, {by} apart; {alone}. Tune the two parts by themselves."
            )
        if self.kind == "trend":
            return (
                f"The camera length drifts within the run, from {first} to {last}, {by}; {alone}. "
                "Tune shorter runs, or look for what moves."
            )
        if self.kind == "groups":
            return (
                f"The run has two camera lengths, {first} and {last}, {by} apart, in no order of "
                f"the frames; {alone}. Part the frames before they are tuned."
            )
        return (
            f"The frames' own camera lengths scatter by {by}, although {alone}: the detector or "
            "the photon energy moves, or the crystals' cells differ."
        )


def find_drift(frames: ArrayLike, lengths: ArrayLike, errors: ArrayLike) -> Drift | None:
    """Return how the camera length changes within a run, or None where nothing shows that it does.

    Parameters
    ----------
    frames : array_like of int (n,)
        Frame numbers, in the order of time.
    lengths : array_like of float (n,)
        Each frame's own camera length in metres.
    errors : array_like of float (n,)
        Their formal standard errors.
    """
    # Their import takes most of a second.
    from scipy.stats import binom, kendalltau

    order = np.argsort(frames, kind="stable")
    number, values, error = (np.asarray(x, np.float64)[order] for x in (frames, lengths, errors))
    if len(values) < FEWEST or np.ptp(values) == 0:
        return None
    level = FALSE_ALARMS / 3
    middle = float(np.median(values))
    scatter, known = _spread(values) / middle, float(np.median(error)) / middle

    candidates: list[tuple[float, Drift]] = []
    if kendalltau(number, values).pvalue < level:
        fitted = _line(number, values)
        drift = Drift("trend", scatter, known, float(fitted[0]), float(fitted[-1]))
        candidates.append((_misfit(values, fitted), drift))
    if _chance_of_step(values) < level:
        place, (before, after) = _cut(values, least=1)
        fitted = np.where(np.arange(len(values)) < place, before, after)
        drift = Drift("step", scatter, known, before, after, int(number[place]))
        candidates.append((_misfit(values, fitted), drift))
    candidates = [each for each in candidates if each[1].size >= LEAST]
    if candidates:
        return min(candidates, key=lambda each: each[0])[1]

    far = int((np.abs(values - middle) > FAR * error).sum())
    if binom.sf(far - 1, len(values), CHANCE_FAR) >= level:
        return None
    groups = _two_groups(values)
    if groups is not None and abs(groups[1] / groups[0] - 1) >= LEAST:
        return Drift("groups", scatter, known, *groups)
    return Drift("scatter", scatter, known, middle, middle) if scatter >= LEAST else None


def _spread(values: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _misfit(values: Floats, fitted: Floats | float) -> float:
    return float(np.abs(values - fitted).sum())


def _line(number: Floats, values: Floats) -> Floats:
    """Return the robust line (Theil and Sen's) at each frame."""
    from scipy.stats import theilslopes

    fit = theilslopes(values, number)
    return np.asarray(fit.intercept + fit.slope * number, np.float64)


def _chance_of_step(values: Floats) -> float:
    """Return the p-value of Pettitt's statistic of values in their order."""
    from scipy.stats import rankdata

    n = len(values)
    ranks = rankdata(values) - (n + 1) / 2
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)
    seen = np.abs(np.cumsum(ranks)).max()
    by_chance = np.abs(np.cumsum(shuffled, axis=1)).max(axis=1)
    return float((1 + (by_chance >= seen - 1e-9).sum()) / (1 + _PERMUTATIONS))


def _cut(values: Floats, least: int) -> tuple[int, tuple[float, float]]:
    """Return where to part values for the least absolute misfit, and the medians of both parts.

    Each part has `least` of the values or more.
    """

    def medians(place: int) -> tuple[float, float]:
        return float(np.median(values[:place])), float(np.median(values[place:]))

    def misfit(place: int) -> float:
        before, after = medians(place)
        return _misfit(values[:place], before) + _misfit(values[place:], after)

    place = min(range(least, len(values) - least + 1), key=misfit)
    return place, medians(place)


def _two_groups(values: Floats) -> tuple[float, float] | None:
    """Return the medians of two heaps, larger heap first, or None where there are not two.

    Heaps have a fifth of the values at least, and are six times as far apart as each is wide.
    """
    ordered = np.sort(values)
    place, (low, high) = _cut(ordered, least=len(values) // 5)
    width = max(_spread(ordered[:place]), _spread(ordered[place:]))
    if high - low < 6 * width:
        return None
    return (low, high) if 2 * place >= len(values) else (high, low)
