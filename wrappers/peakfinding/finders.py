"""The peak finder that settings name: the one place where finders are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peak_finders import PEAK_FINDERS, PeakFinderKind
from wrappers.peakfinding.peak_batch import Finder, Prepared
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
        self._last: tuple[tuple[float, float], NamedFinder] | None = None

    def __reduce__(self) -> tuple[type[NamedFinder], tuple[Geometry, dict[str, PeakFinderKind]]]:
        return NamedFinder, (self._geometry, self._kinds)

    def of(self, settings: Settings) -> Finder:
        """Return the finder that the settings name."""
        name = settings.peak_finder
        if name not in self._made:
            # Two threads at once may make it twice, which does no harm.
            self._made[name] = self._kinds[name].make(self._geometry)
        return self._made[name]

    def at(self, frame: Frame) -> NamedFinder:
        """Return the finder for the rings around the beam where a frame's detector is shifted."""
        shift = frame.shift_x, frame.shift_y
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
        return self.at(frame).of(settings).find(frame, settings)

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> Prepared:
        """Make a frame ready for many settings, for each finder when it is first asked for."""
        return _NamedFrame(self.at(frame), frame, min_snr)


class _NamedFrame:
    """A frame made ready for those finders that were asked for."""

    def __init__(self, finder: NamedFinder, frame: Frame, min_snr: float) -> None:
        self._finder, self._frame, self._min_snr = finder, frame, min_snr
        self._prepared: dict[str, Prepared] = {}

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        """Return what the finders' `find` does for each settings."""
        lists: dict[int, PeakList] = {}
        for name in dict.fromkeys(each.peak_finder for each in settings):
            group = {i: each for i, each in enumerate(settings) if each.peak_finder == name}
            if name not in self._prepared:
                finder = self._finder.of(settings[next(iter(group))])
                self._prepared[name] = finder.prepare(self._frame, self._min_snr)
            found = self._prepared[name].find_all(list(group.values()))
            lists.update(zip(group, found, strict=True))
        return [lists[i] for i in range(len(settings))]
