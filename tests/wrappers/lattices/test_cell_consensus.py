"""The cell from the frames: right for lattices of all kinds, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from envs.simulation.stills import WAVENUMBER, simulate_blank, simulate_still, turn_around
from experiments.indexer_simulated import CELLS
from wrappers.cell import Cell
from wrappers.lattices.blind import find_lattices, same_lattice
from wrappers.lattices.bravais import bravais_choices, reduced
from wrappers.lattices.cell_consensus import find_cell, metric_distance, parts_of
from wrappers.lattices.peak_vectors import PeakVectors

MORE_CELLS = {
    "monoclinic C": Cell(120, 45, 80, 90, 110, 90, "monoclinic", "C", "b"),
    "orthorhombic I": Cell(60, 80, 95, 90, 90, 90, "orthorhombic", "I"),
    "tetragonal I, short c": Cell(100, 100, 60, 90, 90, 90, "tetragonal", "I", "c"),
    "tetragonal I, long c": Cell(60, 60, 150, 90, 90, 90, "tetragonal", "I", "c"),
    "cubic F": Cell(100, 100, 100, 90, 90, 90, "cubic", "F"),
    "hexagonal P": Cell(60, 60, 90, 90, 90, 120, "hexagonal", "P", "c"),
    "orthorhombic P": Cell(40, 60, 90, 90, 90, 90, "orthorhombic", "P"),
    "hexagonal H, short c": Cell(120, 120, 60, 90, 90, 120, "hexagonal", "H", "c"),
}


def any_basis(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Return some primitive basis of the cell's lattice, turned at random."""
    basis = cell.primitive_axes @ cell.real
    for _ in range(5):
        i, j = rng.choice(3, 2, replace=False)
        basis[i] += rng.integers(-2, 3) * basis[j]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return basis @ turn


@pytest.mark.parametrize("name", [*CELLS, *MORE_CELLS])
def test_any_basis_gives_back_the_conventional_cell(name):
    cell = {**CELLS, **MORE_CELLS}[name]
    rng = np.random.default_rng(0)
    for _ in range(5):
        choices = bravais_choices(any_basis(cell, rng))
        found = next(one for one in choices if one.deviation < 1e-6).cell
        assert (found.lattice_type, found.centering) == (cell.lattice_type, cell.centering)
        assert found.volume == pytest.approx(cell.volume, rel=1e-6)
        if cell.lattice_type != "triclinic":
            assert sorted(found.parameters[:3]) == pytest.approx(sorted(cell.parameters[:3]))


def test_a_reduced_basis_spans_the_same_lattice_with_shorter_vectors():
    rng = np.random.default_rng(1)
    for cell in CELLS.values():
        basis = any_basis(cell, rng)
        short = reduced(basis)
        assert same_lattice(short, basis, tolerance=1e-6)
        assert np.linalg.norm(short, axis=1).sum() <= np.linalg.norm(basis, axis=1).sum() + 1e-9
        assert np.linalg.det(short) > 0


def test_metrics_are_alike_whatever_the_order_of_axes():
    basis = reduced(CELLS["monoclinic P 57, 43, 88 Å"].real)
    turned = basis[[1, 2, 0]] * [[1], [-1], [-1]]
    assert metric_distance(basis @ basis.T, turned @ turned.T) < 1e-9
    assert metric_distance(basis @ basis.T, 1.1 * basis @ basis.T) > 0.05


def test_the_parts_of_a_lattice_contain_it():
    basis = CELLS["triclinic 35, 42, 51 Å"].real
    parts = parts_of(basis)
    assert len(parts) == 7 + 13  # sublattices of index two and three
    for part in parts:
        change = basis @ np.linalg.inv(part)
        assert np.abs(change - np.rint(change)).max() < 1e-9


@pytest.mark.parametrize(
    "name", [name for name in CELLS if "280" not in name and "281" not in name]
)
def test_a_frame_shows_its_lattice_without_a_cell(name):
    cell = CELLS[name]
    q, reciprocal = simulate_still(cell, np.random.default_rng(3), 100, 0.2)
    primitive = cell.primitive_axes @ np.linalg.inv(reciprocal).T
    (best, *_) = find_lattices(q)
    assert same_lattice(best.real, primitive, tolerance=0.15)
    assert best.evidence > 50


def lists(cell: Cell, n: int, seed: int, turned: bool = False) -> list[PeakVectors]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        q, _ = simulate_still(cell, rng, 70, 0.25, clen_error=0.01, shift_px=1.0)
        q = turn_around(q, rng) if turned else q
        found.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return found


@pytest.mark.parametrize("name", ["tetragonal P 79, 38 Å", "monoclinic P 57, 43, 88 Å"])
def test_frames_agree_on_the_cell_and_its_symmetry(name):
    cell = CELLS[name]
    found = find_cell(lists(cell, 5, seed=1))
    assert found is not None and len(found.frames) == 5 and found.chance < 1e-4
    assert (found.cell.lattice_type, found.cell.centering) == (cell.lattice_type, cell.centering)
    assert found.cell.parameters == pytest.approx(cell.parameters, rel=0.02)
    assert (found.standard_error[:3] > 0).all()


def test_scrambled_peaks_agree_on_nothing():
    for seed in range(3):
        assert find_cell(lists(CELLS["tetragonal P 79, 38 Å"], 4, seed, turned=True)) is None


def test_noise_and_nothing_agree_on_nothing():
    rng = np.random.default_rng(0)
    noise = [
        PeakVectors(simulate_blank(rng, 60), rng.uniform(size=60), WAVENUMBER) for _ in range(4)
    ]
    assert find_cell(noise) is None
    assert find_cell([]) is None
    few = [PeakVectors(simulate_blank(rng, 3), np.ones(3), WAVENUMBER) for _ in range(4)]
    assert find_cell(few) is None


@pytest.mark.parametrize(
    "spacings",
    [(3.90, 3.67, 3.44, 2.67, 2.25), tuple(58.38 / n for n in range(8, 24))],
    ids=["ice", "silver behenate"],
)
def test_powder_rings_agree_on_nothing(spacings):
    rng = np.random.default_rng(1)
    rings = []
    for _ in range(5):
        length = 1 / rng.choice(spacings, 90) + rng.normal(scale=3e-4, size=90)
        kz = -(length**2) / 2 / WAVENUMBER  # elastic: on the Ewald sphere
        across, turn = np.sqrt(length**2 - kz**2), rng.uniform(0, 2 * np.pi, 90)
        q = np.column_stack((across * np.cos(turn), across * np.sin(turn), kz))
        rings.append(PeakVectors(q, rng.uniform(size=90), WAVENUMBER))
    assert find_cell(rings) is None


def test_any_number_of_threads_finds_the_same():
    frames = lists(CELLS["tetragonal P 79, 38 Å"], 3, seed=2)
    one, three = find_cell(frames), find_cell(frames, jobs=3)
    assert one is not None and three is not None
    assert one.cell == three.cell and one.chance == three.chance


@pytest.mark.parametrize("n", range(0, 24))
def test_few_peaks_and_peaks_in_a_plane_are_no_fault(n):
    rng = np.random.default_rng(n)
    exact = rng.integers(-3, 4, (n, 3)) @ np.diag([0.02, 0.03, 0.025])
    for q in (exact, exact * [1, 1, 0], exact * [1, 0, 0], np.repeat(exact[:1], n, axis=0)):
        for one in find_lattices(q, np.ones(n)):
            assert np.isfinite(one.reciprocal).all() and not np.isnan(one.evidence)
