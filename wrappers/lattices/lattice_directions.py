"""Kernels that find the directions in which a crystal lattice may have a vector of known length.

If **v** is a vector of the lattice, **q**·**v** is a whole number for every Bragg peak **q**, and
the sum of cos(2π **q**·**v**) over the peaks is large. Directions are sampled all around, as in
TORO and XGandalf (see `lattice_search`).

A shift of all peaks, which is what a wrong beam centre makes in first order, adds the same phase
to each **q**·**v**. It counts where lattice vectors are long: 0.002 1/Å are half a period of 250 Å.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import inlined, inner_kernel
from wrappers.peakfinding.vectors import matrix

__all__ = ["Sphere", "add_fringes", "axes_about", "find_directions", "polish"]

_MAX_PEAKS_ON_SPHERE = 8192


class Sphere(NamedTuple):
    """Scratch of `find_directions`: see `Sphere.for_step`."""

    c: NDArray[np.float32]
    s: NDArray[np.float32]
    ring: NDArray[np.float32]
    quadrature: NDArray[np.float32]
    score: NDArray[np.float64]
    where: NDArray[np.float64]

    @classmethod
    def for_step(cls, finest: float) -> Sphere:
        """Return scratch for angular steps as fine as that, in radians."""
        c, s, ring, quadrature = np.empty((4, int(2.0 * math.pi / finest) + 3), np.float32)
        return cls(
            c,
            s,
            ring,
            quadrature,
            np.empty(_MAX_PEAKS_ON_SPHERE),
            np.empty((_MAX_PEAKS_ON_SPHERE, 3)),
        )


@inner_kernel(fastmath=True)
def add_fringes(x, y, z, c, s, n, out):
    """Add cos(2π(x·c + y·s + z)), as an even polynomial, to ``out``."""
    for j in range(n):
        f = x * c[j] + y * s[j] + z
        f -= np.rint(f)
        f *= f
        # cos(2πf) to 0.003 on |f| <= 1/2
        out[j] += np.float32(1.0) + f * (
            np.float32(-19.7092) + f * (np.float32(63.7635) + f * np.float32(-75.95))
        )


@inner_kernel
def _mean(values, n):
    """Return the mean of the first n values (float32)."""
    total = np.float32(0.0)
    for j in range(n):
        total += values[j]
    return total / n


@inlined
def find_directions(q, length, step, shifted, best, sphere):
    """Write the best directions of a lattice vector of a given length to the rows of ``best``.

    A hemisphere is sampled in rings about the beam. A score is the sum of cos(2π q·v) less its
    mean over the ring: what remains does not come from the peaks' resolution rings alone, which
    any lattice explains, but from where they lie on them. A shift of all peaks adds one phase to
    all terms; where it may be large, the modulus of the complex sum is the score, in which it
    has no part. Returns how many were found. ``sphere`` is a `Sphere`, for no finer a step.
    """
    n_rings = math.ceil(0.5 * math.pi / step)
    c, s, ring, quadrature, score, where = sphere
    n_peaks = 0
    # in standard deviations of a sum at random, and of the two parts of a complex one
    floor = (3.2 if shifted else 2.5) * math.sqrt(0.5 * len(q))
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
            quadrature[j] = 0.0
        for m in range(len(q)):
            x = np.float32(length * sin_t * q[m, 0])
            y = np.float32(length * sin_t * q[m, 1])
            z = np.float32(length * cos_t * q[m, 2])
            add_fringes(x, y, z, c, s, n, ring)
            if shifted:
                add_fringes(x, y, z - np.float32(0.25), c, s, n, quadrature)
        mean = _mean(ring, n)
        if shifted:
            other = _mean(quadrature, n)
            for j in range(n):
                one, two = ring[j] - mean, quadrature[j] - other
                ring[j] = math.sqrt(one * one + two * two)
            mean = np.float32(0.0)
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


@inner_kernel
def axes_about(u, e):
    """Write a right-handed set of unit vectors (rows of ``e``) of which the first is ``u``."""
    e[1, 0] = e[1, 1] = e[1, 2] = 0.0
    if abs(u[2]) < 0.9:
        norm = math.sqrt(u[0] * u[0] + u[1] * u[1])
        e[1, 0], e[1, 1] = -u[1] / norm, u[0] / norm
    else:
        norm = math.sqrt(u[1] * u[1] + u[2] * u[2])
        e[1, 1], e[1, 2] = -u[2] / norm, u[1] / norm
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        e[0, i] = u[i]
        e[2, i] = u[i1] * e[1, i2] - u[i2] * e[1, i1]


@inner_kernel
def _phase(q, length, u):
    """Return the phase, in cycles, that all q·v have in common."""
    c, s = 0.0, 0.0
    for i in range(len(q)):
        angle = 2.0 * math.pi * length * (q[i, 0] * u[0] + q[i, 1] * u[1] + q[i, 2] * u[2])
        c += math.cos(angle)
        s += math.sin(angle)
    return math.atan2(s, c) / (2.0 * math.pi)


@inner_kernel
def polish(q, length, u, shifted, n_iterations):
    """Refine the direction ``u`` of a lattice vector in place by least squares.

    Returns the phase that all q·v have in common, 0 unless ``shifted``.
    """
    phase = 0.0
    e = matrix(3, 3)
    for _ in range(n_iterations):
        if shifted:
            phase = _phase(q, length, u)
        axes_about(u, e)
        a11, a12, a22, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(len(q)):
            f = length * (q[i, 0] * u[0] + q[i, 1] * u[1] + q[i, 2] * u[2]) - phase
            f -= np.rint(f)
            w = f / 0.3
            w = 1.0 - w * w
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
    return _phase(q, length, u) if shifted else 0.0
