"""The search space: tuned settings ↔ points of the unit cube."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.about import Range
from wrappers.errors import InputError
from wrappers.peak_finders import PEAK_FINDERS, usually_tuned_peaks
from wrappers.settings import ABOUT, WHOLE_FIELDS, Settings, check_clen, check_shifts

__all__ = [
    "CLEN_RANGE",
    "DEFAULT_TUNED",
    "Known",
    "Parameter",
    "ParameterSpace",
    "make_space",
    "usually_tuned",
]

DEFAULT_TUNED = ("min_snr", "threshold", "min_pix_count", "clen")
"""What a session tunes unless told otherwise."""

CLEN_RANGE = 0.05
"""Half-width of the range of ``clen``, relative to the geometry's."""


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
    joining : tuple of Parameter
        What is not searched, but fixed where the lattices clearly ask for it
        (`envs.geometry_rule`).
    """

    parameters: tuple[Parameter, ...]
    base: Settings
    known: Known | None = None
    joining: tuple[Parameter, ...] = ()

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
        for name, value in values.items():
            if value == 0 and ABOUT[name].zero:
                values[name] = math.inf
        return {p.name: p.clip(values[p.name]) for p in self.parameters}

    def settings(self, values: Mapping[str, float]) -> Settings:
        """Return the base settings with the tuned fields replaced."""
        return self.base.replace(**{name: values[name] for name in self.names})

    def __getitem__(self, name: str) -> Parameter:
        return next(p for p in (*self.parameters, *self.joining) if p.name == name)

    def fixed(self, **values: float) -> ParameterSpace:
        """Return the space in which some parameters are no longer tuned but keep a value."""
        return replace(
            self,
            parameters=tuple(p for p in self.parameters if p.name not in values),
            base=self.base.replace(**values),
            joining=tuple(p for p in self.joining if p.name not in values),
        )

    def moved(self, **values: float) -> ParameterSpace:
        """Return the space whose base has other lengths, and their ranges as far about them."""

        def follow(parameter: Parameter) -> Parameter:
            if parameter.name not in values:
                return parameter
            change = values[parameter.name] - float(getattr(self.base, parameter.name))
            return replace(parameter, low=parameter.low + change, high=parameter.high + change)

        return replace(
            self,
            parameters=tuple(map(follow, self.parameters)),
            base=self.base.replace(**values),
            joining=tuple(map(follow, self.joining)),
        )


def usually_tuned(
    fixed: Iterable[str] = (),
    bounded: Iterable[str] = (),
    peak_finder: str = Settings.peak_finder,
) -> tuple[str, ...]:
    """Return what is tuned where nobody says it: the usual settings, less fixed, plus bounded."""
    usual = [n for n in (*usually_tuned_peaks(peak_finder), "clen") if n not in set(fixed)]
    return (*usual, *(name for name in bounded if name not in usual))


def make_space(
    tuned: Sequence[str],
    *,
    background: tuple[float, float],
    camera_length: float,
    pixel_size: float,
    largest_radius: float,
    photon_energy: float = math.nan,
    clen_range: float = CLEN_RANGE,
    peak_finder: str = Settings.peak_finder,
    photon: float = math.nan,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> ParameterSpace:
    """Return the space in which a session searches.

    The ranges cover what beamlines use. Those that nothing changes stand with the settings
    (`wrappers.settings.ABOUT`), those that the peak finder changes with the peak finder
    (`wrappers.peak_finders`), and those that the run changes here.

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
    peak_finder : str
        A name in `wrappers.peak_finders.PEAK_FINDERS`; the peak finder is not tuned.
    photon : float
        A photon in ADU; only the ranges of some peak finders depend on it.
    fixed : mapping of str to float, optional
        Settings that keep a value of the user's.
    bounds : mapping of str to (float, float), optional
        Ranges of the user's, for tuned settings.

    Raises
    ------
    InputError
        If a name is not a setting that can be tuned or fixed, both are asked for, or a range is
        empty.
    """
    fixed, bounds = fixed or {}, bounds or {}
    finder = PEAK_FINDERS.get(peak_finder)
    box = finder.box(background, photon)
    edge = math.ceil(largest_radius)
    shift = Range(-5 * pixel_size, 5 * pixel_size)
    ranges = {
        **{name: about.range for name, about in ABOUT.items() if about.range is not None},
        **box.ranges,
        "min_res": Range(0, math.ceil(0.15 * largest_radius)),
        "max_res": Range(int(0.3 * largest_radius), edge),
        "clen": Range(camera_length * (1 - clen_range), camera_length * (1 + clen_range)),
        "shift_x": shift,
        "shift_y": shift,
    }
    resolution = {"clen": 0.0005 * camera_length, "shift_x": 0.01 * shift.high}
    resolution["shift_y"] = resolution["shift_x"]
    known = {
        name: Parameter(
            name,
            ranges[name].low,
            ranges[name].high,
            "log" if ranges[name].log else "linear",
            integer=name in WHOLE_FIELDS,
            digits=about.digits,
            resolution=resolution.get(name, 0.0),
            unit=about.unit,
        )
        for name, about in ABOUT.items()
        if name in ranges and name not in finder.unused
    }
    for name in (*tuned, *fixed):
        if name in finder.unused:
            raise InputError(
                f"{name} means nothing to the {peak_finder} peak finder: leave it out; its own are "
                f"{', '.join(finder.tuned)}"
            )
    for name in tuned:
        if name not in known:
            raise InputError(f"{name!r} cannot be tuned; choose from {', '.join(known)}")
        if name in fixed:
            raise InputError(f"{name} is both tuned and set to {fixed[name]:g}: leave one out")
    if not tuned:
        raise InputError("nothing is left to tune: leave a setting free, or name others to tune")
    if len(set(tuned)) != len(tuned):
        raise InputError(f"a setting is to be tuned twice: {', '.join(tuned)}")
    for name in fixed:
        if name not in ABOUT or name == "peak_finder":
            choices = ", ".join(each for each in ABOUT if each != "peak_finder")
            raise InputError(f"{name!r} is no setting that can be set; choose from {choices}")
    for clen in (fixed.get("clen"), *bounds.get("clen", ())):
        check_clen(clen, camera_length)
    for name in ("shift_x", "shift_y"):
        for value in (fixed.get(name), *bounds.get(name, ())):
            check_shifts({name: value}, largest_radius * pixel_size)
    for name, (low, high) in bounds.items():
        if name not in tuned:
            raise InputError(f"{name} has a range but is not tuned; tuned are {', '.join(tuned)}")
        known[name] = replace(known[name], low=float(low), high=float(high))
    start = {
        name: about.start
        for name, about in ABOUT.items()
        if about.start is not None and (name in tuned or not about.zero)
    }
    base = Settings(peak_finder=peak_finder, clen=camera_length).replace(
        **{**start, **box.start}, **({"max_res": edge} if "max_res" in tuned else {})
    )
    if "threshold" in known:
        base = base.replace(threshold=known["threshold"].clip(base.threshold))
    base = base.replace(**fixed)
    if bounds:
        base = base.replace(**{name: known[name].clip(getattr(base, name)) for name in bounds})
        for end in ("low", "high"):
            base.replace(**{name: getattr(known[name], end) for name in bounds})  # is it possible?
    facts = Known(background, camera_length, pixel_size, largest_radius, photon_energy)
    return ParameterSpace(tuple(known[name] for name in tuned), base, facts)
