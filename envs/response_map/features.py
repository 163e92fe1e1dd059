"""The numbers from which the map predicts whether a frame is indexed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.settings import Settings

__all__ = [
    "BRIGHT",
    "COUNT_FEATURES",
    "DESCRIPTORS",
    "LATTICE_FEATURES",
    "bright_peaks",
    "count_features",
    "descriptors",
    "floor_of",
    "lattice_features",
    "weighted_quantile",
]

Floats = NDArray[np.float64]

BLANK = 0.05
"""A frame at this quantile of the counts shows what a blank one does."""

BRIGHT = (4.9, 8.0)
"""The values of min_snr at which a frame's bright peaks are counted."""
_BRIGHT_PIXELS = 2

VARIED = ("min_snr", "threshold", "min_pix_count")
"""What the designs varied that the model was fitted to."""

_SCALE = 2.0
"""Of the logarithms of counts, about their standard deviation."""
_MIDDLE = 3.0
_VOLUME = 12.5
"""Of log Å³, the middle of protein crystals' primitive cells (270,000 Å³)."""

COUNT_FEATURES = 28
LATTICE_FEATURES = 10
DESCRIPTORS = 5


def bright_peaks(counts: NDArray[np.uint16], floor: Floats, settings: Sequence[Settings]) -> Floats:
    """Return the frames' peaks above the floor (F, 2) at the design's two sets nearest `BRIGHT`."""
    places = _bright_sets(settings)
    return np.asarray(np.maximum(counts[:, places] - floor[places], 0))


def _bright_sets(settings: Sequence[Settings]) -> list[int]:
    rows = np.array([[s.min_snr, s.threshold, s.min_pix_count] for s in settings])
    lowest = rows[:, 1] == rows[:, 1].min()
    away = 10.0 * ~lowest + np.abs(rows[:, 2] - _BRIGHT_PIXELS)
    return [int(np.argmin(away + np.abs(np.log(rows[:, 0] / snr)))) for snr in BRIGHT]


def descriptors(
    counts: NDArray[np.uint16],
    bright: Floats,
    volume: float,
    weights: Floats,
    settings: Sequence[Settings],
) -> Floats:
    """Return what a run is like (DESCRIPTORS,), to tell how far it is from others.

    The cell's size, the noise of a blank frame at the loosest sets, what all frames show there,
    and how bright the brighter frames are; see `floor_of` for the weights. All but the first are
    NaN where the design does not vary all that the fitted runs' did: its loosest sets are others.
    """
    if any(len({getattr(each, name) for each in settings}) == 1 for name in VARIED):
        return np.append(np.log(volume), np.full(DESCRIPTORS - 1, np.nan))
    floor = floor_of(counts, weights)
    loosest = np.argsort(floor)[-max(len(floor) // 20, 1) :]
    crystals = weighted_quantile(bright, 0.9, weights)
    there = counts[:, loosest]
    middle = weighted_quantile(there.reshape(-1, 1), 0.5, np.repeat(weights, len(loosest)))
    return np.array(
        [
            np.log(volume),
            np.log1p(floor[loosest].mean()),
            np.log1p(middle[0]),
            *np.log1p(crystals),
        ]
    )


def floor_of(counts: NDArray[np.uint16], weights: Floats) -> Floats:
    """Return what a blank frame of the run shows with each parameter set.

    Parameters
    ----------
    counts : uint16 array (F, S)
    weights : float array (F,)
        How many frames of the run each frame stands for: a sample that was drawn by its promise
        has fewer blank frames than the run.
    """
    return weighted_quantile(counts, BLANK, weights)


def weighted_quantile(values: ArrayLike, share: float, weights: Floats) -> Floats:
    """Return a quantile of each column of values (F, S), each row counted by its weight (F,).

    Between rows it is interpolated; equal weights give NumPy's usual quantile.
    """
    values = np.asarray(values, float)
    order = np.argsort(values, axis=0, kind="stable")
    found = np.take_along_axis(values, order, axis=0)
    weight = weights[order]
    below = np.cumsum(weight, axis=0) - weight
    below /= np.maximum(below[-1], 1e-300)
    columns = zip(below.T, found.T, strict=True)
    return np.array([np.interp(share, place, value) for place, value in columns])


def count_features(counts: ArrayLike, floor: ArrayLike, bright: ArrayLike, volume: float) -> Floats:
    """Return what counts alone say.

    Parameters
    ----------
    counts : int array (F, S)
    floor : float array (S,)
        What a blank frame shows; see `floor_of`.
    bright : float array (F, 2)
        The frame's peaks above the floor at two strict parameter sets.
    volume : float
        Of the primitive cell, in Å³.

    Returns
    -------
    float array (F, S, COUNT_FEATURES)
    """
    counts = np.asarray(counts, float)
    floor = np.broadcast_to(np.asarray(floor, float), counts.shape)
    above = np.maximum(counts - floor, 0)
    first = [
        _log(above),
        _log(floor),
        _log(above / np.sqrt(1 + floor)),
        *(np.broadcast_to(_log(each)[:, None], counts.shape) for each in np.asarray(bright).T),
        np.full(counts.shape, (np.log(volume) - _VOLUME) / _SCALE),
    ]
    return _quadratic(first)


def lattice_features(own: ArrayLike, other: ArrayLike, volume: float) -> Floats:
    """Return what a frame's lattice says: peaks on its nodes, and other ones.

    Parameters
    ----------
    own, other : int array (..., S)
    volume : float
        Of the primitive cell, in Å³.

    Returns
    -------
    float array (..., S, LATTICE_FEATURES)
    """
    first = [_log(np.asarray(own, float)), _log(np.asarray(other, float))]
    size = np.full(first[0].shape, (np.log(volume) - _VOLUME) / _SCALE)
    return _quadratic([*first, size])


def _log(counts: Floats) -> Floats:
    return (np.log1p(counts) - _MIDDLE) / _SCALE


def _quadratic(first: list[Floats]) -> Floats:
    """Return 1, the features, their squares and products, along a new last axis."""
    second = [a * b for i, a in enumerate(first) for b in first[: i + 1]]
    return np.stack([np.ones_like(first[0]), *first, *second], axis=-1)
