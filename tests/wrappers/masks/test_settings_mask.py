"""What settings mask on top of the geometry."""

from __future__ import annotations

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import BITS, SettingsMask, needs_map
from wrappers.settings import Settings

SHAPE = (20, 12)


@pytest.fixture
def geometry(tmp_path) -> Geometry:
    """Two panels of 12 x 10 pixels above each other."""
    panels = panel_text("a", 12, 10, (0, 0)), panel_text("b", 12, 10, (0, 10), ss=10)
    text = geometry_text(*panels, dim0="ss", dim1="fs", dim2=None, data=None)
    (tmp_path / "m.geom").write_text(text)
    return Geometry.read(tmp_path / "m.geom")


@pytest.fixture
def bad_pixels() -> BadPixelMap:
    hot, noisy, dead = np.zeros((3, *SHAPE), np.float16)
    hot[3, 3], noisy[3, 3], noisy[4, 4], dead[15, 5] = 10, 6, 20, 7
    return BadPixelMap(hot, noisy, dead, 50)


def test_bits_by_kind_and_threshold(geometry, bad_pixels):
    mask = SettingsMask(geometry, bad_pixels)
    bits = mask.bits(Settings(mask_hot_sigma=5, mask_noisy_sigma=5, mask_dead_sigma=5))
    assert bits[3, 3] == BITS["hot"] | BITS["noisy"]
    assert bits[4, 4] == BITS["noisy"]
    assert bits[15, 5] == BITS["dead"]
    assert np.count_nonzero(bits) == 3
    bits = mask.bits(Settings(mask_noisy_sigma=8))
    assert bits[4, 4] == BITS["noisy"]
    assert np.count_nonzero(bits) == 1


def test_edges_of_each_panel(geometry):
    bits = SettingsMask(geometry, None).bits(Settings(mask_edge=2))
    expected = np.full(SHAPE, BITS["edge"])
    expected[2:8, 2:10] = expected[12:18, 2:10] = 0
    np.testing.assert_array_equal(bits, expected)
    assert (SettingsMask(geometry, None).bits(Settings(mask_edge=6)) == BITS["edge"]).all()


def test_nothing_to_mask_gives_the_mask_itself(geometry):
    own = np.ones(SHAPE, bool)
    assert SettingsMask(geometry, None).on(own, Settings()) is own


def test_on_top_of_a_frames_own_mask(geometry, bad_pixels):
    mask = SettingsMask(geometry, bad_pixels)
    own = np.ones(SHAPE, bool)
    own[0] = False
    loose, strict = Settings(mask_hot_sigma=12), Settings(mask_hot_sigma=8)
    np.testing.assert_array_equal(mask.on(own, loose), own)
    combined = mask.on(own, strict)
    assert own[3, 3] and not combined[3, 3] and not combined[0].any()
    assert combined.sum() == own.sum() - 1
    assert mask.on(own, strict) is combined, "frames that share a mask share the result"
    other = own.copy()
    other[1] = False
    assert not mask.on(other, strict)[1].any()
    for edge in range(6):  # more than are kept
        assert mask.on(own, Settings(mask_edge=edge)).sum() <= own.sum()
    np.testing.assert_array_equal(mask.on(own, strict), combined)


def test_what_needs_a_map(geometry):
    assert not needs_map(Settings(mask_edge=3))
    assert needs_map(Settings(mask_dead_sigma=3))
    with pytest.raises(ValueError, match="need a map"):
        SettingsMask(geometry, None).bits(Settings(mask_dead_sigma=3))
