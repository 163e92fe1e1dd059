"""Frames and settings as the kernels of the peak finders take them, and peaks as they give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.peakfinding.vectors import LANES
from wrappers.peaks import MAX_N_PEAKS, PeakList
from wrappers.settings import Settings

__all__ = ["MAX_N_PEAKS", "SMALL", "flat", "flat_data", "peak_lists", "radii", "settings_table"]

SMALL = 2 * LANES
"""The kernels may take so many pixels at once."""


def radii(settings: Settings) -> tuple[float, float]:
    """Return min_res and max_res as the kernels take them: infinite for no limit."""
    return float(settings.min_res), float(settings.max_res) or math.inf


def settings_table(settings: Sequence[Settings]) -> NDArray[np.float64]:
    """Return what the kernels need of each parameter set: an array (n, 7).

    min_snr, threshold, min_res, max_res, min_pix_count, max_pix_count and local_bg_radius.
    """
    rows = [
        (
            each.min_snr,
            each.threshold,
            *radii(each),
            each.min_pix_count,
            each.max_pix_count,
            each.local_bg_radius,
        )
        for each in settings
    ]
    return np.array(rows, float).reshape(-1, 7)


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in one dimension without gaps, and of a type that the kernels take.

    Nearly always the same memory.
    """
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array).reshape(-1)


def flat_data(array: NDArray[Any]) -> NDArray[Any]:
    """Do as `flat`, with zeros behind a frame that is too small for vectors."""
    data = flat(array)
    return data if data.size >= SMALL else np.append(data, np.zeros(SMALL, data.dtype))


def peak_lists(peaks: NDArray[np.float64], stops: Sequence[int]) -> list[PeakList]:
    """Return a copy of a kernel's peaks (7, n) in consecutive pieces, given where they end.

    The pieces share their memory.
    """
    if not len(stops):
        return []
    fs, ss, intensity, snr, panel, n_pixels, max_value = peaks[:, : stops[-1]].copy()
    panel, n_pixels = panel.astype(np.int32), n_pixels.astype(np.int32)
    lists, start = [], 0
    for stop in stops:
        piece = slice(start, stop)
        floats = fs[piece], ss[piece], intensity[piece], snr[piece]
        lists.append(PeakList(*floats, panel[piece], n_pixels[piece], max_value[piece]))
        start = stop
    return lists
