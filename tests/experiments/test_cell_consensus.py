"""The figures of the consensus: what counts as right, and lists that no crystal made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.cell_consensus import (
    CELLS,
    RINGS,
    WAVENUMBER,
    is_right,
    rate,
    shares,
    simulated,
    without_crystal,
)

CELL = CELLS["tetragonal P 79, 38 Å"]


@pytest.mark.slow
def test_only_the_true_lattice_of_the_right_size_counts():
    run = simulated(CELL, 4, seed=0)
    assert is_right(CELL, run)
    assert not is_right(replace(CELL, c=2 * CELL.c), run)
    assert not is_right(replace(CELL, a=1.06 * CELL.a, b=1.06 * CELL.b, c=1.06 * CELL.c), run)
    assert shares(CELL, [run], 1) == {3: 1, 5: None, 10: None, 20: None}


@pytest.mark.parametrize("kind", ["scrambled", "noise", *RINGS])
def test_lists_without_a_crystal_are_elastic_and_the_same_for_a_seed(kind):
    one, again = (without_crystal(kind, 2, seed=3) for _ in range(2))
    for each, other in zip(one, again, strict=True):
        assert np.array_equal(each.q, other.q)
        ray = each.q + np.array([0, 0, WAVENUMBER])
        assert np.linalg.norm(ray, axis=1) == pytest.approx(WAVENUMBER, rel=1e-6)


def test_no_find_in_so_many_runs_has_clopper_and_pearsons_interval():
    low, high = rate(0, 100)["ci95"]
    assert low == 0.0 and high == pytest.approx(1 - 0.025 ** (1 / 100))
