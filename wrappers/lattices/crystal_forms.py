"""Whether the frames that do not show a given cell agree on another: a second crystal form.

The consensus (`cell_consensus`) is sought among the frames in which the embedded indexer finds no
lattice of the given cell. What they agree on counts as another form only if its lattice is neither
the given one nor a whole multiple or part of it; each frame is then counted for the cell with more
evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.lattices.cell_consensus import CellConsensus, find_cell
from wrappers.lattices.cell_relation import relate
from wrappers.lattices.fast_indexer import LatticeFinder
from wrappers.lattices.peak_vectors import PeakVectors

__all__ = ["CrystalForms", "find_other_form"]

MOST_FRAMES = 12
"""Frames without the given cell that are asked for their own."""
LEAST_FRAMES = 4
"""Frames that must show the other form."""
LEAST_SHARE = 0.1
"""Of all frames: fewer that do not show the given cell are no reason to look for another."""
FALSE_ACCEPT = 1e-3
TOLERANCE = 0.05
WEAK = 0.02
"""Share of lists without a lattice that still pass for frames with the given cell: a frame that may
show it is not asked for another."""


@dataclass(frozen=True, eq=False)
class CrystalForms:
    """Two cells of one run.

    Attributes
    ----------
    other : CellConsensus
        Of the frames that do not show the given cell.
    n_frames : int
        Frames with clear spots.
    n_given, n_other : int
        Frames that show the one cell's lattice with more evidence than the other's.
    """

    other: CellConsensus
    n_frames: int
    n_given: int
    n_other: int


def find_other_form(
    lists: Sequence[PeakVectors], cell: Cell, *, jobs: int = 1
) -> CrystalForms | None:
    """Find the cell on which the frames agree that do not show the given one.

    Parameters
    ----------
    lists : sequence of PeakVectors
        Frames with clear spots, at a geometry that suits the given cell.
    cell : Cell
        The given one.
    jobs : int
        Threads.

    Returns
    -------
    CrystalForms or None
        None where nearly all frames show the given cell, or the others agree on no other.
    """
    given = _evidence(cell, lists, WEAK)
    left = [one for one, shown in zip(lists, given, strict=True) if not shown]
    if len(left) < max(LEAST_FRAMES, LEAST_SHARE * len(lists)):
        return None
    found = find_cell(left[:MOST_FRAMES], jobs=jobs)
    if found is None or relate(cell, found.cell).kind != "other":
        return None
    given, other = _evidence(cell, lists, FALSE_ACCEPT), _evidence(found.cell, lists, FALSE_ACCEPT)
    n_other = int((other > given).sum())
    if n_other < LEAST_FRAMES:
        return None
    return CrystalForms(found, len(lists), int((given > other).sum()), n_other)


def _evidence(cell: Cell, lists: Sequence[PeakVectors], false_accept: float) -> NDArray[np.float64]:
    """Return each list's evidence for a cell's lattice; 0 where it shows none."""
    finder = LatticeFinder(cell, false_accept=false_accept, tolerance=TOLERANCE)
    found = (finder.find(one.q, one.wavenumber, one.strength) for one in lists)
    return np.array([lattices[0].evidence if lattices else 0.0 for lattices in found])
