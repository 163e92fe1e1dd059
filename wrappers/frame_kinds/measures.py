"""What is measured of a frame to tell its kind: levels by place, and spots; a few milliseconds."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError
from wrappers.frame_kinds.kernels import (
    INLIERS,
    PHOTONS,
    add_up,
    find_bright,
    find_spots,
    ring_levels,
)
from wrappers.frames.frame import Frame
from wrappers.peakfinding.kernel_arguments import flat

__all__ = ["BOXES", "RINGS", "SECTORS", "Measurer", "Measures"]

Floats = NDArray[np.float64]

RINGS, SECTORS = 128, 48
"""The detector is divided into so many rings of equal width, and these into sectors."""
BOXES = 64
"""It is also divided into so many boxes along either side of the square that holds it."""
SAMPLE = 400
"""So many pixels of a ring place its level."""
MOST_BRIGHT = 50_000
MOST_SPOTS = 3000
PIXELS_OF_BOX, MOST_STEP = 80, 15
"""Of a large detector so many rows are left out that a box still has about as many pixels, and not
more than one in so many is looked at. The step is odd, lest all be of one half of a read-out."""
N_PLACES = 5
"""Shifts of the detector that are remembered: none, and what is around a beam that moves."""
APART = 4.0
"""Pixels: of spots that are nearer to each other than this the strongest counts."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured of a frame; levels are in photons (ADU where nobody says what one is).

    Attributes
    ----------
    noise : float64 array (RINGS,)
        Standard deviation of the pixels without outliers; NaN where there are too few.
    cells : float64 array (RINGS, SECTORS)
        Mean of the pixels, outliers cut; NaN where there are too few.
    box_level, box_noise : float64 array (BOXES, BOXES)
        Mean, and standard deviation about their rings, likewise.
    box_off : float64 array (BOXES, BOXES)
        How far the boxes' means are off their rings', in standard errors; 0 where not known.
    box_pixels : float64 array (BOXES, BOXES)
        Usable pixels that were looked at.
    ring_pixels : float64 array (RINGS,)
        Likewise.
    spot_q : float64 array (n, 3)
        Scattering vectors of spots, in 1/Å.
    spot_pixel, spot_cell, spot_box : int64 array (n,)
        Flat index of the pixel, of the cell and of the box that each is in.
    spot_photons : float64 array (n,)
    """

    noise: Floats
    cells: Floats
    box_level: Floats
    box_noise: Floats
    box_off: Floats
    box_pixels: Floats
    ring_pixels: Floats
    spot_q: Floats
    spot_pixel: NDArray[np.int64]
    spot_cell: NDArray[np.int64]
    spot_box: NDArray[np.int64]
    spot_photons: Floats

    @cached_property
    def middle(self) -> Floats:
        """Each ring's level, whatever a part of its sectors shows (RINGS,); NaN if unknown."""
        ordered = np.sort(self.cells, axis=1)  # NaN come last
        n = np.isfinite(ordered).sum(axis=1)
        low, high = (n * 0.1).astype(int), np.maximum(np.ceil(n * 0.6).astype(int), 1)
        place = np.arange(SECTORS)
        inside = (place >= low[:, None]) & (place < high[:, None]) & np.isfinite(ordered)
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = np.where(inside, ordered, 0).sum(axis=1) / inside.sum(axis=1)
        return np.where(n >= SECTORS // 8, middle, np.nan)

    def without_spots_at(self, pixels: NDArray[np.int64]) -> Measures:
        """Return the same without the spots at some pixels (sorted)."""
        if not len(pixels):
            return self
        kept = ~np.isin(self.spot_pixel, pixels)
        names = ("spot_q", "spot_pixel", "spot_cell", "spot_box", "spot_photons")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


class Measurer:
    """Measures frames of one detector.

    Parameters
    ----------
    geometry : Geometry
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._places = functools.lru_cache(maxsize=N_PLACES)(
            lambda x, y: _Places.of(geometry.moved(x, y))
        )

    def __reduce__(self) -> tuple[type[Measurer], tuple[Geometry]]:
        return Measurer, (self._geometry,)

    def measure(self, frame: Frame) -> Measures:
        """Measure a frame.

        Raises
        ------
        InputError
            If it has other pixels than the geometry.
        """
        places, beside = self._places_near(frame.shift_x, frame.shift_y)
        if frame.data.shape != self._geometry.slab_shape:
            raise InputError(
                f"{frame.file} {frame.event}: {frame.data.shape} pixels, but the geometry has "
                f"{self._geometry.slab_shape}: take the geometry that belongs to the frame"
            )
        data = flat(frame.data.astype(np.float32, copy=False))
        mask = flat(frame.mask)
        photon = self._geometry.adu_per_photon(frame.photon_energy) or 1.0
        rounding = 12**-0.5 if frame.data.dtype.kind in "iu" else 0.0
        least = max(rounding, 0.02 * photon)
        mean, sigma = ring_levels(data, mask, places.sampled, places.start, photon, least)
        cells, boxes = np.zeros((RINGS * SECTORS, 2)), np.zeros((BOXES**2, 4))
        width = frame.data.shape[1]
        add_up(
            *(data, mask, places.polar, places.box, SECTORS, width, places.step),
            *(mean, sigma, photon, cells, boxes),
        )
        limit = np.full(256, np.inf, np.float32)
        limit[:RINGS] = mean + np.maximum(INLIERS * sigma, PHOTONS * photon)
        bright = np.empty(MOST_BRIGHT, np.int32)
        n_bright = find_bright(data, mask, places.ring, limit, bright)
        pixel, excess = find_spots(
            data, mask, places.polar, SECTORS, width, mean, sigma, bright[:n_bright]
        )
        strongest = np.argsort(-excess, kind="stable")[:MOST_SPOTS]
        pixel, excess = pixel[strongest], excess[strongest]
        alone = _alone(pixel, width)
        pixel, excess = pixel[alone], excess[alone]
        known = np.isfinite(sigma)
        n, total, squares, off = boxes.T
        with np.errstate(invalid="ignore", divide="ignore"):
            cell_level = np.where(cells[:, 0] >= 4, cells[:, 1] / cells[:, 0], np.nan)
            # What a box has of its rings on average: the mean of what is off does not count.
            enough = n >= FEWEST_PIXELS
            level = np.where(enough, total / n, np.nan)
            spread = np.where(enough, np.sqrt(squares / n), np.nan)
            standard = np.where(n > 0, off / np.sqrt(np.maximum(n, 1)), 0.0)
        x, y = places.x[pixel] + beside[0], places.y[pixel] + beside[1]
        wavenumber = frame.photon_energy / HC
        return Measures(
            noise=np.where(known, sigma, np.nan) / photon,
            cells=cell_level.reshape(RINGS, SECTORS) / photon,
            box_level=level.reshape(BOXES, BOXES) / photon,
            box_noise=spread.reshape(BOXES, BOXES) / photon,
            box_off=standard.reshape(BOXES, BOXES),
            box_pixels=n.reshape(BOXES, BOXES),
            ring_pixels=cells[:, 0].reshape(RINGS, SECTORS).sum(axis=1),
            spot_q=_scattering(x, y, abs(frame.camera_length), wavenumber),
            spot_pixel=pixel.astype(np.int64),
            spot_cell=places.polar[pixel].astype(np.int64),
            spot_box=places.box[pixel].astype(np.int64),
            spot_photons=excess / photon,
        )

    def _places_near(self, x: float, y: float) -> tuple[_Places, tuple[float, float]]:
        """Return the places for a shift of the detector, and how far they are off (m).

        To work them out takes longer than all else, so that shifts within half a ring share them.
        """
        if x == y == 0:
            return self._places(0.0, 0.0), (0.0, 0.0)
        step = self._places(0.0, 0.0).ring_width / 2
        near_x, near_y = step * round(x / step), step * round(y / step)
        return self._places(near_x, near_y), (x - near_x, y - near_y)


FEWEST_PIXELS = 12
"""With fewer a box is left out."""


def _alone(pixel: NDArray[np.int32], width: int) -> NDArray[np.intp]:
    """Return which of some spots, the strongest first, have no stronger one within `APART`."""
    if len(pixel) < 2:
        return np.arange(len(pixel))
    pairs = cKDTree(np.stack(np.divmod(pixel, width), axis=1)).query_pairs(
        APART, output_type="ndarray"
    )
    return np.setdiff1d(np.arange(len(pixel)), pairs.max(axis=1))


def _scattering(x: Floats, y: Floats, camera_length: float, wavenumber: float) -> Floats:
    """Return scattering vectors (n, 3)."""
    ray = np.stack([x, y, np.full(len(x), camera_length)], axis=1)
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    ray[:, 2] -= 1.0
    return np.asarray(ray * wavenumber, np.float64)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where each pixel of a flat slab is.

    Attributes
    ----------
    x, y : float32 array (n_pixels,)
        In metres from the beam.
    polar, box : int16 array (n_pixels,)
        Cell and box; -1 outside the panels.
    ring : uint8 array (n_pixels,)
        ``RINGS`` outside the panels.
    sampled : int32 array (n,)
        Some pixels of each ring, ring by ring.
    start : int64 array (RINGS + 1,)
        Where each ring's begin.
    ring_width : float
        In metres.
    step : int
        Every so many-th row is enough for levels.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    polar: NDArray[np.int16]
    box: NDArray[np.int16]
    ring: NDArray[np.uint8]
    sampled: NDArray[np.int32]
    start: NDArray[np.int64]
    ring_width: float
    step: int

    @classmethod
    def of(cls, geometry: Geometry) -> _Places:
        x, y = (np.full(geometry.slab_shape, np.nan, np.float32) for _ in range(2))
        for index, panel in enumerate(geometry.panels):
            corners = geometry.pixel_corners(index)
            for place, corner, axis in zip((x, y), corners, range(2), strict=True):
                half = (panel.fs_vector[axis] + panel.ss_vector[axis]) / 2
                place[panel.rectangle] = (corner + half) / panel.res
        flat_x, flat_y = x.reshape(-1), y.reshape(-1)
        return cls._of_flat(flat_x, flat_y)

    @classmethod
    def _of_flat(cls, x: NDArray[np.float32], y: NDArray[np.float32]) -> _Places:
        there = np.isfinite(x)
        radius = np.hypot(x, y)
        reach = float(radius[there].max()) * (1 + 1e-6)
        ring = np.zeros(x.size, np.int64)
        ring[there] = (radius[there] * (RINGS / reach)).astype(np.int64)
        turn = np.arctan2(y, x) / (2 * math.pi) + 0.5
        sector = np.zeros(x.size, np.int64)
        sector[there] = np.minimum((turn[there] * SECTORS).astype(np.int64), SECTORS - 1)
        polar = np.where(there, ring * SECTORS + sector, -1).astype(np.int16)
        side = max(float(np.ptp(x[there])), float(np.ptp(y[there]))) * (1 + 1e-6) or 1.0
        column, row = (np.zeros(x.size, np.int64) for _ in range(2))
        for number, place in ((column, x), (row, y)):
            middle = (float(place[there].min()) + float(place[there].max())) / 2
            number[there] = ((place[there] - middle) / side + 0.5) * BOXES
        np.clip(column, 0, BOXES - 1, out=column)
        np.clip(row, 0, BOXES - 1, out=row)
        box = np.where(there, row * BOXES + column, -1).astype(np.int16)
        sampled, start = _sample(ring, there)
        of_pixel = np.where(there, ring, RINGS).astype(np.uint8)
        known = polar, box, of_pixel, sampled, start
        inside = np.count_nonzero(np.bincount(box[there], minlength=1))
        step = int(np.clip(np.count_nonzero(there) // (inside * PIXELS_OF_BOX), 1, MOST_STEP))
        step -= step % 2 == 0
        return cls(np.nan_to_num(x), np.nan_to_num(y), *known, reach / RINGS, step)


def _sample(
    ring: NDArray[np.int64], there: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return some pixels of each ring, drawn at random once and for all, and where they begin."""
    generator = np.random.default_rng(0)
    order = generator.permutation(np.flatnonzero(there)).astype(np.int32)
    order = order[np.argsort(ring[order], kind="stable")]
    count = np.bincount(ring[there], minlength=RINGS)
    first = np.concatenate([[0], np.cumsum(count)])
    taken = np.minimum(count, SAMPLE)
    # In the frame's order: memory is read in passing.
    chosen = np.concatenate(
        [np.sort(order[a : a + n]) for a, n in zip(first[:-1], taken, strict=True)]
    )
    return chosen.astype(np.int32), np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
