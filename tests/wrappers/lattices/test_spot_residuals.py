"""Residuals of spots, and the panels' offsets that they tell, where both are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wrappers.lattices.spot_residuals import (
    LEAST_SPOTS,
    Spots,
    median_residual,
    panel_offsets,
)

K, CLEN, PIXEL = 1 / 1.3332, 0.08, 75e-6
NAMES = [f"p{i}" for i in range(16)]
SIZE = 256
"""Of a panel, in pixels: four by four of them, the beam in the middle."""
NOISE = 0.3
"""Of a peak's place, in pixels along each axis."""


def lattice() -> np.ndarray:
    """Return the nodes of lysozyme's lattice that may be seen, but 000, in 1/Å."""
    hkl = np.stack(np.meshgrid(*[np.arange(-40, 41)] * 2, np.arange(-20, 21)), axis=-1)
    nodes = hkl.reshape(-1, 3) / [79, 79, 38]
    length = np.linalg.norm(nodes, axis=1)
    return nodes[(length > 0) & (length < 0.45)]


LATTICE = lattice()


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def still(rng: np.random.Generator, frame: int, offsets: np.ndarray, clen: float = CLEN) -> Spots:
    """Return a lattice's spots on a detector whose panels are off by `offsets` (16, 2) pixels."""
    nodes = LATTICE @ rotation(rng)
    ray = nodes + np.array([0, 0, K])
    off = np.linalg.norm(ray, axis=1) - K
    x, y = (ray[:, :2] / ray[:, 2:] * clen / PIXEL).T
    edge = 2 * SIZE
    seen = (abs(off) < 4e-4) & (ray[:, 2] > 0) & (abs(x) < edge) & (abs(y) < edge)
    seen &= rng.uniform(size=len(seen)) < 0.5
    x, y, nodes = x[seen], y[seen], nodes[seen]
    panel = (4 * ((y + edge) // SIZE) + (x + edge) // SIZE).astype(int)
    found = np.column_stack((x, y)) + offsets[panel] + rng.normal(scale=NOISE, size=(len(x), 2))
    positions = np.column_stack((found * PIXEL, np.full(len(x), clen)))
    small = rng.normal(scale=2e-3, size=3)  # the indexer's own error
    return Spots(frame, panel, positions, np.full(len(x), PIXEL), nodes + np.cross(small, nodes), K)


def run(seed: int, offsets: np.ndarray | None = None, n: int = 30) -> list[Spots]:
    rng = np.random.default_rng(seed)
    return [still(rng, i, np.zeros((16, 2)) if offsets is None else offsets) for i in range(n)]


def test_planted_offsets_are_found_within_their_errors():
    pulls = []
    for seed in range(3):
        planted = np.zeros((16, 2))
        planted[6], planted[9], planted[0] = (1.2, -0.8), (0.0, 0.6), (-0.5, 0.5)
        found = panel_offsets(run(seed, planted), NAMES)
        offsets = np.array([(one.x, one.y) for one in found])
        errors = np.array([(one.x_se, one.y_se) for one in found])
        assert abs(offsets - planted).max() < 0.3 and errors.max() < 0.1
        assert {one.name for one in found if one.clear} == {"p6", "p9", "p0"}
        pulls.append((offsets - planted) / errors)
    # What is planted turns the detector a little, which the crystals follow: see BLIND.
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 2.0


def test_a_detector_that_is_right_has_no_panel_that_is_off():
    clear = [one.clear for seed in range(20, 25) for one in panel_offsets(run(seed), NAMES)]
    assert len(clear) == 80 and not any(clear)


def test_two_panels_that_are_turned_against_each_other_are_told():
    """The crystals turn after them: the median residual of each alone is far too small."""
    planted = np.zeros((16, 2))
    planted[:8, 0], planted[8:, 0] = -1.0, 1.0
    spots = [
        Spots(one.frame, one.panel // 8, one.positions, one.pixel, one.nodes, one.k)
        for one in run(3, planted)
    ]
    lower, upper = panel_offsets(spots, ["lower", "upper"])
    assert (lower.x, upper.x) == (pytest.approx(-1, abs=0.1), pytest.approx(1, abs=0.1))
    assert abs(lower.y) < 0.1 and abs(upper.y) < 0.1


def test_panels_with_too_few_spots_are_not_known():
    spots = run(5, n=30)
    few = [
        Spots(one.frame, one.panel[keep], one.positions[keep], one.pixel[keep], one.nodes[keep], K)
        for one in spots
        for keep in [(one.panel != 4) | (np.cumsum(one.panel == 4) <= (one.frame < 2) * 5)]
    ]
    found = panel_offsets(few, NAMES)
    assert found[4].n_spots < LEAST_SPOTS and found[4].n_frames == 2
    assert math.isnan(found[4].x) and not found[4].clear
    assert all(math.isfinite(one.x) for one in found if one.name != "p4")
    assert [one.n_spots for one in panel_offsets([], NAMES)] == [0] * 16


def test_the_residual_is_the_noise_and_grows_with_a_wrong_geometry():
    spots = run(7)
    right, error = median_residual(spots)
    assert right == pytest.approx(NOISE * math.sqrt(2), rel=0.1) and error < 0.05
    longer, _ = median_residual(spots, (0.0008, 0.0, 0.0))
    # One per cent of the radius of a typical spot, 250 to 350 px.
    assert 1.5 < longer < 4.0
    beside, _ = median_residual(spots, (0.0, 3 * PIXEL, 0.0))
    assert beside > right + 0.2
