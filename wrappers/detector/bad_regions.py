"""Which of a panel's pixels a bad region covers, and where the pixels are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.panels import BadRegion, Panel

__all__ = ["covered", "pixel_corners"]

Floats = NDArray[np.float64]


def pixel_corners(panel: Panel, shift_x: float, shift_y: float) -> tuple[Floats, Floats]:
    """Return lab x and y of the corners of a panel's pixels, in pixel widths (height, width).

    The order of the additions is CrystFEL's, so that truncated values agree with its own.

    Parameters
    ----------
    panel : Panel
    shift_x, shift_y : float
        Of the detector, in metres.
    """
    fs, ss = np.arange(float(panel.width)), np.arange(float(panel.height))[:, None]
    corners = panel.corner_x + shift_x * panel.res, panel.corner_y + shift_y * panel.res
    x, y = (
        corner + fs * panel.fs_vector[axis] + ss * panel.ss_vector[axis]
        for axis, corner in enumerate(corners)
    )
    return x, y


def covered(region: BadRegion, panel: Panel, shift_x: float, shift_y: float) -> NDArray[np.bool_]:
    """Return which pixels (height, width) of a panel a bad region covers, as CrystFEL has it.

    In the data array the limits are inclusive, in the laboratory exclusive, and there they hold
    for the pixels' corners.
    """
    low, high, low_2, high_2 = region.limits
    if region.in_lab:
        x, y = pixel_corners(panel, shift_x, shift_y)
        return (x > low) & (x < high) & (y > low_2) & (y < high_2)
    inside = np.zeros((panel.height, panel.width), bool)
    if region.panel in ("", panel.name):

        def span(first: float, last: float, origin: int) -> slice:
            return slice(max(math.ceil(first) - origin, 0), max(math.floor(last) - origin + 1, 0))

        inside[span(low_2, high_2, panel.min_ss), span(low, high, panel.min_fs)] = True
    return inside
