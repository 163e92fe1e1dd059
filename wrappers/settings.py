"""The settings that a session tunes: one point of the search space."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from wrappers.about import About, Group, Range
from wrappers.errors import InputError, Note
from wrappers.peak_finders import CUSTOMARY, PEAK_FINDERS, unused_settings
from wrappers.schema import made_by

__all__ = [
    "ABOUT",
    "CRYSTFEL_DEFAULTS",
    "FORMER_NAMES",
    "MASK_FIELDS",
    "MASK_SIGMAS",
    "PEAK_FIELDS",
    "WHOLE_FIELDS",
    "Settings",
    "check_clen",
    "check_shifts",
    "of_group",
    "with_current_names",
]

FORMER_NAMES = {"peak_finder": "peaks"}
"""What some fields were called until version 0.1; files of that time are still read."""

MOST_PIXELS = 10**9
CLEN_RANGE = (1e-3, 1e3)
"""Camera lengths that a detector may have, in metres."""


def _about(label: str, group: Group, **more: Any) -> dict[str, About]:
    return {"about": About(label, group, **more)}


def _mask_sigma(label: str) -> dict[str, About]:
    # A search begins at 5: few good pixels are that far from their neighbours.
    return _about(
        label, "mask", unit="robust σ", zero="off", range=Range(4, 30, log=True), start=5, digits=2
    )


@dataclass(frozen=True)
class Settings:
    """Peak-finding and geometry settings, with CrystFEL's names and units.

    Parameters
    ----------
    peak_finder : str
        A name in `wrappers.peak_finders.PEAK_FINDERS`. What follows is its meaning for
        peakfinder8; `wrappers.peakfinding.robust_peaks` and `wrappers.spots.learned_peaks` have
        that for the others. What means nothing to a finder (its kind's `unused`) has its default
        in the finder's parameter sets, whatever is given.
    min_snr : float
        Smallest signal-to-noise ratio of a peak's summed intensity; also the width, in
        standard deviations, at which the radial background is clipped.
    threshold : float
        Smallest pixel value of a peak, in the data's own units (ADU).
    min_pix_count, max_pix_count : int
        Smallest and largest number of pixels of a peak, inclusive.
    local_bg_radius : int
        Size of the local background region, in pixels.
    min_res, max_res : int
        Peaks are sought between these distances from the beam, in pixels; a ``max_res`` of 0
        means no limit. Whole numbers, because CrystFEL drops what follows the point.
    min_probability : float
        Least probability of a Bragg spot, for the learned peak finder.
    min_peaks : int
        A frame with fewer peaks is no hit and is not indexed.
    clen : float or None
        Camera length in metres: the geometry's ``clen`` plus ``coffset``, averaged over the
        panels and, where it is a header value, its median over the run. None takes the
        geometry's.
    shift_x, shift_y : float
        Shift of the whole detector in metres, added to the geometry's own, with CrystFEL's
        sign (``detector_shift_x``, ``detector_shift_y``).
    mask_hot_sigma, mask_noisy_sigma, mask_dead_sigma : float
        Mask pixels that are this many robust standard deviations brighter, more restless, or
        fainter, quieter and less responsive than their neighbours (`wrappers.masks.bad_pixels`);
        0 leaves them. They come on top of the geometry's own masks.
    mask_edge : int
        Width of the strip that is masked along each panel's rim, in pixels.

    Raises
    ------
    InputError
        If a value is not finite or not possible, or there is no such peak finder. CrystFEL itself
        takes a negative ``min_snr`` or ``clen`` without a word.
    """

    peak_finder: str = field(
        default="peakfinder8", metadata=_about("The peak finder", "peaks", option="peaks")
    )
    min_snr: float = field(
        default=CUSTOMARY["min_snr"],
        metadata=_about("Smallest signal-to-noise ratio of a peak", "peaks", option="min-snr"),
    )
    threshold: float = field(
        default=CUSTOMARY["threshold"],
        metadata=_about("Smallest pixel value of a peak", "peaks", unit="ADU", option="threshold"),
    )
    min_pix_count: int = field(
        default=2,
        metadata=_about(
            "Fewest pixels of a peak",
            "peaks",
            unit="px",
            remark="inclusive",
            option="min-pix-count",
            range=Range(1, 4),
        ),
    )
    max_pix_count: int = field(
        default=200,
        metadata=_about(
            "Most pixels of a peak",
            "peaks",
            unit="px",
            remark="inclusive",
            option="max-pix-count",
            range=Range(5, 300, log=True),
            start=50,
        ),
    )
    local_bg_radius: int = field(
        default=3,
        metadata=_about(
            "Size of the local background", "peaks", unit="px", option="local-bg-radius"
        ),
    )
    min_res: int = field(
        default=0,
        metadata=_about("Seek peaks only beyond this radius", "peaks", unit="px", option="min-res"),
    )
    max_res: int = field(
        default=0,
        metadata=_about(
            "Seek peaks only within this radius",
            "peaks",
            unit="px",
            zero="no limit",
            option="max-res",
        ),
    )
    min_probability: float = field(
        default=0.5,
        metadata=_about(
            "Least probability of a Bragg spot", "peaks", remark="of the learned finder"
        ),
    )
    min_peaks: int = field(
        default=10,
        metadata=_about("Fewest peaks of a hit", "hit", option="min-peaks", range=Range(3, 30)),
    )
    clen: float | None = field(
        default=None,
        metadata=_about(
            "Camera length",
            "geometry",
            unit="m",
            remark="clen + coffset, averaged over the panels",
            digits=6,
        ),
    )
    shift_x: float = field(
        default=0.0,
        metadata=_about(
            "Detector shift along x", "geometry", unit="m", remark="added to detector_shift_x"
        ),
    )
    shift_y: float = field(
        default=0.0,
        metadata=_about(
            "Detector shift along y", "geometry", unit="m", remark="added to detector_shift_y"
        ),
    )
    mask_hot_sigma: float = field(
        default=0.0, metadata=_mask_sigma("Mask pixels this much brighter than their neighbours")
    )
    mask_noisy_sigma: float = field(
        default=0.0, metadata=_mask_sigma("Mask pixels this much more restless")
    )
    mask_dead_sigma: float = field(
        default=0.0, metadata=_mask_sigma("Mask pixels this much fainter or stiller")
    )
    mask_edge: int = field(
        default=0,
        metadata=_about(
            "Mask a strip of this width along each panel's rim",
            "mask",
            unit="px",
            range=Range(0, 4),
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak_finder", PEAK_FINDERS.name_of(self.peak_finder))
        unused = unused_settings(self.peak_finder)
        for each in dataclasses.fields(self):
            value: Any = getattr(self, each.name)
            if each.name == "peak_finder" or (each.name == "clen" and value is None):
                continue
            if not isinstance(value, Real) or isinstance(value, bool):
                raise InputError(f"{each.name} is {value!r}, but must be a number")
            number = float(value)
            if not math.isfinite(number):
                raise InputError(f"{each.name} is {value}, but must be finite")
            if each.name in WHOLE_FIELDS and not number.is_integer():
                raise InputError(f"{each.name} is {value}, but must be a whole number")
            plain: Any = int(number) if each.name in WHOLE_FIELDS else number
            plain = each.default if each.name in unused else plain
            object.__setattr__(self, each.name, plain)
        _require(
            max(getattr(self, name) for name, about in ABOUT.items() if about.unit == "px")
            <= MOST_PIXELS,
            f"a number of pixels is above {MOST_PIXELS}, more than any panel has",
        )
        _require(self.min_snr > 0, f"min_snr is {self.min_snr}, but must be above 0")
        _require(self.min_pix_count >= 1, "min_pix_count must be at least 1")
        _require(
            self.max_pix_count >= self.min_pix_count,
            f"max_pix_count ({self.max_pix_count}) is below min_pix_count "
            f"({self.min_pix_count}), so no peak could ever be found",
        )
        _require(self.local_bg_radius >= 1, "local_bg_radius must be at least 1 pixel")
        _require(
            self.min_res >= 0 and self.max_res >= 0, "min_res and max_res must not be negative"
        )
        _require(
            self.max_res == 0 or self.max_res > self.min_res,
            f"max_res ({self.max_res} px) is not beyond min_res ({self.min_res} px), "
            "so no pixel is left to search (0 means no limit)",
        )
        words = f"min_probability is {self.min_probability:g}, but must lie between 0 and 1"
        _require(0 <= self.min_probability <= 1, words)
        _require(self.min_peaks >= 0, "min_peaks must not be negative")
        _require(
            self.clen is None or CLEN_RANGE[0] <= self.clen <= CLEN_RANGE[1],
            f"clen is {self.clen} m, but must lie between {CLEN_RANGE[0]:g} and "
            f"{CLEN_RANGE[1]:g} m",
        )
        for name in MASK_FIELDS:
            _require(getattr(self, name) >= 0, f"{name} must not be negative (0 masks nothing)")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings that a file holds, by the names of this version or of earlier ones.

        Raises
        ------
        InputError
            If a name is no setting's, or a value is not possible.
        """
        values = with_current_names(values)
        for name in values:
            if name not in ABOUT:
                raise InputError(f"{name!r} is no setting; choose from {', '.join(ABOUT)}")
        return cls(**values)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return made_by(cls.from_dict)

    def replace(self, **changes: float | str | None) -> Settings:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return the fields that mean something to the peak finder, in their order."""
        unused = unused_settings(self.peak_finder)
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in unused}

    def clen_change(self, nominal_clen: float) -> float:
        """Return by how much these settings move the detector along the beam, in metres.

        A given ``clen`` is an offset from the run's nominal camera length, added to whatever each
        frame says of itself; without one the frames are believed.

        Parameters
        ----------
        nominal_clen : float
            `wrappers.frames.source.FrameSource.nominal_clen`, in metres.
        """
        return 0.0 if self.clen is None else self.clen - nominal_clen

    @property
    def peak_key(self) -> tuple[str | float, ...]:
        """What decides the peaks of a masked frame: equal keys give equal peak lists."""
        unused = unused_settings(self.peak_finder)
        return tuple(getattr(self, name) for name in PEAK_FIELDS if name not in unused)

    @property
    def mask_key(self) -> tuple[float, ...]:
        """What decides which pixels are masked beyond the geometry's masks; all 0 for none."""
        return tuple(getattr(self, name) for name in MASK_FIELDS)


ABOUT: dict[str, About] = {
    each.name: each.metadata["about"] for each in dataclasses.fields(Settings)
}
"""What is said of each setting, in the order of the fields."""


ODD_LENGTH = 0.3
"""A camera length that differs by this fraction from the geometry's may be a slip."""

ODD_SHIFT = 0.1
"""A shift of more than this fraction of the detector's reach may be a slip."""

WRONG_UNIT = 30.0
"""One that differs by this factor is in another unit."""


def check_clen(clen: float | None, geometrys: float) -> None:
    """Hold a camera length that a user gives against the geometry's, both in metres.

    Where it is far off a `Note` says so.

    Raises
    ------
    InputError
        If it can only be in another unit.
    """
    if clen is None or abs(clen / geometrys - 1) <= ODD_LENGTH:
        return
    words = f"clen is set to {clen:g} m, and the geometry's is {geometrys:g} m"
    if not 1 / WRONG_UNIT < clen / geometrys < WRONG_UNIT:
        raise InputError(f"{words}: give it in metres, or with a unit, such as 80mm")
    warnings.warn(Note(f"{words}: is that meant?"), stacklevel=3)


def check_shifts(shifts: Mapping[str, float | None], reach: float) -> None:
    """Hold shifts of the detector that a user gives against its size.

    Where one is large a `Note` says so.

    Parameters
    ----------
    shifts : mapping of str to float or None
        By their names, in metres.
    reach : float
        Largest distance of a pixel from the beam, in metres.

    Raises
    ------
    InputError
        If one can only be in another unit.
    """
    for name, shift in shifts.items():
        if shift is None or abs(shift) <= ODD_SHIFT * reach:
            continue
        words = (
            f"{name} is set to {shift:g} m, and the detector reaches {reach:.3g} m from the beam"
        )
        if abs(shift) > reach:
            raise InputError(f"{words}: give it in metres, or with a unit, such as 0.5mm")
        warnings.warn(Note(f"{words}: is that meant?"), stacklevel=3)


def of_group(group: Group) -> tuple[str, ...]:
    """Return the fields that decide one thing; see `wrappers.about.Group`."""
    return tuple(name for name, about in ABOUT.items() if about.group == group)


PEAK_FIELDS = of_group("peaks")
"""The fields that decide which peaks a peak finder finds in given pixels."""

MASK_FIELDS = of_group("mask")
"""The fields that decide which pixels it is given, beyond what the geometry masks."""

WHOLE_FIELDS = tuple(each.name for each in dataclasses.fields(Settings) if each.type == "int")
"""The fields that are whole numbers."""

MASK_SIGMAS = tuple(name for name in MASK_FIELDS if ABOUT[name].zero)
"""Those of them that can only be applied with a map of the bad pixels."""


def with_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that a file holds under the names that settings have today."""
    current = {former: name for name, former in FORMER_NAMES.items()}
    return {current.get(name, name): value for name, value in values.items()}


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)


CRYSTFEL_DEFAULTS = Settings(min_peaks=0)
"""What ``indexamajig --peaks=peakfinder8`` does when told nothing else (0.12 and later)."""
