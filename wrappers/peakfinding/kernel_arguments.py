"""Frames and settings as the kernels of the peak finders take them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.settings import Settings

__all__ = ["MAX_N_PEAKS", "clipping", "flat", "radii"]

MAX_N_PEAKS = 2048
"""CrystFEL's own limit."""


def radii(settings: Settings) -> tuple[float, float]:
    """Return min_res and max_res as the kernels take them: infinite for no limit."""
    return float(settings.min_res), float(settings.max_res) or math.inf


def clipping(settings: Settings) -> tuple[float, float, float, float]:
    """Return what `ring_limits` needs of the settings."""
    return settings.min_snr, settings.threshold, *radii(settings)


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in one dimension without gaps, and of a type that the kernels take.

    Nearly always the same memory.
    """
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array).reshape(-1)
