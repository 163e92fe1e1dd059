"""What JSON has no number for."""

from __future__ import annotations

import math

from tuner.export.formats import _without_nan


def test_null_stands_for_what_json_has_no_number_for():
    values = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": ("x", None, True)}
    assert _without_nan(values) == {
        "a": None,
        "b": [1.5, None, {"c": None}],
        "d": ["x", None, True],
    }
