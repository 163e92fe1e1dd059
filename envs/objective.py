"""What a search maximises, and when the indexed frames know the geometry better than it does.

Plain rules on numbers or arrays, so that a session on frames and thousands of simulated ones at
once follow the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "FEWEST_INDEXED",
    "GEOMETRY",
    "MISLEADING",
    "UNINDEXED_HIT_PENALTY",
    "WELL_KNOWN",
    "knows_geometry",
    "merit",
]

GEOMETRY = ("clen", "shift_x", "shift_y")
"""Settings that the indexed frames' lattices tell better than the rate, which is flat there."""

MISLEADING = 30
"""In resolutions of a geometry parameter: a rate measured this far off says little about the peak
settings."""

UNINDEXED_HIT_PENALTY = 0.2
"""In indexed frames: five hits in vain outweigh one more indexed frame."""

WELL_KNOWN = 6
"""In resolutions of the parameter: a standard error that ends the search for it."""

FEWEST_INDEXED = 3
"""Indexed frames below which their lattices are not asked for the geometry."""


def merit(
    n_frames: ArrayLike,
    n_hits: ArrayLike,
    n_indexed: ArrayLike,
    n_decoys: ArrayLike,
    n_decoys_indexed: ArrayLike,
    *,
    unindexed_hit_penalty: ArrayLike = UNINDEXED_HIT_PENALTY,
) -> Any:
    """Return the indexing rate, less what chance alone would index, less the price of waste.

    Chance is told by the decoys: the share of them that were indexed, times the share of
    frames that are hits. Waste are hits that are not indexed: they fill the disk and take the
    indexer's time, 10 to 30 times as much as others with CrystFEL.

    Parameters
    ----------
    n_frames, n_hits, n_indexed, n_decoys, n_decoys_indexed : array_like of int
        Counts, broadcast against each other.
    unindexed_hit_penalty : array_like of float
        In indexed frames; 0 gives the net indexing rate.
    """
    frames = np.maximum(n_frames, 1)
    hits, indexed = np.asarray(n_hits), np.asarray(n_indexed)
    by_chance = np.asarray(n_decoys_indexed) / np.maximum(n_decoys, 1) * hits
    return (indexed - by_chance - np.asarray(unindexed_hit_penalty) * (hits - indexed)) / frames


def knows_geometry(n_indexed: ArrayLike, standard_error: ArrayLike, resolution: ArrayLike) -> Any:
    """Whether an evaluation's lattices place a geometry parameter well enough to end its search.

    Parameters
    ----------
    n_indexed : array_like of int
    standard_error, resolution : array_like of float
        In the parameter's unit; a NaN knows nothing.
    """
    enough = np.asarray(n_indexed) >= FEWEST_INDEXED
    return enough & (np.asarray(standard_error) < WELL_KNOWN * np.asarray(resolution))
