"""Which peaks of a frame belong to a lattice that is known: its own, and the others.

Once a lattice is known from one parameter set, it says of the peaks of any other set what an
indexer would make of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Lattice, Pattern
from wrappers.peakfinding.peak_batch import FramePeaks

__all__ = ["FrameLattices", "FrameSplit", "split_peaks"]


@dataclass(frozen=True, eq=False)
class FrameLattices:
    """The lattices of one frame, and where the detector stood when they were found.

    Attributes
    ----------
    frame : int
        Index in the run.
    bases : float64 array (n, 3, 3)
        Rows are primitive reciprocal axes of a lattice, in 1/Å: each whole number of them is a
        node, which the axes of a centred cell do not have.
    near : float
        How far from a node a peak is its own, in 1/Å: as the embedded indexer has it.
    camera_length, shift_x, shift_y : float
        In metres, as in `wrappers.indexing.Pattern`.
    """

    frame: int
    bases: NDArray[np.float64]
    near: float
    camera_length: float
    shift_x: float = 0.0
    shift_y: float = 0.0

    @classmethod
    def of(
        cls, frame: int, pattern: Pattern, lattices: Sequence[Lattice], cell: Cell
    ) -> FrameLattices:
        """Return the lattices that an indexer found in a pattern, for a cell."""
        # Imported when needed, as below: it waits for Numba, which a pool may never need.
        from wrappers.lattices.fast_indexer import explained_within

        to_primitive = np.linalg.inv(cell.primitive_axes).T
        bases = np.array([to_primitive @ each.reciprocal for each in lattices])
        place = pattern.camera_length, pattern.shift_x, pattern.shift_y
        return cls(frame, bases, explained_within(cell), *place)

    def own(self, pattern: Pattern, geometry: Geometry) -> NDArray[np.bool_]:
        """Return which peaks (n,) are near a node of one of the lattices.

        Parameters
        ----------
        pattern : Pattern
            Peaks of the frame; where it says that the detector stood does not matter.
        geometry : Geometry
        """
        from wrappers.lattices.lattice_fit import distances

        place = self.camera_length, self.shift_x, self.shift_y
        q = geometry.scattering_vectors(pattern.peaks, pattern.photon_energy, *place)
        q = np.ascontiguousarray(q, np.float64)
        own = np.zeros(len(q), bool)
        for basis in self.bases:
            own |= distances(q, basis) < self.near
        return own


@dataclass(frozen=True, eq=False)
class FrameSplit:
    """How many of a frame's peaks are on its lattices, and how many are not.

    Attributes
    ----------
    index : int
        Of the frame in the run.
    peaks : uint16 array (n_settings, 2) or None
        For each parameter set, in their order, the numbers of own and of other peaks, each at
        most 65535; None where the frame cannot be read.
    failure : str
        Why it cannot, or "".
    """

    index: int
    peaks: NDArray[np.uint16] | None
    failure: str = ""


def split_peaks(found: FramePeaks, lattices: FrameLattices, geometry: Geometry) -> FrameSplit:
    """Return how many of the peaks of each parameter set are on the frame's lattices."""
    if found.failure:
        return FrameSplit(found.index, None, found.failure)
    # Parameter sets with equal peaks by definition share a pattern.
    patterns = {id(pattern): pattern for pattern in found.patterns}
    numbers = {key: _numbers(lattices.own(pattern, geometry)) for key, pattern in patterns.items()}
    rows = np.array([numbers[id(pattern)] for pattern in found.patterns]).reshape(-1, 2)
    most = np.iinfo(np.uint16).max
    return FrameSplit(found.index, np.minimum(rows, most).astype(np.uint16))


def _numbers(own: NDArray[np.bool_]) -> tuple[int, int]:
    n_own = int(own.sum())
    return n_own, len(own) - n_own
