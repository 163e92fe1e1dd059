"""The kernels' sort against NumPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrappers.compiling import Compiler
from wrappers.sorting import DEPTH, make_sort

sort = Compiler(Path(__file__).parent).kernel(make_sort())


@given(
    kind=st.sampled_from(["random", "few", "sorted", "reversed", "equal", "organ"]),
    n=st.integers(0, 3000),
    dtype=st.sampled_from([np.int64, np.float64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_values_are_sorted_and_those_behind_stay(kind, n, dtype, seed):
    rng = np.random.default_rng(seed)
    values = {
        "random": rng.normal(0, 1e6, n),
        "few": rng.integers(0, 4, n),
        "sorted": np.arange(n),
        "reversed": np.arange(n)[::-1],
        "equal": np.zeros(n),
        "organ": np.abs(np.arange(n) - n // 2),
    }[kind].astype(dtype)
    if dtype is np.float64 and n:
        values[rng.integers(0, n)] = np.inf
    room = np.concatenate([values, [-7, 5]]).astype(dtype)
    sort(room, n, np.empty((DEPTH, 2), np.int64))
    np.testing.assert_array_equal(room[:n], np.sort(values))
    assert room[n:].tolist() == [-7, 5]


def test_a_hundred_thousand_values_need_no_more_room():
    values = np.random.default_rng(0).integers(0, 1000, 100_000)
    for each in (values, np.sort(values), np.sort(values)[::-1].copy()):
        expected = np.sort(each)
        sort(each, len(each), np.empty((DEPTH, 2), np.int64))
        np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17])
def test_short_lists(n):
    values = np.arange(n)[::-1].copy()
    sort(values, n, np.empty((DEPTH, 2), np.int64))
    assert values.tolist() == list(range(n))
