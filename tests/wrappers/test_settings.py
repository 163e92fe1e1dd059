"""Settings: what they refuse, and what depends on them."""

from __future__ import annotations

import dataclasses

import pytest

from wrappers.errors import InputError
from wrappers.settings import ABOUT, MASK_FIELDS, PEAK_FIELDS, Settings


@pytest.mark.parametrize("name", MASK_FIELDS)
def test_mask_thresholds(name):
    assert getattr(Settings(), name) == 0
    assert getattr(Settings().replace(**{name: 7}), name) == 7
    with pytest.raises(InputError, match=f"{name} must not be negative"):
        Settings().replace(**{name: -1})
    with pytest.raises(InputError, match=f"{name} is nan, but must be finite"):
        Settings().replace(**{name: float("nan")})


def test_an_edge_is_a_whole_number():
    with pytest.raises(InputError, match=r"mask_edge is 1\.5, but must be a whole number"):
        Settings(mask_edge=1.5)
    with pytest.raises(InputError, match="more than any panel has"):
        Settings(mask_edge=10**10)


@pytest.mark.parametrize("name", ["Robust", "", 8, None, ["robust"]])
def test_a_peak_finder_that_nobody_registered_is_refused(name):
    assert Settings().peak_finder == "peakfinder8"
    with pytest.raises(InputError, match="choose one of peakfinder8, robust"):
        Settings(peak_finder=name)


def test_keys_tell_what_depends_on_what():
    base = Settings()
    for name in set(PEAK_FIELDS) - {"min_probability"}:
        other = "robust" if name == "peak_finder" else getattr(base, name) + 1
        changed = base.replace(**{"max_res": 9, name: other})
        assert changed.mask_key == base.mask_key
        assert changed.peak_key != base.peak_key
    for name in MASK_FIELDS:
        changed = base.replace(**{name: 5})
        assert changed.mask_key != base.mask_key
        assert changed.peak_key == base.peak_key


def test_settings_of_earlier_versions_are_read():
    values = {"peaks": "robust", "min_snr": 2.5}
    assert Settings.from_dict(values) == Settings(peak_finder="robust", min_snr=2.5)
    assert Settings.from_dict(Settings().as_dict()) == Settings()
    with pytest.raises(InputError, match="'min_srn' is no setting; choose from peak_finder, min"):
        Settings.from_dict({"min_srn": 5})


def test_every_setting_is_described_once():
    """Label and group are there; whatever has an option of CrystFEL's is a peak or hit setting."""
    assert list(ABOUT) == [field.name for field in dataclasses.fields(Settings)]
    for name, about in ABOUT.items():
        assert about.label and about.help.endswith(".")
        of_crystfel = about.group in ("peaks", "hit") and name != "min_probability"
        assert bool(about.option) == of_crystfel, name
    assert {about.unit for about in ABOUT.values()} == {"", "ADU", "px", "m", "robust σ"}
