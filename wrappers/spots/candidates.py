"""The candidates of a frame: what may be a Bragg spot, and what each looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peakfinding.kernel_arguments import peak_lists, settings_table
from wrappers.peakfinding.peak_searches import search_frame
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings
from wrappers.spots.image import LEVELS, RING, Image, ring_background
from wrappers.spots.patches import FEATURES, MEASURED, describe
from wrappers.spots.ranking import best_of_neighbours, rank, split

__all__ = ["LOOSE", "MOST_JUDGED", "STRONG", "CandidateFinder", "Candidates"]

LOOSE = Settings(threshold=-1e9, min_pix_count=1, max_pix_count=1000, local_bg_radius=3)
"""What peakfinder8 is asked for: whatever stands out at all, single pixels included."""

MOST_JUDGED = 1000
"""Of all that are found the best so many are judged, of each megapixel if there are more."""

DENSITIES = [FEATURES.index(each) for each in ("frame_density", "ring_density", "ring_contrast")]
"""Where the features are that depend on the other candidates."""

SAMPLED = 10_000
"""Pixels by which a frame of single photons is known."""

FEW_PHOTONS, WIDEST_BACKGROUND = 8, 12
"""Photons that the square of a candidate's background should have, and its largest
``local_bg_radius``."""

PER_JUDGED = 6
"""min_snr is the highest of `LEVELS` that so many times as many pixels exceed as can be judged:
more are searched for nothing, and of fewer the best are not all there (docs/spots.md)."""

LEAST_SCORE = 2.0
"""Standard deviations below which a matched filter's answer is not worth judging."""

STRONG = 8.0
"""From so many on a candidate counts as strong, for what is said of frame and ring."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of a frame, in the order of panels and raster.

    Attributes
    ----------
    peaks : PeakList
    features : float32 array (n, len(FEATURES))
    score : float32 array (n,)
        What a filter for a small spot has there, in standard deviations.
    radius : float32 array (n,)
        Distance from the beam in pixels, as peakfinder8 counts it.
    """

    peaks: PeakList
    features: NDArray[np.float32]
    score: NDArray[np.float32]
    radius: NDArray[np.float32]


class CandidateFinder:
    """Finds the candidates of frames of one geometry.

    Parameters
    ----------
    geometry : Geometry

    Notes
    -----
    Several threads may use one finder.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._finder = PeakFinder(geometry)
        self._radius = self._finder.layout.radius.reshape(-1)
        on_panels = self._radius[np.isfinite(self._radius)]
        # Regions that do not touch are at most one in each 2 × 2 pixels of a panel. The search
        # stops in raster order where there is no room, and what is beyond would never be seen.
        sizes = self._finder.layout.panels[:, 1::2] - self._finder.layout.panels[:, ::2] + 1
        self._most_found = int(((sizes + 1) // 2).prod(axis=1).sum())
        self._largest = float(on_panels.max(initial=1.0))
        self._max_adu = np.array([panel.max_adu for panel in geometry.panels], np.float64)
        n_rings = math.ceil((self._largest + 1) / RING)
        rings = (on_panels / RING).astype(np.int64)
        self._ring_size = np.bincount(rings, minlength=n_rings).astype(np.float64)

    def find(self, frame: Frame) -> Candidates:
        """Return the candidates of a frame."""
        data, usable = self._finder.pixels.flatten(frame)
        layout = self._finder.layout
        n_pixels = self._radius.size
        image = Image(
            np.ascontiguousarray(data[:n_pixels], np.float32),
            usable,
            layout.radius.shape[1],
            layout.panels,
            self._max_adu,
            self._radius,
            self._largest,
            np.empty_like(self._ring_size),
            np.empty_like(self._ring_size),
        )
        photons = _single_photons(data[:n_pixels], usable[:n_pixels])
        above = ring_background(image, bool(photons))
        most = max(MOST_JUDGED, MOST_JUDGED * n_pixels // 1_000_000)
        level = LEVELS[max(int(np.count_nonzero(above >= PER_JUDGED * most)) - 1, 0)]
        peaks = self._search(LOOSE.replace(min_snr=level, **photons), data, usable)
        region, score, pixel = _ranked(image, peaks, most)
        chosen = _best(score, most)
        chosen = chosen[np.lexsort((-score[chosen], pixel[chosen]))]
        panel = peaks[4, region[chosen]].astype(np.int32)
        kept = best_of_neighbours(pixel[chosen], panel, score[chosen], image.width)
        chosen = chosen[kept]
        chosen = chosen[np.lexsort((pixel[chosen], panel[kept]))]
        pixel, score = pixel[chosen], score[chosen]
        (found,) = peak_lists(peaks[:, region[chosen]], [len(chosen)])
        features = np.zeros((len(chosen), len(FEATURES)), np.float32)
        measured = np.empty((len(chosen), len(MEASURED)))
        describe(image, pixel, found.panel, found.snr, found.n_pixels, score, features, measured)
        radius = self._radius[pixel]
        features[:, DENSITIES] = self._densities(radius, score)
        fs, ss, intensity = measured.T
        peaks_measured = replace(found, fs=fs, ss=ss, intensity=intensity)
        return Candidates(peaks_measured, features, score, radius)

    def _search(
        self, asked: Settings, data: NDArray[np.generic], usable: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return what peakfinder8 finds: rows (7, n), until the next search."""
        pixels = self._finder.pixels
        memory, room = pixels.memory(self._most_found, [asked])
        (row,) = settings_table([asked])
        arrays = pixels.layout.arrays
        n = search_frame(data, usable, arrays, row, self._most_found, memory, room)
        return room[:, :n]

    def _densities(
        self, radius: NDArray[np.float32], score: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return how crowded the frame is, how crowded each candidate's ring, and how that differs.

        Logarithms of strong candidates a megapixel (n, 3); the last is the ring's over that of the
        rings around.
        """
        strong = score > STRONG
        rings = np.minimum((radius / RING).astype(np.int64), len(self._ring_size) - 1)
        counts = np.bincount(rings[strong], minlength=len(self._ring_size)).astype(np.float64)
        around = _with_neighbours(counts), _with_neighbours(self._ring_size)
        frame = math.log1p(1e6 * strong.sum() / max(self._ring_size.sum(), 1.0))
        prior = 1e-4
        ring = (counts + 0.5) / (self._ring_size + 0.5 / prior)
        wide = (around[0] - counts + 0.5) / (around[1] - self._ring_size + 0.5 / prior)
        return np.column_stack(
            [
                np.full(len(radius), frame),
                np.log(ring / prior)[rings],
                np.log(ring / wide)[rings],
            ]
        )


def _ranked(
    image: Image, peaks: NDArray[np.float64], most: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Return spots that may be judged: the column of `peaks` of each, its score and its pixel."""
    n = peaks.shape[1]
    region = np.empty(n + most, np.int32)
    score, pixel = np.empty(n + most, np.float32), np.empty(n + most, np.int32)
    region[:n] = np.arange(n)
    rank(image, peaks, score[:n], pixel[:n])
    n += split(image, peaks, score[:n], pixel[:n], region[n:], score[n:], pixel[n:])
    return region[:n], score[:n], pixel[:n]


def _single_photons(data: NDArray[np.generic], usable: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what to ask peakfinder8 for where most pixels count not one photon.

    It leaves what stands out, each single photon then, out of a candidate's background, and refuses
    a candidate whose background has no noise left: the brightest spots among them. So single
    photons are to be background, and so many pixels that there are some.
    """
    step = max(len(data) // SAMPLED, 1)
    values = data[::step][usable[::step]]
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    nothing = np.median(values)
    above = values[values > nothing]
    rate = 1 - float(np.mean(values == nothing))
    if not 0 < rate <= 0.5 or not len(above):
        return {}
    radius = math.ceil((math.sqrt(FEW_PHOTONS / rate) - 1) / 4)  # of (4 radius + 1)² pixels
    usual = LOOSE.local_bg_radius
    radius = min(max(radius, usual), WIDEST_BACKGROUND)
    # Between one photon and two: what is just on the limit is no background either.
    threshold = float(nothing + 1.5 * (above.min() - nothing))
    return {"threshold": threshold, "local_bg_radius": radius}


def _with_neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of each value and of up to four on either side of it."""
    # Not numpy's "same": of fewer than nine values it makes nine.
    return np.convolve(values, np.ones(9))[4 : 4 + len(values)]


def _best(score: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Return where the highest scores are, no more than so many and none that says nothing."""
    worth = np.flatnonzero(score > LEAST_SCORE)
    if len(worth) <= most:
        return worth
    return worth[np.argpartition(-score[worth], most)[:most]]
