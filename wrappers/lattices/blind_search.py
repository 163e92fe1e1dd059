"""Kernels that search peaks for lattice vectors when the cell is unknown.

If **v** is a vector of the crystal lattice, **q**·**v** is a whole number for every Bragg peak
**q**, so the sum of cos(2π **q**·**v**) over the peaks is large. Here **v** is sought in the whole
ball of possible vectors, one spherical shell of lengths after another, as XGandalf does (Gevorkov
et al., Acta Cryst. A75 (2019) 694); the autoindexing of Steller, Bolotovsky & Rossmann (J. Appl.
Cryst. 30 (1997) 1036) looks at the same sums by a Fourier transform a direction. Three vectors make
a lattice; which three is decided by `lattice_chance.significance`, which charges a large cell for
the many nodes that it has.

Scattering vectors are in 1/Å, vectors of the crystal in Å. Nothing is random.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.lattices.lattice_chance import significance_of
from wrappers.lattices.lattice_directions import Sphere, find_directions
from wrappers.lattices.lattice_fit import invert, length_of, solve, write_distances
from wrappers.peakfinding.vectors import larger, matrix, smaller, views
from wrappers.sorting import DEPTH

__all__ = ["NEAREST", "best_triples", "lattice_vectors", "refine_basis"]

Floats = NDArray[np.float64]

_PHASE_STEP = 0.4
"""Steps of a shell's length and of a direction, in cycles of the peak of highest resolution."""
_PER_SHELL = 12
"""Directions that are followed up in each shell."""
_FLAT = 0.15
"""A triple spans at least this share of the volume of a box with its edges."""
NEAREST = 1e-5
"""Distance of a peak from a node, in 1/Å, below which no peak finder places it: as many numbers as
peaks fit exactly, and mean nothing."""


@inner_kernel
def _polish_vector(q, v, n_iterations):
    """Fit q·v to whole numbers by least squares with Tukey's weights; return the sum of cosines."""
    numbers = matrix(4, 3)
    a, b = numbers, numbers[3]
    for _ in range(n_iterations):
        for j in range(3):
            b[j] = 0.0
            for m in range(3):
                a[j, m] = 0.0
        for i in range(len(q)):
            f = q[i, 0] * v[0] + q[i, 1] * v[1] + q[i, 2] * v[2]
            f -= np.rint(f)
            w = f / 0.3
            w = 1.0 - w * w
            if w <= 0.0:
                continue
            w *= w
            for j in range(3):
                b[j] -= w * q[i, j] * f
                for m in range(j + 1):
                    a[j, m] += w * q[i, j] * q[i, m]
        # a still says little of a vector along the beam: what the peaks leave open stays
        ridge = 1e-3 * (a[0, 0] + a[1, 1] + a[2, 2]) + 1e-12
        for j in range(3):
            a[j, j] += ridge
        solve(a, b, np.int64(3))
        for j in range(3):
            v[j] += b[j]
    total = 0.0
    for i in range(len(q)):
        total += math.cos(2.0 * math.pi * (q[i, 0] * v[0] + q[i, 1] * v[1] + q[i, 2] * v[2]))
    return total


def lattice_vectors(
    q: Floats, shortest: float, longest: float, vectors: Floats, scores: Floats
) -> int:
    """Fill ``vectors`` with likely lattice vectors, best first; return how many there are.

    Parameters
    ----------
    q : float64 array (n, 3)
        The peaks to search with, in 1/Å.
    shortest, longest : float
        Of a vector, in Å.
    vectors : float64 array (m, 3)
    scores : float64 array (m,)
        Filled with the mean of cos(2π q·v).
    """
    outer = math.sqrt(float((q**2).sum(axis=1).max()))
    pitch = _PHASE_STEP / outer
    sphere = Sphere.for_step(min(0.3, pitch / max(longest + pitch, shortest + pitch)))
    seeds, lengths = np.empty((_PER_SHELL, 3)), (float(shortest), float(longest))
    found: int = _lattice_vectors(
        np.ascontiguousarray(q), *lengths, pitch, vectors, scores, seeds, sphere
    )
    return found


@bare_kernel
def _lattice_vectors(q, shortest, longest, pitch, vectors, scores, seeds, sphere):
    """Do as `lattice_vectors`, with scratch for the directions of a shell."""
    q, vectors, scores, seeds, sphere = views((q, vectors, scores, seeds, sphere))
    v = matrix(1, 3)[0]
    n_shells = math.ceil((longest - shortest) / pitch)
    shifted = bool(0)  # (Numba compiles a function apart for a plain False.)
    n = np.int64(0)
    for shell in range(n_shells):
        length = shortest + (shell + 0.5) * pitch
        step = smaller(0.3, pitch / length)
        for i in range(find_directions(q, length, step, shifted, seeds, sphere)):
            for j in range(3):
                v[j] = length * seeds[i, j]
            score = _polish_vector(q, v, 4) / len(q)
            size = length_of(v)
            if size < shortest or size > longest:
                continue
            n = _enter(v, score, 0.3 * pitch, n, vectors, scores)
    return n


@inner_kernel
def _enter(v, score, near, n, vectors, scores):
    """Enter a vector into the list of the best, in the place of its like; return its length."""
    place = smaller(n, len(scores) - 1)
    full = n == len(scores)
    for j in range(n):
        plus = minus = 0.0
        for m in range(3):
            less, more = vectors[j, m] - v[m], vectors[j, m] + v[m]
            plus += less * less
            minus += more * more
        if smaller(plus, minus) < near * near:
            place, full = j, True
            break
    if full and n > place and score <= scores[place]:
        return n
    while place > 0 and score > scores[place - 1]:
        scores[place] = scores[place - 1]
        for m in range(3):
            vectors[place, m] = vectors[place - 1, m]
        place -= 1
    scores[place] = score
    for m in range(3):
        vectors[place, m] = v[m]
    return n if full else n + 1


@inner_kernel
def _copy_basis(basis, to):
    # Number by number: Numba takes seconds to compile what it says of arrays that do not fit.
    for i in range(3):
        for j in range(3):
            to[i, j] = basis[i, j]


def best_triples(q: Floats, vectors: Floats, q_rms: float, bases: Floats, evidence: Floats) -> int:
    """Fill ``bases`` with the triples of vectors that make the most significant lattices.

    Parameters
    ----------
    q : float64 array (n, 3)
        All peaks, in 1/Å.
    vectors : float64 array (m, 3)
        Lattice vectors in Å.
    q_rms : float
    bases : float64 array (k, 3, 3)
        Rows: vectors of the crystal in Å, best basis first.
    evidence : float64 array (k,)
        See `lattice_chance.significance`.

    Returns
    -------
    int
        How many were found.
    """
    room = np.empty(len(q)), np.empty((DEPTH, 2), np.int64), np.empty(len(vectors)), np.empty(0)
    found: int = _best_triples(q, vectors, float(q_rms), bases, evidence, room)
    return found


@bare_kernel
def _best_triples(q, vectors, q_rms, bases, evidence, room):
    """Do as `best_triples`."""
    q, vectors, bases, evidence, room = views((q, vectors, bases, evidence, room))
    d, waiting, size, nothing = room
    n, m, most = np.int64(0), len(vectors), len(evidence)
    basis, real, recip = matrix(3, 3), matrix(3, 3), matrix(3, 3)
    for i in range(m):
        size[i] = length_of(vectors[i])
    for i in range(m):
        for j in range(i + 1, m):
            x = vectors[i, 1] * vectors[j, 2] - vectors[i, 2] * vectors[j, 1]
            y = vectors[i, 2] * vectors[j, 0] - vectors[i, 0] * vectors[j, 2]
            z = vectors[i, 0] * vectors[j, 1] - vectors[i, 1] * vectors[j, 0]
            flat = 2.0 * _FLAT * size[i] * size[j]
            if x * x + y * y + z * z < flat * flat:
                continue
            for k in range(j + 1, m):
                volume = abs(x * vectors[k, 0] + y * vectors[k, 1] + z * vectors[k, 2])
                if volume < _FLAT * size[i] * size[j] * size[k]:
                    continue
                for c in range(3):
                    basis[0, c], basis[1, c] = vectors[i, c], vectors[j, c]
                    basis[2, c] = vectors[k, c]
                invert(basis, real)
                for a in range(3):
                    for c in range(3):
                        recip[a, c] = real[c, a]
                write_distances(q, recip, d)
                for a in range(len(d)):
                    if d[a] < NEAREST:
                        d[a] = NEAREST
                value = significance_of(d, nothing, waiting, q_rms, volume, 1.0, 6.0)
                place = n if n < most else most - 1
                if n == most and value <= evidence[place]:
                    continue
                while place > 0 and value > evidence[place - 1]:
                    evidence[place] = evidence[place - 1]
                    _copy_basis(bases[place - 1], bases[place])
                    place -= 1
                evidence[place] = value
                _copy_basis(basis, bases[place])
                if n < most:
                    n += 1
    return n


def refine_basis(q: Floats, recip: Floats, near: tuple[float, float], n_iterations: int) -> Floats:
    """Refine all nine numbers of a reciprocal basis in place, and return the peaks' common shift.

    Gauss-Newton steps with Tukey's weights on the distances between peaks and nodes. A shift of
    all peaks across the beam, as a wrong beam centre makes it, is fitted with it.

    Parameters
    ----------
    q : float64 array (n, 3)
        In 1/Å.
    recip : float64 array (3, 3)
        Rows a*, b*, c*; changed in place.
    near : tuple of 2 floats
        Distance in 1/Å beyond which a peak has no weight, in the first and the last iteration.
    n_iterations : int

    Returns
    -------
    float64 array (2,)
        Shift of the peaks along x and y, in 1/Å.
    """
    shift = np.zeros(2)
    _refine_basis(q, recip, near, n_iterations, shift)
    return shift


@bare_kernel
def _refine_basis(q, recip, near, n_iterations, shift):
    """Do as `refine_basis`."""
    q, recip, shift = views((q, recip, shift))
    numbers = matrix(6, 4)
    a, b, row = numbers, numbers[4], numbers[5]
    threes = matrix(8, 3)
    change, h, moved, real = threes, threes[3], threes[4], matrix(3, 3)
    for it in range(n_iterations):
        reach = near[0] + it / larger(1, n_iterations - 1) * (near[1] - near[0])
        invert(recip, real)
        for column in range(3):
            for u in range(4):
                b[u] = 0.0
                for v in range(4):
                    a[u, v] = 0.0
            size = 4 if column < 2 else 3
            for i in range(len(q)):
                x, y, z = q[i, 0] - shift[0], q[i, 1] - shift[1], q[i, 2]
                off = 0.0
                for j in range(3):
                    h[j] = np.rint(x * real[0, j] + y * real[1, j] + z * real[2, j])
                residual = 0.0
                for c in range(3):
                    d = (x if c == 0 else y if c == 1 else z) - (
                        h[0] * recip[0, c] + h[1] * recip[1, c] + h[2] * recip[2, c]
                    )
                    off += d * d
                    if c == column:
                        residual = d
                w = 1.0 - off / (reach * reach)
                if w <= 0.0 or (h[0] == 0.0 and h[1] == 0.0 and h[2] == 0.0):
                    continue
                w *= w
                row[0], row[1], row[2], row[3] = h[0], h[1], h[2], 1.0
                for u in range(size):
                    b[u] += w * row[u] * residual
                    for v in range(u + 1):
                        a[u, v] += w * row[u] * row[v]
            for u in range(3):
                a[u, u] += 1e-3
            # a shift of 0.001 1/Å is expected where peaks are off by about as much
            a[3, 3] += 1.0
            solve(a, b, np.int64(4))
            for u in range(3):
                change[u, column] = b[u]
            if column < 2:
                moved[column] = b[3]
        for u in range(3):
            for column in range(3):
                recip[u, column] += change[u, column]
        for column in range(2):
            shift[column] += moved[column]
