"""Bitshuffled images unpacked without HDF5: what HDF5 reads, or nothing."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wrappers.frames import damaged_chunks
from wrappers.errors import InputError
from wrappers.frames.filters import BITSHUFFLE
from wrappers.frames.hdf5 import HDF5Files
from wrappers.frames.unpacking import LZ4, Unpacker
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


def rewritten(path, packed, change, data=None) -> np.ndarray:
    """Write frames, the second with another chunk made of its own; return them."""
    data = images("u2", 1) if data is None else data
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data=data, chunks=(1, *data.shape[1:]), **packed)
        _, chunk = dataset.id.read_direct_chunk((1, 0, 0))
        dataset.id.write_direct_chunk((1, 0, 0), change(chunk))
    return data


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


def test_damaged_chunks_are_read_as_hdf5_does_or_refused_and_end_no_process(tmp_path):
    command = [sys.executable, "-m", damaged_chunks.__name__, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "damage",
    [lambda chunk: chunk[:-1], lambda chunk: chunk[:11], lambda chunk: bytes(8) + chunk[8:]],
)
def test_a_damaged_chunk_is_an_error(tmp_path, damage):
    path = tmp_path / "run.h5"
    rewritten(path, hdf5plugin.Bitshuffle(cname="lz4"), damage)
    with pytest.raises(InputError, match=r"/data in .*run\.h5 cannot be read: the file is damaged"):
        HDF5Files().read(str(path), "/data", "data", WHOLE)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4"])
@pytest.mark.parametrize(
    "change",
    [lambda chunk: chunk + b"more", lambda chunk: chunk[:8] + bytes(4) + chunk[12:]],
    ids=["something follows", "block of 0 bytes"],
)
def test_what_hdf5_makes_out_is_made_out(tmp_path, dtype, codec, change):
    path, shape = tmp_path / "run.h5", (3, 120, 91)
    data = rewritten(path, hdf5plugin.Bitshuffle(cname=codec), change, images(dtype, 1, shape))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][1], data[1])
        place = (1, slice(0, 120), slice(0, 91))
        np.testing.assert_array_equal(unpacker(file["data"]).read(place), data[1])


def test_values_of_fewer_bits_than_their_bytes_have_are_left_to_hdf5(tmp_path):
    kind, plist = h5t.STD_I16LE.copy(), h5p.create(h5p.DATASET_CREATE)
    kind.set_precision(12)
    plist.set_chunk((1, 36, 30))
    plist.set_filter(BITSHUFFLE, 0, (0, LZ4))
    data = images("i2", 0) >> 4
    with h5py.File(tmp_path / "run.h5", "w") as file:
        space = h5s.create_simple(data.shape)
        dataset = h5py.Dataset(h5d.create(file.id, b"data", kind, space, plist))
        dataset[...] = data
        assert Unpacker.of(dataset) is None
    found = HDF5Files().read(str(tmp_path / "run.h5"), "/data", "data", WHOLE)
    np.testing.assert_array_equal(found, data[1])


@pytest.mark.parametrize(
    "filters",
    [{}, {"bshuf": "unknown"}, {"bshuf": None}],
    ids=["no library", "no file", "no functions (that of the process itself)"],
)
def test_a_library_without_the_functions_leaves_all_to_hdf5(tmp_path, monkeypatch, filters):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        dataset = file.create_dataset("data", data=images("i2", 0), chunks=(1, 36, 30), **PACKED)
        found = SimpleNamespace(registered_filters=filters)
        monkeypatch.setattr(hdf5plugin, "get_config", lambda: found)
        assert Unpacker.of(dataset) is None


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
