"""Which frames of a run are indexed where few are worth it, and what those say of the whole run.

A *look* has counted the peaks of many frames of a run, drawn at random. Its frames are put into
strata by their promise, and some frames of each stratum are drawn: many of the promising ones, few
of the blank-looking ones, never none. Each drawn frame stands for all those of the look for which
it was drawn (Horvitz and Thompson, J. Am. Stat. Assoc. 47 (1952) 663), so that a rate remains an
estimate for the whole run. This is double sampling for stratification (Neyman, J. Am. Stat. Assoc.
33 (1938) 101; Cochran, Sampling Techniques, 1977, ch. 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.schema import Count

__all__ = [
    "CUTS",
    "POOR",
    "Sample",
    "Shares",
    "Strata",
    "allocate",
    "draw",
    "promise",
    "promising_share",
    "share_standing_out",
    "shares",
    "strata_by_promise",
    "weights",
]

Floats = NDArray[np.float64]

CUTS = (3.0, 6.0, 15.0)
"""Where the strata of `promise` end: blank-looking, faint, likely and strong frames."""

POOR = 0.2
"""Share of promising frames below which a random sample would hold few of them."""

SPREADS = (0.02, 0.1, 0.4, 0.5)
"""Standard deviation of "indexed" that is expected within each stratum: sqrt(p (1 - p)), with one
blank-looking frame in 2,500, one faint one in 100, one likely one in five."""

FEWEST = 4
"""Frames of the look that make a stratum: two for the search, two to be held back."""

LEAST_SHARE = 0.1
"""Of a sample, that each stratum gets at least."""

PRIOR = 0.15
"""Frames of the mean kind that are added to each stratum, for its variance alone. Without any, a
stratum of which no frame was indexed would be known to hold none; with a whole one, intervals at
rates of 10 % would be wider than need be (`experiments.strata`)."""

ALIKE = 0.5
"""In units of the floor's noise: with a parameter set that tells hits from blank frames, four in
five frames of a poor run have no more peaks than that above the floor."""

FLOOR = 0.15
"""Quantile over the frames of what a parameter set counts: what a blank frame gives."""


@dataclass(frozen=True)
class Strata:
    """The frames of a look by promise.

    Attributes
    ----------
    frames : tuple of tuple of int
        Indices in the run, by stratum; the least promising stratum first. None is empty.
    spreads : tuple of float
        Standard deviation of "indexed" that is expected within each.
    """

    frames: tuple[tuple[int, ...], ...]
    spreads: tuple[float, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Frames of the look in each stratum."""
        return tuple(map(len, self.frames))


@dataclass(frozen=True)
class Sample:
    """Frames that were drawn from a run, at random or by strata.

    Attributes
    ----------
    frames : tuple of int
        Indices in the run, in an order of which every beginning is such a sample itself.
    strata : tuple of int
        Stratum of each; empty for a random sample, as are the sizes.
    sizes : tuple of int
        Frames of the look in each stratum, of which the drawn ones are some.
    """

    frames: tuple[Count, ...]
    strata: tuple[Count, ...] = ()
    sizes: tuple[Count, ...] = ()


@dataclass(frozen=True)
class Shares:
    """What a stratified sample says of two kinds of frames of the run.

    Attributes
    ----------
    up, down : float
        Estimated share of frames of either kind.
    n_effective : float
        Frames of a random sample that would know ``up - down`` as well.
    """

    up: float
    down: float
    n_effective: float


def promise(counts: ArrayLike) -> Floats:
    """Return how far each frame of a poor run stands out from a blank one.

    Of the parameter sets with which most frames look alike it is the largest number of peaks above
    the floor, in units of the floor's Poisson noise. Sets that find noise do not count: it changes
    with the background from frame to frame.

    Parameters
    ----------
    counts : array_like of int, shape (n_frames, n_sets)
        Peaks of each frame with each parameter set of the look.
    """
    above = _above_floor(counts)
    spread = np.quantile(above, 1 - POOR, axis=0)
    # Where with no set most frames look alike, the fourth of them with which they do so most.
    alike = spread <= max(ALIKE, float(np.quantile(spread, 0.25)))
    return np.asarray(above[:, alike].max(axis=1))


def share_standing_out(counts: ArrayLike, strict: ArrayLike) -> float:
    """Return the share of frames with far more peaks than a blank one, with any strict set.

    Parameters
    ----------
    counts : array_like of int, shape (n_frames, n_sets)
    strict : array_like of bool, shape (n_sets,)
        The parameter sets that find little noise.
    """
    return promising_share(_above_floor(counts)[:, np.asarray(strict)].max(axis=1))


def _above_floor(counts: ArrayLike) -> Floats:
    peaks = np.asarray(counts, float)
    floor = np.quantile(peaks, FLOOR, axis=0)
    return np.asarray((peaks - floor) / np.sqrt(floor + 1.0))


def promising_share(score: ArrayLike, cuts: Sequence[float] = CUTS) -> float:
    """Return the share of frames beyond the strata of blank-looking and faint ones."""
    return float(np.mean(np.asarray(score) >= cuts[1]))


def strata_by_promise(
    frames: Sequence[int],
    score: ArrayLike,
    cuts: Sequence[float] = CUTS,
    spreads: Sequence[float] = SPREADS,
) -> Strata:
    """Return a look's frames by promise.

    A stratum with fewer than `FEWEST` frames is joined to the next lower one, the lowest to the
    next higher one.

    Parameters
    ----------
    frames : sequence of int
        Indices in the run.
    score : array_like of float, shape (n_frames,)
        Of `promise`, or another that grows with the chance to be indexed. NaN, for a frame that
        could not be read, counts as blank.
    cuts : sequence of float
        Scores at which the second and each further stratum begins.
    spreads : sequence of float
        One more than cuts; see `Strata`.
    """
    values = np.nan_to_num(np.asarray(score, float), nan=-math.inf)
    of_stratum = np.searchsorted(np.asarray(cuts), values, side="right")
    members = [np.asarray(frames)[of_stratum == h].tolist() for h in range(len(cuts) + 1)]
    kept = [(list(each), spread) for each, spread in zip(members, spreads, strict=True)]
    place = len(kept) - 1
    while place >= 0 and len(kept) > 1:
        if len(kept[place][0]) < FEWEST:
            few, _ = kept.pop(place)
            into = max(place - 1, 0)
            kept[into] = (kept[into][0] + few, kept[into][1])
        place -= 1
    return Strata(tuple(tuple(each) for each, _ in kept), tuple(spread for _, spread in kept))


def allocate(
    n: int, sizes: Sequence[int], available: Sequence[int], spreads: Sequence[float]
) -> list[int]:
    """Return how many frames each stratum gets of a sample of `n`.

    Each gets a share in proportion to its size times its spread (Neyman's allocation), but at
    least `LEAST_SHARE` of the sample and at most what is available.
    """
    total = min(n, sum(available))
    least = np.minimum(available, max(1, int(LEAST_SHARE * n)))
    wanted = np.asarray(sizes) * np.asarray(spreads)
    # The largest common factor with which the shares, cut at both ends, fit into the sample.
    low, high = 0.0, total / wanted.min()
    for _ in range(100):
        factor = (low + high) / 2
        fits = np.clip(factor * wanted, least, available).sum() <= total
        low, high = (factor, high) if fits else (low, factor)
    exact = np.clip(low * wanted, least, available)
    found = np.minimum(exact.astype(int), available)
    # What rounding left goes to the largest remainders; a sample too small for the least shares
    # takes them from the largest strata of the sample.
    while found.sum() != total:
        if found.sum() < total:
            found[np.argmax(np.where(found < available, exact - found, -np.inf))] += 1
        else:
            found[np.argmax(found)] -= 1
    return [int(each) for each in found]


def draw(strata: Strata, n: int, seed: int) -> tuple[Sample, Sample]:
    """Return a sample of up to `n` frames, and another of up to as many that is held back.

    The first takes at most half of each stratum, so that the other has some of each, too.
    """
    generator = np.random.default_rng(seed)
    shuffled = [generator.permutation(each).tolist() for each in strata.frames]
    sizes = strata.sizes
    half = [(size + 1) // 2 for size in sizes]
    first = allocate(n, sizes, half, strata.spreads)
    rest = [size - taken for size, taken in zip(sizes, first, strict=True)]
    second = allocate(n, sizes, np.minimum(rest, half).tolist(), strata.spreads)
    return (
        _in_turn([each[:k] for each, k in zip(shuffled, first, strict=True)], sizes),
        _in_turn(
            [each[k : k + m] for each, k, m in zip(shuffled, first, second, strict=True)], sizes
        ),
    )


def _in_turn(drawn: Sequence[Sequence[int]], sizes: tuple[int, ...]) -> Sample:
    """Return the frames in an order in which each stratum is spread evenly from first to last."""
    placed = sorted(
        ((k + 0.5) / len(frames), stratum, frame)
        for stratum, frames in enumerate(drawn)
        for k, frame in enumerate(frames)
    )
    return Sample(
        tuple(frame for _, _, frame in placed), tuple(stratum for _, stratum, _ in placed), sizes
    )


def weights(strata: ArrayLike, sizes: Sequence[int]) -> Floats:
    """Return for how many frames of a random sample each frame of a stratified one stands.

    Their mean is 1. A stratum of which no frame was drawn is taken together with the next one.

    Parameters
    ----------
    strata : array_like of int, shape (n,)
        Stratum of each frame.
    sizes : sequence of int
        Frames of the look in each stratum.
    """
    where, joined = _joined(strata, sizes)
    n = np.bincount(where, minlength=len(joined))
    return np.asarray((joined / n * n.sum() / joined.sum())[where])


def shares(
    up: ArrayLike, strata: ArrayLike, sizes: Sequence[int], down: ArrayLike | None = None
) -> Shares:
    """Return the shares of frames of the run that are `up` or `down`, and how well they are known.

    The variance is that of double sampling: S² / n' for the look's n' frames as a random sample of
    the run, and W² (1/n - 1/n') S² for each stratum's frames as a sample of the look's, W being the
    stratum's share of the look. The run is taken for endless, as by Wilson's interval: one stratum
    gives exactly the figures of a random sample. Each stratum's variance is worked out with a
    little of a further frame, of the mean kind (`PRIOR`): a stratum of which no frame was indexed
    may hold some.

    Parameters
    ----------
    up : array_like of bool, shape (n,)
        Of each frame.
    strata : array_like of int, shape (n,)
    sizes : sequence of int
        Frames of the look in each stratum.
    down : array_like of bool, optional
        Of each frame, and never with `up`: for the difference of two shares.
    """
    where, joined = _joined(strata, sizes)
    n = np.bincount(where, minlength=len(joined))
    share = joined / joined.sum()
    total = int(n.sum())
    flags = [np.asarray(up, float)] + ([] if down is None else [np.asarray(down, float)])
    seen = [np.bincount(where, flag, minlength=len(joined)) for flag in flags]
    means = [float(share @ (each / n)) for each in seen]
    added = 1.0 / len(flags)
    middles = [(total * mean + added) / (total + 2.0) for mean in means]
    assumed = [
        (each + PRIOR * middle) / (n + PRIOR) for each, middle in zip(seen, middles, strict=True)
    ]
    signs = np.array([1.0, -1.0])[: len(flags)]
    first, second = signs @ np.array(assumed), np.sum(assumed, axis=0)
    whole = float(share @ second - (share @ first) ** 2)
    within = second - first**2
    variance = whole / joined.sum() + float(share**2 * (1 / n - 1 / joined) @ within)
    return Shares(means[0], means[1] if len(means) > 1 else 0.0, whole / variance)


def _joined(strata: ArrayLike, sizes: Sequence[int]) -> tuple[NDArray[np.intp], Floats]:
    """Return strata and sizes in which each stratum without a frame is part of a neighbour."""
    where: NDArray[Any] = np.asarray(strata, np.intp)
    drawn = np.bincount(where, minlength=len(sizes)) > 0
    # The next lower stratum that has frames, or the lowest one that has.
    into = np.maximum(np.cumsum(drawn) - 1, 0)
    joined = np.bincount(into, np.asarray(sizes, float)).astype(float)
    return into[where], joined
