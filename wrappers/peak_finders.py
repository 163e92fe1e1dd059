"""The kinds of peak finder that settings may name; another one is one more registration.

Nothing here imports a kernel: a finder is named by where it is, and made when it is first used.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrappers.about import Range
from wrappers.errors import InputError
from wrappers.registry import Registry

if TYPE_CHECKING:
    from wrappers.detector.geometry import Geometry

__all__ = [
    "CUSTOMARY",
    "PEAK_FINDERS",
    "Background",
    "PeakFinderKind",
    "SearchBox",
    "kind_of",
    "photon_adu",
    "unused_settings",
    "usually_tuned_peaks",
]

CUSTOMARY: Mapping[str, float] = {"min_snr": 5.0, "threshold": 800.0}
"""The settings whose meaning depends on the peak finder, with their values for peakfinder8, which
are CrystFEL's defaults."""

Background = tuple[float, float]
"""Median and 99.9th percentile of the pixels of typical frames, in ADU."""


@dataclass(frozen=True)
class SearchBox:
    """Where a search for a peak finder's own settings takes place.

    Attributes
    ----------
    ranges : mapping of str to Range
        Of those settings whose range depends on the peak finder.
    start : mapping of str to float
        Where the search begins.
    """

    ranges: Mapping[str, Range]
    start: Mapping[str, float]


def _peakfinder8_usual(photon: float) -> Mapping[str, float]:
    del photon
    return CUSTOMARY


def _peakfinder8_box(background: Background, photon: float) -> SearchBox:
    """Return peakfinder8's box; the threshold's range follows the frames themselves.

    The geometry's ``adu_per_photon`` is often wrong in real files. Below the median background
    pixel a threshold does nothing, and above thirty times the brightest thousandth of the
    background only the strongest spots are left.
    """
    del photon
    median, bright = background
    low = max(median, bright / 20, 1e-3)
    ranges = {
        "min_snr": Range(3, 9),
        "threshold": Range(low, max(30 * bright, 10 * low), log=True),
        "local_bg_radius": Range(2, 8),
    }
    return SearchBox(ranges, {**CUSTOMARY, "threshold": bright})


@dataclass(frozen=True)
class PeakFinderKind:
    """A kind of peak finder; what is not given is as peakfinder8 has it.

    Attributes
    ----------
    maker : callable or str
        Makes a finder for a geometry; a string names it as ``package.module:object``.
    words : str
        What it is and what it asks for, for the command line's help.
    in_crystfel : bool
        Whether CrystFEL, and the programs that follow it, find the same peaks under this name.
    needs_photon : bool
        Whether it can only be used where the geometry says how many ADU a photon is.
    usual : callable
        Given a photon in ADU, returns the usual values of those settings that have other ones
        than peakfinder8's.
    box : callable
        Given the background and a photon in ADU, returns the `SearchBox`.
    unused : frozenset of str
        Settings that mean nothing to it: parameter sets of this finder have their defaults.
    tuned : tuple of str
        What a session tunes of its settings unless told otherwise.
    takes_model : bool
        Whether a trained model may be named with it, as ``NAME:DIRECTORY``.
    model : Path or None
        The one that was named.
    """

    maker: Callable[..., Any] | str
    words: str = ""
    in_crystfel: bool = False
    needs_photon: bool = False
    usual: Callable[[float], Mapping[str, float]] = _peakfinder8_usual
    box: Callable[[Background, float], SearchBox] = _peakfinder8_box
    unused: frozenset[str] = frozenset({"min_probability"})
    tuned: tuple[str, ...] = ("min_snr", "threshold", "min_pix_count")
    takes_model: bool = False
    model: Path | None = None

    def make(self, geometry: Geometry) -> Any:
        """Return a `wrappers.peakfinding.peak_batch.Finder` for frames of a geometry.

        Raises
        ------
        InputError
            If its model cannot be read.
        """
        maker = pkgutil.resolve_name(self.maker) if isinstance(self.maker, str) else self.maker
        return maker(geometry, *(() if self.model is None else (self.model,)))

    def photon(self, geometry: Geometry, photon_energy: float) -> float:
        """Return a photon in ADU where the finder needs it, else NaN.

        Raises
        ------
        InputError
            If the finder needs it and the geometry does not say.
        """
        return photon_adu(geometry, photon_energy) if self.needs_photon else math.nan


def photon_adu(geometry: Geometry, photon_energy: float) -> float:
    """Return how many ADU a photon (of so many eV) is.

    Raises
    ------
    InputError
        If the geometry does not say.
    """
    gain = geometry.adu_per_photon(photon_energy)
    if gain is None:
        raise InputError(
            f"{geometry.path} does not say how many ADU a photon is, which the robust peak finder "
            "must know: add a line such as 'adu_per_photon = 10'"
        )
    return gain


def _robust_usual(photon: float) -> dict[str, float]:
    return {"min_snr": 2.5, "threshold": photon}


def _robust_box(background: Background, photon: float) -> SearchBox:
    """Return the robust finder's box, which goes down to the weakest spots."""
    del background
    ranges = {
        "min_snr": Range(2, 3.5),
        "threshold": Range(0, 3 * photon),
        "local_bg_radius": Range(2, 5),
    }
    return SearchBox(ranges, _robust_usual(photon))


def _learned_usual(photon: float) -> dict[str, float]:
    del photon
    return {"min_probability": 0.5, "min_pix_count": 1, "max_pix_count": 300}


def _learned_box(background: Background, photon: float) -> SearchBox:
    """Return the learned finder's box: one setting, the least probability."""
    del background
    return SearchBox({"min_probability": Range(0.02, 0.98)}, _learned_usual(photon))


class _PeakFinders(Registry[PeakFinderKind]):
    """The registry of peak finders; a name may have a model's directory behind a colon."""

    def name_of(self, name: object) -> str:
        """Return the finder's own name, with its model's absolute path where one is named."""
        base, model = _parts(name)
        own = super().name_of(base)
        if model is None:
            return own
        if not super().get(own).takes_model or not model:
            able = " or ".join(each for each, kind in self.items() if kind.takes_model)
            raise InputError(
                f"the peak finder {name!r} names no model that can be used: a directory may stand "
                f"behind {able}, as in {able}:refined"
            )
        return f"{own}:{Path(model).absolute()}"

    def get(self, name: object) -> PeakFinderKind:
        """Return the kind that a name stands for, with its model."""
        return kind_of(dict(self.items()), self.name_of(name))


def _parts(name: object) -> tuple[object, str | None]:
    """Return a finder's name without its model, and the model's directory."""
    if not isinstance(name, str) or ":" not in name:
        return name, None
    base, _, model = name.partition(":")
    return base, model


def kind_of(kinds: Mapping[str, PeakFinderKind], name: str) -> PeakFinderKind:
    """Return the kind, of some by their names, that a name in a parameter set stands for."""
    base, model = _parts(name)
    kind = kinds[str(base)]
    return kind if model is None else replace(kind, model=Path(model))


def unused_settings(name: str) -> frozenset[str]:
    """Return the settings that mean nothing to the peak finder of a parameter set.

    A finder that is registered in another process only is taken to be like peakfinder8.
    """
    base, _ = _parts(name)
    return PEAK_FINDERS.get(base).unused if base in PEAK_FINDERS else PeakFinderKind.unused


def usually_tuned_peaks(name: str) -> tuple[str, ...]:
    """Return what a session tunes of a peak finder's settings unless told otherwise."""
    return PEAK_FINDERS.get(name).tuned


PEAK_FINDERS: Registry[PeakFinderKind] = _PeakFinders("peak finder")
PEAK_FINDERS.register(
    "peakfinder8",
    PeakFinderKind("wrappers.peakfinding.peakfinder8:PeakFinder", "CrystFEL's", in_crystfel=True),
)
PEAK_FINDERS.register(
    "robust",
    PeakFinderKind(
        "wrappers.peakfinding.robust_peaks:RobustPeakFinder",
        "for weak patterns and bad pixels, none of CrystFEL's own; min_snr is "
        f"{_robust_usual(1.0)['min_snr']:g} and threshold one photon unless said",
        needs_photon=True,
        usual=_robust_usual,
        box=_robust_box,
    ),
)
PEAK_FINDERS.register(
    "learned",
    PeakFinderKind(
        "wrappers.spots.learned_peaks:LearnedPeakFinder",
        "candidates judged by what they look like, none of CrystFEL's own; the least probability "
        "is min_probability, and learned:DIRECTORY takes what train --spots wrote; "
        "min_pix_count is {min_pix_count} and max_pix_count {max_pix_count} unless said".format(
            **_learned_usual(1.0)
        ),
        usual=_learned_usual,
        box=_learned_box,
        unused=frozenset({"min_snr", "threshold", "local_bg_radius"}),
        tuned=("min_probability",),
        takes_model=True,
    ),
)
