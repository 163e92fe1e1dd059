"""Messages that are HDF5 files: read in another process, whose end is a damaged message."""

from __future__ import annotations

import io
import os
import random
import signal
import threading
import time

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.array_source import ArraySource
from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.streams import hdf5
from wrappers.streams.arriving import StreamFrames
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import parse_address
from wrappers.streams.receiver import Receiver
from wrappers.streams.recording import record


def source(tmp_path, dtype: str = "u2", n: int = 6, **top) -> ArraySource:
    (tmp_path / "small.geom").write_text(geometry_text(panel_text("a", 60, 40, (-30, -20)), **top))
    geometry = Geometry.read(tmp_path / "small.geom")
    rng = np.random.default_rng(1)
    frames = []
    for number in range(n):
        data = rng.poisson(20, (40, 60)).astype(dtype)
        frames.append(
            Frame(data, np.ones((40, 60), bool), 9300.0 + number, 0.1, "x", f"//{number}")
        )
    return ArraySource(geometry, frames)


@pytest.fixture(scope="module")
def decode():
    """One process for all tests that do not end it."""
    return hdf5.decoder({})


def message(images: np.ndarray, path: str = "/data/data", **more) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset(path, data=images, chunks=(1, *images.shape[1:]), **more)
        file["/timestamp"] = np.arange(len(images)) * 1.5
        file["/beam/energy"] = 9000.0
        file["/spectrum"] = np.zeros((len(images), 7))
    return content.getvalue()


@pytest.mark.parametrize("listens", [True, False])
def test_files_of_a_sender_are_frames(tmp_path, listens):
    energy = "/LCLS/photon_wavelength A"
    run = source(tmp_path, "f4", wavelength=energy, photon_energy=None)
    name = f"hdf5+tcp://127.0.0.1:{free_port()}{'' if listens else '?connect='}"
    address = parse_address(name)
    with StreamFrames(address, run.geometry, 50) as frames, Player(address) as player:
        assert address.listens == listens
        thread = threading.Thread(target=player.play, args=(messages_of(run, "hdf5"), 50.0))
        thread.start()
        try:
            found = record(frames, tmp_path / "frames.cxi", len(run), idle=20.0)
        finally:
            thread.join()
        assert frames.counts.damaged == 0, frames.counts.reason
    with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
        assert len(recorded) == len(run)
        for number, frame in enumerate(recorded):
            np.testing.assert_array_equal(frame.data, run[number].data)
            assert frame.photon_energy == pytest.approx(9300 + number)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "gzip", "shuffle": True},
        hdf5plugin.Bitshuffle(cname="lz4"),
        hdf5plugin.Bitshuffle(cname="zstd"),
    ],
)
def test_events_of_a_file_are_frames_whatever_its_compression(decode, dtype, options):
    images = np.random.default_rng(2).uniform(0, 99, (5, 2, 20, 30)).astype(dtype)
    shots = decode([message(images, **options)])
    for number, (shot, image) in enumerate(zip(shots, images, strict=True)):
        found = shot.unpack()
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, image.reshape(40, 30))
        assert shot.values == {"timestamp": 1.5 * number, "beam/energy": 9000.0}


def test_the_images_can_be_named():
    images = np.ones((1, 4, 5))
    decode = hdf5.decoder({"data": "/small/one"})
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["/small/one"], file["/large"] = images, np.zeros((3, 90, 90))
    (shot,) = decode([content.getvalue()])
    np.testing.assert_array_equal(shot.unpack(), images[0])
    with pytest.raises(InputError, match="no images at small/one, but beam"):
        decode([message(images)])


def elsewhere(kind: str, place) -> bytes:
    """Return a file whose images are another file's."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        if kind == "link":
            file["/data/data"] = h5py.ExternalLink(str(place), "/data/data")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((1, 4, 5), "f8")
            layout[:] = h5py.VirtualSource(str(place), "/data/data", (1, 4, 5))
            file.create_virtual_dataset("/data/data", layout)
        else:
            file.create_dataset("/data/data", (1, 4, 5), "f8", external=[(str(place), 0, 160)])
    return content.getvalue()


@pytest.mark.parametrize("kind", ["link", "virtual", "external"])
def test_nothing_of_this_machine_is_read_for_a_sender(decode, tmp_path, kind):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["/data/data"] = np.ones((1, 4, 5))
    with pytest.raises(InputError, match=r"no images|lies in other files"):
        decode([elsewhere(kind, tmp_path / "secret.h5")])


def test_a_chunk_that_would_fill_the_memory_is_one_sentence(decode):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("/data/data", (1, 40_000, 40_000), "f8", compression="gzip")
    with pytest.raises(InputError, match="12800000000 bytes"):
        decode([content.getvalue()])
    assert len(decode([message(np.ones((2, 4, 5)))])) == 2


def test_the_end_of_the_process_is_one_damaged_message(monkeypatch):
    decode = hdf5.decoder({})
    good = message(np.ones((2, 4, 5)))
    assert len(decode([good])) == 2
    reader = next(
        cell.cell_contents
        for cell in decode.__closure__
        if type(cell.cell_contents).__name__ == "_Reader"
    )
    os.kill(reader._child._process.pid, signal.SIGKILL)
    with pytest.raises(InputError, match="ended the process that read it"):
        decode([good])
    assert len(decode([good])) == 2
    monkeypatch.setattr(hdf5, "PATIENCE", 0.3)
    process = reader._child._process
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(InputError, match="took more than"):
        decode([good])
    assert time.monotonic() - started < 5 and process.exitcode is not None


def test_mutated_files_are_read_or_refused(decode):
    """Many bytes at once; ten thousand with `python -m tests.fuzz_streams`."""
    good = message(np.random.default_rng(3).poisson(9, (2, 20, 30)).astype("u2"))
    rng = random.Random(5)
    for _ in range(100):
        broken = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            for shot in decode([bytes(broken)]):
                assert shot.unpack().ndim == 2
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 400


def test_who_listens_is_said_where_the_address_is_another_machines():
    with pytest.raises(ProgramError, match=r"cannot be listened at.*put \?connect= behind it"):
        Receiver(parse_address("hdf5+tcp://192.0.2.1:12321"), 10)
