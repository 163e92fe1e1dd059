"""Unit cells in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell

__all__ = ["cell_words", "with_errors"]


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
