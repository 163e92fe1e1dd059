"""The search space: tuned settings ↔ points of the unit cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.errors import InputError
from wrappers.settings import ROBUST_SNR, Settings

__all__ = ["DEFAULT_TUNED", "Known", "Parameter", "ParameterSpace", "make_space"]

DEFAULT_TUNED = ("min_snr", "threshold", "min_pix_count", "clen")
"""What a session tunes unless told otherwise."""

MASK_SIGMAS = ("mask_hot_sigma", "mask_noisy_sigma", "mask_dead_sigma")
USUAL_SIGMA = 5.0
"""Where a search for them begins: few good pixels are that far from their neighbours."""


@dataclass(frozen=True)
class Parameter:
    """One tuned setting and the range in which it is sought.

    Attributes
    ----------
    name : str
        A field of `Settings`.
    low, high : float
        The range, both ends included.
    scale : {"linear", "log"}
        How the unit interval is laid over the range.
    integer : bool
        Whether only whole numbers make sense.
    digits : int
        Significant digits of a value; finer differences mean nothing.
    resolution : float
        Differences below this do not matter; known for the geometry, 0 where unknown.
    unit : str
        For people.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False
    digits: int = 3
    resolution: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"the range of {self.name}, {self.low} to {self.high}, is empty")
        if self.scale == "log" and self.low <= 0:
            raise InputError(f"{self.name} has a log scale, so its range must begin above 0")

    def from_unit(self, unit: float) -> float:
        """Return the value at a place in [0, 1]; places outside are clipped."""
        unit = min(max(unit, 0.0), 1.0)
        if self.scale == "log":
            value = float(np.exp(np.log(self.low) + unit * np.log(self.high / self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return self.clip(value)

    def to_unit(self, value: float) -> float:
        """Return the place in [0, 1] of a value; values outside the range are clipped."""
        value = self.clip(value)
        if self.scale == "log":
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)

    def clip(self, value: float) -> float:
        """Return the nearest value that the range allows, rounded."""
        value = min(max(value, self.low), self.high)
        rounded = round(value) if self.integer else float(f"{value:.{self.digits}g}")
        # Rounding must not lead out of a range whose ends have more digits.
        return float(min(max(rounded, self.low), self.high))


@dataclass(frozen=True)
class Known:
    """What is known of an experiment before anything is evaluated.

    Attributes
    ----------
    background : (float, float)
        Median and 99.9th percentile of the pixels of typical frames, in ADU.
    camera_length : float
        The geometry's, in metres.
    pixel_size : float
        In metres.
    largest_radius : float
        Of any pixel, in pixels.
    photon_energy : float
        In eV; NaN where nobody said.
    """

    background: tuple[float, float]
    camera_length: float
    pixel_size: float
    largest_radius: float
    photon_energy: float = math.nan


@dataclass(frozen=True)
class ParameterSpace:
    """The tuned parameters and the settings that all others keep.

    Attributes
    ----------
    parameters : tuple of Parameter
        One dimension each, in order.
    base : Settings
        Where the search starts; fields that are not tuned stay as they are here.
    known : Known or None
        What the ranges were made from.
    """

    parameters: tuple[Parameter, ...]
    base: Settings
    known: Known | None = None

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tuned parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def decode(self, point: ArrayLike) -> Settings:
        """Return the settings at a point (d,) of the unit cube, clipped and rounded."""
        units = np.asarray(point, float).reshape(len(self))
        return self.base.replace(
            **{p.name: p.from_unit(float(u)) for p, u in zip(self.parameters, units, strict=True)}
        )

    def encode(self, settings: Settings) -> NDArray[np.float64]:
        """Return the point (d,) of the unit cube nearest to the settings."""
        values = self.values(settings)
        return np.array([p.to_unit(values[p.name]) for p in self.parameters])

    def values(self, settings: Settings) -> dict[str, float]:
        """Return the tuned fields of the settings, clipped to their ranges."""
        values = {p.name: float(getattr(settings, p.name)) for p in self.parameters}
        for name in ("max_res", *MASK_SIGMAS):
            if values.get(name) == 0:
                values[name] = math.inf  # 0 means no limit
        return {p.name: p.clip(values[p.name]) for p in self.parameters}

    def settings(self, values: Mapping[str, float]) -> Settings:
        """Return the base settings with the tuned fields replaced."""
        return self.base.replace(**{name: values[name] for name in self.names})

    def __getitem__(self, name: str) -> Parameter:
        return self.parameters[self.names.index(name)]

    def fixed(self, **values: float) -> ParameterSpace:
        """Return the space in which some parameters are no longer tuned but keep a value."""
        return replace(
            self,
            parameters=tuple(p for p in self.parameters if p.name not in values),
            base=self.base.replace(**values),
        )


def make_space(
    tuned: Sequence[str],
    *,
    background: tuple[float, float],
    camera_length: float,
    pixel_size: float,
    largest_radius: float,
    photon_energy: float = math.nan,
    clen_range: float = 0.05,
    peaks: str = "peakfinder8",
    photon: float = math.nan,
) -> ParameterSpace:
    """Return the space in which a session searches.

    The ranges cover what beamlines use. For peakfinder8 the threshold's follows the
    frames themselves rather than the geometry's ``adu_per_photon``, which real files often
    have wrong: below the median background pixel a threshold does nothing, and above thirty
    times the brightest thousandth of the background only the strongest spots are left. The
    robust finder takes the geometry's word in any case, and goes down to the weakest spots.

    Parameters
    ----------
    tuned : sequence of str
        Fields of `Settings`.
    background : (float, float)
        Median and 99.9th percentile of the pixels of typical frames, in ADU.
    camera_length : float
        The geometry's, in metres; ``clen`` is sought within ± `clen_range` of it.
    pixel_size : float
        In metres; the detector shift is sought within ± 5 pixels.
    largest_radius : float
        Of any pixel, in pixels.
    photon_energy : float
        In eV; no range depends on it, but a searcher may like to know.
    clen_range : float
        Half-width of the range of ``clen``, relative.
    peaks : str
        The peak finder, of `wrappers.settings.FINDERS`; it is not tuned.
    photon : float
        A photon in ADU; only the robust finder's range depends on it.

    Raises
    ------
    InputError
        If a name is not a setting that can be tuned.
    """
    searched, begin = _robust_box(photon) if peaks == "robust" else _peakfinder8_box(background)
    shift = 5 * pixel_size
    edge = math.ceil(largest_radius)
    known = {
        p.name: p
        for p in (
            *searched,
            Parameter("min_pix_count", 1, 4, integer=True, unit="px"),
            Parameter("max_pix_count", 5, 300, "log", integer=True, unit="px"),
            Parameter("min_res", 0, math.ceil(0.15 * largest_radius), integer=True, unit="px"),
            Parameter("max_res", int(0.3 * largest_radius), edge, integer=True, unit="px"),
            Parameter("min_peaks", 6, 30, integer=True),
            Parameter(
                "clen",
                camera_length * (1 - clen_range),
                camera_length * (1 + clen_range),
                digits=6,
                resolution=0.0005 * camera_length,
                unit="m",
            ),
            Parameter("shift_x", -shift, shift, resolution=0.01 * shift, unit="m"),
            Parameter("shift_y", -shift, shift, resolution=0.01 * shift, unit="m"),
            *(Parameter(name, 4, 30, "log", digits=2, unit="σ") for name in MASK_SIGMAS),
            Parameter("mask_edge", 0, 4, integer=True, unit="px"),
        )
    }
    for name in tuned:
        if name not in known:
            raise InputError(f"{name!r} cannot be tuned; choose from {', '.join(known)}")
    if len(set(tuned)) != len(tuned) or not tuned:
        raise InputError("name each tuned parameter once, and at least one")
    base = Settings(
        peaks=peaks,
        min_snr=begin["min_snr"],
        threshold=known["threshold"].clip(begin["threshold"]),
        min_pix_count=2,
        max_pix_count=50,
        local_bg_radius=3,
        max_res=edge if "max_res" in tuned else 0,
        clen=camera_length,
    ).replace(**{name: USUAL_SIGMA for name in MASK_SIGMAS if name in tuned})
    facts = Known(background, camera_length, pixel_size, largest_radius, photon_energy)
    return ParameterSpace(tuple(known[name] for name in tuned), base, facts)


def _peakfinder8_box(
    background: tuple[float, float],
) -> tuple[tuple[Parameter, ...], dict[str, float]]:
    """Return the ranges that depend on the finder, and where a search begins."""
    median, bright = background
    low = max(median, bright / 20, 1e-3)
    ranges = (
        Parameter("min_snr", 3, 9),
        Parameter("threshold", low, max(30 * bright, 10 * low), "log", unit="ADU"),
        Parameter("local_bg_radius", 2, 8, integer=True, unit="px"),
    )
    return ranges, {"min_snr": 5, "threshold": bright}


def _robust_box(photon: float) -> tuple[tuple[Parameter, ...], dict[str, float]]:
    ranges = (
        Parameter("min_snr", 2, 3.5),
        Parameter("threshold", 0, 3 * photon, unit="ADU"),
        Parameter("local_bg_radius", 2, 5, integer=True, unit="px"),
    )
    return ranges, {"min_snr": ROBUST_SNR, "threshold": photon}
