"""MessagePack of others, and arrays that are bytes with a type and a shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.streams.messages import MOST_BYTES, MOST_PIXELS

__all__ = ["as_array", "plain_numbers", "read_msgpack"]

MOST_DIMENSIONS = 5
MOST_ENTRIES = 100_000
"""Of all lists and maps of a message, as each takes much more memory than its bytes."""
MOST_TEXT = 1 << 20
"""Bytes of a text."""
PICKLE = b"\x80"
"""What a pickle of protocol 2 and later begins with; in MessagePack a map without entries."""


def read_msgpack(message: bytes) -> Any:
    """Return what a message of MessagePack holds.

    Raises
    ------
    InputError
        If it is none; a pickle is named, and never read.
    """
    import msgpack

    if message[:1] == PICKLE and message[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InputError(
            "a message is a pickle, such as OM broadcasts, which could run anything and is not "
            "read: take OM's responder"
        )
    left = MOST_ENTRIES

    def counted(found: Any) -> Any:
        nonlocal left
        left -= 1 + len(found)
        if left < 0:
            raise ValueError("it has too many entries")
        return found

    try:
        return msgpack.unpackb(
            message,
            raw=False,
            strict_map_key=False,
            list_hook=counted,
            object_hook=counted,
            max_array_len=MOST_ENTRIES,
            max_map_len=MOST_ENTRIES,
            max_str_len=MOST_TEXT,
            max_bin_len=MOST_BYTES,
            max_ext_len=0,
        )
    except Exception as error:  # of damaged bytes it may be any
        raise InputError(f"a message is no MessagePack: {str(error)[:80]}") from error


def as_array(dtype: Any, shape: Any, data: Any, what: str) -> Callable[[], NDArray[Any]]:
    """Return what makes an array of bytes; the bytes are those of the message.

    Raises
    ------
    InputError
        If the bytes are not what type and shape say.
    """
    kind = _dtype(dtype, what)
    sizes = list(shape) if isinstance(shape, list | tuple) else []
    sound = 1 <= len(sizes) <= MOST_DIMENSIONS and all(
        type(n) is int and 0 < n <= MOST_PIXELS for n in sizes
    )
    if not sound or math.prod(sizes) > MOST_BYTES:
        raise InputError(f"{what} has no shape that an array could have")
    n_bytes = math.prod(sizes) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != n_bytes:
        raise InputError(f"{what} does not have the {n_bytes} bytes that its shape says")

    def array() -> NDArray[Any]:
        found = np.frombuffer(data, kind).reshape(sizes)
        return found if kind.isnative else found.astype(kind.newbyteorder("="))

    return array


def _dtype(name: Any, what: str) -> np.dtype[Any]:
    try:
        kind = np.dtype(name) if isinstance(name, str) and len(name) < 20 else None
    except (TypeError, ValueError, SyntaxError):
        kind = None
    if kind is None or kind.kind not in "uif" or kind.itemsize > 8:
        raise InputError(f"{what} is of no type that an image has: {str(name)[:40]!r}")
    return kind


def plain_numbers(values: dict[Any, Any]) -> dict[str, float]:
    """Return the entries of a map that are numbers."""
    return {
        str(key): float(value)
        for key, value in values.items()
        if type(value) in (int, float) and abs(value) < 1e30
    }
