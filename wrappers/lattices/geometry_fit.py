"""The kernel that fits a detector's place to the spots of one lattice.

All vectors are in the laboratory frame, z along the beam; ``k`` is 1/λ in 1/Å, reciprocal vectors
are in 1/Å, places on the detector in metres.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.lattices.compiling import inner_kernel, kernel
from wrappers.lattices.lattice_fit import rotate, solve

__all__ = ["fit_detector"]

_ROUNDS = 12
_SMALL_TURN, _SMALL_SHIFT = 1e-7, 2e-9
"""Steps (radians; metres) that end a fit."""
_TUKEY = 4.7


@inner_kernel
def _spread(values):
    """Return the standard deviation about 0 of near-normal values, from the median size."""
    return max(1.4826 * np.median(np.abs(values)), 1e-9)


@kernel
def fit_detector(nodes, positions, pixel, k, reciprocal, geometry):
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
    m = len(nodes)
    x, y, excitation = np.empty(m), np.empty(m), np.empty(m)
    g, ray = np.empty((m, 3)), np.empty((m, 3))
    both = np.empty(2 * m)
    turned = np.zeros((3, 3))
    jacobian = np.zeros((3, 6))
    normal, gradient = np.zeros((6, 6)), np.zeros(6)
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
            excitation[i] = math.sqrt(ray[i, 0] ** 2 + ray[i, 1] ** 2 + ray[i, 2] ** 2) - k
        on_detector, off_sphere = _spread(both), _spread(excitation)
        normal[:], gradient[:] = 0.0, 0.0
        total, square = 0.0, 0.0
        for i in range(m):
            distance = x[i] ** 2 + y[i] ** 2
            far = distance / on_detector**2 / 2.0 + (excitation[i] / off_sphere) ** 2
            weight = 1.0 - far / (1.5 * _TUKEY**2)
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
                    jacobian[axis, a] = (slope * turned[a, 2] - turned[a, axis]) * z
                jacobian[axis, 3] = -slope / pixel[i]
                jacobian[axis, 4 + axis] = 1.0 / pixel[i]
            length = excitation[i] + k
            for a in range(3):
                jacobian[2, a] = (
                    turned[a, 0] * ray[i, 0] + turned[a, 1] * ray[i, 1] + turned[a, 2] * ray[i, 2]
                ) / length
            for part in range(3):
                value = (x[i], y[i], excitation[i])[part]
                unit = off_sphere if part == 2 else on_detector
                for a in range(6):
                    pull = weight / unit**2 * jacobian[part, a]
                    gradient[a] -= pull * value
                    for b in range(6):
                        normal[a, b] += pull * jacobian[part, b]
        residual = math.sqrt(square / max(total, 1e-300))
        step = solve(normal.copy(), gradient.copy())
        rotate(reciprocal, step[0], step[1], step[2])
        geometry += step[3:]
        if max(np.abs(step[:3])) < _SMALL_TURN and max(np.abs(step[3:])) < _SMALL_SHIFT:
            break
    information = np.empty((3, 3))
    for a in range(3):
        held = solve(normal[:3, :3].copy(), normal[:3, 3 + a].copy())
        for b in range(3):
            information[a, b] = normal[3 + a, 3 + b]
            for c in range(3):
                information[a, b] -= normal[3 + b, c] * held[c]
    # six parameters were taken from the residuals that the weights are scaled by
    return residual, information * max(1, 2 * m - 6) / (2 * m)
