"""A peak finder with robust statistics, for weak patterns and detectors with bad pixels.

After the robust peak finder of Hadian-Jazi et al., J. Appl. Cryst. 54 (2021) 1360, and Sadri et
al., J. Appl. Cryst. 55 (2022) 1549, written anew. A ring's, or a neighbourhood's, mean and
standard deviation come from its inliers: those within three standard deviations, starting from
the median and the nine tenths of the values that are nearest to it, as in the modified selective
statistical estimator (MSSE). Peaks, hot pixels and other panels' troubles then do not count. A
peak is judged by

    SNR = √n (μ_peak - μ_background) / (σ_peak + σ_background)

with the mean of the peak's n pixels, the photons' own noise as σ_peak, and σ_background as seen
around it, or as the peak's pixels are known to have it. The root makes it the SNR of the mean of
n pixels. With n = 1, or the spread of the peak's pixels as σ_peak, it hardly tells peaks from
noise (`docs/peakfinder.md`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.peak_finders import photon_adu
from wrappers.peakfinding.detector_pixels import DetectorPixels
from wrappers.peakfinding.kernel_arguments import flat, peak_lists, radii
from wrappers.peakfinding.peak_regions import join_pixels, no_bits
from wrappers.peakfinding.robust_statistics import (
    add_deviations,
    choose_pixels,
    measure_regions,
    outstanding_pixels,
    ring_statistics,
)
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["RobustFrame", "RobustPeakFinder"]

NOISY = 1.5
"""A pixel's noise counts from here on; what is below may be chance."""


class RobustPeakFinder:
    """Finds the peaks of frames of one geometry with robust statistics.

    Parameters
    ----------
    geometry : Geometry
        Its ``adu_per_photon`` (or ``adu_per_eV``) says how noisy photons are.
    use_saturated : bool
        Whether peaks above a panel's ``max_adu`` are kept.
    noise : float32 array (ss, fs), optional
        How many times noisier than its ring each pixel is, of `learn_noise`.

    Notes
    -----
    Settings have the meaning they have for `peakfinder8.PeakFinder`, but for
    ``min_snr``: it is the SNR above, and how far a peak's pixels are above their ring in
    standard deviations. Two to three is usual here. Several threads may use one finder.
    """

    def __init__(
        self,
        geometry: Geometry,
        use_saturated: bool = True,
        noise: NDArray[np.float32] | None = None,
    ) -> None:
        self._arguments = (geometry, use_saturated, noise)
        self._geometry = geometry
        self._pixels = DetectorPixels(geometry, use_saturated)
        self.layout = self._pixels.layout
        self.noise = np.ones(geometry.slab_shape, np.float32) if noise is None else noise
        if self.noise.shape != geometry.slab_shape:
            raise InputError(
                f"the noise map has {self.noise.shape} pixels, but {geometry.path} has "
                f"{geometry.slab_shape}: learn it from frames of this geometry"
            )
        self._scratch = _Scratch(self.layout.radius.size)

    def __reduce__(
        self,
    ) -> tuple[type[RobustPeakFinder], tuple[Geometry, bool, NDArray[np.float32] | None]]:
        return RobustPeakFinder, self._arguments

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame, in the order of panels and raster.

        Raises
        ------
        InputError
            If the geometry does not say how many ADU a photon is.
        """
        return self.prepare(frame, settings.min_snr).find(settings)

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> RobustFrame:
        """Make a frame ready for many settings with at least this ``min_snr``."""
        return RobustFrame(self, frame, min_snr)

    def ring_statistics(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation (float32, per ring) of a frame's background.

        The latter is infinite where a ring has too few usable pixels.
        """
        values = self._pixels.ring_values(*self._pixels.flatten(frame))
        return ring_statistics(values, self.layout.start)

    def learn_noise(self, frames: FrameSource | Sequence[Frame]) -> NDArray[np.float32]:
        """Return how many times noisier than its ring each pixel is, from frames without peaks.

        The mean deviation from the ring's mean, each frame's limited to ten standard deviations, so
        that a stray peak does little; a pixel that is always too bright is noisy, too.

        Parameters
        ----------
        frames : FrameSource or sequence of Frame
            Non-hits; ten or more. They are taken one at a time.

        Returns
        -------
        float32 array (ss, fs)
            1 where a pixel is not noticeably noisier than the others.
        """
        total = np.zeros(self.layout.radius.size, np.float32)
        count = np.zeros(self.layout.radius.size, np.uint32)
        for index in range(len(frames)):
            frame = frames[index]
            mean, sigma = self.ring_statistics(frame)
            radius = self.layout.radius.reshape(-1)
            add_deviations(flat(frame.data), flat(frame.mask), radius, mean, sigma, total, count)
        # The mean deviation of a Gaussian is 0.8 of the standard one.
        noise = total / np.maximum(count, 1) * math.sqrt(math.pi / 2)
        noise[noise < NOISY] = 1
        return noise.astype(np.float32).reshape(self.layout.radius.shape)

    def measure(self, frame: Frame, bright: NDArray[np.int32], settings: Settings) -> PeakList:
        """Return the peaks among pixels (flat indices) that stand out."""
        gain = photon_adu(self._geometry, frame.photon_energy)
        layout = self.layout
        width = layout.radius.shape[1]
        self._scratch.free[:] = 0
        regions = join_pixels(
            bright,
            width,
            layout.panels,
            settings.min_pix_count,
            settings.max_pix_count,
            self._scratch.free,
        )
        peaks = measure_regions(
            flat(frame.data),
            flat(frame.mask),
            flat(self.noise),
            width,
            layout.panels,
            layout.max_adu,
            regions,
            settings.min_snr,
            settings.local_bg_radius,
            gain,
        )
        return peak_lists(peaks.T, [len(peaks)])[0]


class RobustFrame:
    """A frame that a robust peak finder has made ready for many settings.

    Parameters
    ----------
    finder : RobustPeakFinder
    frame : Frame
        Kept by reference.
    min_snr : float
        The smallest that is to be fast.
    """

    def __init__(self, finder: RobustPeakFinder, frame: Frame, min_snr: float = 2.0) -> None:
        self._finder, self._frame, self._min_snr = finder, frame, min_snr
        mean, sigma = finder.ring_statistics(frame)
        self._pixel, self._deviation = outstanding_pixels(
            flat(frame.data),
            flat(frame.mask),
            flat(finder.noise),
            finder.layout.radius.reshape(-1),
            mean,
            sigma,
            min_snr,
        )

    @property
    def nbytes(self) -> int:
        """Memory in bytes beyond the frame and the finder."""
        return self._pixel.nbytes + self._deviation.nbytes

    def find(self, settings: Settings) -> PeakList:
        """Return what ``finder.find(frame, settings)`` does."""
        if settings.min_snr < self._min_snr:
            return self._finder.find(self._frame, settings)
        bright = choose_pixels(
            flat(self._frame.data),
            self._finder.layout.radius.reshape(-1),
            self._pixel,
            self._deviation,
            settings.min_snr,
            settings.threshold,
            *radii(settings),
        )
        return self._finder.measure(self._frame, bright, settings)

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        """Return what `find` does for each parameter set."""
        return [self.find(each) for each in settings]


class _Scratch(threading.local):
    """Memory that each thread uses again and again."""

    def __init__(self, n_pixels: int) -> None:
        self.free = no_bits(n_pixels)
