"""Views of arrays in kernels: the same elements as the arrays', in both paths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from wrappers import array_views
from wrappers.linked_kernels import Linked
from wrappers.packed_arrays import Packed
from wrappers.peakfinding import plain_vectors

PATHS = pytest.mark.parametrize("path", [array_views, plain_vectors])


@PATHS
def test_elements_rows_pieces_and_columns_are_those_of_the_arrays(path):
    views, columns, width, itemsize = path.views, path.columns, path.width, path.itemsize

    @njit
    def use(numbers, table, block, flags, out):
        numbers, table, (block, flags), out = views((numbers, table, (block, flags), out))
        out[0] = numbers[1:4][2] + len(numbers[1:4])
        out[1] = table[1][2] + table[np.int32(0), np.uint64(1)]
        some = columns(table, 1, 3)
        out[2] = 10 * width(some) + len(some)
        some[1, 1] = 7.5  # the element in row 1, column 2
        out[3] = block[1, 0, 1] + block[0][1][0] + len(block[1])
        out[4] = itemsize(numbers)
        for k in range(len(flags)):
            if flags[k]:
                out[5] += k
        flags[0] = True
        numbers[0] = 300.0  # cast to what is in the array

    numbers, flags = np.arange(10, 16, dtype=np.int16), np.array([False, True, True])
    table, out = np.arange(6.0).reshape(2, 3), np.zeros(6)
    block = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    use(numbers, table, block, flags, out)
    assert out.tolist() == [13 + 3, 5 + 1, 22, 5 + 2 + 2, 2, 3]
    assert (table[1, 2], numbers[0], flags[0]) == (7.5, 300, True)


class Pair(NamedTuple):
    flags: np.ndarray
    size: int


@pytest.mark.parametrize(
    ("path", "packed"), [(array_views, Packed), (plain_vectors, plain_vectors.packed)]
)
def test_packed_arrays_are_those_that_were_packed(path, packed):
    views = path.views

    @njit
    def use(arrays, out):
        (block, (table, numbers), pair), out = views((arrays, out))
        out[0] = block[1, 0, 1] + block[1][0][1] + len(block)
        out[1] = table[2, 1] + len(table[0])
        out[2] = numbers[3] + pair.size
        for k in range(len(pair.flags)):
            out[3] += pair.flags[k]
        table[2, 1] = 40

    block = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    table, numbers = np.arange(6, dtype=np.int16).reshape(3, 2), np.arange(5, dtype=np.uint64)
    numbers.flags.writeable = False  # a view of it is of no other type
    arrays = packed((block, (table, numbers), Pair(np.array([True, False, True]), -7)))
    out = np.zeros(4)
    use(arrays, out)
    assert out.tolist() == [7 + 7 + 2, 5 + 2, 3 - 7, 2]
    assert table[2, 1] == 40
    del block, table, numbers  # they stay where they are
    use(arrays, out)
    assert out.tolist() == [7 + 7 + 2, 40 + 2, 3 - 7, 4]


def test_an_array_with_gaps_is_not_packed():
    with pytest.raises(ValueError, match="in one piece"):
        Packed((np.zeros((4, 4))[:, :2],))


@PATHS
def test_a_matrix_is_its_functions_own(path):
    matrix = path.matrix

    @njit(**({"pipeline_class": Linked} if path is array_views else {}))
    def inner(value):
        own = matrix(2, 3)
        for i in range(2):
            for j in range(3):
                own[i, j] = value * (i + 1)
        return own[0, 0] + own[1, 2]

    @njit
    def outer(n):
        own, total = matrix(2, 3), 0.0
        for i in range(2):
            own[i, 0] = -1.0
        for k in range(n):
            total += inner(float(k))
        return total + own[0, 0] + own[1, 0]

    assert outer(100_000) == 3 * sum(range(100_000)) - 2


def test_an_array_with_gaps_has_no_view():
    views = array_views.views

    @njit
    def size(array):
        return len(views(array))

    assert size(np.zeros(4)) == 4
    with pytest.raises(TypingError, match="in one piece"):
        size(np.zeros(8)[::2])


@PATHS
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2, 3),
        (3, -2),
        (np.int32(-7), 7),
        (np.uint64(1 << 63), np.uint64(1)),
        (1.5, 1),
        (np.float32(0.1), 0.1),
        (np.nan, 1.0),
        (1.0, np.nan),
        (-np.inf, np.float32(np.inf)),
    ],
)
def test_smaller_and_larger_are_what_numba_makes_of_min_and_max(path, one, other):
    smaller, larger = path.smaller, path.larger

    @njit
    def ours(one, other):
        return smaller(one, other), larger(one, other), smaller(one, 2), larger(other, 2)

    @njit
    def theirs(one, other):
        return min(one, other), max(one, other), min(one, 2), max(other, 2)

    found, expected = ours(one, other), theirs(one, other)
    np.testing.assert_array_equal(found, expected)
    assert [*map(type, found)] == [*map(type, expected)]
