"""The peak finder that settings name: the one place where finders are made."""

from __future__ import annotations

from collections.abc import Mapping

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peak_finders import PEAK_FINDERS, PeakFinderKind, kind_of
from wrappers.peakfinding.peak_batch import Finder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["NamedFinder"]


class NamedFinder:
    """Finds the peaks of frames of one geometry with the finder that each parameter set names.

    Parameters
    ----------
    geometry : Geometry
    kinds : mapping of str to PeakFinderKind, optional
        The finders by their names; by default all that are registered now. They travel with
        this one to worker processes, which do not know what was registered elsewhere.

    Notes
    -----
    The rings follow the detector where the data says how it is shifted in a frame. A finder is
    made when it is first asked for. Several threads may use this one at once.
    """

    def __init__(
        self, geometry: Geometry, kinds: Mapping[str, PeakFinderKind] | None = None
    ) -> None:
        self._geometry = geometry
        self._kinds = dict(PEAK_FINDERS.items() if kinds is None else kinds)
        self._made: dict[str, Finder] = {}
        self._last: tuple[tuple[float, ...], NamedFinder] | None = None

    def __reduce__(self) -> tuple[type[NamedFinder], tuple[Geometry, dict[str, PeakFinderKind]]]:
        return NamedFinder, (self._geometry, self._kinds)

    def of(self, frame: Frame, settings: Settings) -> Finder:
        """Return the finder that the settings name, its rings around the beam in this frame."""
        finder = self._at(frame.shift_x, frame.shift_y)
        name = settings.peak_finder
        if name not in finder._made:
            # Two threads at once may make it twice, which does no harm.
            finder._made[name] = kind_of(self._kinds, name).make(finder._geometry)
        return finder._made[name]

    def _at(self, *shift: float) -> NamedFinder:
        """Return the one for a detector that is shifted along x and y, in metres."""
        if not any(shift):
            return self
        # Looked up once: another thread may put another in its place meanwhile.
        last = self._last
        if last is None or last[0] != shift:
            last = shift, NamedFinder(self._geometry.moved(*shift), self._kinds)
            # Frames of a run mostly have one shift, and a layout is some bytes a pixel.
            self._last = last
        return last[1]

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame.

        Raises
        ------
        InputError
            If the robust finder is asked for and the geometry does not say how many ADU a
            photon is.
        """
        return self.of(frame, settings).find(frame, settings)
