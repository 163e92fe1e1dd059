"""Typed arrays in CBOR: RFC 8746, with the compression of DECTRIS (tag 56500).

A compressed array is what HDF5's filters of the same names make of a chunk: 8 bytes with its size
and 4 with the size of a block, both big-endian, then the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.streams.messages import MOST_PIXELS

__all__ = ["COMPRESSIONS", "PackedArray", "compress", "read_cbor", "typed_tag"]

COMPRESSIONS = ("bslz4", "bszstd", "lz4")
COMPRESSED, MULTIDIMENSIONAL = 56500, 40
DTYPES = {
    64: "u1",
    **dict(zip(range(65, 68), (">u2", ">u4", ">u8"), strict=True)),
    **dict(zip(range(69, 72), ("<u2", "<u4", "<u8"), strict=True)),
    72: "i1",
    **dict(zip(range(73, 76), (">i2", ">i4", ">i8"), strict=True)),
    **dict(zip(range(77, 80), ("<i2", "<i4", "<i8"), strict=True)),
    **dict(zip(range(80, 83), (">f2", ">f4", ">f8"), strict=True)),
    **dict(zip(range(84, 87), ("<f2", "<f4", "<f8"), strict=True)),
}
"""NumPy's types by their tags in RFC 8746."""
_HEADER = 12
MOST_BESIDE = 1 << 20
"""Bytes of a message beside its byte strings: each may take seventy in memory."""
_BYTES, _TEXT = 2, 3


@dataclass(frozen=True)
class Packed:
    """Bytes, and how they are compressed; "" is not at all."""

    algorithm: str
    item_size: int
    data: bytes


@dataclass(frozen=True)
class PackedArray:
    """An array that is unpacked when it is wanted."""

    dtype: np.dtype[Any]
    packed: Packed
    shape: tuple[int, ...] | None = None

    def unpack(self) -> NDArray[Any]:
        """Return the array.

        Raises
        ------
        InputError
            If its bytes are not what its shape and type say.
        """
        shape = self.shape
        if shape is None:
            shape = (len(self.packed.data) // self.dtype.itemsize,)
        n_bytes = math.prod(shape) * self.dtype.itemsize
        data = _decompressed(self.packed, n_bytes)
        if len(data) != n_bytes:
            raise InputError(
                f"an array of {' x '.join(map(str, shape))} values of {self.dtype} has "
                f"{len(data)} bytes instead of {n_bytes}"
            )
        array = np.frombuffer(data, self.dtype).reshape(shape)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _decompressed(packed: Packed, n_bytes: int) -> bytes:
    if not packed.algorithm:
        return packed.data
    from dectris.compression import decompress

    # The size that is written in the data is what is allocated.
    if len(packed.data) < _HEADER or int.from_bytes(packed.data[:8], "big") != n_bytes:
        raise InputError(f"a {packed.algorithm} array is not of the size that its shape says")
    try:
        return bytes(decompress(packed.data, packed.algorithm, elem_size=packed.item_size))
    except Exception as error:
        raise InputError(f"a {packed.algorithm} array cannot be unpacked: {error}") from error


def compress(array: NDArray[Any], algorithm: str) -> bytes:
    """Return an image as one chunk of HDF5's filter of that name."""
    import h5py
    import hdf5plugin

    filters = {
        "bslz4": lambda: hdf5plugin.Bitshuffle(),
        "bszstd": lambda: hdf5plugin.Bitshuffle(cname="zstd"),
        "lz4": lambda: hdf5plugin.LZ4(),
    }
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "image", array.shape, array.dtype, chunks=array.shape, **filters[algorithm]()
        )
        dataset[...] = array
        return bytes(dataset.id.read_direct_chunk((0,) * array.ndim)[1])


def typed_tag(tag: Any) -> Any:
    """Return what a tag of CBOR stands for; InputError for one that is not known."""
    number, value = tag.tag, tag.value
    if number in DTYPES:
        packed = value if isinstance(value, Packed) else Packed("", 1, _bytes(value))
        return PackedArray(np.dtype(DTYPES[number]), packed)
    if number == COMPRESSED:
        match value:
            case [str(algorithm), int(size), bytes(data)] if (
                algorithm in COMPRESSIONS and 1 <= size <= 8
            ):
                return Packed(algorithm, size, data)
        raise InputError(f"an array is compressed by none of {', '.join(COMPRESSIONS)}, or damaged")
    if number == MULTIDIMENSIONAL:
        match value:
            case [[*sizes], PackedArray() as flat] if _are_sizes(sizes):
                return PackedArray(flat.dtype, flat.packed, tuple(map(int, sizes)))
        raise InputError("an array of several dimensions is damaged")
    raise InputError(f"a message has the CBOR tag {number}, which is none of an array's")


def _are_sizes(sizes: Sequence[Any]) -> bool:
    return (
        1 <= len(sizes) <= 4
        and all(isinstance(n, int) and 0 < n <= MOST_PIXELS for n in sizes)
        and math.prod(sizes) <= MOST_PIXELS
    )


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise InputError("a typed array holds no bytes")
    return value


def read_cbor(message: bytes) -> Any:
    """Return what a message of CBOR holds, its arrays as `PackedArray`.

    Raises
    ------
    InputError
        If it is no CBOR, or has tags that are none of an array's.
    """
    import cbor2

    _require_little_beside_bytes(message)
    try:
        return cbor2.loads(message, tag_hook=lambda tag, *_: typed_tag(tag))
    except Exception as error:  # of damaged bytes it may be any
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise InputError(f"a message is no CBOR: {str(error)[:80]}") from error


def _require_little_beside_bytes(message: bytes) -> None:
    """Refuse a message that would take much more memory than its length, going by its heads."""
    place = beside = 0
    while place < len(message):
        kind, size = message[place] >> 5, message[place] & 31
        place, beside = place + 1, beside + 1
        if 24 <= size < 28:
            n = 1 << (size - 24)
            size = int.from_bytes(message[place : place + n], "big")
            place, beside = place + n, beside + n
        elif size >= 28:  # of a length that is not said
            size = 0
        if kind in (_BYTES, _TEXT):
            place += size
            beside += size if kind == _TEXT else 0
        if beside > MOST_BESIDE:
            raise InputError(
                f"a message of CBOR has over {MOST_BESIDE >> 20} MiB beside its arrays"
            )
