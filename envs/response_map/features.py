"""The numbers from which the map foretells whether a frame is indexed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BLANK", "COUNT_FEATURES", "LATTICE_FEATURES", "count_features", "floor_of",
           "lattice_features"]  # fmt: skip

Floats = NDArray[np.float64]

BLANK = 0.15
"""A frame at this quantile of the counts shows what a blank one does."""

_SCALE = 2.0
"""Of the logarithms of counts, about their standard deviation."""
_MIDDLE = 3.0
_VOLUME = 12.5
"""Of log Å³, the middle of protein crystals' primitive cells (270,000 Å³)."""

COUNT_FEATURES = 22
LATTICE_FEATURES = 9


def floor_of(counts: NDArray[np.uint16]) -> Floats:
    """Return what a blank frame shows with each parameter set, from the counts (F, S)."""
    return np.quantile(counts, BLANK, axis=0).astype(float)


def count_features(
    counts: ArrayLike, floor: ArrayLike, bright: ArrayLike, volume: float
) -> Floats:
    """Return what is told by counts alone.

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
        *(np.broadcast_to(_log(each)[:, None], counts.shape) for each in np.asarray(bright).T),
        np.full(counts.shape, (np.log(volume) - _VOLUME) / _SCALE),
    ]
    return _quadratic(first, COUNT_FEATURES)


def lattice_features(own: ArrayLike, other: ArrayLike, volume: float) -> Floats:
    """Return what is told by a frame's lattice: peaks on its nodes, and other ones.

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
    return _quadratic([*first, size], LATTICE_FEATURES + 1)[..., :-1]


def _log(counts: Floats) -> Floats:
    return (np.log1p(counts) - _MIDDLE) / _SCALE


def _quadratic(first: list[Floats], n: int) -> Floats:
    """Return 1, the features, and all their products but the first of all (n) that fit."""
    second = [a * b for i, a in enumerate(first) for b in first[: i + 1]]
    return np.stack([np.ones_like(first[0]), *first, *second], axis=-1)[..., :n]
