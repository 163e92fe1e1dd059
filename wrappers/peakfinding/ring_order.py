"""From the raster to the rings: a frame's values in the order of the radial layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["sort_into_rings"]

AHEAD = 2048
"""Memory is asked for so many pixels before it is needed."""


def _prefetch_code(typing_context, address):
    del typing_context

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        where = builder.inttoptr(arguments[0], byte)
        builder.call(function, [where, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


_prefetch: Any = intrinsic(_prefetch_code)
"""Asks for the memory at an address, which is to be written soon."""


@njit(cache=True, nogil=True)
def sort_into_rings(data, mask, place, values):
    """Write each usable pixel's value, as float32, to its place in the ring order.

    Unusable pixels become NaN there, which no comparison lets through.

    Parameters
    ----------
    data : array (n_pixels,)
        The flat slab, of any integer or float type.
    mask : bool array (n_pixels,)
        True where usable.
    place : int32 array (n_pixels,)
        As in `radial_layout.RadialLayout`.
    values : float32 array (n + 1,)
        Written; the last one belongs to all pixels without a ring.
    """
    # Each ring's memory is waited for anew unless it is asked for in time.
    ahead = min(AHEAD, len(data))
    first = values.ctypes.data
    for k in range(len(data) - ahead):
        _prefetch(np.uintp(first + 4 * np.int64(place[k + ahead])))
        value = np.float32(data[k])
        values[place[k]] = value if mask[k] else np.float32(np.nan)
    for k in range(len(data) - ahead, len(data)):
        value = np.float32(data[k])
        values[place[k]] = value if mask[k] else np.float32(np.nan)
