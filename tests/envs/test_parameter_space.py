import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.parameter_space import Parameter, ParameterSpace, make_space
from wrappers.errors import InputError
from wrappers.settings import Settings


def space(*names: str) -> ParameterSpace:
    return make_space(
        names or ("min_snr", "threshold", "min_pix_count", "clen"),
        background=(12.0, 60.0),
        camera_length=0.08,
        pixel_size=75e-6,
        largest_radius=725.0,
    )


ALL = (
    "min_snr",
    "threshold",
    "min_pix_count",
    "max_pix_count",
    "local_bg_radius",
    "min_res",
    "max_res",
    "min_peaks",
    "clen",
    "shift_x",
    "shift_y",
)


@given(st.lists(st.floats(-0.5, 1.5), min_size=len(ALL), max_size=len(ALL)))
def test_any_point_decodes_to_settings_within_the_ranges(point):
    box = space(*ALL)
    settings = box.decode(point)
    for parameter in box.parameters:
        assert parameter.low <= getattr(settings, parameter.name) <= parameter.high


@given(st.lists(st.floats(0, 1), min_size=len(ALL), max_size=len(ALL)))
def test_decoding_what_was_encoded_changes_nothing(point):
    box = space(*ALL)
    settings = box.decode(point)
    assert box.decode(box.encode(settings)) == settings


def test_the_ends_of_the_cube_are_the_ends_of_the_ranges():
    box = space()
    assert box.decode(np.zeros(4)).min_snr == 3
    assert box.decode(np.ones(4)).min_snr == 9
    assert box.decode(np.zeros(4)).clen == pytest.approx(0.076)
    assert box.decode(np.ones(4)).min_pix_count == 4


def test_a_log_parameter_has_its_geometric_mean_in_the_middle():
    assert Parameter("threshold", 1, 100, "log").from_unit(0.5) == pytest.approx(10)


def test_fixed_parameters_leave_the_space_but_keep_their_value():
    smaller = space().fixed(clen=0.0801)
    assert smaller.names == ("min_snr", "threshold", "min_pix_count")
    assert smaller.decode([0.5, 0.5, 0.5]).clen == 0.0801


def test_settings_that_are_not_tuned_stay_those_of_the_base():
    settings = space("min_snr").decode([0.2])
    assert settings == space("min_snr").base.replace(min_snr=settings.min_snr)


def test_the_background_sets_the_threshold_range_whatever_the_units():
    photons, adu = (
        make_space(
            ["threshold"],
            background=(1.2 * gain, 6 * gain),
            camera_length=0.1,
            pixel_size=1e-4,
            largest_radius=500,
        )
        for gain in (1, 40)
    )
    assert adu.parameters[0].low == pytest.approx(40 * photons.parameters[0].low, rel=0.01)
    assert adu.base.threshold == pytest.approx(40 * photons.base.threshold, rel=0.01)


def robust_space(*names: str, photon: float = 40.0) -> ParameterSpace:
    return make_space(
        names or ("min_snr", "threshold", "min_pix_count", "local_bg_radius", "clen"),
        background=(12.0, 60.0),
        camera_length=0.08,
        pixel_size=75e-6,
        largest_radius=725.0,
        peak_finder="robust",
        photon=photon,
    )


def test_the_robust_finder_has_a_box_of_its_own():
    box = robust_space()
    assert box.base.peak_finder == "robust" and space().base.peak_finder == "peakfinder8"
    assert (box.base.min_snr, box.base.threshold) == (2.5, 40)
    low, high = box.decode(np.zeros(5)), box.decode(np.ones(5))
    assert low.peak_finder == high.peak_finder == "robust"
    assert (low.min_snr, high.min_snr) == (2, 3.5)
    assert (low.threshold, high.threshold) == (0, 120)
    assert (low.min_pix_count, high.min_pix_count) == (1, 4)
    assert (low.local_bg_radius, high.local_bg_radius) == (2, 5)
    assert box.decode(box.encode(box.base)) == box.base


def test_the_finder_itself_is_not_tuned():
    with pytest.raises(InputError, match="'peak_finder' cannot be tuned"):
        space("peak_finder")


def test_a_setting_that_cannot_be_tuned_is_refused_with_the_choice():
    with pytest.raises(InputError, match=r"'min_sn' cannot be tuned; choose from min_snr"):
        space("min_sn")
    with pytest.raises(InputError, match="to be tuned twice"):
        space("min_snr", "min_snr")


def test_settings_refuse_what_crystfel_would_take_silently():
    for name, value in [
        ("min_snr", -1),
        ("clen", -0.1),
        ("min_snr", float("nan")),
        ("min_pix_count", 0),
        ("min_pix_count", 1.5),
        ("max_pix_count", 1),
    ]:
        with pytest.raises(InputError, match=name):
            Settings(**{name: value})
