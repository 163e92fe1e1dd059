"""Bitshuffled chunks, damaged in every way, are read as HDF5 reads them or refused.

Run by itself, as what goes wrong ends the process: ``python -m
tests.wrappers.frames.damaged_chunks FOLDER [SEED [CHUNKS OF EACH FORM]]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from wrappers.errors import InputError
from wrappers.frames.hdf5 import HDF5Files
from wrappers.frames.unpacking import HEADER

FORMS = [
    # dtype, compression, values in a block, version of HDF5 that the file is for
    ("u1", "zstd", 0, "earliest"),
    ("i2", "zstd", 64, "latest"),
    ("i4", "lz4", 0, "earliest"),
    ("f4", "lz4", 72, "latest"),
]
SHAPE = 50, 45
"""Of a chunk; two of its values are in no block."""
NUMBERS = (0, 1, 7, 8, 64, 127, 8192, 2**20, 2**31 - 1, 2**31, 2**32 - 64, 2**32 - 1)
"""In place of a length."""

Random = np.random.Generator


def images(dtype: str, random: Random, n: int) -> np.ndarray:
    """Return images of counts, as a detector's are: of some nearly all are 0."""
    counts = random.poisson(random.choice([0.1, 3, 40], (n, 1, 1)), (n, *SHAPE))
    found: np.ndarray = counts.astype(dtype)
    return found


def lengths(chunk: bytearray) -> list[int]:
    """Return where the lengths of a chunk's blocks are, as far as they can be followed."""
    found, place = [], HEADER
    while place + 4 <= len(chunk):
        found.append(place)
        place += 4 + int.from_bytes(chunk[place : place + 4], "big")
    return found


def flip(chunk: bytearray, other: bytes, random: Random) -> None:
    """Flip a bit."""
    chunk[random.integers(len(chunk))] ^= 1 << random.integers(8)


def overwrite(chunk: bytearray, other: bytes, random: Random) -> None:
    """Write anything over a few bytes."""
    first = random.integers(len(chunk))
    chunk[first : first + 4] = random.bytes(len(chunk[first : first + 4]))


def cut(chunk: bytearray, other: bytes, random: Random) -> None:
    """Leave out the end."""
    del chunk[random.integers(1, len(chunk)) :]


def extend(chunk: bytearray, other: bytes, random: Random) -> None:
    """Append something."""
    chunk += random.bytes(random.integers(1, 40))


def leave_out(chunk: bytearray, other: bytes, random: Random) -> None:
    """Leave out a few bytes within."""
    first = random.integers(len(chunk))
    del chunk[first : first + random.integers(1, 9)]


def claim_size(chunk: bytearray, other: bytes, random: Random) -> None:
    """Claim another size of the chunk."""
    size = int(random.choice(NUMBERS)) << int(random.choice([0, 32]))
    chunk[:8] = size.to_bytes(8, "big")


def claim_block(chunk: bytearray, other: bytes, random: Random) -> None:
    """Claim another size of the blocks."""
    chunk[8:HEADER] = int(random.choice(NUMBERS)).to_bytes(4, "big")


def claim_length(chunk: bytearray, other: bytes, random: Random) -> None:
    """Claim another length of a block."""
    if places := lengths(chunk):
        place = random.choice(places)
        chunk[place : place + 4] = int(random.choice(NUMBERS)).to_bytes(4, "big")


def exchange(chunk: bytearray, other: bytes, random: Random) -> None:
    """Put another chunk's block, of perhaps another size, in place of one."""
    ours, theirs = lengths(chunk), lengths(bytearray(other))
    if ours and theirs:
        place, there = random.choice(ours), random.choice(theirs)
        length = int.from_bytes(chunk[place : place + 4], "big")
        longer = 4 + int.from_bytes(other[there : there + 4], "big")
        chunk[place : place + 4 + length] = other[there : there + longer]


DAMAGES: list[Callable[[bytearray, bytes, Random], None]] = [
    flip,
    overwrite,
    cut,
    extend,
    leave_out,
    claim_size,
    claim_block,
    claim_length,
    exchange,
]


def write(path: Path, form: tuple[str, str, int, str], random: Random, n: int) -> None:
    """Write a data set of damaged chunks."""
    dtype, codec, block, version = form
    data = images(dtype, random, n)
    with h5py.File(path, "w", libver=version) as file:
        options = {"chunks": (1, *SHAPE), "maxshape": (None, *SHAPE), "fillvalue": 3}
        packed = hdf5plugin.Bitshuffle(nelems=block, cname=codec)
        dataset = file.create_dataset("data", data.shape, dtype, **options, **packed)
        whole = file.create_dataset("whole", data=data, **options, **packed)
        others = [
            file.create_dataset(
                f"other{i}",
                data=images(dtype, random, 4).astype(kind),
                **options,
                **hdf5plugin.Bitshuffle(nelems=size, cname=cname),
            )
            for i, (kind, size, cname) in enumerate(
                [(dtype, 8, codec), (dtype, 1 << 14, codec), ("u2", 640, "zstd"), ("i4", 0, "lz4")]
            )
        ]
        for row in range(n):
            if row % 10 == 0:  # never written, or not packed
                if row % 20:
                    dataset.id.write_direct_chunk((row, 0, 0), data[row].tobytes(), 1)
                continue
            other = others[random.integers(4)].id.read_direct_chunk((random.integers(4), 0, 0))[1]
            chunk = bytearray(whole.id.read_direct_chunk((row, 0, 0))[1])
            for damage in random.choice(np.array(DAMAGES), random.integers(1, 4)):
                damage(chunk, other, random)
                chunk = chunk or bytearray(1)
            dataset.id.write_direct_chunk((row, 0, 0), bytes(chunk))


def outcomes(path: Path) -> Iterator[bool]:
    """Read each image; yield whether that could be done."""
    files, whole = HDF5Files(), tuple(slice(0, size) for size in SHAPE)
    for row in range(len(files.dataset(str(path), "/data", "data"))):
        try:
            found = files.read(str(path), "/data", "data", (row, *whole))
        except InputError as error:
            assert "cannot be read: the file is damaged" in str(error)
            yield False
        else:
            # (HDF5 may read beyond a chunk that is refused here, so that is left alone.)
            with h5py.File(path) as file:
                assert found.tobytes() == file["data"][row].tobytes(), row
            yield True
    files.close()


def main(folder: str, seed: str = "0", n: str = "300") -> None:
    """Read many damaged chunks; AssertionError where one is not read as HDF5 does."""
    for form in FORMS:
        path, random = Path(folder, "run.h5"), np.random.default_rng(int(seed))
        write(path, form, random, int(n))
        readable = [*outcomes(path)]
        assert all(readable[::10])
        damaged = np.mean([row for i, row in enumerate(readable) if i % 10])
        print(*form, f"{damaged:.0%} of the damaged chunks can be read")
        assert 0.02 < damaged < 0.5
        path.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
