"""Kernels that fit a lattice of a known cell to the peaks of a still.

A peak is handled as the slopes x/z and y/z of its ray, because the two things that are usually
wrong with a geometry are simple there: a wrong camera length stretches all slopes by one
factor, a shifted detector adds a constant to them.

All vectors are in the laboratory frame, z along the beam; ``k`` is 1/λ in 1/Å, scattering
vectors are in 1/Å.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.peakfinding.vectors import larger, matrix, views

__all__ = [
    "apart",
    "distances",
    "invert",
    "length_of",
    "refine",
    "rotate",
    "scattering_vectors",
    "slopes",
    "solve",
    "write_distances",
    "write_vectors",
]

Floats = NDArray[np.float64]

_LOOSE = {"contract", "reassoc", "nsz", "arcp"}
"""Floating-point liberties that leave infinities and NaN alone."""


_MOST_MODES = 6
"""Ways in which a cell can change, at most ..."""
_MOST_ROWS, _MOST_NUMBERS = 3 * _MOST_MODES, 6 + _MOST_MODES
"""... with so many rows of what they move, and so many numbers to be refined."""


@inner_kernel
def invert(m, out):
    """Write the inverse of a 3 x 3 matrix.

    Here and in all other inner kernels of lattices arrays are views (`wrappers.array_views`).
    """
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            out[j, i] = m[i1, j1] * m[i2, j2] - m[i1, j2] * m[i2, j1]
    det = m[0, 0] * out[0, 0] + m[0, 1] * out[1, 0] + m[0, 2] * out[2, 0]
    for i in range(3):
        for j in range(3):
            out[i, j] /= det


@inner_kernel
def length_of(v):
    """Return the length of a vector."""
    return math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


def apart(q: Floats, radius: float) -> NDArray[np.int64]:
    """Return the indices of the vectors that are not within ``radius`` of one before them."""
    kept = np.empty(len(q), np.int64)
    return kept[: _apart(np.ascontiguousarray(q, float), float(radius), kept)]


@bare_kernel
def _apart(q, radius, kept):
    q, kept = views((q, kept))
    n = np.int64(0)
    for i in range(len(q)):
        new = True
        for place in range(n):
            j = kept[place]
            x, y, z = q[i, 0] - q[j, 0], q[i, 1] - q[j, 1], q[i, 2] - q[j, 2]
            if x * x + y * y + z * z < radius * radius:
                new = False
                break
        if new:
            kept[n] = i
            n += 1
    return n


def slopes(q: Floats, k: float) -> Floats:
    """Return the slopes x/z and y/z (n, 2) of the diffracted rays of scattering vectors."""
    along = k + q[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(q[:, :2] / along)


def scattering_vectors(
    t: Floats, k: float, stretch: float, shift_x: float, shift_y: float
) -> Floats:
    """Return q (n, 3) of rays whose slopes are scaled by 1 + stretch, then shifted."""
    q = np.empty((len(t), 3))
    geometry = np.array([stretch, shift_x, shift_y], float)
    _scattering_vectors(np.ascontiguousarray(t, float), float(k), geometry, q)
    return q


@bare_kernel
def _scattering_vectors(t, k, geometry, q):
    t, geometry, q = views((t, geometry, q))
    write_vectors(t, k, geometry, q)


@inner_kernel
def write_vectors(t, k, geometry, q):
    """Write the scattering vectors of rays, given stretch and shifts."""
    for i in range(len(t)):
        x = t[i, 0] * (1.0 + geometry[0]) + geometry[1]
        y = t[i, 1] * (1.0 + geometry[0]) + geometry[2]
        z = k / math.sqrt(1.0 + x * x + y * y)
        q[i, 0] = x * z
        q[i, 1] = y * z
        q[i, 2] = z - k


def distances(q: Floats, recip: Floats) -> Floats:
    """Return each scattering vector's distance from the nearest lattice node but 000, in 1/Å."""
    d = np.empty(len(q))
    _distances(np.ascontiguousarray(q, float), np.ascontiguousarray(recip, float), d)
    return d


@bare_kernel
def _distances(q, recip, d):
    q, recip, d = views((q, recip, d))
    write_distances(q, recip, d)


@inner_kernel(fastmath=_LOOSE)
def write_distances(q, recip, d):
    """Write what `distances` returns."""
    real = matrix(3, 3)
    invert(recip, real)
    for i in range(len(q)):
        zero = True
        x, y, z = q[i, 0], q[i, 1], q[i, 2]
        for a in range(3):
            h = np.rint(q[i, 0] * real[0, a] + q[i, 1] * real[1, a] + q[i, 2] * real[2, a])
            zero = zero and h == 0.0
            x -= h * recip[a, 0]
            y -= h * recip[a, 1]
            z -= h * recip[a, 2]
        d[i] = math.inf if zero else math.sqrt(x * x + y * y + z * z)


@inner_kernel(fastmath=_LOOSE)
def refine(t, k, recip, geometry, modes, n_modes, tolerance, reach, priors, n_iterations):
    """Refine the orientation, the rays' stretch and shift, and the cell's shape.

    Gauss-Newton steps with Tukey's weights on the distances between peaks and nodes.

    Parameters
    ----------
    t : float64 array (n, 2)
        Slopes of the rays.
    k : float
    recip : float64 array (3, 3)
        Rows a*, b*, c*; changed in place.
    geometry : float64 array (3,)
        Stretch and shifts of the slopes; changed in place.
    modes : float64 array (m, 3, 3)
        Ways in which the cell may change: ``recip`` grows by multiples of ``modes[j] @ recip``.
    n_modes : int
        Only this many of them are refined.
    tolerance : tuple of 2 floats
        Distance from its node beyond which a peak has no weight, in the first and in the last
        iteration.
    reach : tuple of 2 floats
        Length of q beyond which a peak is left out, likewise.
    priors : tuple of 3 floats
        Weights of stretch, shift and each change of the cell being zero.
    n_iterations : int
    """
    size = 6 + n_modes
    real, moves = matrix(3, 3), matrix(_MOST_ROWS, 3)
    jac, a = matrix(_MOST_NUMBERS, 3), matrix(_MOST_NUMBERS, _MOST_NUMBERS)
    numbers = matrix(2, _MOST_NUMBERS)
    b, change = numbers[0], numbers[1]
    for u in range(size):
        change[u] = 0.0
        for c in range(3):
            jac[u, c] = 0.0
    for it in range(n_iterations):
        part = it / larger(1, n_iterations - 1)
        near = tolerance[0] + part * (tolerance[1] - tolerance[0])
        far = reach[0] + part * (reach[1] - reach[0])
        far = far * far * (1.0 + 1e-9)
        invert(recip, real)
        for u in range(size):
            b[u] = 0.0
            for v in range(size):
                a[u, v] = 0.0
        for j in range(n_modes):
            for row in range(3):
                for column in range(3):
                    moves[3 * j + row, column] = (
                        modes[j, row, 0] * recip[0, column]
                        + modes[j, row, 1] * recip[1, column]
                        + modes[j, row, 2] * recip[2, column]
                    )
        for i in range(len(t)):
            x = t[i, 0] * (1.0 + geometry[0]) + geometry[1]
            y = t[i, 1] * (1.0 + geometry[0]) + geometry[2]
            m = 1.0 / (1.0 + x * x + y * y)
            z = k * math.sqrt(m)
            q0, q1, q2 = x * z, y * z, z - k
            if q0 * q0 + q1 * q1 + q2 * q2 > far:
                continue
            h0 = np.rint(q0 * real[0, 0] + q1 * real[1, 0] + q2 * real[2, 0])
            h1 = np.rint(q0 * real[0, 1] + q1 * real[1, 1] + q2 * real[2, 1])
            h2 = np.rint(q0 * real[0, 2] + q1 * real[1, 2] + q2 * real[2, 2])
            g0 = h0 * recip[0, 0] + h1 * recip[1, 0] + h2 * recip[2, 0]
            g1 = h0 * recip[0, 1] + h1 * recip[1, 1] + h2 * recip[2, 1]
            g2 = h0 * recip[0, 2] + h1 * recip[1, 2] + h2 * recip[2, 2]
            r0, r1, r2 = q0 - g0, q1 - g1, q2 - g2
            w = 1.0 - (r0 * r0 + r1 * r1 + r2 * r2) / (near * near)
            if w <= 0.0 or (h0 == 0.0 and h1 == 0.0 and h2 == 0.0):
                continue
            w *= w
            # a turn moves the node by omega x g
            jac[0, 1], jac[0, 2] = g2, -g1
            jac[1, 0], jac[1, 2] = -g2, g0
            jac[2, 0], jac[2, 1] = g1, -g0
            # q moves with the slopes along the Ewald sphere
            m *= z
            jac[4, 0], jac[4, 1], jac[4, 2] = m * (1.0 + y * y), -m * x * y, -m * x
            jac[5, 0], jac[5, 1], jac[5, 2] = -m * x * y, m * (1.0 + x * x), -m * y
            for c in range(3):
                jac[3, c] = t[i, 0] * jac[4, c] + t[i, 1] * jac[5, c]
            for j in range(n_modes):
                for c in range(3):
                    jac[6 + j, c] = -(
                        h0 * moves[3 * j, c] + h1 * moves[3 * j + 1, c] + h2 * moves[3 * j + 2, c]
                    )
            for u in range(size):
                j0, j1, j2 = w * jac[u, 0], w * jac[u, 1], w * jac[u, 2]
                b[u] -= j0 * r0 + j1 * r1 + j2 * r2
                for v in range(u + 1):
                    a[u, v] += j0 * jac[v, 0] + j1 * jac[v, 1] + j2 * jac[v, 2]
        for u in range(3):
            # holds the orientation where no peak does
            a[u, u] += 1e-9
            prior = priors[0] if u == 0 else priors[1]
            a[3 + u, 3 + u] += prior
            b[3 + u] -= prior * geometry[u]
        for j in range(n_modes):
            a[6 + j, 6 + j] += priors[2]
            b[6 + j] -= priors[2] * change[j]
        solve(a, b, size)
        for u in range(3):
            geometry[u] += b[3 + u]
        for j in range(n_modes):
            change[j] += b[6 + j]
            for row in range(3):
                for column in range(3):
                    recip[row, column] += b[6 + j] * moves[3 * j + row, column]
        rotate(recip, b[0], b[1], b[2])


@inner_kernel
def solve(a, b, n):
    """Solve a positive definite system of n (int64) equations in place (Cholesky)."""
    for i in range(n):
        for j in range(i + 1):
            total = a[i, j]
            for m in range(j):
                total -= a[i, m] * a[j, m]
            if i == j:
                a[i, i] = math.sqrt(larger(total, 1e-30))
            else:
                a[i, j] = total / a[j, j]
    for i in range(n):
        for m in range(i):
            b[i] -= a[i, m] * b[m]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        for m in range(i + 1, n):
            b[i] -= a[m, i] * b[m]
        b[i] /= a[i, i]


@inner_kernel
def rotate(vectors, x, y, z):
    """Rotate row vectors in place by the rotation vector (x, y, z)."""
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return
    c, s = math.cos(angle), math.sin(angle)
    x, y, z = x / angle, y / angle, z / angle
    for i in range(len(vectors)):
        v0, v1, v2 = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        along = (x * v0 + y * v1 + z * v2) * (1.0 - c)
        vectors[i, 0] = v0 * c + (y * v2 - z * v1) * s + x * along
        vectors[i, 1] = v1 * c + (z * v0 - x * v2) * s + y * along
        vectors[i, 2] = v2 * c + (x * v1 - y * v0) * s + z * along
