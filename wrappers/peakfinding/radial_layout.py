"""Where each pixel of the slab lies: the rings around the beam, and the panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.panels import Panel
from wrappers.peakfinding.kernel_types import Layout, Raster, Rings
from wrappers.peakfinding.vectors import packed

__all__ = ["N_BANDS", "RadialLayout"]

N_BANDS = 32
"""The frame is divided into so many bands, in the order of the search."""


@dataclass(frozen=True, eq=False)
class RadialLayout:
    """The pixels of a geometry, sorted into rings of equal distance from the beam.

    A ring holds the pixels of equal rounded radius (to nearest, ties to even), in the order of
    the search: by panel and raster.

    Attributes
    ----------
    radius : float32 array (ss, fs)
        Distance from the beam in pixels; infinite outside the panels.
    panels : int64 array (n_panels, 4)
        First and last ss, first and last fs of each panel in the slab, inclusive.
    max_adu : float64 array (n_panels,)
        Saturation; infinite where saturated peaks are used.
    start : int64 array (n_rings + 1,)
        Ring *r* has the places ``start[r]`` to ``start[r + 1]`` in the ring order.
    pixel : int32 array (n,)
        Flat index in the slab of the pixel at each place.
    place : int32 array (n_pixels,)
        Place of each pixel of the flat slab; n for pixels outside the panels.
    ring : uint16 or int32 array (n_pixels,)
        Ring of each pixel of the flat slab; 0 for pixels outside the panels.
    bands : int64 array (N_BANDS + 1,)
        The first row of each band of rows, counted from panel to panel, and the number of rows.
    passed : int32 array (N_BANDS + 1, n_rings)
        How many of each ring's pixels are in the bands before each.
    """

    radius: NDArray[np.float32]
    panels: NDArray[np.int64]
    max_adu: NDArray[np.float64]
    start: NDArray[np.int64]
    pixel: NDArray[np.int32]
    place: NDArray[np.int32]
    ring: NDArray[np.integer[Any]]
    bands: NDArray[np.int64]
    passed: NDArray[np.int32]

    @cached_property
    def arrays(self) -> Any:
        """All of it as the kernels of `peak_searches` take it: a packed `Layout`."""
        rings = Rings(self.radius.reshape(-1), self.start, self.pixel)
        raster = Raster(self.ring, self.radius.shape[1], self.panels)
        arrays = Layout(rings, raster, self.place, self.max_adu, self.bands, self.passed)
        return packed(arrays)

    @classmethod
    def build(
        cls, radius: NDArray[np.float32], panels: Sequence[Panel], use_saturated: bool = True
    ) -> RadialLayout:
        """Sort the pixels of `panels` into the rings of a radius map (float32, slab)."""
        radius = np.ascontiguousarray(radius, np.float32)
        corners = np.empty((len(panels), 4), np.int64)
        for index, panel in enumerate(panels):
            rows, columns = panel.rectangle
            corners[index] = rows.start, rows.stop - 1, columns.start, columns.stop - 1
        max_adu = np.array([math.inf if use_saturated else panel.max_adu for panel in panels])
        n_rows = int((corners[:, 1] - corners[:, 0] + 1).sum())
        bands = np.arange(N_BANDS + 1) * n_rows // N_BANDS
        start, pixel, place, passed = _sort_by_ring(radius, corners, bands)
        # Two bytes, because the kernels wait for memory.
        ring: NDArray[np.integer[Any]] = np.zeros(
            radius.size, np.uint16 if len(start) <= 1 << 16 else np.int32
        )
        ring[pixel] = np.repeat(np.arange(len(start) - 1), np.diff(start))
        return cls(radius, corners, max_adu, start, pixel, place, ring, bands, passed)


def _sort_by_ring(
    radius: NDArray[np.float32], panels: NDArray[np.int64], bands: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return start, pixel, place and passed of a `RadialLayout`."""
    slab = np.arange(radius.size, dtype=np.int32).reshape(radius.shape)
    pieces = [slab[top : bottom + 1, left : right + 1] for top, bottom, left, right in panels]
    widths = np.repeat([piece.shape[1] for piece in pieces], [len(piece) for piece in pieces])
    # In the order of the search: the pixels, and in which band each one's row is.
    order = np.concatenate([piece.reshape(-1) for piece in pieces])
    bands_before = np.searchsorted(bands, np.arange(len(widths)), side="right").astype(np.uint8)
    band = np.repeat(bands_before, widths)
    known = np.isfinite(radius.reshape(-1)[order])
    order, band = order[known], band[known]
    ring = np.rint(radius.reshape(-1)[order]).astype(np.int32)
    n_rings = int(ring.max(initial=-1)) + 1
    if n_rings <= 1 << 16:
        ring = ring.astype(np.uint16)  # sorted several times faster
    pixel = order[np.argsort(ring, kind="stable")]
    start = np.zeros(n_rings + 1, np.int64)
    np.cumsum(np.bincount(ring, minlength=n_rings), out=start[1:])
    place = np.full(radius.size, len(pixel), np.int32)
    place[pixel] = np.arange(len(pixel), dtype=np.int32)
    count = np.bincount(band.astype(np.int64) * n_rings + ring, minlength=len(bands) * n_rings)
    passed = np.cumsum(count.reshape(len(bands), n_rings), axis=0, dtype=np.int32)
    return start, pixel, place, passed
