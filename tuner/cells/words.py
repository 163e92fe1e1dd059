"""Unit cells, and geometries that frames ask for, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.settings import Settings

if TYPE_CHECKING:
    from wrappers.lattices.blind_geometry import PlacedDetector

__all__ = ["FAR_OFF", "PIXELS_OFF", "cell_words", "geometry_words", "with_errors"]

FAR_OFF = 0.02
"""A camera length so far from the geometry's is worth a sentence."""
PIXELS_OFF = 1.0
"""And a detector that is shifted by so much."""


def geometry_words(
    found: PlacedDetector, camera_length: float, settings: Settings, pixel_size: float
) -> str:
    """Return how a detector is placed where that is far from what was given, or "".

    Parameters
    ----------
    found : PlacedDetector
    camera_length : float
        That was given, in metres.
    settings : Settings
        With which the peaks were placed.
    pixel_size : float
        In metres.
    """
    x, y = (shift / pixel_size for shift in found.shift(camera_length))
    said = []
    if math.hypot(x, y) > PIXELS_OFF:
        said.append(
            f"the detector shifted by {x:+.1f} and {y:+.1f} px (shift_x = "
            f"{settings.shift_x + x * pixel_size:.3g} m, shift_y = "
            f"{settings.shift_y + y * pixel_size:.3g} m)"
        )
    if abs(found.place[0]) > FAR_OFF:
        there = found.camera_length(camera_length)
        said.append(f"a camera length of {there:.5g} m ({there / camera_length - 1:+.1%})")
    return " and ".join(said)


def cell_words(cell: Cell) -> str:
    """Return a cell in a line: edges in Å, the angles that differ from 90°, lattice, centring."""
    edges = " ".join(f"{edge:.1f}" for edge in cell.parameters[:3])
    angles = " ".join(f"{angle:.1f}" for angle in cell.parameters[3:])
    shown = "" if np.allclose(cell.parameters[3:], 90.0, atol=0.05) else f" Å, {angles}°"
    return f"{edges}{shown or ' Å'}, {cell.lattice_type} {cell.centering}"


def with_errors(cell: Cell, error: NDArray[np.float64]) -> str:
    """Return a cell in three lines, each number with its standard error."""
    values = [
        f"{value:.2f} ± {se:.2f}" if se > 0 else f"{value:g}"
        for value, se in zip(cell.parameters, error, strict=True)
    ]
    return (
        f"{cell.lattice_type} {cell.centering}\n"
        f"a, b, c     {', '.join(values[:3])} Å\n"
        f"al, be, ga  {', '.join(values[3:])}°"
    )
