"""How a Bragg spot's photons are spread over pixels."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_PIXELS", "pixel_shares"]

Floats = NDArray[np.float64]

MOST_PIXELS = 4
"""Of a spot's pixels, brightest first, whose shares are told."""

SIGMAS = np.geomspace(0.1, 4.0, 16)
ASPECTS = np.linspace(0, math.log(6.0), 6)


@lru_cache(maxsize=1)
def _share_table() -> Floats:
    """Return the shares (sigma, aspect, rank) of a spot's brightest pixels, in the mean."""
    rng = np.random.default_rng(0)
    grid = np.arange(-6, 7)
    x, y = np.meshgrid(grid, grid)
    sub = (np.arange(4) - 1.5) / 4
    table = np.empty((len(SIGMAS), len(ASPECTS), MOST_PIXELS))
    for i, sigma in enumerate(SIGMAS):
        for j, aspect in enumerate(ASPECTS):
            long, short = sigma * math.exp(aspect / 2), sigma * math.exp(-aspect / 2)
            total = np.zeros(MOST_PIXELS)
            for _ in range(24):
                angle, dx, dy = rng.uniform(0, math.pi), *rng.uniform(-0.5, 0.5, 2)
                px = (x - dx)[..., None, None] + sub[:, None]
                py = (y - dy)[..., None, None] + sub
                u = (px * math.cos(angle) + py * math.sin(angle)) / long
                v = (py * math.cos(angle) - px * math.sin(angle)) / short
                density = np.exp(-(u**2 + v**2) / 2).mean(axis=(2, 3))
                total += np.sort((density / density.sum()).ravel())[::-1][:MOST_PIXELS]
            table[i, j] = total / 24
    return table


def pixel_shares(sigma_t: Floats, sigma_r: Floats) -> Floats:
    """Return the mean shares (rings, rank) of the brightest pixels of spots of such widths."""
    table = _share_table()
    size = np.log(np.clip(np.sqrt(sigma_t * sigma_r), SIGMAS[0], SIGMAS[-1]) / SIGMAS[0])
    place = size / math.log(SIGMAS[1] / SIGMAS[0])
    aspect = np.clip(np.abs(np.log(sigma_r / sigma_t)), 0, ASPECTS[-1]) / ASPECTS[1]
    i = np.minimum(place.astype(int), len(SIGMAS) - 2)
    j = np.minimum(aspect.astype(int), len(ASPECTS) - 2)
    f, g = (place - i)[:, None], (aspect - j)[:, None]
    low = table[i, j] * (1 - g) + table[i, j + 1] * g
    high = table[i + 1, j] * (1 - g) + table[i + 1, j + 1] * g
    return low * (1 - f) + high * f
