"""Camera length and beam centre from peaks and a cell, where the geometry is far off."""

from __future__ import annotations

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
from wrappers.lattices.geometry_start import find_geometry
from wrappers.lattices.peak_vectors import PeakVectors

LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")


def lists(n: int, clen_error: float, shift_px: float, direction: float, turned: bool = False):
    """Stills as a geometry makes them whose centre is off by so many pixels, all the same way."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(n):
        q, _ = simulate_still(LYSOZYME, rng, 80, 0.2)
        q = turn_around(q, rng) if turned else q
        q = misplace(q, clen_error, shift_px, direction)
        found.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return found


@pytest.mark.parametrize(
    ("clen_error", "shift_px"),
    [
        (0.0, 5.0),
        (-0.08, 0.0),
        *(pytest.param(*far, marks=pytest.mark.slow) for far in [(0, 0), (0, 10.0), (0.06, 4.0)]),
    ],
)
def test_the_detector_is_put_where_it_was(clen_error, shift_px):
    reach = {"widest_shift": 0.005 + 0.75 / DETECTOR * shift_px}
    found = find_geometry(lists(6, clen_error, shift_px, 0.6), LYSOZYME, **reach)
    assert found is not None and found.n_agree == 6
    written = DETECTOR * (1 + clen_error)
    assert found.camera_length(written) == pytest.approx(DETECTOR, rel=0.002)
    shift = np.array(found.shift(written))
    true = -shift_px * np.array([np.cos(0.6), np.sin(0.6)])
    assert np.hypot(*(shift - true)) < 1.0


def test_nothing_is_invented():
    near = {"widest_stretch": 0.05, "widest_shift": 0.006}
    assert find_geometry(lists(6, 0.0, 0.0, 0.0, turned=True), LYSOZYME, **near) is None
    rng = np.random.default_rng(0)
    blank = [
        PeakVectors(simulate_blank(rng, 50), rng.uniform(size=50), WAVENUMBER) for _ in range(6)
    ]
    assert find_geometry(blank, LYSOZYME, **near) is None
    assert find_geometry([], LYSOZYME) is None
