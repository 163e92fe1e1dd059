"""The kernel that fits a detector's place to the spots of one lattice.

All vectors are in the laboratory frame, z along the beam; ``k`` is 1/λ in 1/Å, reciprocal vectors
are in 1/Å, places on the detector in metres.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.lattices.lattice_chance import sort_values
from wrappers.lattices.lattice_fit import length_of, rotate, solve
from wrappers.peakfinding.vectors import larger, matrix, views
from wrappers.sorting import DEPTH

__all__ = ["fit_detector"]

Floats = NDArray[np.float64]

_ROUNDS = 12
_SMALL_TURN, _SMALL_SHIFT = 1e-7, 2e-9
"""Steps (radians; metres) that end a fit."""
_TUKEY = 4.7


@inner_kernel
def _spread(values, sizes, waiting):
    """Return the standard deviation about 0 of near-normal values, from the median size.

    The other arguments are overwritten; see `sorting.make_sort`.
    """
    n = len(values)
    for i in range(n):
        sizes[i] = abs(values[i])
        if math.isnan(sizes[i]):  # a fit that has gone astray
            return math.nan
    sort_values(sizes, n, waiting)
    return larger(1.4826 * (sizes[(n - 1) // 2] + sizes[n // 2]) / 2.0, 1e-9)


def fit_detector(
    nodes: Floats, positions: Floats, pixel: Floats, k: float, reciprocal: Floats, geometry: Floats
) -> tuple[float, Floats]:
    """Fit orientation, camera length and shift by robust least squares.

    Gauss-Newton steps with Tukey's weights. The residuals of a peak are its distances in x and
    y from the spot, in pixels, and how far the node is off the Ewald sphere; the spread of each
    kind, from its median size, is its unit.

    Parameters
    ----------
    nodes : float64 array (m, 3)
        Indices of the peaks.
    positions : float64 array (m, 3)
        Where the peaks are, for a detector at the origin.
    pixel : float64 array (m,)
        Size of a pixel.
    k : float
    reciprocal : float64 array (3, 3)
        Rows a*, b*, c*; turned in place.
    geometry : float64 array (3,)
        Camera length and shift in x and y; changed in place.

    Returns
    -------
    residual : float
        Root mean square distance of the peaks from their spots, in pixels.
    information : float64 array (3, 3)
        Inverse of the covariance of the geometry, in 1/m²; the orientation is eliminated.
    """
    m, information = len(nodes), np.empty((3, 3))
    room = (
        np.empty((5, m)),
        np.empty((2, m, 3)),
        np.empty((2, 2 * m)),
        np.empty((DEPTH, 2), np.int64),
    )
    peaks = np.ascontiguousarray(nodes, float), np.ascontiguousarray(positions), pixel
    residual: float = _fit_detector(*peaks, float(k), reciprocal, geometry, room, information)
    return residual, information


@bare_kernel
def _fit_detector(nodes, positions, pixel, k, reciprocal, geometry, room, information):
    """Do as `fit_detector`."""
    nodes, positions, pixel, reciprocal, geometry, room, information = views(
        (nodes, positions, pixel, reciprocal, geometry, room, information)
    )
    m = len(nodes)
    lists, vectors, doubles, waiting = room
    x, y, excitation = lists[0], lists[1], lists[2]
    g, ray = vectors[0], vectors[1]
    both, sizes = doubles[0], doubles[1]
    sixes, lefts = matrix(10, 6), matrix(7, 6)
    normal, gradient = sixes, sixes[6]  # from row 7 on: the Jacobian
    left, step = lefts, lefts[6]
    turned, three = matrix(3, 3), matrix(4, 3)
    block, held = three, three[3]
    for a in range(3):
        turned[a, a] = 0.0
        for b in range(6):
            sixes[7 + a, b] = 0.0
    residual = math.nan
    for _ in range(_ROUNDS):
        for i in range(m):
            for c in range(3):
                g[i, c] = (
                    nodes[i, 0] * reciprocal[0, c]
                    + nodes[i, 1] * reciprocal[1, c]
                    + nodes[i, 2] * reciprocal[2, c]
                )
                ray[i, c] = g[i, c]
            ray[i, 2] += k
            z = (positions[i, 2] + geometry[0]) / ray[i, 2]
            x[i] = (positions[i, 0] + geometry[1] - ray[i, 0] * z) / pixel[i]
            y[i] = (positions[i, 1] + geometry[2] - ray[i, 1] * z) / pixel[i]
            both[2 * i], both[2 * i + 1] = x[i], y[i]
            excitation[i] = length_of(ray[i]) - k
        on_detector = _spread(both, sizes, waiting)
        off_sphere = _spread(excitation, sizes, waiting)
        for a in range(6):
            gradient[a] = 0.0
            for b in range(6):
                normal[a, b] = 0.0
        total, square = 0.0, 0.0
        for i in range(m):
            distance, off = x[i] * x[i] + y[i] * y[i], excitation[i] / off_sphere
            far = distance / (on_detector * on_detector) / 2.0 + off * off
            weight = 1.0 - far / (1.5 * (_TUKEY * _TUKEY))
            if weight <= 0.0:
                continue
            weight *= weight
            total += weight
            square += weight * distance
            # turning the node by a small rotation vector adds its cross product with g
            turned[0, 1], turned[0, 2] = -g[i, 2], g[i, 1]
            turned[1, 0], turned[1, 2] = g[i, 2], -g[i, 0]
            turned[2, 0], turned[2, 1] = -g[i, 1], g[i, 0]
            z = (positions[i, 2] + geometry[0]) / ray[i, 2] / pixel[i]
            for axis in range(2):
                slope = ray[i, axis] / ray[i, 2]
                for a in range(3):
                    sixes[7 + axis, a] = (slope * turned[a, 2] - turned[a, axis]) * z
                sixes[7 + axis, 3] = -slope / pixel[i]
                sixes[7 + axis, 4 + axis] = 1.0 / pixel[i]
            length = excitation[i] + k
            for a in range(3):
                sixes[9, a] = (
                    turned[a, 0] * ray[i, 0] + turned[a, 1] * ray[i, 1] + turned[a, 2] * ray[i, 2]
                ) / length
            for part in range(3):
                value = x[i] if part == 0 else y[i] if part == 1 else excitation[i]
                unit = off_sphere if part == 2 else on_detector
                for a in range(6):
                    pull = weight / (unit * unit) * sixes[7 + part, a]
                    gradient[a] -= pull * value
                    for b in range(6):
                        normal[a, b] += pull * sixes[7 + part, b]
        residual = math.sqrt(square / larger(total, 1e-300))
        # (Number by number: Numba takes seconds to compile what it says of arrays that do not fit.)
        for a in range(6):
            step[a] = gradient[a]
            for b in range(6):
                left[a, b] = normal[a, b]
        solve(left, step, np.int64(6))
        rotate(reciprocal, step[0], step[1], step[2])
        turn = shift = 0.0
        for a in range(3):
            geometry[a] += step[3 + a]
            turn, shift = larger(turn, abs(step[a])), larger(shift, abs(step[3 + a]))
        if turn < _SMALL_TURN and shift < _SMALL_SHIFT:
            break
    # Six parameters were taken from the residuals that the weights are scaled by.
    scale = larger(1, 2 * m - 6) / (2 * m)
    for a in range(3):
        for b in range(3):
            held[b] = normal[b, 3 + a]
            for c in range(3):
                block[b, c] = normal[b, c]
        solve(block, held, np.int64(3))
        for b in range(3):
            information[a, b] = normal[3 + a, 3 + b]
            for c in range(3):
                information[a, b] -= normal[3 + b, c] * held[c]
            information[a, b] *= scale
    return residual
