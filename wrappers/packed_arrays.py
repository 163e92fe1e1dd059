"""On Numba's inside: many arrays that Python hands to a kernel as one argument.

For each array of its arguments Numba writes code that takes it apart, looks at it, and lets go of
it again. With forty of them that is four times the code of the kernel itself, to be compiled, and
to be run at each call. What is packed has been taken apart before.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numba import types as numba_types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from wrappers.array_views import PackedType, View

__all__ = ["Packed"]

_types: Any = numba_types


class Packed:
    """Arrays of a tuple, and of tuples in it, as a kernel takes them at once.

    `wrappers.array_views.views` makes of it what it makes of the tuple.

    Parameters
    ----------
    arrays : tuple
        Arrays in one piece, and whole numbers.
    """

    def __init__(self, arrays: Any) -> None:
        numbers: list[int] = []
        self.kind = PackedType(_listed(arrays, numbers))
        self._arrays = arrays  # so that they stay where they are
        self._table = np.array(numbers, np.int64)
        self.address = self._table.ctypes.data


def _listed(value: Any, numbers: list[int]) -> Any:
    """Append what the views are made of, and return their type."""
    if isinstance(value, tuple):
        kinds = [_listed(each, numbers) for each in value]
        if hasattr(value, "_fields"):
            return _types.NamedTuple(kinds, type(value))
        return _types.BaseTuple.from_types(kinds)
    if isinstance(value, np.ndarray):
        return _taken_apart(value, numbers)
    numbers.append(value)
    return _types.int64


def _taken_apart(array: NDArray[Any], numbers: list[int]) -> Any:
    if not array.flags.c_contiguous:
        raise ValueError("only an array in one piece has a view")
    after = itertools.accumulate(array.shape[:0:-1], int.__mul__)
    numbers += [array.ctypes.data, *array.shape, *reversed([*after])]
    return View(from_dtype(array.dtype), array.ndim)


@typeof_impl.register(Packed)
def _type_of(value: Packed, context: Any) -> PackedType:
    return value.kind


register_model(PackedType)(models.OpaqueModel)


@unbox(PackedType)
def _unbox(kind: Any, value: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(value, "address")
    table = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(table, is_error=c.pyapi.c_api_error())
