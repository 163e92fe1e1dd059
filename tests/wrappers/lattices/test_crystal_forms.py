"""A second crystal form is found where there is one, and claimed nowhere else."""

from __future__ import annotations

import pytest

from experiments.cell_consensus import CELLS, without_crystal
from experiments.crystal_forms import mixture, pure_run
from wrappers.cell import Cell
from wrappers.lattices.cell_relation import relate
from wrappers.lattices.crystal_forms import find_other_form

LYSOZYME = CELLS["tetragonal P 79, 38 Å"]
THAUMATIN = CELLS["tetragonal P 58, 152 Å"]


def test_both_forms_of_a_mixture_are_told_with_their_shares():
    found = find_other_form(mixture(LYSOZYME, THAUMATIN, 10, seed=5), LYSOZYME)
    assert found is not None and found.n_frames == 34
    assert relate(THAUMATIN, found.other.cell).kind == "same"
    assert found.other.cell.lattice_type == "tetragonal"
    assert (found.n_given, found.n_other) == (pytest.approx(20, abs=1), pytest.approx(10, abs=1))


def test_a_pure_run_has_no_second_form():
    assert find_other_form(pure_run(LYSOZYME, seed=0), LYSOZYME) is None


@pytest.mark.slow
def test_frames_without_crystals_beside_are_no_form():
    lists = pure_run(LYSOZYME, seed=3)[:12] + without_crystal("ice rings", 8, seed=1)
    assert find_other_form(lists, LYSOZYME) is None


def test_a_multiple_of_the_given_cell_is_no_other_form():
    doubled = Cell(79, 79, 76, 90, 90, 90, "tetragonal", "P", "c")
    assert find_other_form(mixture(LYSOZYME, LYSOZYME, 10, seed=2), doubled) is None
