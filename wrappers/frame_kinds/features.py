"""A frame's features: what was measured of it, in units of what is usual in its run.

The `Reference` says what is usual: the level of each part of the detector with the beam on, and
the smallest distance between spots. It is made of some frames of the run, of which a good part
should have the beam on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from wrappers.frame_kinds.measures import BOXES, RINGS, SECTORS, Measures
from wrappers.frame_kinds.spots import (
    ENOUGH_SPOTS,
    brightest,
    disorder,
    gaps_of,
    innermost,
    strongest,
)
from wrappers.schema import Count, Number

__all__ = ["FEATURES", "N_DIRECTIONS", "Reference", "features", "median"]

Floats = NDArray[np.float64]

FEATURES = (
    "light",
    "level",
    "ring",
    "streak",
    "fault",
    "spots",
    "brightest",
    "innermost",
    "disorder",
)
"""Each is scaled so that a difference of 1 is worth a word.

light : natural logarithm of how much the level varies over the rings, relative to the run's
level : that of the level itself
ring : that of how far the sharpest ring rises above its surroundings
streak : that of how far the brightest direction does above its neighbours
fault : that of the share of the detector that does not do as in other frames
spots : that of the number of spots, but for those in the brightest direction and at fault
brightest : that of the photons of the second brightest spot (of one, of that)
innermost : a fifth of the spots are further in, in 0.1/Å
disorder : logarithm of the share of the vectors between strong spots that no other such vector
    is equal to, relative to what chance leaves: a lattice repeats them
"""

COARSE = 2
"""So many boxes along either side are taken together."""
GRID = BOXES // COARSE

SHOWN = 0.08
"""A swing of so many standard deviations of a pixel, of which a ring averages thousands, is one."""
LIT = 0.15
"""Of what most frames with a swing have: with more the beam is on."""
QUANTILE_OF_LEVEL, OF_SOUND = 0.6, 0.85
"""Of the boxes, for the frame's level, and for that of its sound boxes, which may be few."""
FEWEST_PHOTONS = 15.0
"""In a box with fewer nothing is missed."""
DEAD, STILL, RESTLESS, HOT = 0.3, 0.05, 12.0, 3.0
SURE = 6.0
"""Standard errors that a box's expected level is above none, where it can be missed."""
ALWAYS, SLOPE, EVEN, SCATTERED = 0.4, 0.08, 0.05, 2.0
"""A ring or a direction that rises by more than the first in every frame is one nevertheless; what
a ring, and what a direction, always may; and what a direction may, of the standard deviation of all
the frame's: panels differ."""
FEWER = 0.4
"""Quantile over the frames of what a ring does without ice."""
WINDOW = 13
"""Rings that make the surroundings of one."""
STEPS = ((3, 12), (12, 24), (24, 40), (40, 64))
"""Rings that are taken together, to look for a bright direction."""
NEIGHBOURS = (np.arange(SECTORS) + np.array([-6, -5, -4, -3, 3, 4, 5, 6])[:, None]) % SECTORS
"""Of each direction, a row each."""
RECURS, FEWEST_RECURRENCES, MOST_HOT = 0.08, 3, 20_000
N_DIRECTIONS = len(STEPS) * SECTORS
CRYSTALS = 5
"""Frames with as many spots as a crystal has, which tell something of the beam."""
LEAST_LIGHT, MOST_LIGHT, MOST = 0.01, 8.0, 3.0
"""Beyond these it does not matter any more."""


@dataclass(frozen=True)
class Reference:
    """What is usual in a run with the beam on.

    Attributes
    ----------
    swing : float
        How much the level varies over the rings, in photons.
    level : float
        Median over the boxes, in photons.
    dark : float
        Variance beyond that of the photons, in photons².
    boxes : tuple of float
        Level of each coarse box relative to the median; 0 where it is not known.
    fano : tuple of float
        Variance of each over its level and `dark`, likewise.
    gap : float
        Smallest distance between spots of a lattice, in 1/Å; 0 where there were too few spots.
    innermost : float
        Of frames without spots, for the feature of that name.
    rings : tuple of float
        How far each ring rises above its surroundings in a good part of the frames.
    directions : tuple of float
        How far each direction does over some rings.
    hot : tuple of int
        Pixels (flat) that seem to be a spot again and again.
    """

    swing: Number
    level: Number
    dark: Number
    boxes: tuple[Number, ...]
    fano: tuple[Number, ...]
    gap: Number
    innermost: Number
    rings: tuple[Number, ...]
    directions: tuple[Number, ...]
    hot: tuple[Count, ...] = ()

    @property
    def n_boxes(self) -> int:
        """Coarse boxes of which something is known."""
        return int(np.count_nonzero(self.boxes))

    @classmethod
    def of(cls, measured: Sequence[Measures]) -> Reference:
        """Return the reference that frames of a run make; at least one is needed."""
        swings = np.array([_swing(each) for each in measured])
        shown = swings > SHOWN * np.array([_nan_to(float(median(m.noise)), 0.0) for m in measured])
        usual_swing = float(np.median(swings[shown] if shown.any() else swings))
        hot = _recurring(measured)
        cleared = [each.without_spots_at(hot) for each in measured]
        spotted = np.array([len(each.spot_q) >= ENOUGH_SPOTS for each in cleared])
        if np.count_nonzero(spotted) >= CRYSTALS:
            # What shows a crystal was taken with the beam, however little light there is.
            usual_swing = min(usual_swing, float(np.quantile(swings[spotted], 0.25)))
        lit = swings >= LIT * usual_swing
        coarse = [_coarse(each) for each, on in zip(measured, lit, strict=True) if on]
        levels = np.array([level for level, _, _ in coarse])
        squares = np.array([noise for _, noise, _ in coarse])
        usual = median(levels, axis=(1, 2))
        positive = np.maximum(usual, 1e-9)[:, None, None]
        boxes = median(levels / positive, axis=0)
        # What the photons' own noise leaves.
        left = median(squares, axis=0) - median(levels, axis=0)
        dark = max(_nan_to(float(median(left)), 0.0), 1e-4)
        fano = median(squares / (np.maximum(levels, 0) + dark), axis=0)
        lit_frames = [each for each, on in zip(cleared, lit, strict=True) if on]
        with_spots = [each for each in lit_frames if len(each.spot_q) >= 3]
        gaps = [gaps_of(strongest(each)) for each in lit_frames if len(each.spot_q) >= ENOUGH_SPOTS]
        level = _nan_to(float(np.median(usual)), 0.0)
        return cls(
            swing=float(np.median(swings[lit])),
            level=level,
            dark=float(dark),
            boxes=tuple(np.nan_to_num(boxes).ravel().round(5).tolist()),
            fano=tuple(np.nan_to_num(fano).ravel().round(5).tolist()),
            gap=float(np.quantile([np.quantile(each, 0.1) for each in gaps], 0.25))
            if gaps
            else 0.0,
            innermost=float(np.median([innermost(each) for each in with_spots]))
            if with_spots
            else 1.0,
            rings=tuple(
                np.quantile([_sharpness(each, level) for each in lit_frames], FEWER, axis=0)
                .round(5)
                .tolist()
            ),
            directions=tuple(
                np.quantile([_rises(each, level) for each in lit_frames], FEWER, axis=0)
                .ravel()
                .round(5)
                .tolist()
            ),
            hot=tuple(hot.tolist()),
        )


def features(measured: Measures, reference: Reference) -> Floats:
    """Return the features of a frame, float64 (n_features,), in the order of `FEATURES`."""
    measured = measured.without_spots_at(np.array(reference.hot, np.int64))
    level, faulty = _level_and_faults(measured, reference)
    streak, direction = _streak(measured, reference)
    sector = measured.spot_cell % SECTORS
    away = np.abs((sector - direction) % (SECTORS // 2)) > 1
    away &= np.abs((sector - direction) % (SECTORS // 2)) < SECTORS // 2 - 1
    row, column = np.divmod(measured.spot_box, BOXES)
    away &= ~faulty[row // COARSE, column // COARSE]
    n_away = np.count_nonzero(away) * SECTORS / (SECTORS - 6)
    return np.array(
        [
            _within(_swing(measured) / max(reference.swing, 1e-6)),
            _within(level),
            math.log(0.03 + min(_sharpest_ring(measured, reference), MOST)),
            math.log(0.03 + min(streak, MOST)),
            math.log(0.01 + np.count_nonzero(faulty) / max(reference.n_boxes, 1)),
            math.log1p(n_away),
            brightest(measured),
            innermost(measured) if len(measured.spot_q) else reference.innermost,
            disorder(strongest(measured), reference.gap),
        ]
    )


def _within(ratio: float) -> float:
    return math.log(min(max(ratio, LEAST_LIGHT), MOST_LIGHT))


def _recurring(measured: Sequence[Measures]) -> NDArray[np.int64]:
    """Return the pixels that are spots in more frames than a Bragg spot is."""
    pixels, times = np.unique(
        np.concatenate([each.spot_pixel for each in measured]), return_counts=True
    )
    often = max(RECURS * len(measured), FEWEST_RECURRENCES)
    return np.asarray(pixels[times >= often][:MOST_HOT], np.int64)


def median(values: Floats, axis: int | tuple[int, ...] | None = None) -> Floats:
    """Return the median of the values that are no NaN, as `numpy.nanmedian` does in far longer."""
    axes = tuple(range(values.ndim)) if axis is None else np.atleast_1d(axis).tolist()
    kept = [each for each in range(values.ndim) if each not in axes]
    shape = [values.shape[each] for each in kept]
    rows = np.sort(values.transpose(*kept, *axes).reshape(math.prod(shape), -1), axis=1)
    n = np.count_nonzero(~np.isnan(rows), axis=1)  # NaN come last
    place = np.arange(len(rows))
    middle = (rows[place, np.maximum(n - 1, 0) // 2] + rows[place, n // 2]) / 2
    return np.asarray(middle.reshape(shape))


def _nan_to(value: float, other: float) -> float:
    return float(value) if math.isfinite(value) else other


def _swing(measured: Measures) -> float:
    """Return how much the level varies over the rings: a pedestal does not."""
    ring = measured.middle
    ring = ring[np.isfinite(ring)]
    return float(np.ptp(np.quantile(ring, (0.1, 0.9)))) if len(ring) else 0.0


def _coarse(measured: Measures) -> tuple[Floats, Floats, Floats]:
    """Return level, variance and usable pixels of the coarse boxes (GRID, GRID)."""

    def together(values: Floats) -> Floats:
        return np.asarray(values.reshape(GRID, COARSE, GRID, COARSE).sum(axis=(1, 3)))

    known = np.isfinite(measured.box_level)
    pixels = np.where(known, measured.box_pixels, 0.0)
    n = together(pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = together(pixels * np.nan_to_num(measured.box_level)) / n
        variance = together(pixels * np.nan_to_num(measured.box_noise) ** 2) / n
    return level, variance, n


def _level_and_faults(measured: Measures, reference: Reference) -> tuple[float, NDArray[np.bool_]]:
    """Return the frame's level relative to the run's, and which coarse boxes are at fault."""
    level, variance, n = _coarse(measured)
    boxes = np.array(reference.boxes).reshape(GRID, GRID)
    fano = np.array(reference.fano).reshape(GRID, GRID)
    known = (boxes > 0) & (fano > 0) & np.isfinite(level)
    bad = np.zeros((GRID, GRID), bool)
    if not known.any() or reference.level <= 0:
        return 1.0, bad
    usual = reference.level * boxes[known]
    relative = level[known] / usual
    error = np.sqrt((usual + reference.dark) / np.maximum(n[known], 1))
    # Boxes whose level one frame shows; of the others nothing is said to be missing.
    shown = (usual * n[known] >= FEWEST_PHOTONS) & (usual > SURE * error)
    told = relative[shown] if shown.any() else np.array([np.sum(level[known]) / np.sum(usual)])
    of_frame = float(np.quantile(told, QUANTILE_OF_LEVEL))
    of_sound = max(float(np.quantile(told, OF_SOUND)), 0.0)
    shown &= (usual * of_sound * n[known] >= FEWEST_PHOTONS) & (usual * of_sound > SURE * error)
    own_fano = variance[known] / (np.maximum(level[known], 0) + reference.dark) / fano[known]
    # Standard errors of the fine boxes to standard deviations of a pixel.
    off = measured.box_off.reshape(GRID, COARSE, GRID, COARSE).sum(axis=(1, 3))[known]
    mean_off = off / np.sqrt(np.maximum(n[known], 1) * COARSE**2)
    bad[known] = shown & ((relative < DEAD * of_sound) | (own_fano < STILL))
    bad[known] |= (own_fano > RESTLESS) | (mean_off > HOT)
    return of_frame, bad


def _sharpness(measured: Measures, usual: float) -> Floats:
    """Return how far each ring rises above its surroundings, relative to them (RINGS,).

    Or relative to a twentieth of a run's usual level: in the dark nothing is sharp. 0 where nothing
    is known, or where it does not rise by more than chance.
    """
    middle = measured.middle
    known = np.isfinite(middle) & (measured.ring_pixels >= 200)
    known[:2] = False
    sharp = np.zeros(RINGS)
    if np.count_nonzero(known) < WINDOW:
        return sharp
    level, noise = middle[known], measured.noise[known]
    error = noise / np.sqrt(measured.ring_pixels[known])
    around = median_filter(level, WINDOW, mode="reflect")
    rise = level - around - 5 * np.nan_to_num(error)
    least = 0.05 * max(float(np.median(np.maximum(level, 0))), usual) + 1e-4
    found = np.maximum(rise / (np.maximum(around, 0) + least), 0.0)
    # The first and last rings have no surroundings on one side, and near the beam all is steep.
    found[: WINDOW // 2] = found[-(WINDOW // 2) :] = 0.0
    sharp[known] = found
    return sharp


def _sharpest_ring(measured: Measures, reference: Reference) -> float:
    """Return how far the sharpest ring rises beyond what it does in most frames."""
    usual = np.minimum(reference.rings, ALWAYS)
    return float(np.max(_sharpness(measured, reference.level) - usual - SLOPE, initial=0.0))


def _rises(measured: Measures, level: float) -> Floats:
    """Return how far each direction rises above its neighbours, over some rings (n, SECTORS).

    Relative to the rings, or to a tenth of a run's usual level: in the dark nothing is bright. 0
    where nothing is known, or where it does not rise by more than chance.
    """
    middle = measured.middle[:, None]
    scale = np.maximum(middle, 0) + 0.1 * max(level, 1e-3)
    with np.errstate(invalid="ignore"):
        relative = (measured.cells - middle) / scale
        error = measured.noise / np.sqrt(np.maximum(measured.ring_pixels / SECTORS, 1))
        error = error / scale[:, 0]
    rises = np.zeros((len(STEPS), SECTORS))
    for place, (first, stop) in enumerate(STEPS):
        part = relative[first:stop]
        n = np.isfinite(part).sum(axis=0)
        along = np.where(n < (stop - first) // 2, np.nan, median(part, axis=0))
        rise = along - median(along[NEIGHBOURS], axis=0)
        scatter = 1.4826 * _nan_to(float(median(np.abs(rise))), 0.0)
        tolerance = 5 * 1.25 * _nan_to(float(median(error[first:stop])), 0.0)
        tolerance = tolerance / math.sqrt(stop - first) + SCATTERED * scatter
        rises[place] = np.maximum(np.nan_to_num(rise, nan=0.0) - tolerance, 0.0)
    return rises


def _streak(measured: Measures, reference: Reference) -> tuple[float, int]:
    """Return how far the brightest direction rises beyond what it does in most frames.

    And which direction that is.
    """
    usual = np.minimum(np.reshape(reference.directions, (len(STEPS), SECTORS)), ALWAYS)
    rises = _rises(measured, reference.level) - usual - EVEN
    _, direction = np.unravel_index(int(rises.argmax()), rises.shape)
    return float(max(rises.max(), 0.0)), int(direction)
