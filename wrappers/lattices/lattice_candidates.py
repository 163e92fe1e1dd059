"""The kernel that indexes: it searches, refines what it finds, and keeps what chance does not make.

Of the many orientations that `lattice_search` proposes the promising ones are refined
together with the camera length and the detector shift, which a wrong geometry makes necessary,
first with the peaks of low resolution, then with all; the significance of what comes out decides.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from wrappers.lattices.lattice_chance import chance_shares, significance
from wrappers.lattices.lattice_fit import distances, inverse, refine, scattering_vectors
from wrappers.lattices.lattice_search import search_orientations

__all__ = ["find_lattice"]

_N_FINAL = 6
"""Candidates that are refined to the end."""
_N_KEPT = 8
"""Candidates that are kept of each search vector."""
_N_AT_LEAST = 4
"""Of them so many are refined further in any case, the others only if they are not hopeless."""
_HOPELESS = -5.0
"""Evidence of the searched peaks below which nothing is hoped for. That of most lattices is above
20, that of the best candidate of noise about 0."""
_N_ITERATIONS = np.array([3, 4, 6])
"""Of the three refinements (an array: Numba would compile anew for each literal number)."""


@njit(cache=True, nogil=True)
def _same_lattice(recip, other):
    """Return whether two bases span nearly the same lattice."""
    real = inverse(other)
    for i in range(3):
        for j in range(3):
            whole = recip[i, 0] * real[0, j] + recip[i, 1] * real[1, j] + recip[i, 2] * real[2, j]
            if abs(whole - np.rint(whole)) > 0.1:
                return False
    return True


@njit(cache=True, nogil=True)
def _copy(recip, geometry, to_recip, to_geometry):
    for i in range(3):
        to_geometry[i] = geometry[i]
        for j in range(3):
            to_recip[i, j] = recip[i, j]


@njit(cache=True, nogil=True)
def _keep(value, recip, geometry, n, top, recips, geometries):
    """Enter a candidate into the list of the ``n`` best, or in the place of its like.

    Returns the new length of the list.
    """
    place = min(n, len(top) - 1)
    full = n == len(top)
    for j in range(n):
        if _same_lattice(recip, recips[j]):
            place = j
            full = True
            break
    if full and value <= top[place]:
        return n
    while place > 0 and value > top[place - 1]:
        top[place] = top[place - 1]
        _copy(recips[place - 1], geometries[place - 1], recips[place], geometries[place])
        place -= 1
    top[place] = value
    _copy(recip, geometry, recips[place], geometries[place])
    return n if full else n + 1


@njit(cache=True, nogil=True)
def _improve(t, k, lattice, modes, tolerance, reach, priors, n_iterations, n, start, kept, doubt):
    """Refine ``n`` candidates and keep the most significant, best first; return how many.

    ``start`` and ``kept`` are tuples of values, reciprocal bases and geometries. A cell that is
    free to change must earn its freedom. From the value ``doubt`` on it is asked whether the
    peaks could be near this lattice's nodes by chance.
    """
    _, recips, geometries = start
    volume, short, n_rotations = lattice
    near = (tolerance[0] * short, tolerance[1] * short)
    total = 0.0
    for i in range(len(t)):
        total += 2.0 * k * k * (1.0 - 1.0 / math.sqrt(1.0 + t[i, 0] ** 2 + t[i, 1] ** 2))
    rms = math.sqrt(total / len(t))
    n_kept = np.int64(0)
    nothing = np.empty(0)
    for i in range(n):
        recip, geometry = recips[i], geometries[i]
        for free in range(2 if len(modes) else 1):
            n_modes = free * len(modes)
            refine(t, k, recip, geometry, modes, n_modes, near, reach, priors, n_iterations)
            q = scattering_vectors(t, k, geometry[0], geometry[1], geometry[2])
            d = distances(q, recip)
            value = significance(d, nothing, rms, volume, n_rotations, n_modes)
            if value >= doubt:
                shares = chance_shares(t, k, recip, geometry, volume)
                value = significance(d, shares, rms, volume, n_rotations, n_modes)
            if value > -math.inf:
                n_kept = _keep(value, recip, geometry, n_kept, kept[0], kept[1], kept[2])
    return n_kept


@njit(cache=True, nogil=True)
def _support(t, k, recip, geometry, near):
    """Return how many peaks a lattice explains, weighted by how well."""
    total = 0.0
    for d in distances(scattering_vectors(t, k, geometry[0], geometry[1], geometry[2]), recip):
        if d < near:
            total += (1.0 - (d / near) ** 2) ** 2
    return total


@njit(cache=True, nogil=True)
def _candidates(n):
    return np.empty(n), np.empty((n, 3, 3)), np.empty((n, 3))


@njit(cache=True, nogil=True)
def find_lattice(t, searches, stretches, shifted, k, cell, axes, lattice, modes, accept, priors):
    """Return the lattice of a known cell that explains most peaks.

    Parameters
    ----------
    t : float64 array (n, 2)
        Slopes of the rays.
    searches : int array (s, m)
        The rays that each search uses, in the order of their resolution.
    stretches : float64 array (s,)
        By how much the slopes are scaled in each, less one. No more are done once a lattice
        is found that leaves few peaks over.
    shifted : bool array (s,)
        Whether a search allows for large shifts (see `search_orientations`).
    k : float
        1/λ in 1/Å.
    cell : float64 array (3, 3)
        Rows: short real-space vectors of the primitive cell in Å.
    axes : int array (m, 3)
        Which of them are sought in all directions; the order of the lattice's rotation axis
        along each; whether it is polar (see `search_orientations`).
    lattice : tuple of 3 floats
        Volume of the primitive cell in Å³, length of its shortest reciprocal axis in 1/Å, order
        of the lattice's rotation group.
    modes : float64 array (j, 3, 3)
        Ways in which the cell may change; see `refine`.
    accept : float
        Evidence from which on a candidate counts.
    priors : tuple of 3 floats
        Weights of stretch, shift and each change of the cell being zero, for residuals in 1/Å.

    Returns
    -------
    evidence : float
        See `significance`; -inf without candidates.
    recip : float64 array (3, 3)
        Rows a*, b*, c* of the primitive cell in 1/Å.
    geometry : float64 array (3,)
        Stretch and shift of the slopes that go with it.
    """
    best, most, best_recip, best_geometry = -math.inf, 0.0, np.zeros((3, 3)), np.zeros(3)
    n_search = searches.shape[1]
    n_refined = 20
    ts = np.empty((n_search, 2))
    bases, shifts = np.empty((n_refined, 3, 3)), np.empty((n_refined, 2))
    basis = np.empty((3, 3))
    no_modes = np.empty((0, 3, 3))
    start, kept = _candidates(n_refined), _candidates(_N_KEPT)
    gathered, final = _candidates(2 * _N_KEPT), _candidates(_N_FINAL)
    for search in range(len(searches)):
        stretch = stretches[search]
        for i in range(n_search):
            ts[i, 0] = t[searches[search, i], 0]
            ts[i, 1] = t[searches[search, i], 1]
        q = scattering_vectors(ts, k, stretch, 0.0, 0.0)
        m, last = n_search // 2, n_search - 1
        middle = math.sqrt(q[m, 0] ** 2 + q[m, 1] ** 2 + q[m, 2] ** 2)
        outer = math.sqrt(q[last, 0] ** 2 + q[last, 1] ** 2 + q[last, 2] ** 2)
        n_gathered = np.int64(0)
        for axis in range(len(axes)):
            first = axes[axis, 0]
            for i in range(3):
                for j in range(3):
                    basis[i, j] = cell[(i + first) % 3, j]
            n = search_orientations(
                q,
                basis,
                axes[axis, 1],
                axes[axis, 2] != 0,
                shifted[search],
                2.0,
                24,
                3,
                (bases, shifts),
            )
            for i in range(n):
                real = inverse(bases[i])
                start[2][i, 0] = stretch
                start[2][i, 1], start[2][i, 2] = -shifts[i, 0] / k, -shifts[i, 1] / k
                for j in range(3):
                    for c in range(3):
                        start[1][i, (j + first) % 3, c] = real[c, j]
            reach = (middle, outer)
            n = _improve(
                ts,
                k,
                lattice,
                no_modes,
                (0.35, 0.3),
                reach,
                priors,
                _N_ITERATIONS[0],
                n,
                start,
                kept,
                math.inf,
            )
            for i in range(n):
                if i >= _N_AT_LEAST and kept[0][i] < _HOPELESS:
                    break
                _copy(kept[1][i], kept[2][i], gathered[1][n_gathered], gathered[2][n_gathered])
                n_gathered += 1
        reach = (outer, 2.0 * k)
        n = _improve(
            ts,
            k,
            lattice,
            modes,
            (0.3, 0.25),
            reach,
            priors,
            _N_ITERATIONS[1],
            n_gathered,
            gathered,
            kept,
            math.inf,
        )
        promising = 0
        while promising < min(n, _N_FINAL) and kept[0][promising] > _HOPELESS:
            promising += 1
        n = _improve(
            t,
            k,
            lattice,
            modes,
            (0.3, 0.2),
            reach,
            priors,
            _N_ITERATIONS[2],
            promising,
            kept,
            final,
            accept,
        )
        for i in range(n):
            value = final[0][i]
            support = _support(t, k, final[1][i], final[2][i], 0.2 * lattice[1])
            # a chance fit counts only as long as there is nothing better
            if value < accept and value < best:
                continue
            if best >= accept and support <= most:
                continue
            best, most = value, support
            _copy(final[1][i], final[2][i], best_recip, best_geometry)
        if best > accept + 10.0 and (2.5 * most >= len(t) or best > 1.8 * len(t)):
            break
    return best, best_recip, best_geometry
