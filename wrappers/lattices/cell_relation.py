"""How two unit cells relate: the same lattice, one a part of the other, or neither.

Cells of different origin are compared by their primitive lattices, so another choice of axes or an
equivalent centring makes no difference, and up to an overall scale: a camera length or a photon
energy that is off changes the size of all edges alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.lattices.bravais import reduced
from wrappers.lattices.cell_consensus import metric_distance

__all__ = ["CellRelation", "relate", "sublattices", "thinned"]

Floats = NDArray[np.float64]

SAME_SHAPE = 0.04
"""Relative difference of two metrics, at equal volume, up to which the lattices are one: 2 % of an
edge. Crystals and geometries are off by some tenths of a per cent."""
MOST_POINTS = 4
"""Index up to which one lattice is looked for in the other."""


@dataclass(frozen=True)
class CellRelation:
    """How a given cell's lattice relates to the one that was found.

    Attributes
    ----------
    kind : {"same", "larger", "smaller", "other"}
        "larger": the given primitive cell is a whole multiple of the found one, whose nodes it
        holds with others between them; "smaller": the other way round.
    index : int
        By how many times.
    scale : float
        Edges of the given cell over those of the found one, for equal lattices; NaN for "other".
    """

    kind: Literal["same", "larger", "smaller", "other"]
    index: int = 1
    scale: float = float("nan")


def relate(given: Cell, found: Cell, largest_scale: float = 0.1) -> CellRelation:
    """Return how the given cell relates to the found one.

    Parameters
    ----------
    given, found : Cell
    largest_scale : float
        Relative difference of the edges up to which an overall scale may explain them.
    """
    ours, theirs = (cell.primitive_axes @ cell.real for cell in (given, found))
    # Of several ways to see it, the one that needs least of a scale.
    ways: list[tuple[float, CellRelation]] = []
    for index in range(1, MOST_POINTS + 1):
        for part in sublattices(theirs, index):
            if (scale := _common_scale(ours, part)) is not None:
                kind: Literal["same", "larger"] = "same" if index == 1 else "larger"
                ways.append((abs(scale - 1), CellRelation(kind, index, scale)))
        if index > 1:
            for part in sublattices(ours, index):
                if (scale := _common_scale(part, theirs)) is not None:
                    ways.append((abs(scale - 1), CellRelation("smaller", index, scale)))
    ways = [way for way in ways if way[0] <= largest_scale]
    return min(ways, key=lambda way: way[0])[1] if ways else CellRelation("other")


def thinned(given: Cell, found: Cell, index: int) -> Floats | None:
    """Return real axes (3, 3), as rows, of the given lattice without the nodes the found one lacks.

    They are in the frame of ``given.real``. None where the given lattice has no such part.
    """
    ours, theirs = (cell.primitive_axes @ cell.real for cell in (given, found))
    nodes = np.asarray(np.linalg.inv(ours).T, np.float64)
    for part in sublattices(nodes, index):
        real = reduced(np.asarray(np.linalg.inv(part).T, np.float64))
        if _common_scale(real, theirs) is not None:
            return real
    return None


def sublattices(basis: Floats, index: int) -> Iterator[Floats]:
    """Yield a basis of each lattice that holds one of so many points of a lattice's."""
    for a, b, c in itertools.product(range(1, index + 1), repeat=3):
        if a * b * c != index:
            continue
        for x, y, z in itertools.product(range(b), range(c), range(c)):
            # Hermite's normal form: one matrix a sublattice.
            yield np.array([[a, x, y], [0, b, z], [0, 0, c]], float) @ basis


def _common_scale(one: Floats, other: Floats) -> float | None:
    """Return the edges of one lattice over the other's, or None where the shapes differ."""
    scale = float(np.cbrt(abs(np.linalg.det(one) / np.linalg.det(other))))
    one, other = reduced(one) / scale, reduced(other)
    return scale if metric_distance(one @ one.T, other @ other.T) < SAME_SHAPE else None
