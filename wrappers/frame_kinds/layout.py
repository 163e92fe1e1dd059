"""Whether two geometries are of one detector: by where some of its pixels are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wrappers.detector.geometry import Geometry

__all__ = ["Place", "is_same", "places_of"]

Place = tuple[float, float]

ALONG = 8
"""So many pixels along either side of the slab are looked at."""
NEAR, MOST_APART = 0.03, 0.1
"""A pixel is where it was within this fraction of the detector's size: a geometry may have been
refined. And so many may not be: panels come and go."""


def places_of(geometry: Geometry) -> tuple[Place, ...]:
    """Return where some pixels are, x and y in metres; (0, 0) where there is no panel."""
    height, width = geometry.slab_shape
    rows, columns = (np.linspace(0, n - 1, ALONG).round().astype(int) for n in (height, width))
    return tuple(_place(geometry, int(row), int(column)) for row in rows for column in columns)


def _place(geometry: Geometry, row: int, column: int) -> Place:
    for panel in geometry.panels:
        ss, fs = panel.rectangle
        if ss.start <= row < ss.stop and fs.start <= column < fs.stop:
            down, along = row - ss.start, column - fs.start
            x = panel.corner_x + along * panel.fs_vector[0] + down * panel.ss_vector[0]
            y = panel.corner_y + along * panel.fs_vector[1] + down * panel.ss_vector[1]
            return round(x / panel.res, 6), round(y / panel.res, 6)
    return 0.0, 0.0


def is_same(places: Sequence[Place], others: Sequence[Place]) -> bool:
    """Whether the pixels are where the others are, but for a few."""
    size = max(math.hypot(*place) for place in places)
    apart = sum(
        math.dist(place, other) > NEAR * size for place, other in zip(places, others, strict=True)
    )
    return apart <= MOST_APART * len(places)
