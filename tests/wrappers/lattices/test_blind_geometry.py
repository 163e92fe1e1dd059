"""Beam centre and camera length from peaks alone, without the cell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.simulation.stills import (
    DETECTOR,
    WAVENUMBER,
    misplace,
    simulate_blank,
    simulate_still,
    turn_around,
)
from wrappers.cell import Cell
from wrappers.lattices.blind_geometry import find_blind_geometry, find_centre
from wrappers.lattices.peak_vectors import PeakVectors

LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")


def lists(n: int, clen_error: float = 0.0, shift_px: float = 0.0, turned: bool = False):
    """Stills as a geometry makes them whose centre is off by so many pixels, all the same way."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(n):
        q, _ = simulate_still(LYSOZYME, rng, 80, 0.2)
        q = turn_around(q, rng) if turned else q
        q = misplace(q, clen_error, shift_px, 0.6)
        found.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return found


@pytest.mark.parametrize(
    ("clen_error", "shift_px"),
    [(0.0, 5.0), (-0.08, 0.0), pytest.param(0.06, 10.0, marks=pytest.mark.slow)],
)
def test_the_detector_is_put_where_it_was(clen_error, shift_px):
    frames = lists(8, clen_error, shift_px)
    found = find_blind_geometry(frames)
    assert found is not None and not found.given_is_right and not found.beyond
    written = DETECTOR * (1 + clen_error)  # in pixels
    assert found.camera_length(written) == pytest.approx(DETECTOR, rel=0.005)
    true = -shift_px * np.array([math.cos(0.6), math.sin(0.6)])
    assert np.hypot(*(np.array(found.shift(written)) - true)) < 0.5
    assert found.evidence > 1.2 * found.evidence_before


def test_a_right_geometry_is_left_alone():
    found = find_blind_geometry(lists(6))
    assert found is not None and found.given_is_right
    assert found.place == (0.0, 0.0, 0.0)


def test_the_answer_does_not_depend_on_the_threads():
    frames = lists(6, 0.0, 5.0)
    assert find_centre(frames) == find_centre(frames, jobs=3)


@pytest.mark.parametrize("n_peaks", [15, 50, 150])
def test_noise_has_no_centre(n_peaks):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        blank = [
            PeakVectors(simulate_blank(rng, n_peaks), rng.uniform(size=n_peaks), WAVENUMBER)
            for _ in range(10)
        ]
        assert find_centre(blank) is None


def test_peaks_turned_on_their_rings_have_no_centre():
    assert find_centre(lists(10, turned=True)) is None


def test_powder_rings_have_no_centre():
    """Of silver behenate, whose rings have their middle where the geometry has not."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frames = []
        for _ in range(10):
            length = rng.choice(np.arange(3, 16) / 58.38, 80) + rng.normal(0, 3e-4, 80)
            angle = rng.uniform(0, 2 * math.pi, 80)
            z = -(length**2) / (2 * WAVENUMBER)
            across = np.sqrt(length**2 - z**2)
            q = np.column_stack((across * np.cos(angle), across * np.sin(angle), z))
            frames.append(PeakVectors(misplace(q, 0.0, 5.0, 0.6), rng.uniform(size=80), WAVENUMBER))
        assert find_centre(frames) is None


def test_few_frames_tell_no_centre():
    assert find_centre(lists(3)) is None
    assert find_centre([]) is None
    assert find_blind_geometry([]) is None
