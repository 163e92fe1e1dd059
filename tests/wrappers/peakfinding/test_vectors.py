"""The vector instructions against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numba import njit

from wrappers.peakfinding.vectors import (
    BITS,
    LANES,
    add_pixels,
    add_values,
    bits_at,
    bits_false,
    bits_nonzero,
    bits_outside,
    lanes_of,
    no_pixels,
    no_sums,
    no_wide_pixels,
    prefetch,
    total_sums,
    trailing_zeros,
)

DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"]


@njit
def sum_values(values, first, n, lower, upper):
    return total_sums(add_values(no_sums(), values, first, n, lower, upper))


@njit
def sum_pixels(data, first, chosen):
    sums = add_pixels(no_pixels(data), data, first, chosen)
    return total_sums(add_pixels(sums, data, first + lanes_of(sums), chosen))


@njit
def sum_wide_pixels(data, first, chosen):
    sums = add_pixels(no_wide_pixels(data), data, first, chosen)
    return total_sums(add_pixels(sums, data, first + lanes_of(sums), chosen))


@njit
def lanes(data):
    return lanes_of(no_pixels(data)), lanes_of(no_wide_pixels(data))


@njit
def outside(values, first, lower, upper):
    return bits_outside(values, first, lower, upper)


@njit
def false(flags, first):
    return bits_false(flags, first)


@njit
def at(bits, p):
    return bits_at(bits, p)


@njit
def nonzero(words, first):
    return bits_nonzero(words, first)


@njit
def zeros(word):
    return trailing_zeros(word)


@njit
def double_after_asking(values):
    for k in range(len(values)):
        prefetch(values, k)
        values[k] *= 2


def sums_of(chosen):
    wide = chosen.astype(np.float32).astype(float)
    return len(wide), wide.sum(), (wide**2).sum(), max(wide.max(initial=0), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_values_between_limits(dtype):
    values = np.random.default_rng(0).integers(0, 100, 60).astype(dtype)
    if "u" not in dtype:
        values -= 40
    for first, n, lower, upper in (
        (0, 16, -1e9, 1e9),
        (3, 16, -7, 20),
        (9, 5, -1, 9),
        (1, 0, -9, 9),
    ):
        piece = values[first : first + n]
        expected = sums_of(piece[(piece > lower) & (piece < upper)])
        assert sum_values(values, first, n, np.float32(lower), np.float32(upper)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [0, 1])
def test_sums_over_chosen_pixels(dtype, wide):
    data = np.random.default_rng(1).integers(0, 100, 70).astype(dtype)
    n_lanes = lanes(data)[wide]
    assert n_lanes == (32 if wide and dtype in ("i1", "u1", "i2") else LANES)
    for chosen in (0, 1, 0b1010_0000_1111_0101, 0xFFFF, 0xF0F0_1234, 0xFFFF_FFFF):
        bits = np.array([chosen >> k & 1 for k in range(n_lanes)], bool)
        expected = sums_of(data[2 : 2 + 2 * n_lanes][np.tile(bits, 2)])
        add = sum_wide_pixels if wide else sum_pixels
        assert add(data, 2, np.uint64(chosen | 1 << 40)) == expected


@njit
def sum_all(sums, data):
    for first in range(0, len(data), lanes_of(sums)):
        sums = add_pixels(sums, data, first, np.uint64(0xFFFF_FFFF))
    return total_sums(sums)


@njit
def sum_narrow(data):
    return sum_all(no_pixels(data), data)


@njit
def sum_wide(data):
    return sum_all(no_wide_pixels(data), data)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2"])
@pytest.mark.parametrize("add", [sum_narrow, sum_wide])
def test_sums_of_the_largest_and_smallest_values_are_exact(dtype, add):
    limits = np.iinfo(dtype)
    for value, n_times in itertools.product((limits.min, limits.max), (1, 64, 16_000)):
        n = n_times * 2 * LANES
        expected = (n, n * float(value), n * float(value) ** 2, max(value, 0))
        assert add(np.full(n, value, dtype)) == expected


@pytest.mark.parametrize("add", [sum_narrow, sum_wide])
def test_sums_of_all_sorts_of_short_integers_are_exact(add):
    data = np.random.default_rng(6).integers(-(1 << 15), 1 << 15, 1 << 14).astype(np.int16)
    assert add(data) == sums_of(data)


def test_what_is_not_finite_is_not_added():
    data = np.array([np.nan, np.inf, -np.inf, 3, -5, 1e10, 1e39, *np.zeros(30)])
    with np.errstate(over="ignore"):
        single = data.astype(np.float32)
    for array in (data, single):
        n, total, _, top = sum_pixels(array, 0, np.uint64(0xFFFF))
        assert (n, total, top) == (28, np.float32(1e10) - 2, np.float32(1e10))


def test_the_largest_value_is_at_least_zero():
    assert sum_values(np.full(16, -3, np.float32), 0, 16, np.float32(-9), np.float32(9))[3] == 0


def test_bits_tell_values_outside_of_limits():
    rng = np.random.default_rng(2)
    values = rng.integers(-5, 6, 70).astype(np.float32)
    values[rng.random(70) < 0.2] = np.nan
    word = outside(values, 4, np.float32(-3), np.float32(2))
    expected = (values <= -3) | (values >= 2)
    assert [bool(word >> k & 1) for k in range(BITS)] == expected[4 : 4 + BITS].tolist()


def test_bits_tell_what_is_false():
    flags = np.random.default_rng(3).random(70) < 0.5
    word = false(flags, 5)
    assert [not word >> k & 1 for k in range(BITS)] == flags[5 : 5 + BITS].tolist()


def test_bits_of_words_from_any_place():
    flags = np.random.default_rng(4).random(256) < 0.5
    words = np.packbits(flags, bitorder="little").view(np.uint64)
    for p in (0, 1, 7, 8, 63, 64, 100, 190):
        assert [bool(at(words, p) >> k & 1) for k in range(57)] == flags[p : p + 57].tolist()


def test_bits_tell_what_is_not_zero():
    words = np.random.default_rng(5).integers(0, 2, 70, np.uint64) << np.uint64(63)
    word = nonzero(words, 3)
    assert [bool(word >> k & 1) for k in range(BITS)] == (words[3 : 3 + BITS] > 0).tolist()


def test_trailing_zeros():
    assert [zeros(np.uint64(word)) for word in (0, 1, 0b1000, 1 << 63)] == [64, 0, 3, 63]


def test_asking_for_memory_changes_nothing():
    values = np.arange(5.0)
    double_after_asking(values)
    assert values.tolist() == [0, 2, 4, 6, 8]
