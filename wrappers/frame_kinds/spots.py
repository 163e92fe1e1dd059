"""What a frame's spots say of its crystals: how bright, how far out, of one lattice or of several.

Differences of a lattice's scattering vectors are vectors of the lattice, and there are far fewer
short ones of these than pairs of spots: they repeat. Of two lattices those from a spot of one to a
spot of the other repeat by chance alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wrappers.frame_kinds.kernels import repeated
from wrappers.frame_kinds.measures import Measures

__all__ = ["ENOUGH_SPOTS", "brightest", "disorder", "gaps_of", "innermost", "strongest"]

Floats = NDArray[np.float64]

FAINT = 5.0
"""Photons of the brightest spot where there is none."""
ENOUGH_SPOTS = 15
"""Of a frame, to tell something of a lattice."""
STRONGEST = 100
REACH, EQUAL, FEWEST_VECTORS = 16.0, 0.15, 10
"""Vectors between spots that are so much longer than the smallest distance of a lattice's spots are
left out; those within so much of it are equal; and so many are needed (chosen on the train
family)."""


def brightest(measured: Measures) -> float:
    """Return the logarithm of the photons of the second brightest spot; of one, of that."""
    photons = np.sort(measured.spot_photons)[-2:]
    return math.log(max(photons[0], FAINT) if len(photons) else FAINT)


def innermost(measured: Measures) -> float:
    """Return within what a fifth of the spots are, in 0.1/Å; at least one is needed."""
    return float(np.quantile(np.linalg.norm(measured.spot_q, axis=1), 0.2)) * 10


def strongest(measured: Measures) -> Floats:
    """Return the scattering vectors of the strongest spots (n, 3)."""
    return measured.spot_q[np.argsort(-measured.spot_photons, kind="stable")[:STRONGEST]]


def gaps_of(spots: Floats) -> Floats:
    """Return the distance of each of some spots (n, 3), two or more, to the nearest other one."""
    distance, _ = cKDTree(spots).query(spots, k=2)
    return np.asarray(distance[:, 1])


def disorder(spots: Floats, gap: float) -> float:
    """Return how few of the vectors between spots repeat: below 0 for a lattice, 0 for chance.

    Parameters
    ----------
    spots : float64 array (n, 3)
        Scattering vectors in 1/Å.
    gap : float
        Smallest distance between spots of a lattice; 0 where nobody knows.

    Returns
    -------
    float
        Logarithm of the share of vectors that no other one is equal to, over the share that chance
        leaves; 0 where there are too few.
    """
    if len(spots) < ENOUGH_SPOTS or gap <= 0:
        return 0.0
    first, second = np.triu_indices(len(spots), k=1)
    vectors = spots[first] - spots[second]
    vectors = vectors[(vectors**2).sum(axis=1) < (REACH * gap) ** 2]
    n = len(vectors)
    if n < FEWEST_VECTORS:
        return 0.0
    both = np.concatenate([vectors, -vectors])
    both = both[np.argsort(both[:, 0], kind="stable")]
    alone = 1 - repeated(both, n, EQUAL * gap) / n
    # Spots lie almost in a plane, and so do the vectors between them.
    by_chance = math.exp(-2 * n * (EQUAL / REACH) ** 2)
    return math.log((alone + 0.01) / (by_chance + 0.01))
