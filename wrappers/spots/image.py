"""A frame as the kernels of the learned peak finder take it, and the background of its rings."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.spots.compiling import inner_kernel, kernel

__all__ = ["LIMIT", "RING", "Image", "ring_background", "value_at"]

LIMIT = 4.0
"""Standard deviations at which backgrounds are winsorised."""

RING = 4
"""Pixels of radius that are one ring."""

SAMPLED = 13
"""Of so many pixels one tells the background of its ring."""


class Image(NamedTuple):
    """A frame as the kernels take it.

    Attributes
    ----------
    data : float32 array (n_pixels,)
        The flat slab, in the data's units.
    usable : bool array (n_pixels,)
    width : int
        Of the slab, in pixels.
    panels : int64 array (n_panels, 4)
        First and last ss, first and last fs of each panel, inclusive.
    max_adu : float64 array (n_panels,)
        Saturation.
    radius : float32 array (n_pixels,)
        Distance from the beam in pixels; infinite outside the panels.
    largest_radius : float
        Of any pixel on a panel.
    ring_mean, ring_sigma : float64 array (n_rings,)
        Of the pixels of each ring, of `ring_background`.
    """

    data: NDArray[np.float32]
    usable: NDArray[np.bool_]
    width: int
    panels: NDArray[np.int64]
    max_adu: NDArray[np.float64]
    radius: NDArray[np.float32]
    largest_radius: float
    ring_mean: NDArray[np.float64]
    ring_sigma: NDArray[np.float64]


@inner_kernel
def value_at(image, p):
    """Return a pixel's value, and whether it can be used: neither masked nor infinite."""
    value = image.data[p]
    return value, image.usable[p] and value - value == 0


@kernel
def ring_background(image):
    """Write mean and standard deviation of each ring's pixels, winsorised, into the image."""
    mean, sigma = image.ring_mean, image.ring_sigma
    n_rings = len(mean)
    count, total, squares = np.empty(n_rings), np.empty(n_rings), np.empty(n_rings)
    mean[:], sigma[:] = 0.0, np.inf
    for _ in range(3):
        count[:], total[:], squares[:] = 0.0, 0.0, 0.0
        for p in range(0, len(image.data), SAMPLED):
            value, good = value_at(image, p)
            radius = image.radius[p]
            if good and radius < np.inf:
                ring = int(radius) // RING
                above = min(max(value - mean[ring], -LIMIT * sigma[ring]), LIMIT * sigma[ring])
                count[ring] += 1
                total[ring] += above
                squares[ring] += above * above
        for ring in range(n_rings):
            if count[ring] > 0:
                shift = total[ring] / count[ring]
                variance = squares[ring] / count[ring] - shift * shift
                mean[ring] += shift
                sigma[ring] = math.sqrt(variance) if variance > 0 else 0.0
    for ring in range(n_rings):
        if count[ring] == 0:
            sigma[ring] = 0.0
