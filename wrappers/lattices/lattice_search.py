"""Kernels that search peaks for the orientation of a known cell.

The search runs in real space, as in TORO (Gasparotto et al., J. Appl. Cryst. 57 (2024)) and
XGandalf (Gevorkov et al., Acta Cryst. A75 (2019) 694): if **v** is a vector of the crystal
lattice, **q**·**v** is a whole number for every Bragg peak **q**. A short lattice vector of
known length is tried in all directions; about each promising direction the rest of the cell is
turned.

All vectors are in the laboratory frame, z along the beam; scattering vectors are in 1/Å,
real-space vectors in Å. Nothing is random, so equal peaks give equal answers. The kernels are
written in loops and scalars, which Numba compiles several times faster than array expressions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["search_orientations"]

_MAX_PEAKS_ON_SPHERE = 8192


@njit(cache=True, nogil=True, fastmath=True)
def _add_fringes(x, y, z, c, s, n, out):
    """Add cos(2π(x·c + y·s + z)), as an even polynomial, to ``out``."""
    for j in range(n):
        f = x * c[j] + y * s[j] + z
        f -= np.rint(f)
        f *= f
        # cos(2πf) to 0.003 on |f| <= 1/2
        out[j] += np.float32(1.0) + f * (
            np.float32(-19.7092) + f * (np.float32(63.7635) + f * np.float32(-75.95))
        )


@njit(cache=True, nogil=True)
def _directions(q, length, step, best):
    """Write the best directions of a lattice vector of a given length to the rows of ``best``.

    A hemisphere is sampled in rings about the beam. A score is the sum of cos(2π q·v) less its
    mean over the ring: what remains does not come from the peaks' resolution rings alone, which
    any lattice explains, but from where they lie on them. Returns how many were found.
    """
    n_rings = math.ceil(0.5 * math.pi / step)
    longest = int(2.0 * math.pi / step) + 2
    c = np.empty(longest, np.float32)
    s = np.empty(longest, np.float32)
    ring = np.empty(longest, np.float32)
    score = np.empty(_MAX_PEAKS_ON_SPHERE)
    where = np.empty((_MAX_PEAKS_ON_SPHERE, 3))
    n_peaks = 0
    # in standard deviations of a sum at random
    floor = 2.5 * math.sqrt(0.5 * len(q))
    for i in range(n_rings):
        theta = (i + 0.5) * 0.5 * math.pi / n_rings
        sin_t, cos_t = math.sin(theta), math.cos(theta)
        n = math.ceil(2.0 * math.pi * sin_t / step)
        turn = 2.0 * math.pi / n
        cr, sr, cj, sj = math.cos(turn), math.sin(turn), 1.0, 0.0
        for j in range(n):
            c[j] = cj
            s[j] = sj
            cj, sj = cj * cr - sj * sr, cj * sr + sj * cr
            ring[j] = 0.0
        for m in range(len(q)):
            _add_fringes(
                np.float32(length * sin_t * q[m, 0]),
                np.float32(length * sin_t * q[m, 1]),
                np.float32(length * cos_t * q[m, 2]),
                c,
                s,
                n,
                ring,
            )
        mean = 0.0
        for j in range(n):
            mean += ring[j]
        mean /= n
        for j in range(n):
            value = ring[j] - mean
            if value < floor or ring[j] < ring[j - 1 if j else n - 1]:
                continue
            if ring[j] <= ring[j + 1 if j + 1 < n else 0] or n_peaks == _MAX_PEAKS_ON_SPHERE:
                continue
            score[n_peaks] = value
            where[n_peaks, 0] = sin_t * c[j]
            where[n_peaks, 1] = sin_t * s[j]
            where[n_peaks, 2] = cos_t
            n_peaks += 1
    close = math.cos(2.0 * step)
    for n_best in range(len(best)):
        top = -1
        for i in range(n_peaks):
            if score[i] > 0.0 and (top < 0 or score[i] > score[top]):
                top = i
        if top < 0:
            return n_best
        x, y, z = where[top, 0], where[top, 1], where[top, 2]
        best[n_best, 0], best[n_best, 1], best[n_best, 2] = x, y, z
        for i in range(n_peaks):
            if abs(x * where[i, 0] + y * where[i, 1] + z * where[i, 2]) > close:
                score[i] = 0.0
    return len(best)


@njit(cache=True, nogil=True)
def _axes(u):
    """Return a right-handed set of unit vectors (rows) of which the first is ``u``."""
    e = np.zeros((3, 3))
    if abs(u[2]) < 0.9:
        norm = math.sqrt(u[0] ** 2 + u[1] ** 2)
        e[1, 0], e[1, 1] = -u[1] / norm, u[0] / norm
    else:
        norm = math.sqrt(u[1] ** 2 + u[2] ** 2)
        e[1, 1], e[1, 2] = -u[2] / norm, u[1] / norm
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        e[0, i] = u[i]
        e[2, i] = u[i1] * e[1, i2] - u[i2] * e[1, i1]
    return e


@njit(cache=True, nogil=True)
def _polish(q, length, u, n_iterations):
    """Refine the direction ``u`` of a lattice vector in place by least squares."""
    for _ in range(n_iterations):
        e = _axes(u)
        a11, a12, a22, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(len(q)):
            f = length * (q[i, 0] * u[0] + q[i, 1] * u[1] + q[i, 2] * u[2])
            f -= np.rint(f)
            w = 1.0 - (f / 0.3) ** 2
            if w <= 0.0:
                continue
            w *= w
            x = length * (q[i, 0] * e[1, 0] + q[i, 1] * e[1, 1] + q[i, 2] * e[1, 2])
            y = length * (q[i, 0] * e[2, 0] + q[i, 1] * e[2, 1] + q[i, 2] * e[2, 2])
            a11 += w * x * x
            a12 += w * x * y
            a22 += w * y * y
            b1 -= w * x * f
            b2 -= w * y * f
        # the ridge keeps a direction that the peaks leave open where it is
        ridge = 0.02 * (a11 + a22) + 1e-9
        a11 += ridge
        a22 += ridge
        det = a11 * a22 - a12 * a12
        d1 = (a22 * b1 - a12 * b2) / det
        d2 = (a11 * b2 - a12 * b1) / det
        norm = math.sqrt(1.0 + d1 * d1 + d2 * d2)
        for i in range(3):
            u[i] = (u[i] + d1 * e[1, i] + d2 * e[2, i]) / norm


@njit(cache=True, nogil=True, fastmath=True)
def _add_nodes(p2, p3, x2, y2, x3, y3, weight, c, s, n, out):
    """Add how close q is to whole numbers along two lattice vectors that turn together."""
    one, zero, steep = np.float32(1.0), np.float32(0.0), np.float32(9.0)
    for j in range(n):
        f = p2 + x2 * c[j] + y2 * s[j]
        g = p3 + x3 * c[j] + y3 * s[j]
        f -= np.rint(f)
        g -= np.rint(g)
        out[j] += weight * max(zero, one - steep * f * f) * max(zero, one - steep * g * g)


@njit(cache=True, nogil=True)
def _turns(q, basis, u, span, step, n_keep, bases, scores, n_kept):
    """Turn the cell about its first basis vector, held along ``u``; keep the best turns.

    Writes real-space bases and their scores from the place ``n_kept`` on; returns the next
    free place.
    """
    # the basis in cylinder coordinates about its first vector
    v = math.sqrt(basis[0, 0] ** 2 + basis[0, 1] ** 2 + basis[0, 2] ** 2)
    shape = np.zeros((3, 3))
    own = _axes(basis[0] / v)
    for i in range(3):
        for j in range(3):
            shape[i, j] = (
                basis[i, 0] * own[j, 0] + basis[i, 1] * own[j, 1] + basis[i, 2] * own[j, 2]
            )
    e = _axes(u)
    n = math.ceil(span / step)
    c = np.empty(n, np.float32)
    s = np.empty(n, np.float32)
    total = np.empty(n, np.float32)
    turn = span / n
    for j in range(n):
        c[j] = math.cos(j * turn)
        s[j] = math.sin(j * turn)
        total[j] = 0.0
    for i in range(len(q)):
        along = q[i, 0] * u[0] + q[i, 1] * u[1] + q[i, 2] * u[2]
        f = v * along
        f -= np.rint(f)
        w = 1.0 - 9.0 * f * f
        if w <= 0.0:
            continue
        x = q[i, 0] * e[1, 0] + q[i, 1] * e[1, 1] + q[i, 2] * e[1, 2]
        y = q[i, 0] * e[2, 0] + q[i, 1] * e[2, 1] + q[i, 2] * e[2, 2]
        _add_nodes(
            np.float32(shape[1, 0] * along),
            np.float32(shape[2, 0] * along),
            np.float32(shape[1, 1] * x + shape[1, 2] * y),
            np.float32(shape[1, 1] * y - shape[1, 2] * x),
            np.float32(shape[2, 1] * x + shape[2, 2] * y),
            np.float32(shape[2, 1] * y - shape[2, 2] * x),
            np.float32(w),
            c,
            s,
            n,
            total,
        )
    for _ in range(n_keep):
        best = 0
        for j in range(n):
            if total[j] > total[best]:
                best = j
        if total[best] <= 0.0:
            break
        cos, sin = math.cos(best * turn), math.sin(best * turn)
        for i in range(3):
            g1 = shape[i, 1] * cos - shape[i, 2] * sin
            g2 = shape[i, 1] * sin + shape[i, 2] * cos
            for j in range(3):
                bases[n_kept, i, j] = shape[i, 0] * u[j] + g1 * e[1, j] + g2 * e[2, j]
        scores[n_kept] = total[best]
        n_kept += 1
        for j in range(best - 2, best + 3):
            total[j % n] = -1.0
    return n_kept


@njit(cache=True, nogil=True)
def search_orientations(q, basis, fold, polar, sharpness, n_directions, n_turns, bases):
    """Search for orientations that explain many peaks; return how many were found.

    Parameters
    ----------
    q : float64 array (n, 3)
        The peaks to search with, in 1/Å, in the order of their lengths.
    basis : float64 array (3, 3)
        Rows: the primitive real-space vectors of the known cell in Å; the first is tried in
        all directions.
    fold : int
        Order of the lattice's rotation axis along the first vector.
    polar : bool
        Whether no rotation of the lattice turns the first vector round.
    sharpness : float
        Angular steps are 1 / (sharpness × vector length × largest length of q).
    n_directions, n_turns : int
        How many directions, and how many turns about each, are kept.
    bases : float64 array (m, 3, 3)
        Filled with the best real-space bases, best first.
    """
    last = len(q) - 1
    fineness = sharpness * math.sqrt(q[last, 0] ** 2 + q[last, 1] ** 2 + q[last, 2] ** 2)
    length = math.sqrt(basis[0, 0] ** 2 + basis[0, 1] ** 2 + basis[0, 2] ** 2)
    longest = 0.0
    for i in range(1, 3):
        size = math.sqrt(basis[i, 0] ** 2 + basis[i, 1] ** 2 + basis[i, 2] ** 2)
        longest = max(longest, size)
    step = min(0.2, 1.0 / (fineness * length))
    turn = min(0.2, 1.0 / (fineness * longest))
    seeds = np.empty((n_directions, 3))
    senses = 2 if polar else 1
    every = np.empty((n_directions * n_turns * senses, 3, 3))
    scores = np.empty(n_directions * n_turns * senses)
    n = np.int64(0)
    for i in range(_directions(q, length, step, seeds)):
        u = seeds[i]
        _polish(q, length, u, 3)
        for _ in range(senses):
            n = _turns(q, basis, u, 2.0 * math.pi / fold, turn, n_turns, every, scores, n)
            u[0], u[1], u[2] = -u[0], -u[1], -u[2]
    found = min(int(n), len(bases))
    for place in range(found):
        best = 0
        for i in range(n):
            if scores[i] > scores[best]:
                best = i
        scores[best] = -1.0
        for i in range(3):
            for j in range(3):
                bases[place, i, j] = every[best, i, j]
    return found
