"""A peak finder that judges candidates by what they look like.

Candidates are what peakfinder8 finds at loose settings, single pixels included. Of these the ones
that suit a spot of about a pixel's width best are described by numbers (`patches`), and small
networks say how likely each is a Bragg spot (`model`). A parameter set then only chooses: by
``min_probability``, by numbers of pixels and by distance from the beam. So a frame that was judged
once answers any further set from a list of some 1,000 candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peakfinding.kernel_arguments import radii
from wrappers.peaks import MAX_N_PEAKS, PeakList
from wrappers.settings import Settings
from wrappers.spots.candidates import CandidateFinder
from wrappers.spots.model import SHIPPED, SpotModel

__all__ = ["LearnedFrame", "LearnedPeakFinder"]


class LearnedPeakFinder:
    """Finds the peaks of frames of one geometry with a trained model.

    Parameters
    ----------
    geometry : Geometry
    model : SpotModel or path, optional
        The one that comes with the program by default.

    Raises
    ------
    InputError
        If the model cannot be read.

    Notes
    -----
    Of the settings ``min_snr``, ``threshold`` and ``local_bg_radius`` mean nothing here;
    ``min_pix_count`` and ``max_pix_count`` are of the pixels of a candidate's region, which spots
    that touch share: those above the ``min_snr`` (2.5 to 4) that `candidates` has chosen for the
    frame. Several threads may use one finder.
    """

    def __init__(self, geometry: Geometry, model: SpotModel | Path | None = None) -> None:
        self._geometry = geometry
        self.model = model if isinstance(model, SpotModel) else SpotModel.load(model or SHIPPED)
        self._candidates = CandidateFinder(geometry)

    def __reduce__(self) -> tuple[type[LearnedPeakFinder], tuple[Geometry, SpotModel]]:
        return LearnedPeakFinder, (self._geometry, self.model)

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame, in the order of panels and raster."""
        return self.prepare(frame).find(settings)

    def prepare(self, frame: Frame, min_snr: float = 0.0) -> LearnedFrame:
        """Judge the candidates of a frame, for any settings."""
        del min_snr
        candidates = self._candidates.find(frame)
        probability, uncertainty = self.model.judge(candidates.features)
        return LearnedFrame(candidates.peaks, candidates.radius, probability, uncertainty)


class LearnedFrame:
    """A frame whose candidates are judged.

    Attributes
    ----------
    peaks : PeakList
        The candidates.
    radius : float32 array (n,)
        Distance from the beam in pixels.
    probability, uncertainty : float32 array (n,)
        That each is a Bragg spot, and how far the networks disagree.
    """

    def __init__(
        self,
        peaks: PeakList,
        radius: NDArray[np.float32],
        probability: NDArray[np.float32],
        uncertainty: NDArray[np.float32],
    ) -> None:
        self.peaks, self.radius = peaks, radius
        self.probability, self.uncertainty = probability, uncertainty

    def find(self, settings: Settings) -> PeakList:
        """Return the peaks for one parameter set."""
        return _part(self.peaks, self._chosen(settings))

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        """Return the peaks for each parameter set."""
        return [self.find(each) for each in settings]

    def count_all(self, settings: Sequence[Settings]) -> NDArray[np.int64]:
        """Return the lengths of the lists of `find_all`."""
        return np.array([len(self._chosen(each)) for each in settings], np.int64)

    def _chosen(self, settings: Settings) -> NDArray[np.intp]:
        nearest, farthest = radii(settings)
        n_pixels = self.peaks.n_pixels
        chosen = np.flatnonzero(
            (self.probability >= settings.min_probability)
            & (n_pixels >= settings.min_pix_count)
            & (n_pixels <= settings.max_pix_count)
            & (self.radius > nearest)
            & (self.radius < farthest)
        )
        if len(chosen) > MAX_N_PEAKS:
            best = np.argpartition(-self.probability[chosen], MAX_N_PEAKS)[:MAX_N_PEAKS]
            chosen = np.sort(chosen[best])
        return chosen


def _part(peaks: PeakList, chosen: NDArray[np.intp]) -> PeakList:
    """Return some of the peaks."""
    return PeakList(
        peaks.fs[chosen],
        peaks.ss[chosen],
        peaks.intensity[chosen],
        peaks.snr[chosen],
        peaks.panel[chosen],
        peaks.n_pixels[chosen],
        peaks.max_value[chosen],
    )
