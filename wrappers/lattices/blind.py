"""Lattices of one frame, found without knowing the cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.lattices.blind_search import NEAREST, best_triples, lattice_vectors, refine_basis
from wrappers.lattices.bravais import reduced
from wrappers.lattices.lattice_chance import significance
from wrappers.lattices.lattice_fit import apart, distances

__all__ = ["LEAST_PEAKS", "LONGEST", "BlindLattice", "find_lattices", "same_lattice"]

Floats = NDArray[np.float64]

LONGEST = 350.0
"""Longest vector of a primitive cell that is sought, in Å."""
SHORTEST = 4.0
"""Shortest, in Å."""

_SEARCH_PEAKS = 60
"""Peaks that the search for vectors uses: those of lowest resolution among the strongest."""
_STRONG_PEAKS = 200
"""Peaks that decide between lattices: the strongest."""
LEAST_PEAKS = 9
"""A basis of three vectors has nine numbers, which fewer peaks cannot test."""
_VECTORS, _SHORT_VECTORS = 60, 36
"""Vectors that are kept of the search, and the shortest of them, which are tried as a basis."""
_TRIPLES = 24
"""Bases that are refined."""
_NEAR = (0.006, 0.003)
"""Distance of a peak from its node, in 1/Å, up to which it takes part in the refinement."""
LARGEST_VOLUME = 1e9
"""Of a primitive cell, in Å³."""
_SPLIT = 5e-4
"""Peaks nearer to each other than this, in 1/Å, are the parts of one."""


@dataclass(frozen=True, eq=False)
class BlindLattice:
    """A lattice that was found without a cell.

    Attributes
    ----------
    reciprocal : float64 array (3, 3)
        Rows a*, b*, c* of a reduced primitive cell, in 1/Å.
    evidence : float
        Natural logarithm of the inverse of the chance of so good a lattice in a list of peaks
        without one (`lattice_chance.significance`), with all that was free to choose.
    shift : float64 array (2,)
        Of all peaks across the beam, in 1/Å: what a wrong beam centre would make.
    """

    reciprocal: Floats
    evidence: float
    shift: Floats

    @property
    def real(self) -> Floats:
        """Rows a, b, c of the reduced primitive cell, in Å."""
        return np.linalg.inv(self.reciprocal).T.astype(np.float64)


def find_lattices(
    q: ArrayLike,
    strength: ArrayLike | None = None,
    *,
    longest: float = LONGEST,
    n_lattices: int = 3,
) -> list[BlindLattice]:
    """Find the most likely lattices of the peaks of one frame.

    Of the many lattices that the peaks of a crystal fit, the right one and those that have it as
    a part, the most significant explains the peaks with the fewest nodes.

    Parameters
    ----------
    q : array (n, 3)
        Scattering vectors in 1/Å.
    strength : array (n,), optional
        How far a peak is to be trusted, such as its intensity. By default those of lowest
        resolution come first.
    longest : float
        Longest vector of the primitive cell that is sought, in Å.
    n_lattices : int
        At most so many are returned, which differ.

    Returns
    -------
    list of BlindLattice
        The most significant first; the same for the same input. Empty for fewer than nine peaks.
    """
    q = np.ascontiguousarray(q, float).reshape(-1, 3)
    length = np.linalg.norm(q, axis=1)
    strength = -length if strength is None else np.asarray(strength, float)
    usable = np.flatnonzero(np.isfinite(length) & np.isfinite(strength) & (length > 0))
    strongest = usable[np.argsort(-strength[usable], kind="stable")]
    strongest = strongest[apart(q[strongest], _SPLIT)][:_STRONG_PEAKS]
    if len(strongest) < LEAST_PEAKS:
        return []
    lowest = strongest[np.argsort(length[strongest], kind="stable")][:_SEARCH_PEAKS]
    vectors, scores = np.empty((_VECTORS, 3)), np.empty(_VECTORS)
    n = lattice_vectors(q[lowest], SHORTEST, longest, vectors, scores)
    short = np.argsort(np.linalg.norm(vectors[:n], axis=1), kind="stable")[:_SHORT_VECTORS]
    peaks = q[strongest]
    rms = float(np.sqrt((peaks**2).sum(axis=1).mean()))
    bases, evidence = np.empty((_TRIPLES, 3, 3)), np.empty(_TRIPLES)
    n = best_triples(peaks, vectors[short], rms, bases, evidence)
    refined = [_refined(peaks, basis, rms) for basis in bases[:n]]
    refined.sort(key=lambda one: -one.evidence)
    found: list[BlindLattice] = []
    for one in refined:
        if not any(same_lattice(one.real, other.real) for other in found):
            found.append(one)
        if len(found) == n_lattices:
            break
    return found


def _refined(peaks: Floats, basis: Floats, rms: float) -> BlindLattice:
    reciprocal = np.ascontiguousarray(np.linalg.inv(reduced(basis)).T)
    shift = refine_basis(peaks, reciprocal, _NEAR, 6)
    moved = peaks.copy()
    moved[:, :2] -= shift
    determinant = abs(float(np.linalg.det(reciprocal)))
    if not determinant > LARGEST_VOLUME**-1:
        # The peaks lie in a plane or on a line, and leave an axis open.
        return BlindLattice(np.linalg.inv(basis).T.astype(np.float64), -math.inf, shift)
    d = np.maximum(distances(moved, reciprocal), NEAREST)
    value = significance(d, rms, 1.0 / determinant, 1.0, 6.0)
    real = reduced(np.linalg.inv(reciprocal).T)
    return BlindLattice(np.linalg.inv(real).T.astype(np.float64), float(value), shift)


def same_lattice(one: Floats, other: Floats, tolerance: float = 0.1) -> bool:
    """Whether two bases (rows, Å) in one frame of reference span nearly the same lattice."""
    change = one @ np.linalg.inv(other)
    whole = np.rint(change)
    return bool(
        np.abs(change - whole).max() < tolerance and round(abs(float(np.linalg.det(whole)))) == 1
    )
