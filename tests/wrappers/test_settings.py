"""Settings: what they refuse, and what depends on them."""

from __future__ import annotations

import pytest

from wrappers.errors import InputError
from wrappers.settings import MASK_FIELDS, PEAK_FIELDS, Settings


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
def test_there_are_two_finders(name):
    assert Settings().peaks == "peakfinder8"
    with pytest.raises(InputError, match="must be one of peakfinder8, robust"):
        Settings(peaks=name)


def test_keys_tell_what_depends_on_what():
    base = Settings()
    for name in PEAK_FIELDS:
        other = "robust" if name == "peaks" else getattr(base, name) + 1
        changed = base.replace(**{"max_res": 9, name: other})
        assert changed.mask_key == base.mask_key
        assert changed.peak_key != base.peak_key
    for name in MASK_FIELDS:
        changed = base.replace(**{name: 5})
        assert changed.mask_key != base.mask_key
        assert changed.peak_key == base.peak_key
