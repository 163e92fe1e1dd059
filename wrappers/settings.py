"""The settings that a session tunes: one point of the search space."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from wrappers.errors import InputError

__all__ = ["CRYSTFEL_DEFAULTS", "FINDERS", "MASK_FIELDS", "PEAK_FIELDS", "ROBUST_SNR", "Settings"]

FINDERS = ("peakfinder8", "robust")
"""The peak finders that settings may be for (`wrappers.peakfinding.finders`)."""

ROBUST_SNR = 2.5
"""A usual ``min_snr`` of the robust finder; 5 is one of peakfinder8."""

PEAK_FIELDS = (
    "peaks",
    "min_snr",
    "threshold",
    "min_pix_count",
    "max_pix_count",
    "local_bg_radius",
    "min_res",
    "max_res",
)
"""The fields that decide which peaks a peak finder finds in given pixels."""

MASK_FIELDS = ("mask_hot_sigma", "mask_noisy_sigma", "mask_dead_sigma", "mask_edge")
"""The fields that decide which pixels it is given, beyond what the geometry masks."""

MOST_PIXELS = 10**9
CLEN_RANGE = (1e-3, 1e3)
"""Camera lengths that a detector may have, in metres."""


@dataclass(frozen=True)
class Settings:
    """Peak-finding and geometry settings, with CrystFEL's names and units.

    Parameters
    ----------
    peaks : {"peakfinder8", "robust"}
        The peak finder. What follows is its meaning for peakfinder8;
        `wrappers.peakfinding.robust_peaks` has that for the robust one.
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

    peaks: str = "peakfinder8"
    min_snr: float = 5.0
    threshold: float = 800.0
    min_pix_count: int = 2
    max_pix_count: int = 200
    local_bg_radius: int = 3
    min_res: int = 0
    max_res: int = 0
    min_peaks: int = 10
    clen: float | None = None
    shift_x: float = 0.0
    shift_y: float = 0.0
    mask_hot_sigma: float = 0.0
    mask_noisy_sigma: float = 0.0
    mask_dead_sigma: float = 0.0
    mask_edge: int = 0

    def __post_init__(self) -> None:
        _require(
            self.peaks in FINDERS,
            f"peaks is {self.peaks!r}, but must be one of {', '.join(FINDERS)}",
        )
        for field in dataclasses.fields(self):
            value: Any = getattr(self, field.name)
            if field.name == "peaks" or (field.name == "clen" and value is None):
                continue
            if not isinstance(value, Real) or isinstance(value, bool):
                raise InputError(f"{field.name} is {value!r}, but must be a number")
            number = float(value)
            if not math.isfinite(number):
                raise InputError(f"{field.name} is {value}, but must be finite")
            if field.type == "int" and not number.is_integer():
                raise InputError(f"{field.name} is {value}, but must be a whole number")
            plain = int(number) if field.type == "int" else number
            object.__setattr__(self, field.name, plain)
        _require(
            max(
                self.max_pix_count,
                self.local_bg_radius,
                self.max_res,
                self.min_res,
                self.mask_edge,
            )
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
        _require(self.min_peaks >= 0, "min_peaks must not be negative")
        _require(
            self.clen is None or CLEN_RANGE[0] <= self.clen <= CLEN_RANGE[1],
            f"clen is {self.clen} m, but must lie between {CLEN_RANGE[0]:g} and "
            f"{CLEN_RANGE[1]:g} m",
        )
        for name in MASK_FIELDS:
            _require(getattr(self, name) >= 0, f"{name} must not be negative (0 masks nothing)")

    def replace(self, **changes: float | str | None) -> Settings:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return the fields as a plain dictionary, in their order."""
        return dataclasses.asdict(self)

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
        return tuple(getattr(self, name) for name in PEAK_FIELDS)

    @property
    def mask_key(self) -> tuple[float, ...]:
        """What decides which pixels are masked beyond the geometry's masks; all 0 for none."""
        return tuple(getattr(self, name) for name in MASK_FIELDS)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)


CRYSTFEL_DEFAULTS = Settings(min_peaks=0)
"""What ``indexamajig --peaks=peakfinder8`` does when told nothing else (0.12 and later)."""
