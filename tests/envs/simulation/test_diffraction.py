"""Which reflections are excited, and where they go."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from envs.simulation.diffraction import excited_reflections
from envs.simulation.experiment import Crystals
from wrappers.cell import Cell

WAVENUMBER = 0.75  # 1/Å, about 9.3 keV
SMALL = Cell(31.0, 37.0, 43.0, 84.0, 95.0, 102.0)
SHARP = Crystals(cell=SMALL, wings=0.0, mosaicity=0.0, resolution=2.0, domain_size=2000.0)
POINT_WIDTH = 0.886 / 2000.0 / 2.3548

seeds = st.integers(0, 2**32 - 1)


def lattice_of(cell: Cell, seed: int) -> np.ndarray:
    rotation = Rotation.from_quat(np.random.default_rng(seed).standard_normal(4)).as_matrix()
    return cell.reciprocal @ rotation.T


def scattering_vectors(reflections: np.ndarray, wavenumber: float) -> np.ndarray:
    slopes = np.c_[reflections[:, :2], np.ones(len(reflections))]
    return wavenumber * (slopes / np.linalg.norm(slopes, axis=1)[:, None] - [0, 0, 1])


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_every_beam_comes_from_a_lattice_point_on_the_ewald_sphere(seed):
    lattice = lattice_of(SMALL, seed)
    found = excited_reflections(SHARP, lattice, WAVENUMBER, 0.0, 1e4, seed=3)
    q = scattering_vectors(found, WAVENUMBER)
    indices = q @ np.linalg.inv(lattice)
    distance = np.linalg.norm((indices - np.rint(indices)) @ lattice, axis=1)
    # A beam's q lies on the sphere by construction; the point may be some widths off it.
    assert distance.max() < 6 * POINT_WIDTH
    assert len(np.unique(np.rint(indices), axis=0)) == len(found)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_no_excited_point_is_missed(seed):
    lattice = lattice_of(SMALL, seed)
    limits = [int(np.linalg.norm(edge) / SHARP.resolution) + 1 for edge in SMALL.real]
    points = np.array(list(itertools.product(*(range(-n, n + 1) for n in limits))))
    q = points @ lattice
    length = np.linalg.norm(q, axis=1)
    excitation = np.linalg.norm(q + np.array([0, 0, WAVENUMBER]), axis=1) - WAVENUMBER
    expected = points[
        (length > 0) & (length < 1 / SHARP.resolution) & (abs(excitation) < POINT_WIDTH)
    ]
    bright = dataclasses.replace(SHARP, b_factor=0.0)
    found = excited_reflections(bright, lattice, WAVENUMBER, 0.0, 1e9, seed=3)
    indices = np.rint(scattering_vectors(found, WAVENUMBER) @ np.linalg.inv(lattice)).astype(int)
    assert {tuple(point) for point in expected} <= {tuple(index) for index in indices}


@pytest.mark.parametrize(
    ("centering", "allowed"),
    [
        ("A", lambda i, j, k: (j + k) % 2 == 0),
        ("C", lambda i, j, k: (i + j) % 2 == 0),
        ("I", lambda i, j, k: (i + j + k) % 2 == 0),
        ("F", lambda i, j, k: ((i + j) % 2 == 0) & ((j + k) % 2 == 0)),
    ],
)
def test_a_centring_extinguishes_its_reflections(centering, allowed):
    cell = Cell(60.0, 70.0, 80.0, 90.0, 90.0, 90.0, "orthorhombic", centering)
    crystals = dataclasses.replace(SHARP, cell=cell)
    lattice = lattice_of(cell, 5)
    found = excited_reflections(crystals, lattice, WAVENUMBER, 0.0, 1e6, seed=3)
    indices = np.rint(scattering_vectors(found, WAVENUMBER) @ np.linalg.inv(lattice)).astype(int)
    assert len(indices) > 50
    assert allowed(*indices.T).all()


def test_intensities_fall_off_as_debye_and_waller_say():
    lattice = lattice_of(SMALL, 1)
    plain, damped = (
        excited_reflections(
            dataclasses.replace(SHARP, b_factor=b), lattice, WAVENUMBER, 0.001, 1e12, seed=3
        )
        for b in (0.0, 20.0)
    )
    damped_photons = {tuple(row[:2]): row[2] for row in damped}
    plain = np.array([row for row in plain if tuple(row[:2]) in damped_photons])
    assert len(plain) > 100
    ratio = [damped_photons[tuple(row[:2])] / row[2] for row in plain]
    q = np.linalg.norm(scattering_vectors(plain, WAVENUMBER), axis=1)
    np.testing.assert_allclose(ratio, np.exp(-10 * q**2), rtol=0.02)


def test_structure_factors_depend_on_the_seed_and_are_wilsons():
    """Per reflection, the share drops out of the ratio of two seeds' intensities."""
    ratios = []
    for i in range(20):
        lattice = lattice_of(SMALL, i)
        first, second = (
            excited_reflections(SHARP, lattice, WAVENUMBER, 0.0, 1e15, seed=s) for s in (1, 2)
        )
        common = {tuple(row[:2]): row[2] for row in first}
        ratios += [row[2] / common[key] for row in second if (key := tuple(row[:2])) in common]
    # The ratio r of two exponential variables has P(r < x) = x / (1 + x).
    uniform = np.sort(np.array(ratios) / (1 + np.array(ratios)))
    deviation = abs(uniform - (np.arange(len(uniform)) + 0.5) / len(uniform)).max()
    # The same reflections come again and again, so this is no full Kolmogorov-Smirnov test.
    assert len(ratios) > 1000
    assert deviation < 3 / np.sqrt(len(ratios))


def test_bandwidth_smears_spots_along_their_radius():
    lattice = lattice_of(SMALL, 1)
    _, _, _, tangential, radial, cos_two_theta = excited_reflections(
        SHARP, lattice, WAVENUMBER, 0.03, 1e4, seed=3
    ).T
    far = cos_two_theta < 0.95
    assert far.any()
    assert (radial[far] > 1.5 * tangential[far]).all()
