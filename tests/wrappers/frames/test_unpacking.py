"""Bitshuffled images unpacked without HDF5: what HDF5 reads, or nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrappers.errors import InputError
from wrappers.frames.hdf5 import HDF5Files
from wrappers.frames.unpacking import HEADER, Unpacker
from wrappers.peakfinding.vectors import PLAIN

WHOLE = (1, slice(0, 36), slice(0, 30))
PACKED = hdf5plugin.Bitshuffle(cname="zstd")

pytestmark = pytest.mark.skipif(PLAIN, reason="the plain path leaves all to HDF5")


def images(dtype, seed, shape=(3, 36, 30)) -> np.ndarray:
    """Return frames with values of all sizes; of floats, any bits."""
    dtype = np.dtype(dtype)
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2 ** (8 * dtype.itemsize), shape, np.uint64)
    bits >>= random.integers(0, 8 * dtype.itemsize, shape, np.uint64)
    return bits.astype(f"u{dtype.itemsize}").view(dtype)


def unpacker(dataset) -> Unpacker:
    """Return what reads a data set."""
    found = Unpacker.of(dataset)
    assert found is not None
    return found


@given(
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4"]),
    codec=st.sampled_from(["lz4", "zstd"]),
    block=st.sampled_from([0, 8, 72, 640, 1 << 14]),
    chunk=st.tuples(st.sampled_from([1, 4, 12, 36]), st.sampled_from([1, 5, 10, 30])),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_bits_are_those_that_hdf5_reads(tmp_path_factory, dtype, codec, block, chunk, seed):
    data, path = images(dtype, seed), tmp_path_factory.mktemp("unpacking") / "run.h5"
    packed = hdf5plugin.Bitshuffle(nelems=block, cname=codec)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, chunks=(1, *chunk), **packed)
    with h5py.File(path) as file:
        found = unpacker(file["data"]).read(WHOLE)
    assert found is not None
    assert found.dtype == data.dtype
    assert found.tobytes() == data[1].tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "i2"},
        {"dtype": "i2", "chunks": (1, 36, 30)},
        {"dtype": "i2", "chunks": (1, 36, 30), **hdf5plugin.LZ4()},
        {"dtype": "i2", "chunks": (1, 36, 30), **hdf5plugin.Bitshuffle(cname="none")},
        {"dtype": "i2", "chunks": (1, 36, 30), "shuffle": True, **PACKED},
        {"chunks": (1, 36, 30), "dtype": ">i2", **PACKED},
        {"chunks": (1, 36, 30), "dtype": "f8", **PACKED},
    ],
)
def test_what_is_packed_otherwise_is_left_to_hdf5(tmp_path, options):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        assert Unpacker.of(file.create_dataset("data", (3, 36, 30), **options)) is None


@pytest.mark.parametrize(
    "chunk, place",
    [
        ((2, 36, 30), WHOLE),
        ((1, 24, 30), WHOLE),
        ((1, 36, 30), (1, slice(0, 36), slice(0, 29))),
        ((1, 36, 30), (1,)),
        ((1, 1, 1), (1, 2, 3)),
    ],
)
def test_parts_of_chunks_are_left_to_hdf5(tmp_path, chunk, place):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        dataset = file.create_dataset("data", data=images("i2", 0), chunks=chunk, **PACKED)
        assert unpacker(dataset).read(place) is None


def test_what_was_never_written_or_left_unpacked_is_read(tmp_path):
    path, data = tmp_path / "run.h5", images("i2", 0)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "data", data.shape, "i2", chunks=(1, 36, 30), fillvalue=7, **PACKED
        )
        dataset[0] = data[0]
        dataset.id.write_direct_chunk((2, 0, 0), data[2].tobytes(), filter_mask=1)
    files = HDF5Files()
    for row, expected in enumerate((data[0], np.full((36, 30), 7), data[2])):
        found = files.read(str(path), "/data", "data", (row, slice(0, 36), slice(0, 30)))
        np.testing.assert_array_equal(found, expected)


@given(
    codec=st.sampled_from(["lz4", "zstd"]),
    change=st.tuples(st.integers(0, 10_000), st.integers(1, 255)),
    cut=st.sampled_from([0, 0, 1, 13, 500]),
)
@settings(max_examples=80, deadline=None)
def test_a_damaged_chunk_is_an_error_and_ends_no_process(tmp_path_factory, codec, change, cut):
    path, data = tmp_path_factory.mktemp("unpacking") / "run.h5", images("u2", 1)
    packed = hdf5plugin.Bitshuffle(nelems=64, cname=codec)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data=data, chunks=(1, 36, 30), **packed)
        _, chunk = dataset.id.read_direct_chunk((1, 0, 0))
        damaged = bytearray(chunk[: len(chunk) - cut])
        place, by = change
        damaged[place % len(damaged)] ^= by
        dataset.id.write_direct_chunk((1, 0, 0), bytes(damaged))
    try:
        found = HDF5Files().read(str(path), "/data", "data", WHOLE)
    except InputError as error:
        assert "cannot be read: the file is damaged" in str(error)
    else:
        # Other lengths do not fit together, other values may.
        assert not cut and found.shape == (36, 30)
        assert place % len(damaged) >= HEADER


def test_several_threads_may_read_at_once(tmp_path):
    data = images("i2", 2, (40, 360, 300))
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, chunks=(1, 360, 300), **PACKED)
    with h5py.File(path) as file, ThreadPoolExecutor(4) as threads:
        reader = unpacker(file["data"])
        places = [(row, slice(0, 360), slice(0, 300)) for row in range(40)]
        for found, expected in zip(threads.map(reader.read, places), data, strict=True):
            np.testing.assert_array_equal(found, expected)
