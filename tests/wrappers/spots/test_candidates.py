"""Which candidates a frame has: wherever a bright spot is, and however few photons there are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.spots.candidates import CandidateFinder
from wrappers.spots.patches import FEATURES


def finder_of(tmp_path, height, width, *panels) -> CandidateFinder:
    path = tmp_path / "x.geom"
    whole = panel_text("a", width, height, (-width / 2, -height / 2))
    path.write_text(geometry_text(*(panels or (whole,)), photon_energy=9000, clen=0.1))
    return CandidateFinder(Geometry.read(path))


def frame(data) -> Frame:
    return Frame(data, np.ones(data.shape, bool), 9000.0, 0.1, "x.h5", "//0")


def seen(found, places) -> int:
    """How many places (ss, fs) have a candidate within two pixels."""
    at = np.column_stack([found.peaks.ss, found.peaks.fs])[None]
    return int((np.hypot(*(at - np.array(places)[:, None]).T) < 2).any(axis=0).sum())


def with_spots(data, places, photons, rng):
    for ss, fs in places:
        spread = rng.normal((ss, fs), 0.6, (photons, 2)).astype(int)
        np.add.at(data, tuple(spread.T), 1)
    return data


def test_bright_spots_at_the_end_of_a_large_frame_are_seen(tmp_path):
    # Two photons are a candidate: 77,000 of them, in raster order.
    rng = np.random.default_rng(0)
    data = rng.poisson(0.3, (1800, 1800)).astype(np.int32)
    places = [(ss, fs) for ss in (40, 1760) for fs in range(40, 1800, 80)]
    found = finder_of(tmp_path, *data.shape).find(frame(with_spots(data, places, 100, rng)))
    assert seen(found, places) == len(places)


@pytest.mark.parametrize("level", [0.003, 0.02, 0.05, 0.08, 0.12, 0.15, 0.18, 0.25, 0.5, 1.0])
def test_bright_spots_are_seen_at_any_number_of_photons(tmp_path, level):
    rng = np.random.default_rng(1)
    data = rng.poisson(level, (300, 300)).astype(np.int32)
    places = [(ss, fs) for ss in range(20, 300, 40) for fs in range(20, 300, 40)]
    found = finder_of(tmp_path, *data.shape).find(frame(with_spots(data, places, 100, rng)))
    assert seen(found, places) >= 0.97 * len(places)


@pytest.mark.parametrize("shape", [(8, 8), (20, 20), (1, 40), (1, 1)])
def test_a_tiny_detector_has_candidates_too(tmp_path, shape):
    data = np.random.default_rng(2).poisson(3, shape).astype(np.int32)
    data[shape[0] // 2, shape[1] // 2] = 60
    found = finder_of(tmp_path, *shape).find(frame(data))
    assert found.features.shape == (len(found.peaks), len(FEATURES))
    assert np.isfinite(found.features).all()


@pytest.mark.parametrize("photons", [150, 600])
@pytest.mark.parametrize("apart", [4, 5, 6])
def test_spots_that_touch_are_candidates_of_their_own(tmp_path, photons, apart):
    rng = np.random.default_rng(apart)
    data = rng.poisson(3, (500, 500)).astype(np.int32)
    middles = [(ss, fs) for ss in range(30, 490, 50) for fs in range(30, 490, 50)]
    turned = rng.uniform(0, np.pi, len(middles))
    steps = apart / 2 * np.column_stack([np.sin(turned), np.cos(turned)])
    places = [m + sign * step for m, step in zip(middles, steps, strict=True) for sign in (-1, 1)]
    for ss, fs in places:
        spread = rng.normal((ss, fs), 0.9, (photons, 2)).astype(int)
        np.add.at(data, tuple(spread.T), 1)
    found = finder_of(tmp_path, *data.shape).find(frame(data))
    at = np.column_stack([found.peaks.ss, found.peaks.fs])
    distance = np.hypot(*(at[None] - np.array(places)[:, None]).T)
    assert (distance.min(axis=0) < 1.5).mean() > 0.95
    # One spot has one candidate: bright ones that are nowhere near are few.
    bright = found.score > 20
    assert (distance[bright].min(axis=1) > 2).sum() < 0.04 * len(places)


def test_hot_pixels_hide_no_spot_of_their_ring(tmp_path):
    rng = np.random.default_rng(3)
    data = rng.poisson(3, (300, 300)).astype(np.int32)
    places = [(ss, fs) for ss in range(20, 300, 40) for fs in range(20, 300, 40)]
    with_spots(data, places, 40, rng)
    hot = rng.integers(0, 300, (2, 400))
    far = (np.abs(np.array(places)[:, None] - hot.T).max(axis=2) > 5).all(axis=0)
    data[tuple(hot[:, far])] = 60_000
    found = finder_of(tmp_path, *data.shape).find(frame(data))
    assert seen(found, places) >= 0.97 * len(places)
