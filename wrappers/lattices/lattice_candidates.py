"""Indexing: a search, the refinement of what it finds, and what chance does not make is kept.

Of the many orientations that `lattice_search` proposes the promising ones are refined
together with the camera length and the detector shift, which a wrong geometry makes necessary,
first with the peaks of low resolution, then with all; the significance of what comes out decides.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.lattices.lattice_chance import Room as ChanceRoom
from wrappers.lattices.lattice_chance import chance_shares, significance_of
from wrappers.lattices.lattice_fit import (
    distances,
    invert,
    refine,
    scattering_vectors,
    write_distances,
    write_vectors,
)
from wrappers.lattices.lattice_search import Room as OrientationRoom
from wrappers.lattices.lattice_search import search_orientations
from wrappers.peakfinding.vectors import matrix, smaller, views

__all__ = ["find_lattice"]

_N_DIRECTIONS, _N_TURNS = 24, 3
"""Directions of a search, and turns about each, that are followed up."""
_N_FINAL = 6
"""Candidates that are refined to the end."""
_N_KEPT = 8
"""Candidates that are kept of each search vector."""
_N_AT_LEAST = 4
"""Of them so many are refined further in any case, the others only if they are not hopeless."""
_HOPELESS = -5.0
"""Evidence of the searched peaks below which nothing is hoped for. That of most lattices is above
20, that of the best candidate of noise about 0."""
_N_ITERATIONS = 3, 4, 6
"""Of the three refinements."""

Floats = NDArray[np.float64]
_Candidates = tuple[Floats, Floats, Floats]
"""Values, reciprocal bases and geometries."""


@inner_kernel
def _same_lattice(recip, other):
    """Return whether two bases span nearly the same lattice."""
    real = matrix(3, 3)
    invert(other, real)
    for i in range(3):
        for j in range(3):
            whole = recip[i, 0] * real[0, j] + recip[i, 1] * real[1, j] + recip[i, 2] * real[2, j]
            if abs(whole - np.rint(whole)) > 0.1:
                return False
    return True


@inner_kernel
def _copy(recip, geometry, to_recip, to_geometry):
    for i in range(3):
        to_geometry[i] = geometry[i]
        for j in range(3):
            to_recip[i, j] = recip[i, j]


@inner_kernel
def _keep(value, recip, geometry, n, top, recips, geometries):
    """Enter a candidate into the list of the ``n`` best, or in the place of its like.

    Returns the new length of the list.
    """
    place = smaller(n, len(top) - 1)
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


@bare_kernel
def _improve(t, k, lattice, modes, fit, n, start, kept, doubt, room):
    """Refine ``n`` candidates and keep the most significant, best first; return how many.

    ``start`` and ``kept`` are tuples of values, reciprocal bases and geometries. A cell that is
    free to change must earn its freedom. From the value ``doubt`` on it is asked whether the
    peaks could be near this lattice's nodes by chance. ``lattice`` is that of `find_lattice`, and
    the volume's cube root. ``fit`` has the tolerance, reach, priors and number of iterations of
    `refine`; ``room`` is for as many peaks as there are.
    """
    tolerance, reach, priors, n_iterations = fit
    t, modes, start, kept, room = views((t, modes, start, kept, room))
    _, recips, geometries = start
    volume, short, n_rotations, edge = lattice
    near = (tolerance[0] * short, tolerance[1] * short)
    total = 0.0
    for i in range(len(t)):
        x, y = t[i, 0], t[i, 1]
        total += 2.0 * k * k * (1.0 - 1.0 / math.sqrt(1.0 + x * x + y * y))
    rms = math.sqrt(total / len(t))
    n_kept = np.int64(0)
    for i in range(n):
        recip, geometry = recips[i], geometries[i]
        for free in range(2 if len(modes) else 1):
            n_modes = free * len(modes)
            refine(t, k, recip, geometry, modes, n_modes, near, reach, priors, n_iterations)
            changed = float(n_modes)
            write_vectors(t, k, geometry, room.q)
            write_distances(room.q, recip, room.d)
            value = significance_of(
                room.d, room.shares[:0], room.waiting, rms, volume, n_rotations, changed
            )
            if value >= doubt:
                chance_shares(t, k, recip, geometry, volume, edge, room)
                # (The distances again: these have been sorted, and others have taken their place.)
                write_vectors(t, k, geometry, room.q)
                write_distances(room.q, recip, room.d)
                value = significance_of(
                    room.d, room.shares, room.waiting, rms, volume, n_rotations, changed
                )
            if value > -math.inf:
                n_kept = _keep(value, recip, geometry, n_kept, kept[0], kept[1], kept[2])
    return n_kept


@bare_kernel
def _support(d, near):
    """Return how many peaks a lattice explains, weighted by how well, given their distances."""
    d = views(d)
    total = 0.0
    for i in range(len(d)):
        if d[i] < near:
            part = d[i] / near
            weight = 1.0 - part * part
            total += weight * weight
    return total


@bare_kernel
def _begin(bases, shifts, n, first, stretch, k, recips, geometries):
    """Write what `search_orientations` found with the vector `first` as `_improve` takes it."""
    bases, shifts, recips, geometries = views((bases, shifts, recips, geometries))
    real = matrix(3, 3)
    for i in range(n):
        invert(bases[i], real)
        geometries[i, 0] = stretch
        geometries[i, 1], geometries[i, 2] = -shifts[i, 0] / k, -shifts[i, 1] / k
        for j in range(3):
            for c in range(3):
                recips[i, (j + first) % 3, c] = real[c, j]


def _candidates(n: int) -> _Candidates:
    return np.empty(n), np.empty((n, 3, 3)), np.empty((n, 3))


def _size(q: Floats) -> float:
    x, y, z = q.tolist()
    return math.sqrt(x * x + y * y + z * z)


def find_lattice(
    t: Floats,
    searches: NDArray[np.intp],
    stretches: Floats,
    shifted: NDArray[np.bool_],
    k: float,
    cell: Floats,
    axes: NDArray[np.intp],
    lattice: tuple[float, float, float],
    modes: Floats,
    accept: float,
    priors: tuple[float, float, float],
) -> tuple[float, Floats, Floats]:
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
    n_refined = 20
    bases, shifts = np.empty((n_refined, 3, 3)), np.empty((n_refined, 2))
    room = OrientationRoom.for_found(_N_DIRECTIONS, _N_TURNS)
    all_peaks, searched = ChanceRoom.for_peaks(len(t)), ChanceRoom.for_peaks(searches.shape[1])
    no_modes = np.empty((0, 3, 3))
    known = *lattice, math.cbrt(lattice[0])
    start, kept = _candidates(n_refined), _candidates(_N_KEPT)
    gathered, final = _candidates(2 * _N_KEPT), _candidates(_N_FINAL)
    for search, stretch, is_shifted in zip(
        searches, stretches.tolist(), shifted.tolist(), strict=True
    ):
        ts = t[search]
        q = scattering_vectors(ts, k, stretch, 0.0, 0.0)
        middle, outer = _size(q[len(q) // 2]), _size(q[-1])
        reach = middle, outer
        n_gathered = 0
        for first, fold, polar in axes.tolist():
            n = search_orientations(
                q,
                np.ascontiguousarray(np.roll(cell, -first, axis=0)),
                fold,
                polar != 0,
                is_shifted,
                2.0,
                _N_TURNS,
                (bases, shifts),
                room,
            )
            _begin(bases, shifts, n, first, stretch, k, *start[1:])
            near, n_steps = (0.35, 0.3), _N_ITERATIONS[0]
            fit = near, reach, priors, n_steps
            n = _improve(ts, k, known, no_modes, fit, n, start, kept, math.inf, searched)
            for i in range(n):
                if i >= _N_AT_LEAST and kept[0][i] < _HOPELESS:
                    break
                for to, of in zip(gathered[1:], kept[1:], strict=True):
                    to[n_gathered] = of[i]
                n_gathered += 1
        reach = outer, 2.0 * k
        near, n_steps = (0.3, 0.25), _N_ITERATIONS[1]
        fit = near, reach, priors, n_steps
        n = _improve(ts, k, known, modes, fit, n_gathered, gathered, kept, math.inf, searched)
        promising = 0
        while promising < min(n, _N_FINAL) and kept[0][promising] > _HOPELESS:
            promising += 1
        near, n_steps = (0.3, 0.2), _N_ITERATIONS[2]
        fit = near, reach, priors, n_steps
        n = _improve(t, k, known, modes, fit, promising, kept, final, accept, all_peaks)
        for value, recip, geometry in zip(*(each[:n] for each in final), strict=True):
            d = distances(scattering_vectors(t, k, *geometry.tolist()), recip)
            support = _support(d, 0.2 * lattice[1])
            # a chance fit counts only as long as there is nothing better
            if value < accept and value < best:
                continue
            if best >= accept and support <= most:
                continue
            best, most = float(value), support
            best_recip, best_geometry = recip.copy(), geometry.copy()
        if best > accept + 10.0 and (2.5 * most >= len(t) or best > 1.8 * len(t)):
            break
    return best, best_recip, best_geometry
