"""Panels and bad regions that make sense by themselves, and not together or not at all."""

from __future__ import annotations

import re

import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError

HEAD = "clen = 0.1\nphoton_energy = 9000\nadu_per_photon = 1\nres = 10000\n"
PANEL = """\
{0}/min_fs = 0
{0}/max_fs = 9
{0}/min_ss = {1}
{0}/max_ss = {2}
{0}/corner_x = {3}
{0}/corner_y = 0
{0}/fs = x
{0}/ss = y
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "test.geom"
        path.write_text(HEAD + text)
        return Geometry.read(path)

    return read_text


def two(second=(5, 9, 20)):
    return PANEL.format("a", 0, 4, 0) + PANEL.format("b", *second)


def region(**limits):
    return "".join(f"bad_r/{key} = {value}\n" for key, value in limits.items())


def test_a_sound_geometry_has_no_notes(read):
    assert read(two()).notes == ()


@pytest.mark.parametrize(("rows", "shared"), [((4, 8), 10), ((2, 9), 30)])
def test_panels_with_some_pixels_in_common_are_noted(read, rows, shared):
    (note,) = read(two((*rows, 20))).notes
    assert f"panels a and b of {read(two()).path} have {shared} pixels in common" in note


@pytest.mark.parametrize("rows", [(0, 4), (0, 9), (1, 2)])
def test_a_panel_whose_pixels_are_all_anothers_is_refused(read, rows):
    with pytest.raises(InputError, match=r"panels a and b .* read the same pixels"):
        read(two((*rows, 20)))


def test_equal_rectangles_of_different_data_or_modules_share_nothing(read):
    assert not read(two((0, 4, 20)) + "b/data = /other\n").notes
    dims = "dim0 = %\ndim2 = ss\ndim3 = fs\n"
    assert not read(dims + two((0, 4, 20)) + "a/dim1 = 0\nb/dim1 = 1\n").notes


@pytest.mark.parametrize("corner", [1e6, -1e6, 99_995, 1e9])
def test_a_panel_beyond_any_detector_is_refused(read, corner):
    with pytest.raises(InputError, match=r"panel b of .* pixels from the beam"):
        read(two((5, 9, corner)))
    assert not read(two((5, 9, 50_000))).notes


@pytest.mark.parametrize(
    "limits",
    [
        {"min_fs": 20, "max_fs": 30, "min_ss": 0, "max_ss": 3},
        {"min_fs": 0, "max_fs": 3, "min_ss": 0, "max_ss": 3, "panel": "b"},
        {"min_fs": 3, "max_fs": 2, "min_ss": 0, "max_ss": 3},
        {"min_x": 500, "max_x": 600, "min_y": 0, "max_y": 3},
        {"min_x": 3, "max_x": 0, "min_y": -1, "max_y": 3},
    ],
)
def test_a_bad_region_that_covers_nothing_is_refused(read, limits):
    with pytest.raises(InputError, match=r"bad region bad_r of .* covers no pixel"):
        read(two() + region(**limits)).static_mask()


def test_a_bad_region_of_a_bad_panel_has_its_effect_there(read):
    limits = {"min_fs": 0, "max_fs": 3, "min_ss": 0, "max_ss": 3, "panel": "a"}
    mask = read(two() + "a/no_index = 1\n" + region(**limits)).static_mask()
    assert not mask[:5].any() and mask[5:].all()


def test_a_region_in_x_and_y_holds_for_all_panels_and_says_so(read):
    limits = {"min_x": -1, "max_x": 100, "min_y": -1, "max_y": 1, "panel": "a"}
    geometry = read(two() + region(**limits))
    (note,) = geometry.notes
    assert re.search("bad region bad_r of .* holds for all panels, not for a only", note)
    mask = geometry.static_mask()
    assert not mask[0].any() and not mask[5].any() and mask.sum() == 80


def test_a_moved_geometry_has_its_rings_and_regions_elsewhere(read):
    limits = {"min_x": 1, "max_x": 5.5, "min_y": -1, "max_y": 100}
    shifted = "detector_shift_x = /x mm\ndetector_shift_y = 0 mm\n"
    header = read(shifted + two() + region(**limits))
    number = read(shifted.replace("/x", "0.5") + two() + region(**limits))
    moved = header.moved(0.5e-3, 0.0)
    np.testing.assert_array_equal(moved.radius_map(), number.radius_map())
    assert number.radius_map()[0, 0] == 5
    assert header.static_mask().all() and number.lab_mask() is None
    np.testing.assert_array_equal(moved.lab_mask(), number.static_mask())
    assert (~number.static_mask()).sum() == 5
    # A frame whose shift moves the panels out of the region is no mistake of the file.
    assert header.moved(1.0, 0.0).lab_mask().all()
    assert header.moved(0.0, 0.0) is header


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("b/corner_x = 20", "b/corner_x = 0", "panels a and b of .* are at the same place"),
        ("b/corner_x = 20", "b/corner_x = 3", "panels a and b of .* are at the same place"),
        ("b/fs = x", "b/fs = +2x", "b/fs of .* is 2 pixels long"),
        ("b/ss = y", "b/ss = 0.5y", "b/ss of .* is 0.5 pixels long"),
        ("b/fs = x", "b/fs = x\nb/res = 13.3", "res = 13.3 of panel b of .* pixels of 75.19 mm"),
    ],
)
def test_panels_where_no_detector_has_them_are_noted(read, old, new, says):
    (note,) = read(two().replace(old, new)).notes
    assert re.search(says, note)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("b/corner_x = 20", "b/corner_x = 0\nb/coffset = 0.01"),
        ("b/corner_x = 20", "b/corner_x = 8"),
        ("b/fs = x", "b/fs = 0.998x +0.06y"),
        ("b/fs = x", "b/fs = 0.94x +0.34z"),
    ],
)
def test_panels_behind_beside_or_tilted_to_others_are_not(read, old, new):
    assert read(two().replace(old, new)).notes == ()


def test_real_geometries_have_no_strange_places(shared_data):
    for path in (shared_data / "geom").glob("*.geom"):
        if path.name != "simex_s2e.geom":  # lacks what every panel needs
            notes = Geometry.read(path).notes
            assert not any(re.search("pixels long|same place|means pixels", each) for each in notes)
