"""The plain path beside the vector path: equal to the last bit."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from wrappers import array_views
from wrappers.peakfinding import plain_vectors, vector_instructions
from wrappers.peakfinding.plain_vectors import BITS, LANES

PATHS = (vector_instructions, plain_vectors)
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
KEPT = ["i1", "u1", "i2", "u2", "f4"]
"""The types in which values are kept in rings and tails; data are of any."""
EXAMPLES = settings(deadline=None, max_examples=60)


@functools.cache
def compiled(path):
    """Return kernels made of one path's functions."""
    no_sums, add_values, total_sums = path.no_sums, path.add_values, path.total_sums
    no_pixels, no_wide_pixels, add_pixels = path.no_pixels, path.no_wide_pixels, path.add_pixels
    nothing_like, lanes_of = path.nothing_like, path.lanes_of
    bits_outside, bits_false, bits_nonzero = path.bits_outside, path.bits_false, path.bits_nonzero
    bits_at, trailing_zeros = path.bits_at, path.trailing_zeros

    @njit
    def values_between(values, begin, stop, lower, upper):
        sums = no_sums()
        for k in range(begin, stop, LANES):
            sums = add_values(sums, values, k, min(stop - k, LANES), lower, upper)
        first = total_sums(sums)
        # Totals are taken in between, too.
        sums = add_values(sums, values, begin, min(stop - begin, 5), lower, upper)
        return first, total_sums(sums)

    @njit
    def chosen_of(sums, data, begin, words):
        n = lanes_of(sums)
        for k in range(len(words)):
            for part in range(0, 32, n):
                first = begin + 32 * k + part
                sums = add_pixels(sums, data, first, words[k] >> np.uint64(part))
        nothing = total_sums(nothing_like(sums))
        return total_sums(sums), nothing

    @njit
    def chosen(data, begin, words):
        return chosen_of(no_pixels(data), data, begin, words)

    @njit
    def chosen_wide(data, begin, words):
        return chosen_of(no_wide_pixels(data), data, begin, words)

    @njit
    def outside(values, first, lower, upper):
        return bits_outside(values, first, lower, upper)

    @njit
    def false(flags, first):
        return bits_false(flags, first)

    @njit
    def nonzero(words, first):
        return bits_nonzero(words, first)

    @njit
    def at(words, p):
        return bits_at(words, p)

    @njit
    def zeros(word):
        return trailing_zeros(word)

    return values_between, chosen, chosen_wide, outside, false, nonzero, at, zeros


def both(which, *arguments):
    """Return what each path makes of copies of the arguments."""
    return [compiled(path)[which](*arguments) for path in PATHS]


def bits_of(results):
    """Return results as bytes, so that -0.0 is not 0.0."""
    return [np.array(each, float).tobytes() for each in results]


def numbers(dtype, size):
    """Arrays of any values of a type: its limits, and for floats NaN and infinities, too."""
    kind = np.dtype(dtype)
    if kind.kind != "f":
        limits = np.iinfo(kind)
        ends = [limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max]
        element = st.sampled_from(ends) | st.integers(limits.min, limits.max)
    else:
        special = [0.0, -0.0, np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40, 1e9, 1e39]
        element = st.sampled_from(special) | st.floats(-1e6, 1e6)
    drawn = st.lists(element | st.integers(0, 100), min_size=1, max_size=40)

    def spread(values, random):
        whole = np.array(random.choices(values, k=size), object if kind.kind != "f" else float)
        with np.errstate(over="ignore"):
            return whole.astype(kind)

    return st.builds(spread, drawn, st.randoms())


limits_of = st.sampled_from([-np.inf, -1e9, -40, 0, 1, 7.5, 90, 1e9, np.inf]) | st.floats(
    -1000, 1000, width=32
)


@pytest.mark.parametrize("dtype", KEPT)
@EXAMPLES
@given(drawn=st.data())
def test_sums_over_values_between_limits(dtype, drawn):
    values = drawn.draw(numbers(dtype, 100 + LANES))
    begin = drawn.draw(st.integers(0, 100))
    stop = drawn.draw(st.integers(begin, 100))
    lower, upper = (np.float32(drawn.draw(limits_of)) for _ in range(2))
    vector, plain = both(0, values, begin, stop, lower, upper)
    assert bits_of(vector) == bits_of(plain)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@EXAMPLES
@given(drawn=st.data())
def test_sums_over_chosen_pixels(dtype, wide, drawn):
    data = drawn.draw(numbers(dtype, 32 * 5))
    begin = drawn.draw(st.integers(0, 31))
    word = st.integers(0, (1 << 64) - 1) | st.just((1 << 64) - 1)
    words = np.array(drawn.draw(st.lists(word, max_size=4)), np.uint64)
    vector, plain = both(2 if wide else 1, data, begin, words)
    assert bits_of(vector) == bits_of(plain)


def test_many_floats_are_summed_in_the_same_order():
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6, 1e30):
        values = rng.normal(scale, scale, 5000 + LANES).astype("f4")
        for begin, stop in ((0, 5000), (3, 4999), (7, 24)):
            vector, plain = both(0, values, begin, stop, np.float32(-np.inf), np.float32(np.inf))
            assert bits_of(vector) == bits_of(plain)


@EXAMPLES
@given(drawn=st.data())
def test_bits_of_comparisons(drawn):
    values = drawn.draw(numbers("f4", 2 * BITS))
    first = drawn.draw(st.integers(0, BITS))
    lower, upper = (np.float32(drawn.draw(limits_of)) for _ in range(2))
    vector, plain = both(3, values, first, lower, upper)
    assert vector == plain
    vector, plain = both(4, values > 1, first)
    assert vector == plain
    vector, plain = both(5, drawn.draw(numbers("u8", 2 * BITS)), first)
    assert vector == plain


@EXAMPLES
@given(drawn=st.data())
def test_bits_from_any_place_to_the_very_end(drawn):
    words = drawn.draw(numbers("u8", 4))
    for p in range(4 * 64 - 56):
        vector, plain = both(6, words, p)
        assert vector == plain, p


@EXAMPLES
@given(word=st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda k: 1 << k))
def test_trailing_zeros(word):
    vector, plain = both(7, np.uint64(word))
    assert vector == plain


def test_both_paths_offer_the_same():
    offered = [{*path.__all__} for path in PATHS]
    of_views = {"columns", "itemsize", "larger", "matrix", "smaller", "views", "width"}
    assert of_views <= {*array_views.__all__}, "the vector path's are those of all kernels"
    assert offered[1] - offered[0] == {"BITS", "LANES", "packed"} | of_views
    assert offered[0] < offered[1]
