"""Bitshuffled images unpacked without HDF5.

HDF5's filter makes a new decompressor of zstd's for every 8 kB. Each asks the processor what it can
do, for which a virtual machine has to ask its host: two thirds of the time to read an image. Here
one is kept, the bits are put together by vectors, and the image is not copied. The functions are
those of hdf5plugin's own library. What is packed otherwise is left to HDF5. What is damaged is not:
HDF5's filter believes the lengths in it, and may end the process.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from pathlib import Path
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
from h5py import h5t
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types as numba_types
from numba.extending import intrinsic
from numpy.typing import NDArray

from wrappers.compiling import Compiler
from wrappers.frames.filters import BITSHUFFLE
from wrappers.frames.whole_chunks import chunk_corners, in_whole_chunks
from wrappers.peakfinding.vectors import PLAIN

__all__ = ["Unpacker"]

LZ4, ZSTD = 2, 3
"""The filter's numbers of what it compresses with."""
HEADER = 12
"""Bytes of a chunk before its blocks: its size, and a block's, both big-endian."""
DAMAGED = "a chunk does not unpack"
DEFAULT_BLOCK = 8192
"""Bytes of a block where the header says 0, of values of up to 4 bytes."""
GROUP = 64
"""So many values are put together at once."""

_types: Any = numba_types
_intrinsic: Any = intrinsic  # (its own annotations are those of a plain function)
_kernel = Compiler(Path(__file__).parent).kernel
_SIZE, _INT, _BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


class Unpacker:
    """Reads images of a data set that consist of whole bitshuffled chunks.

    Parameters
    ----------
    dataset : Dataset
    library : CDLL
        With the functions of LZ4 and zstd.
    codec : int
        `LZ4` or `ZSTD`.
    """

    def __init__(self, dataset: h5py.Dataset, library: ctypes.CDLL, codec: int) -> None:
        self._dataset, self._context = dataset, 0
        name = "LZ4_decompress_safe"
        if codec == ZSTD:
            name, make, drop = "ZSTD_decompressDCtx", library.ZSTD_createDCtx, library.ZSTD_freeDCtx
            make.restype, drop.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            self._context = make()
            # Not at the end of the process, where another thread may still read.
            weakref.finalize(self, drop, self._context).atexit = False
        self._function = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        self._unsigned = np.dtype(f"u{dataset.dtype.itemsize}")
        self._lock = threading.Lock()  # of what follows, and of the context
        self._rest = np.empty(GROUP, self._unsigned)
        self._rows = np.empty(0, np.uint8)

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Self | None:
        """Return what reads a data set; None where that is left to HDF5."""
        filters, kind = dataset.id.get_create_plist(), dataset.dtype
        if PLAIN or filters.get_nfilters() != 1:
            return None
        code, _, values, _ = filters.get_filter(0)
        if code != BITSHUFFLE or len(values) < 5 or values[4] not in (LZ4, ZSTD):
            return None
        if kind.kind not in "iuf" or kind.itemsize not in (1, 2, 4) or values[2] != kind.itemsize:
            return None
        # Not of the other byte order, nor with bits that HDF5 leaves out, as of 12-bit values.
        if not dataset.id.get_type().equal(h5t.py_create(kind.newbyteorder("="))):
            return None
        try:
            library = ctypes.CDLL(hdf5plugin.get_config().registered_filters["bshuf"])
            return cls(dataset, library, values[4])
        except (KeyError, OSError, AttributeError, TypeError):  # a library without the functions
            return None

    def read(self, selection: tuple[int | slice, ...]) -> NDArray[Any] | None:
        """Return a part of the data set; None where HDF5 is to read it.

        `selection` is of leading dimensions; slices have a start and a stop.

        Raises
        ------
        ValueError
            If a chunk is damaged.
        """
        chunks = self._dataset.chunks
        if not in_whole_chunks(selection, chunks):
            return None
        sizes = [place.stop for place in selection if isinstance(place, slice)]
        if not sizes:
            return None
        image = np.empty(sizes, self._dataset.dtype)
        within = [d for d, place in enumerate(selection) if isinstance(place, slice)]
        for corner in chunk_corners(selection, chunks):
            piece = image[tuple(slice(corner[d], corner[d] + chunks[d]) for d in within)]
            target = piece if piece.flags.c_contiguous else np.empty_like(piece)
            if not self._unpack(corner, target):
                return None
            if target is not piece:
                piece[...] = target
        return image

    def _unpack(self, corner: tuple[int, ...], target: NDArray[Any]) -> bool:
        """Unpack the chunk at a place; tell whether there is one that this filter packed."""
        try:
            skipped, chunk = self._dataset.id.read_direct_chunk(corner)
        except (OSError, RuntimeError, ValueError, KeyError):  # it was never written
            return False
        if skipped:  # a filter that was not applied
            return False
        size, block = (int.from_bytes(chunk[k:stop], "big") for k, stop in ((0, 8), (8, HEADER)))
        block = block or DEFAULT_BLOCK
        n, rest = divmod(block, target.itemsize)
        if size != target.nbytes or rest or n % 8:
            raise ValueError(DAMAGED)
        block = min(block, size)
        values, packed = target.reshape(-1).view(self._unsigned), np.frombuffer(chunk, np.uint8)
        with self._lock:
            if len(self._rows) < block + GROUP:
                self._rows = np.empty(block + GROUP, np.uint8)
            stop = _unpack(self._function, self._context, packed, values, n, self._rows, self._rest)
        # The last few are stored as they are; what follows, if anything, is of no use.
        last = values[len(values) // 8 * 8 :]
        if stop < 0 or len(chunk) - stop < last.nbytes:
            raise ValueError(DAMAGED)
        last[...] = np.frombuffer(chunk, self._unsigned, len(last), stop)
        return True


@_kernel
def _unpack(function, context, packed, values, n, rows, rest):
    """Unpack the blocks of a chunk; return where they end, or -1 where they are damaged.

    Parameters
    ----------
    function, context : int
        Where the decompressing function is, and what zstd's is given; 0 for LZ4.
    packed : uint8 array
        The chunk.
    values : unsigned array
        Written.
    n : int
        So many values are in a block; a multiple of 8.
    rows : uint8 array
        Scratch, for a block and some more: its bits, those of one place in a row.
    rest : unsigned array (GROUP,)
        Scratch.
    """
    p, first = HEADER, 0
    while len(values) - first >= 8:
        n = min(n, (len(values) - first) // 8 * 8)
        if p + 4 > len(packed):
            return -1
        size = 0
        for k in range(p, p + 4):
            size = (size << 8) + packed[k]
        p += 4
        if size > len(packed) - p:
            return -1
        n_bytes = n * values.itemsize
        if _decompressed(function, context, packed, p, size, rows, n_bytes) != n_bytes:
            return -1
        p += size
        for k in range(0, n, GROUP):
            if k + GROUP <= n:
                _put_together(rows, k // 8, n // 8, values, first + k)
            else:
                _put_together(rows, k // 8, n // 8, rest, 0)
                for i in range(n - k):
                    values[first + k + i] = rest[i]
        first += n
    return p


def _pointer(context: Any, builder: Any, kind: Any, array: Any, first: Any) -> Any:
    pointer = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(pointer, [first]), _BYTES)


@_intrinsic
def _decompressed(typing_context, function, context, packed, first, size, block, n):
    """Call the decompressing function; return how many bytes it says it has made."""

    def generate(numba_context, builder, signature, arguments):
        function, context, packed, first, size, block, n = arguments
        source = _pointer(numba_context, builder, signature.args[2], packed, first)
        target = _pointer(numba_context, builder, signature.args[5], block, _SIZE(0))

        def call(result, *given):
            kind = ir.FunctionType(result, [each.type for each in given]).as_pointer()
            return builder.call(builder.inttoptr(function, kind), given)

        with builder.if_else(builder.icmp_signed("==", context, _SIZE(0))) as (of_lz4, of_zstd):
            with of_lz4:
                sizes = (builder.trunc(each, _INT) for each in (size, n))
                by_lz4 = builder.sext(call(_INT, source, target, *sizes), _SIZE)
                here = builder.block
            with of_zstd:
                kept = builder.inttoptr(context, _BYTES)
                by_zstd = call(_SIZE, kept, target, n, source, size)
                there = builder.block
        made = builder.phi(_SIZE)
        made.add_incoming(by_lz4, here)
        made.add_incoming(by_zstd, there)
        return made

    number = _types.int64
    return number(number, number, packed, number, number, block, number), generate


@_intrinsic
def _put_together(typing_context, rows, first, length, values, k):
    """Write `GROUP` values from place `k` on, given rows of so many bytes with a bit of each."""

    def generate(context, builder, signature, arguments):
        rows, first, length, values, k = arguments
        kind = signature.args[3]
        width = kind.dtype.bitwidth
        lanes = ir.VectorType(ir.IntType(width), GROUP)
        row = _pointer(context, builder, signature.args[0], rows, first)
        made = nothing = ir.Constant(lanes, None)
        for bit in range(width):
            word = builder.load(builder.bitcast(row, _SIZE.as_pointer()), align=1)
            there = builder.bitcast(word, ir.VectorType(ir.IntType(1), GROUP))
            value = ir.Constant(lanes, [1 << bit] * GROUP)
            made = builder.or_(made, builder.select(there, value, nothing))
            row = builder.gep(row, [length])
        place = _pointer(context, builder, kind, values, k)
        builder.store(made, builder.bitcast(place, lanes.as_pointer()), align=1)
        return context.get_dummy_value()

    number = _types.int64
    return _types.void(rows, number, number, values, number), generate
