"""What falls on the detector, photon by photon: the spots of reflections, and the background."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["expose", "record_spots"]

Floats = NDArray[np.float64]

FAINTEST = 1.0  # photons of a spot that the truth lists


@njit(cache=True, nogil=True)
def record_spots(
    reflections: Floats,
    modules: Floats,
    height: int,
    width: int,
    clen: float,
    pixel_size: float,
    point_spread: float,
    rng: np.random.Generator,
    photons: NDArray[np.int32],
) -> Floats:
    """Let the photons of each reflection fall on the detector; return fs, ss, expected photons."""
    spots = np.empty((len(reflections), 3))
    n_spots = 0
    for slope_x, slope_y, expected, tangential, radial, cos_two_theta in reflections:
        x, y = slope_x * clen, slope_y * clen
        for m in range(len(modules)):
            corner_x, corner_y, cos, sin = modules[m]
            fs = ((x - corner_x) * cos + (y - corner_y) * sin) / pixel_size
            ss = ((y - corner_y) * cos - (x - corner_x) * sin) / pixel_size
            if not (0 <= fs < width and 0 <= ss < height):
                continue
            # From angles to pixels: the plane is struck at a slant along the radius.
            distance = clen / cos_two_theta / pixel_size
            sigma_t = math.sqrt(point_spread**2 + (tangential * distance) ** 2)
            sigma_r = math.sqrt(point_spread**2 + (radial * distance / cos_two_theta) ** 2)
            length = math.hypot(x, y)
            unit_x, unit_y = (x / length, y / length) if length > 0 else (1.0, 0.0)
            radial_fs = unit_x * cos + unit_y * sin
            radial_ss = unit_y * cos - unit_x * sin
            for _ in range(rng.poisson(expected)):
                r, t = sigma_r * rng.standard_normal(), sigma_t * rng.standard_normal()
                i = math.floor(fs + r * radial_fs - t * radial_ss)
                j = math.floor(ss + r * radial_ss + t * radial_fs)
                if 0 <= i < width and 0 <= j < height:
                    photons[(m * height + j) * width + i] += 1
            if expected >= FAINTEST:
                spots[n_spots] = fs, ss + m * height, expected
                n_spots += 1
            break
    return spots[:n_spots].copy()


@njit(cache=True, nogil=True)
def _poisson(mean: float, rng: np.random.Generator) -> int:
    """Draw from the Poisson distribution, by inversion where the mean is small."""
    if mean > 12:
        return rng.poisson(mean)
    left = rng.random()
    term = math.exp(-mean)
    n = 0
    while left > term and n < 100:  # rounding may leave a remainder that no term takes up
        left -= term
        n += 1
        term *= mean / n
    return n


@njit(cache=True, nogil=True)
def expose(
    ring: Floats,
    air: Floats,
    level: float,
    air_level: float,
    photons: NDArray[np.int32],
    gain: float,
    read_noise: float,
    rng: np.random.Generator,
    data: NDArray[np.int32],
) -> None:
    """Add the background's photons to the spots' and read the pixels out, rounded, in ADU."""
    for i in range(len(data)):
        counts = photons[i] + _poisson(level * ring[i] + air_level * air[i], rng)
        value = counts * gain
        if read_noise > 0:
            value += read_noise * rng.standard_normal()
        data[i] = round(value)
