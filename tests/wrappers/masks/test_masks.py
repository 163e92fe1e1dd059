"""Stored masks and flagged values, pixel by pixel as crystfel_geometry(5) says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from wrappers.detector.geometry import Geometry
from wrappers.masks.masks import flag_values, stored_masks

PANELS = "".join(
    f"{name}/min_fs = 0\n{name}/max_fs = 4\n{name}/min_ss = {first}\n{name}/max_ss = {first + 2}\n"
    f"{name}/corner_x = 0\n{name}/corner_y = 0\n{name}/fs = x\n{name}/ss = y\n"
    for name, first in (("a", 0), ("b", 3))
)
DTYPES = ["i2", "u2", "i4", "u4", "u1", "i8", "f4", "f8"]


@pytest.fixture
def geometry(tmp_path):
    def read(top="", bottom=""):
        path = tmp_path / "m.geom"
        path.write_text(f"res = 1e4\n{top}\n{PANELS}{bottom}")
        return Geometry.read(path)

    return read


def test_frames_share_the_mask_where_nothing_is_flagged(geometry):
    read = geometry("flag_lessthan = -5\nflag_morethan = 60000\nflag_equal = 7.5")
    mask = read.static_mask()
    for dtype in DTYPES:
        assert flag_values(read, np.full((6, 5), 3, dtype), mask) is mask


@pytest.mark.parametrize(
    ("flags", "bad"),
    [
        ("flag_lessthan = 2", [0, 1]),
        ("flag_lessthan = 2.5", [0, 1, 2]),
        ("flag_morethan = 3", [4]),
        ("flag_morethan = 2.5", [3, 4]),
        ("flag_equal = 2", [2]),
        ("flag_equal = 2.5", []),
        ("flag_lessthan = 1\nflag_equal = 4", [0, 4]),
        ("flag_lessthan = -1e9\nflag_morethan = 1e12\nflag_equal = 1e12", []),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_flags_are_strict_in_any_data_type(geometry, flags, bad, dtype):
    read = geometry(flags)
    data = np.tile(np.arange(5), (6, 1)).astype(dtype)
    mask = read.static_mask()
    result = flag_values(read, data, mask)
    np.testing.assert_array_equal(result, ~np.isin(data, bad))
    assert mask.all(), "the mask given is not to be written to"


def test_equal_rounds_floating_point_values(geometry):
    data = np.full((6, 5), 6.6, "f4")
    data[0, 0] = 6.4
    expected = np.zeros((6, 5), bool)
    expected[0, 0] = True
    result = flag_values(geometry("flag_equal = 7"), data, np.ones((6, 5), bool))
    np.testing.assert_array_equal(result, expected)


def test_flags_of_one_panel_leave_the_others(geometry):
    data = np.full((6, 5), 9, "i2")
    read = geometry(bottom="b/flag_equal = 9\n")
    result = flag_values(read, data, read.static_mask())
    assert result[:3].all() and not result[3:].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_bad(geometry, value):
    data = np.ones((6, 5), "f4")
    data[4, 2] = value
    read = geometry()
    result = flag_values(read, data, read.static_mask())
    assert not result[4, 2] and result.sum() == 29
    already = read.static_mask()
    already[4, 2] = False
    assert flag_values(read, data, already) is already


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    good=st.integers(0, 255),
    bad=st.integers(0, 255),
    seed=st.integers(0, 1000),
)
def test_bits(geometry, good, bad, seed):
    assume(good or bad)
    read = geometry(f"mask = /m\nmask_good = {hex(good)}\nmask_bad = {bad}")
    bits = np.random.default_rng(seed).integers(0, 256, (6, 5), np.uint8)
    sources = {mask for panel in read.panels for mask in panel.masks}
    result = stored_masks(read, sources, lambda source, block: bits)
    for value, usable in zip(bits.flat, result.flat, strict=True):
        assert usable == ((value & good) == good and (value & bad) == 0)


def test_all_bits_of_32(geometry):
    read = geometry("mask = /m\nmask_bad = 0xffffffff")
    bits = np.zeros((6, 5), np.uint32)
    bits[0, 0], bits[5, 4] = 0xFFFFFFFF, 0x80000000
    expected = bits == 0
    result = stored_masks(read, set(read.panels[0].masks), lambda source, block: bits)
    np.testing.assert_array_equal(result, expected)


def test_masks_of_one_panel_leave_the_others(geometry):
    read = geometry(bottom="a/mask1_data = /m\na/mask1_badbits = 1\n")
    bits = np.ones((6, 5), np.int32)
    result = stored_masks(read, set(read.panels[0].masks), lambda source, block: bits)
    assert not result[:3].any() and result[3:].all()
    assert stored_masks(read, set(), lambda source, block: bits).all()
