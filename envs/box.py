"""The boxes that many tasks are searched in, side by side: actions ↔ parameter sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.parameter_space import Parameter, ParameterSpace, make_space
from wrappers.settings import Settings

__all__ = ["POLICY_PARAMETERS", "Boxes", "settings_of"]

POLICY_PARAMETERS = ("min_snr", "threshold", "min_pix_count", "clen", "mask_hot_sigma")
"""What the environment can tune, in the order of its actions; a task tunes any of them. It is also
what the response model knows of."""

CLEN = POLICY_PARAMETERS.index("clen")
MASK = POLICY_PARAMETERS.index("mask_hot_sigma")

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Boxes:
    """The boxes of B tasks in d = ``len(POLICY_PARAMETERS)`` dimensions.

    Attributes
    ----------
    low, high, digits, resolution : float array (B, d)
    log, integer : bool array (B, d)
        See `envs.parameter_space.Parameter`.
    tuned : bool array (B, d)
        Whether a task tunes the parameter.
    base : float array (B, d)
        The value of what it does not tune.
    """

    low: Array
    high: Array
    digits: Array
    resolution: Array
    log: Bools
    integer: Bools
    tuned: Bools
    base: Array

    @classmethod
    def of(cls, spaces: Sequence[ParameterSpace]) -> Boxes:
        """Return the boxes of spaces made by `make_space`."""
        parameters = [_parameters(space) for space in spaces]

        def column(name: str) -> Array:
            return np.array([[getattr(p, name) for p in row] for row in parameters], float)

        return cls(
            low=column("low"),
            high=column("high"),
            digits=column("digits"),
            resolution=column("resolution"),
            log=np.array([[p.scale == "log" for p in row] for row in parameters]),
            integer=column("integer").astype(bool),
            tuned=np.array([[name in s.names for name in POLICY_PARAMETERS] for s in spaces]),
            base=np.array(
                [[float(getattr(s.base, name)) for name in POLICY_PARAMETERS] for s in spaces]
            ),
        )

    def execute(self, actions: NDArray[np.floating], fixed_clen: Array) -> Array:
        """Return the parameter sets (B, d) that actions (B, d) in [-1, 1] stand for.

        They are clipped and rounded as `Parameter.clip` does. What a task does not tune keeps the
        base's value; a camera length that it tunes is `fixed_clen` (B,) where that is not NaN.
        """
        unit = (np.clip(np.asarray(actions, float), -1, 1) + 1) / 2
        low, high = (
            np.where(self.log, np.log(self.low), self.low),
            np.where(self.log, np.log(self.high), self.high),
        )
        values = low + unit * (high - low)
        values = np.where(self.log, np.exp(np.where(self.log, values, 0)), values)
        values = np.where(self.tuned, self.round(values), self.base)
        fixed = ~np.isnan(fixed_clen) & self.tuned[:, CLEN]
        values[fixed, CLEN] = fixed_clen[fixed]
        return values

    def round(self, values: Array) -> Array:
        """Return the values (B, d) clipped and rounded as `Parameter.clip` does."""
        values = np.clip(values, self.low, self.high)
        scale = 10.0 ** (self.digits - 1 - np.floor(np.log10(np.maximum(np.abs(values), 1e-300))))
        # Dividing by a power of ten rather than multiplying by its inverse gives the same number
        # as reading the decimal does.
        short = np.where(scale >= 1, np.rint(values * scale) / np.maximum(scale, 1), 0.0)
        coarse = np.where(scale < 1, np.rint(values * scale) * np.rint(1 / np.minimum(scale, 1)), 0)
        rounded = np.where(self.integer, np.rint(values), short + coarse)
        return np.clip(rounded, self.low, self.high)

    def units(self, values: Array) -> Array:
        """Return the places of parameter sets (B, d) in [-1, 1], clipped.

        No mask (``mask_hot_sigma`` 0) counts as the weakest one.
        """
        values = values.copy()
        values[values[:, MASK] == 0, MASK] = np.inf
        values = np.clip(values, self.low, self.high)
        linear = (values - self.low) / (self.high - self.low)
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithmic = np.log(values / self.low) / np.log(self.high / self.low)
        return 2 * np.where(self.log, logarithmic, linear) - 1


def _parameters(space: ParameterSpace) -> list[Parameter]:
    """Return the parameters of actions: as the space tunes them, or with their usual ranges."""
    known = space.known
    if known is None:
        raise ValueError("the space must be one of make_space, which says what is known beforehand")
    usual = make_space(
        POLICY_PARAMETERS,
        background=known.background,
        camera_length=known.camera_length,
        pixel_size=known.pixel_size,
        largest_radius=known.largest_radius,
    )
    return [space[name] if name in space.names else usual[name] for name in POLICY_PARAMETERS]


def settings_of(base: Settings, values: Array) -> Settings:
    """Return the base with the policy's parameters replaced by one row (d,) of `Boxes.execute`."""
    return base.replace(
        **dict(zip(POLICY_PARAMETERS, (float(value) for value in values), strict=True))
    )
