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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.lattices.lattice_directions import (
    Sphere,
    add_fringes,
    axes_about,
    find_directions,
    polish,
)
from wrappers.lattices.lattice_fit import length_of
from wrappers.peakfinding.vectors import larger, matrix, smaller, views

__all__ = ["Room", "search_orientations"]

_LARGEST_SHIFT = 3e-3
"""Of all peaks, in 1/Å."""
_FINEST = 1e-3
"""Angular steps are no finer than this, in radians, however long the cell."""


@inner_kernel(fastmath=True)
def _add_nodes(p2, p3, x2, y2, x3, y3, weight, c, s, n, out):
    """Add how close q is to whole numbers along two lattice vectors that turn together."""
    one, zero, steep = np.float32(1.0), np.float32(0.0), np.float32(9.0)
    for j in range(n):
        f = p2 + x2 * c[j] + y2 * s[j]
        g = p3 + x3 * c[j] + y3 * s[j]
        f -= np.rint(f)
        g -= np.rint(g)
        out[j] += weight * larger(zero, one - steep * f * f) * larger(zero, one - steep * g * g)


@inner_kernel
def _common_shift(basis, phases, shift):
    """Write the shift (x, y) of all peaks that gives q·v its phases to ``shift``.

    As phases count whole cycles alike, the smallest shifts within `_LARGEST_SHIFT` are tried.
    """
    longest = 0.0
    for i in range(3):
        longest = larger(longest, length_of(basis[i]))
    n = math.ceil(4.0 * _LARGEST_SHIFT * longest)
    best = math.inf
    for i in range(-n, n + 1):
        for j in range(-n, n + 1):
            if i * i + j * j > n * n:
                continue
            x, y = _LARGEST_SHIFT * i / n, _LARGEST_SHIFT * j / n
            off = 1e-3 * (i * i + j * j) / (n * n)
            for m in range(3):
                f = basis[m, 0] * x + basis[m, 1] * y - phases[m]
                f -= np.rint(f)
                off += f * f
            if off < best:
                best = off
                shift[0], shift[1] = x, y
    a11 = a22 = 1e-9 * (longest * longest)
    a12 = b1 = b2 = 0.0
    for m in range(3):
        f = basis[m, 0] * shift[0] + basis[m, 1] * shift[1] - phases[m]
        f -= np.rint(f)
        a11 += basis[m, 0] * basis[m, 0]
        a12 += basis[m, 0] * basis[m, 1]
        a22 += basis[m, 1] * basis[m, 1]
        b1 -= basis[m, 0] * f
        b2 -= basis[m, 1] * f
    det = a11 * a22 - a12 * a12
    if det > 1e-3 * a11 * a22:
        shift[0] += (a22 * b1 - a12 * b2) / det
        shift[1] += (a11 * b2 - a12 * b1) / det


@inner_kernel
def _turns(q, shape, u, phase, shifted, n, n_keep, room, n_found):
    """Turn the cell about its first basis vector, held along ``u``; keep the best turns.

    Parameters
    ----------
    q : float64 array (n, 3)
    shape : float64 array (3, 3)
        Rows: the basis vectors, each along the first one and along two axes across.
    u : float64 array (3,)
    phase : float
        What q·v has along ``u`` beyond whole numbers.
    shifted : bool
        Whether there may be phases; then the moduli of complex sums are what counts.
    n : int
        Of the angles that are tried.
    n_keep : int
    room : Room
        With cosine and sine of the angles, and the scores, real-space bases and shifts to which
        those of the best turns are added.
    n_found : int
        How many there are already.

    Returns
    -------
    int
        How many there are then.
    """
    scores, bases, shifts, c, s, total, parts = room.turns
    axes = matrix(4, 3)
    phases, e = axes[3], axes
    axes_about(u, e)
    for j in range(n):
        total[j] = np.float32(0.0)
        for part in range(4):
            parts[part, j] = np.float32(0.0)
    for i in range(len(q)):
        along = q[i, 0] * u[0] + q[i, 1] * u[1] + q[i, 2] * u[2]
        f = shape[0, 0] * along - phase
        f -= np.rint(f)
        w = 1.0 - 9.0 * f * f
        if w <= 0.0:
            continue
        x = q[i, 0] * e[1, 0] + q[i, 1] * e[1, 1] + q[i, 2] * e[1, 2]
        y = q[i, 0] * e[2, 0] + q[i, 1] * e[2, 1] + q[i, 2] * e[2, 2]
        p2, p3 = np.float32(shape[1, 0] * along), np.float32(shape[2, 0] * along)
        x2 = np.float32(shape[1, 1] * x + shape[1, 2] * y)
        y2 = np.float32(shape[1, 1] * y - shape[1, 2] * x)
        x3 = np.float32(shape[2, 1] * x + shape[2, 2] * y)
        y3 = np.float32(shape[2, 1] * y - shape[2, 2] * x)
        if shifted:
            quarter = np.float32(0.25)
            add_fringes(x2, y2, p2, c, s, n, parts[0])
            add_fringes(x2, y2, p2 - quarter, c, s, n, parts[1])
            add_fringes(x3, y3, p3, c, s, n, parts[2])
            add_fringes(x3, y3, p3 - quarter, c, s, n, parts[3])
        else:
            _add_nodes(p2, p3, x2, y2, x3, y3, np.float32(w), c, s, n, total)
    if shifted:
        for j in range(n):
            total[j] = math.sqrt(parts[0, j] * parts[0, j] + parts[1, j] * parts[1, j])
            total[j] += math.sqrt(parts[2, j] * parts[2, j] + parts[3, j] * parts[3, j])
    for i in range(3):
        phases[i] = 0.0
    for _ in range(n_keep):
        best = 0
        for j in range(n):
            if total[j] > total[best]:
                best = j
        if total[best] <= 0.0:
            break
        cos, sin = c[best], s[best]
        for i in range(3):
            g1 = shape[i, 1] * cos - shape[i, 2] * sin
            g2 = shape[i, 1] * sin + shape[i, 2] * cos
            for j in range(3):
                bases[n_found, i, j] = shape[i, 0] * u[j] + g1 * e[1, j] + g2 * e[2, j]
        scores[n_found] = total[best]
        shifts[n_found, 0] = shifts[n_found, 1] = 0.0
        if shifted:
            phases[0] = phase
            for i in range(2):
                angle = math.atan2(parts[2 * i + 1, best], parts[2 * i, best])
                phases[i + 1] = angle / (2.0 * math.pi)
            _common_shift(bases[n_found], phases, shifts[n_found])
        n_found += 1
        for j in range(best - 2, best + 3):
            total[j % n] = -1.0
    return n_found


class Turns(NamedTuple):
    """What `search_orientations` works with.

    Scores, bases and shifts of what it finds; the cosine and sine of the angles that are tried, and
    sums for each of them.
    """

    scores: NDArray[np.float64]
    bases: NDArray[np.float64]
    shifts: NDArray[np.float64]
    c: NDArray[np.float32]
    s: NDArray[np.float32]
    total: NDArray[np.float32]
    parts: NDArray[np.float32]


class Room(NamedTuple):
    """Scratch of `search_orientations`: see `Room.for_found`."""

    sphere: Sphere
    turns: Turns
    seeds: NDArray[np.float64]

    @classmethod
    def for_found(cls, n_directions: int, n_turns: int) -> Room:
        """Return room for so many directions, and turns about each."""
        most, size = math.ceil(2.0 * math.pi / _FINEST), 2 * n_directions * n_turns
        c, s, total = np.empty((3, most), np.float32)
        parts = np.empty((4, most), np.float32)
        scores, bases, shifts = np.empty(size), np.empty((size, 3, 3)), np.empty((size, 2))
        turns = Turns(scores, bases, shifts, c, s, total, parts)
        return cls(Sphere.for_step(_FINEST), turns, np.empty((n_directions, 3)))


def search_orientations(
    q: NDArray[np.float64],
    basis: NDArray[np.float64],
    fold: int,
    polar: bool,
    shifted: bool,
    sharpness: float,
    n_turns: int,
    found: tuple[NDArray[np.float64], NDArray[np.float64]],
    room: Room,
) -> int:
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
    shifted : bool
        Whether all peaks may be shifted by so much that it counts for so long a cell.
    sharpness : float
        Angular steps are 1 / (sharpness × vector length × largest length of q).
    n_turns : int
        How many turns about each direction are kept, of as many directions as `room` is for.
    found : tuple of float64 arrays (m, 3, 3), (m, 2)
        Filled with the best real-space bases, best first, and the peaks' shifts in 1/Å.
    room : Room
        Overwritten.
    """
    numbers = int(fold), bool(polar), bool(shifted), float(sharpness), int(n_turns)
    n: int = _search_orientations(q, basis, numbers, found, room)
    return n


@bare_kernel
def _search_orientations(q, basis, numbers, found, room):
    """Do as `search_orientations`."""
    fold, polar, shifted, sharpness, n_turns = numbers
    q, basis, found, room = views((q, basis, found, room))
    scores, bases, shifts, c, s, _, _ = room.turns
    last = len(q) - 1
    fineness = sharpness * length_of(q[last])
    length = length_of(basis[0])
    longest = 0.0
    for i in range(1, 3):
        longest = larger(longest, length_of(basis[i]))
    step = smaller(0.2, larger(_FINEST, 1.0 / (fineness * length)))
    turn = smaller(0.2, larger(_FINEST, 1.0 / (fineness * longest)))
    n = np.int64(0)
    own, shape, first = matrix(3, 3), matrix(3, 3), matrix(1, 3)
    for i in range(3):
        first[0, i] = basis[0, i] / length
    axes_about(first[0], own)
    for i in range(3):
        for j in range(3):
            shape[i, j] = 0.0
            for m in range(3):
                shape[i, j] += basis[i, m] * own[j, m]
    n_turn = math.ceil(2.0 * math.pi / fold / turn)
    for i in range(n_turn):
        angle = 2.0 * math.pi / fold / n_turn * i
        c[i], s[i] = math.cos(angle), math.sin(angle)
    for i in range(find_directions(q, length, step, shifted, room.seeds, room.sphere)):
        u = room.seeds[i]
        phase = polish(q, length, u, shifted, 3)
        for _ in range(2 if polar else 1):
            n = _turns(q, shape, u, phase, shifted, n_turn, n_turns, room, n)
            for j in range(3):
                u[j] = -u[j]
            phase = -phase
    n_found = n if n < len(found[0]) else len(found[0])
    for place in range(n_found):
        best = 0
        for i in range(n):
            if scores[i] > scores[best]:
                best = i
        scores[best] = -1.0
        for i in range(3):
            for j in range(3):
                found[0][place, i, j] = bases[best, i, j]
        found[1][place, 0], found[1][place, 1] = shifts[best, 0], shifts[best, 1]
    return n_found
