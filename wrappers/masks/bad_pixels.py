"""Bad pixels, found in the frames themselves.

After the mask maker of Sadri et al., J. Appl. Cryst. 55 (2022) 1549: what a pixel does over many
frames is put into robust numbers, and a pixel is bad if it is an outlier among its neighbours.

In each frame a pixel's value becomes a deviation from its ring's background, in the ring's own
standard deviations, both robust; so frames of any background level count alike. It is cut at
± `CLIP`, because a pixel sees a Bragg spot in a few frames of a hundred at most, which then
change little; and the frames with the most bright pixels are left out where there are enough
others. Three numbers are kept for each pixel:

- *level*: the mean deviation;
- *spread*: its standard deviation over the frames;
- *response*: the slope of the deviation against the frame's background, 0 for a good pixel and -1
  for one that does not see the background at all.

Each is then compared with the pixel's neighbours, in square tiles of its panel: their median, and
their robust standard deviation on that side of it. So what varies slowly over a panel
(polarisation, shadows, an offset of a panel) is nobody's fault.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import needs_map
from wrappers.peakfinding.detector_pixels import DetectorPixels
from wrappers.peakfinding.kernel_arguments import flat
from wrappers.peakfinding.radial_layout import RadialLayout
from wrappers.peakfinding.robust_statistics import ring_statistics
from wrappers.settings import Settings
from wrappers.workers.worker_processes import Processes

__all__ = ["find_bad_pixels", "spread_frames"]

FEWEST_FRAMES = 10
"""Below this nothing can be said of a pixel's spread."""
MOST_FRAMES = 200
"""More frames than this tell little more, and each is read twice."""
ENOUGH_FRAMES = 100
"""The half of the frames with the most bright pixels is left out where so many remain."""

CLIP = 4.0
"""In standard deviations: the most that a frame can say of a pixel."""
BRIGHT = 8.0
"""In standard deviations: the pixels that are counted to tell hits from the other frames."""
TILE = 32
"""Side of a neighbourhood, in pixels."""
FEWEST_NEIGHBOURS = 50
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
QUARTILE, DECILE = 0.67449, 1.28155
"""Of a Gaussian, in standard deviations from the median."""
LEAST_SIGMA = 12**-0.5
"""Standard deviation that rounding to whole numbers alone gives."""
CLEARLY_BRIGHT = 3.0
"""In robust σ: a pixel brighter than this is not called dead for holding still."""


def spread_frames(n_frames: int, most: int = MOST_FRAMES) -> list[int]:
    """Return up to `most` frame numbers, evenly spread over a run."""
    return np.unique(np.linspace(0, n_frames - 1, min(n_frames, most)).round()).astype(int).tolist()


def with_needed_map(
    run: FrameSource,
    settings: Settings,
    frames: Sequence[int] | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> FrameSource:
    """Return the run with a map of its bad pixels, where the settings need one and it has none.

    Parameters and errors are those of `find_bad_pixels`, which makes the map.
    """
    if run.bad_pixels is not None or not needs_map(settings):
        return run
    return run.with_bad_pixels(find_bad_pixels(run, frames, jobs=jobs, progress=progress))


def find_bad_pixels(
    run: FrameSource,
    frames: Sequence[int] | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> BadPixelMap:
    """Return how abnormal each pixel is over the frames of a run.

    The frames are read twice, one at a time; memory is some 40 bytes a pixel, however many
    they are.

    Parameters
    ----------
    run : FrameSource
    frames : sequence of int, optional
        Up to `MOST_FRAMES` of them, evenly spread, are read; by default of the whole run.
    jobs : int, optional
        Processes that look at the frames' backgrounds. The sums over frames are made in this
        one, in the frames' order, so that the map does not depend on how many there are.
    progress : callable, optional
        Called with the number of frames read so far; in the end it is about twice theirs.

    Raises
    ------
    InputError
        If there are fewer than `FEWEST_FRAMES` readable frames.
    """
    if frames is None:
        frames = range(len(run))
    candidates = [frames[i] for i in spread_frames(len(frames))]
    pixels = DetectorPixels(run.geometry.moved(*_first_shift(run, candidates)))
    make = functools.partial(_Backgrounds, run, pixels)
    backgrounds, n_bright = {}, {}
    problem = ""
    with Processes(make, max(1, min(jobs, len(candidates)))) as processes:
        looked_at = processes.stream(_Backgrounds.of, candidates)
        for done, (index, found) in enumerate(zip(candidates, looked_at, strict=True), start=1):
            if isinstance(found, str):
                problem = f" ({found})"
            else:
                backgrounds[index], n_bright[index] = found
            progress(done)
    n = len(backgrounds)
    if n < FEWEST_FRAMES:
        raise InputError(
            f"{n} frames of {run.name(candidates[0])[0]} can be read{problem}, too few to tell "
            f"bad pixels: give {FEWEST_FRAMES} or more, or a map of others (--mask), or set no "
            "mask_*_sigma"
        )
    quietest = sorted(n_bright, key=lambda index: n_bright[index])
    chosen = quietest[: max(n // 2, min(n, ENOUGH_FRAMES))]
    sums = _Sums(pixels.layout, {index: backgrounds[index] for index in chosen})
    for done, index in enumerate(chosen, start=1):
        sums.add(index, run[index])
        progress(len(candidates) + done)
    return _compare(run.geometry, sums.result(), len(chosen))


def _first_shift(run: FrameSource, frames: Sequence[int]) -> tuple[float, float]:
    """Return how the first frame that can be read has the detector shifted, in metres."""
    for index in frames:
        with suppress(InputError):
            return run.shift(index)
    return 0.0, 0.0


Background = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and standard deviation of each ring; the latter infinite where they are not known."""


class _Backgrounds:
    """Looks at frames one by one."""

    def __init__(self, run: FrameSource, pixels: DetectorPixels) -> None:
        self._run, self._pixels = run, pixels

    def of(self, index: int) -> tuple[Background, int] | str:
        """Return the rings' background in a frame, and its number of bright pixels.

        Or why the frame cannot be read.
        """
        try:
            frame = self._run[index]
        except InputError as error:
            return str(error)
        values = self._pixels.ring_values(flat(frame.data), flat(frame.mask))
        start = self._pixels.layout.start
        mean, sigma = ring_statistics(values, start)
        # A ring may hold one value only, as in nearly empty frames of photon counters.
        least = LEAST_SIGMA if frame.data.dtype.kind in "iu" else sigma[sigma > 0].min(initial=1.0)
        sigma = np.maximum(sigma, np.float32(least))
        return (mean, sigma), _count_bright(values, start, mean, sigma)


class _Sums:
    """Running sums over frames, for each pixel."""

    def __init__(self, layout: RadialLayout, backgrounds: dict[int, Background]) -> None:
        self._layout, self._backgrounds = layout, backgrounds
        levels = np.array([mean / sigma for mean, sigma in backgrounds.values()])
        centred = levels - levels.mean(axis=0)
        self._signal = dict(zip(backgrounds, centred.astype(np.float32), strict=True))
        self._signal_squares = (centred**2).sum(axis=0)
        n_pixels = layout.radius.size
        self._count = np.zeros(n_pixels, np.uint32)
        self._sums = np.zeros((n_pixels, 3), np.float32)

    def add(self, index: int, frame: Frame) -> None:
        _add_frame(
            flat(frame.data),
            flat(frame.mask),
            self._layout.radius.reshape(-1),
            *self._backgrounds[index],
            self._signal[index],
            self._count,
            self._sums,
        )

    def result(self) -> NDArray[np.float32]:
        """Return level, spread and response (3, ss, fs); NaN where they are not known."""
        radius = self._layout.radius
        enough = self._count >= FEWEST_FRAMES
        n = np.where(enough, self._count, 1)
        total, squares, products = self._sums.T
        level = total / n
        spread = np.sqrt(np.maximum(squares / n - level**2, 0))
        ring = np.where(np.isfinite(radius), np.rint(radius), 0).astype(np.intp).reshape(-1)
        # With steadier a background the slopes are chance, and so is one beyond -1.
        signal_squares = np.where(self._signal_squares >= 1, self._signal_squares, np.nan)
        response = np.clip(products / signal_squares[ring].astype(np.float32), -1, 1)
        found = np.stack([level, spread, response]).astype(np.float32, copy=False)
        found[:, ~enough] = np.nan
        return found.reshape(3, *radius.shape)


def _compare(geometry: Geometry, found: NDArray[np.float32], n_frames: int) -> BadPixelMap:
    """Compare each pixel's level, spread and response (3, ss, fs) with its neighbours'."""
    level, spread, response = found
    # A few photons, which a nearly empty frame's pixel gets by chance, make no outlier.
    bright = _tile_deviations(geometry, level, CLIP / n_frames)
    restless = _tile_deviations(geometry, spread)
    lively = _tile_deviations(geometry, response)
    # A pixel that is always above the limit of what a frame can say seems to hold still, too.
    still = np.where(bright < CLEARLY_BRIGHT, -restless, 0)
    dead = np.maximum(np.hypot(np.maximum(-bright, 0), np.maximum(still, 0)), -lively)
    return BadPixelMap(_half(bright), _half(restless), _half(dead), n_frames)


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    return np.clip(values, -6e4, 6e4).astype(np.float16)


def _tile_deviations(
    geometry: Geometry, values: NDArray[np.float32], coarseness: float = 0.0
) -> NDArray[np.float32]:
    """Return how far values (ss, fs) are from their tile's median, in robust σ of the tile.

    `coarseness` is added to σ in quadrature. 0 where a value is not known, or σ is 0.
    """
    deviations = np.zeros(values.shape, np.float32)
    for panel in geometry.panels:
        rows, columns = (
            np.linspace(place.start, place.stop, max(1, round(size / TILE)) + 1).astype(int)
            for place, size in zip(panel.rectangle, (panel.height, panel.width), strict=True)
        )
        for top, bottom in itertools.pairwise(rows):
            for left, right in itertools.pairwise(columns):
                tile = (slice(top, bottom), slice(left, right))
                known = np.isfinite(values[tile])
                if known.sum() < FEWEST_NEIGHBOURS:
                    continue
                p10, p25, median, p75, p90 = np.quantile(values[tile][known], QUANTILES)
                below = max((median - p25) / QUARTILE, (median - p10) / DECILE)
                above = max((p75 - median) / QUARTILE, (p90 - median) / DECILE)
                below, above = math.hypot(below, coarseness), math.hypot(above, coarseness)
                sigma = np.where(values[tile] < median, below, above)
                known &= sigma > 0
                deviations[tile][known] = (values[tile][known] - median) / sigma[known]
    return deviations


@njit(cache=True, nogil=True)
def _count_bright(values, start, mean, sigma):
    """Return how many values (in ring order) are far above their ring's mean."""
    n = 0
    for ring in range(len(start) - 1):
        limit = mean[ring] + np.float32(BRIGHT) * sigma[ring]
        for value in values[start[ring] : start[ring + 1]]:
            n += value > limit
    return n


@njit(cache=True, nogil=True)
def _add_frame(data, mask, radius, mean, sigma, signal, count, sums):
    """Add a flat frame's deviations from its rings to the running sums.

    `signal` (n_rings,) is how far the frame's background is from its mean over the frames, in
    standard deviations; `sums` (n_pixels, 3) of the deviations, their squares, and their
    products with the signal.
    """
    for p in range(len(data)):
        if not (mask[p] and radius[p] < np.inf):
            continue
        ring = int(np.rint(radius[p]))
        if not sigma[ring] < np.inf:
            continue
        deviation = (np.float32(data[p]) - mean[ring]) / sigma[ring]
        deviation = min(max(deviation, np.float32(-CLIP)), np.float32(CLIP))
        count[p] += 1
        sums[p, 0] += deviation
        sums[p, 1] += deviation * deviation
        sums[p, 2] += deviation * signal[ring]
