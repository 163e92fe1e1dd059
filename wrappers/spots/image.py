"""A frame as the kernels of the learned peak finder take it, and the background of its rings."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.spots.compiling import inner_kernel, kernel

__all__ = ["LEVELS", "LIMIT", "RING", "Image", "ring_background", "value_at"]

LIMIT = 4.0
"""Standard deviations at which backgrounds are winsorised."""

RING = 4
"""Pixels of radius that are one ring."""

SAMPLED = 13
"""Of so many pixels one tells the background of its ring."""

TURNS, MOST_TURNS, SETTLED = 3, 20, 0.9
"""So often a ring is winsorised, and at most so often while its standard deviation still falls to
this share."""

LEVELS = (2.5, 2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0)
"""Standard deviations above the ring, for which pixels are counted."""


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
    return value, image.usable[p] & (value - value == 0)


@kernel
def ring_background(image, single_photons):
    """Write mean and standard deviation of each ring's pixels, winsorised, into the image.

    Parameters
    ----------
    image : Image
    single_photons : bool
        Whether most pixels count nothing. Single photons are the background then, and are not to
        be winsorised away, as a hot pixel is elsewhere.

    Returns
    -------
    float64 array (len(LEVELS),)
        How many pixels of the frame are so far above their rings, estimated from a sample.
    """
    n_rings, most = len(image.ring_mean), len(image.data) // SAMPLED + 1
    values, rings, n = np.empty(most, np.float32), np.empty(most, np.int32), 0
    stops = np.zeros(n_rings, np.int64)
    for p in range(0, len(image.data), SAMPLED):
        value, good = value_at(image, p)
        radius = image.radius[p]
        if good and radius < np.inf:
            values[n], rings[n] = value, int(radius) // RING
            stops[rings[n]] += 1
            n += 1
    for ring in range(1, n_rings):
        stops[ring] += stops[ring - 1]
    sorted_values, free = np.empty(n, np.float32), stops.copy()
    for k in range(n):
        free[rings[k]] -= 1
        sorted_values[free[rings[k]]] = values[k]
    above = np.zeros(len(LEVELS))
    for ring in range(n_rings):
        part = sorted_values[free[ring] : stops[ring]]
        mean, sigma = _mean_and_sigma(part, TURNS if single_photons else MOST_TURNS)
        image.ring_mean[ring], image.ring_sigma[ring] = mean, sigma
        for k in range(len(part)):
            level = 0
            while level < len(LEVELS) and part[k] - mean > LEVELS[level] * sigma:
                above[level] += SAMPLED
                level += 1
    return above


@inner_kernel(fastmath={"contract", "reassoc", "nsz", "nnan"}, error_model="numpy")
def _mean_and_sigma(values, most_turns):
    """Return mean and standard deviation, winsorised until they are settled."""
    n, mean, sigma, last = len(values), 0.0, np.inf, np.inf
    for turn in range(most_turns):
        if turn >= TURNS and sigma > SETTLED * last:
            break
        last = sigma
        total = squares = 0.0
        for k in range(n):
            above = min(max(values[k] - mean, -LIMIT * sigma), LIMIT * sigma)
            total += above
            squares += above * above
        shift = total / n if n > 0 else 0.0
        variance = squares / n - shift * shift if n > 0 else 0.0
        mean += shift
        sigma = math.sqrt(variance) if variance > 0 else 0.0
    return mean, sigma
