"""How two cells relate, by their lattices and up to a scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wrappers.cell import Cell
from wrappers.lattices.cell_relation import relate, sublattices, thinned

LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")
ROOT2 = 2**0.5


@pytest.mark.parametrize(
    ("given", "kind", "index"),
    [
        (LYSOZYME, "same", 1),
        (Cell(38, 79, 79, 90, 90, 90, "tetragonal", "P", "a"), "same", 1),
        (Cell(79 * ROOT2, 79 * ROOT2, 38, 90, 90, 90, "orthorhombic", "C"), "same", 1),
        (replace(LYSOZYME, a=79 * 1.03, b=79 * 1.03, c=38 * 1.03), "same", 1),
        (replace(LYSOZYME, c=76.0), "larger", 2),
        (replace(LYSOZYME, c=114.0), "larger", 3),
        (replace(LYSOZYME, a=79 * ROOT2, b=79 * ROOT2), "larger", 2),
        (replace(LYSOZYME, c=19.0), "smaller", 2),
        (replace(LYSOZYME, centering="I"), "smaller", 2),
        (replace(LYSOZYME, c=38 * 1.06), "other", 1),
        (Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c"), "other", 1),
    ],
)
def test_the_relation_of_a_cell_to_lysozymes(given, kind, index):
    relation = relate(given, LYSOZYME)
    assert (relation.kind, relation.index) == (kind, index)


def test_the_scale_between_equal_lattices():
    larger = replace(LYSOZYME, a=79 * 1.03, b=79 * 1.03, c=38 * 1.03)
    assert relate(larger, LYSOZYME).scale == pytest.approx(1.03)
    assert relate(LYSOZYME, larger).scale == pytest.approx(1 / 1.03)


@pytest.mark.parametrize(("index", "number"), [(1, 1), (2, 7), (3, 13), (4, 35)])
def test_there_are_as_many_sublattices_as_mathematics_says(index, number):
    found = list(sublattices(np.eye(3), index))
    assert len(found) == number
    assert all(round(np.linalg.det(one)) == index for one in found)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Cell(79, 79, 76, 90, 90, 90), Cell(79.3, 79.1, 38.2, 90, 90, 90)),
        (Cell(111.7, 111.7, 38, 90, 90, 90), Cell(79, 79, 38, 90, 90, 90)),
        (Cell(79, 79, 38, 90, 90, 90), Cell(79.3, 79.3, 38, 90, 90, 90, "tetragonal", "I", "c")),
    ],
)
def test_a_lattice_is_thinned_to_the_one_that_was_found(given, found):
    relation = relate(given, found)
    assert (relation.kind, relation.index) == ("larger", 2)
    fewer = thinned(given, found, relation.index)
    assert fewer is not None
    nodes = np.linalg.inv(fewer).T
    primitive = given.primitive_axes @ given.real
    assert np.allclose(nodes @ primitive.T, np.rint(nodes @ primitive.T)), "its nodes are ours"
    assert abs(np.linalg.det(primitive)) == pytest.approx(2 * abs(np.linalg.det(fewer)))


def test_what_is_no_part_is_not_thinned():
    assert thinned(Cell(40, 50, 61, 90, 90, 90), Cell(79, 79, 38, 90, 90, 90), 2) is None
