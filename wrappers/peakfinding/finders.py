"""The peak finder that settings name: the one place where finders are made."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS
from wrappers.peakfinding.peak_batch import Finder, Prepared
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["NamedFinder"]


class NamedFinder:
    """Finds the peaks of frames of one geometry with the finder that each settings names.

    Parameters
    ----------
    geometry : Geometry

    Notes
    -----
    The rings follow the detector where the data says how it is shifted in a frame. A finder is
    made when it is first asked for. Several threads may use this one at once.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._made: dict[str, Finder] = {}
        self._shifted: dict[tuple[float, float], NamedFinder] = {}

    def __reduce__(self) -> tuple[type[NamedFinder], tuple[Geometry]]:
        return NamedFinder, (self._geometry,)

    def of(self, settings: Settings) -> Finder:
        """Return the finder that the settings name."""
        if settings.peaks not in self._made:
            robust = settings.peaks == "robust"
            # Two threads at once may make it twice, which does no harm.
            self._made[settings.peaks] = (RobustPeakFinder if robust else PeakFinder)(
                self._geometry
            )
        return self._made[settings.peaks]

    def at(self, frame: Frame) -> NamedFinder:
        """Return the finder for the rings around the beam where a frame's detector is shifted."""
        shift = frame.shift_x, frame.shift_y
        if not any(shift):
            return self
        if shift not in self._shifted:
            moved = copy.copy(self)
            moved._geometry, moved._made = self._geometry.moved(*shift), {}
            # Frames of a run mostly have one shift, and a layout is some bytes a pixel.
            self._shifted = {shift: moved}
        return self._shifted[shift]

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = MAX_N_PEAKS) -> PeakList:
        """Return the peaks of a frame.

        Raises
        ------
        InputError
            If the robust finder is asked for and the geometry does not say how many ADU a
            photon is.
        """
        return self.at(frame).of(settings).find(frame, settings, max_n_peaks)

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> Prepared:
        """Make a frame ready for many settings, for each finder when it is first asked for."""
        return _NamedFrame(self.at(frame), frame, min_snr)


class _NamedFrame:
    """A frame made ready for those finders that were asked for."""

    def __init__(self, finder: NamedFinder, frame: Frame, min_snr: float) -> None:
        self._finder, self._frame, self._min_snr = finder, frame, min_snr
        self._prepared: dict[str, Prepared] = {}

    def find_all(
        self, settings: Sequence[Settings], max_n_peaks: int = MAX_N_PEAKS
    ) -> list[PeakList]:
        """Return what the finders' `find` does for each settings."""
        lists: dict[int, PeakList] = {}
        for name in dict.fromkeys(each.peaks for each in settings):
            group = {i: each for i, each in enumerate(settings) if each.peaks == name}
            if name not in self._prepared:
                finder = self._finder.of(settings[next(iter(group))])
                self._prepared[name] = finder.prepare(self._frame, self._min_snr)
            found = self._prepared[name].find_all(list(group.values()), max_n_peaks)
            lists.update(zip(group, found, strict=True))
        return [lists[i] for i in range(len(settings))]
