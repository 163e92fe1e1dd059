"""The Karabo bridge, against its own server; and MessagePack as CrystFEL's sources send it."""

from __future__ import annotations

import itertools
import pickle
import random
import struct
import threading
import time
import tracemalloc

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from karabo_bridge.serializer import serialize
from karabo_bridge.server import ServerInThread

from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.streams.arriving import StreamFrames
from wrappers.streams.frames import FrameMaker
from wrappers.streams.protocols import parse_address
from wrappers.streams.recording import record

SOURCE = "SPB_DET_AGIPD1M-1/CAL/APPEND_CORRECTED"


@pytest.fixture
def port() -> int:
    return free_port()


def geometry_of(tmp_path, **top) -> Geometry:
    """Three modules of 20 x 30 pixels, one above the other."""
    panels = [panel_text(f"p{i}", 30, 20, (-15, -30 + 20 * i), ss=20 * i) for i in range(3)]
    (tmp_path / "three.geom").write_text(geometry_text(*panels, **top))
    return Geometry.read(tmp_path / "three.geom")


def geometry_of_files(tmp_path) -> Geometry:
    """The same modules, as the facility's files have them: along an axis of their own."""
    panels = [
        panel_text(f"p{i}", 30, 20, (-15, -30 + 20 * i), dim0="%", dim1=i, dim2="ss", dim3="fs")
        for i in range(3)
    ]
    (tmp_path / "files.geom").write_text(geometry_text(*panels, dim0=None, dim1=None, dim2=None))
    return Geometry.read(tmp_path / "files.geom")


def images(n: int, dtype: str = "f4") -> np.ndarray:
    """Return images (n, module, slow, fast)."""
    return np.random.default_rng(5).uniform(0, 200, (n, 3, 20, 30)).astype(dtype)


def train(number: int, array: np.ndarray, key: str = "image.data", source: str = SOURCE):
    data = {
        source: {key: array, "image.trainId": np.full(2, number), "status": "ok"},
        "SPB_XTD9_XGM/DOOCS/MAIN:output": {"data.intensityTD": np.ones(2), "pulseEnergy": 1.5},
    }
    return data, {name: {"timestamp.tid": number} for name in data}


def frame_of(geometry: Geometry, scheme: str, message: list[bytes]):
    address = parse_address(f"{scheme}+tcp://host:1")
    (shot,) = address.protocol.decoder({})(message)
    return FrameMaker(address.name, geometry).reading(shot)()


def test_numbers_that_come_with_an_image_are_found_by_their_names(tmp_path):
    """What is played of a geometry is read of it, also where its path has one part."""
    image = images(1, "u2")[0]
    for place in ("", "A/B"):
        named = geometry_of(tmp_path, photon_energy=f"{f'/{place}' * bool(place)}/energy eV")
        about = {"metadata": {"timestamp.tid": 1}, "path": "image.data", "dtype": "uint16"}
        of_image = about | {"source": SOURCE, "content": "array", "shape": image.shape}
        of_number = about | {"source": place, "content": "msgpack"}
        parts = [msgpack.packb(of_number), msgpack.packb({"energy": 8000.0})]
        parts += [msgpack.packb(of_image), image.tobytes()]
        address = parse_address("karabo+tcp://host:1?axes=msf")
        (shot,) = address.protocol.decoder(address.options)(parts)
        assert FrameMaker(address.name, named).reading(shot)().photon_energy == 8000
    flat = of_crystfel(image.reshape(60, 30), value=9000.0)
    assert frame_of(geometry_of(tmp_path, photon_energy="/A/value eV"), "crystfel", [flat])
    both = geometry_of(tmp_path, photon_energy="/A/value eV", clen="/B/value mm")
    with pytest.raises(InputError, match=r"gives the photon energy as a number: .* or with -g"):
        frame_of(both, "crystfel", [flat])


@pytest.mark.parametrize("axes", ["pmsf", "mpsf", "mfsp", "sfmp"])
@pytest.mark.parametrize("dtype", ["f4", "u2", "i4"])
def test_trains_of_the_bridges_own_server_are_frames(tmp_path, port, axes, dtype):
    sent = images(6, dtype)
    geometry = geometry_of_files(tmp_path) if axes == "pmsf" else geometry_of(tmp_path)
    address = parse_address(f"karabo+tcp://127.0.0.1:{port}?axes={axes}")
    server = ServerInThread(f"tcp://127.0.0.1:{port}")
    server.start()
    try:
        with StreamFrames(address, geometry, 50) as frames:
            for number in range(3):
                pulses = sent[2 * number : 2 * number + 2]
                order = pulses.transpose(["pmsf".index(axis) for axis in axes])
                server.feed(*train(1000 + number, np.ascontiguousarray(order)))
            found = record(frames, tmp_path / "frames.cxi", 6, idle=5.0)
            assert frames.counts.damaged == 0, frames.counts.reason
    finally:
        server.stop()
    with Run.open(found.data, Geometry.read(found.geometry)) as run:
        assert len(run) == 6
        for frame, image in zip(run, sent, strict=True):
            np.testing.assert_array_equal(frame.data, image.reshape(60, 30))
            assert frame.data.dtype == np.dtype(dtype) and frame.photon_energy == 9300


def test_jungfraus_key_is_known_and_other_sources_are_named(tmp_path):
    decode = parse_address("karabo+tcp://host:1").protocol.decoder({})
    shots = decode([bytes(part) for part in serialize(*train(7, images(2), "data.adc"))])
    assert [shot.number for shot in shots] == [70000, 70001]
    with pytest.raises(InputError, match=r"APPEND_CORRECTED other\.key"):
        decode([bytes(part) for part in serialize(*train(7, images(2), "other.key"))])
    two, meta = train(7, images(2))
    two["OTHER"], meta["OTHER"] = two[SOURCE], meta[SOURCE]
    message = [bytes(part) for part in serialize(two, meta)]
    with pytest.raises(InputError, match=r"name one with \?source="):
        decode(message)
    one = parse_address("karabo+tcp://host:1").protocol.decoder({"source": "OTHER"})
    assert len(one(message)) == 2


@pytest.mark.parametrize("dtype", ["u8", "i4"])
def test_an_image_is_numbered_by_its_pulse(dtype):
    decode = parse_address("karabo+tcp://host:1").protocol.decoder({})

    def numbers(ids: object) -> list[int]:
        data, meta = train(1234, images(3))
        data[SOURCE]["image.pulseId"] = np.asarray(ids)
        return [shot.number for shot in decode([bytes(part) for part in serialize(data, meta)])]

    assert numbers(np.array([4, 12, 8], dtype)) == [12340004, 12340012, 12340008]
    assert numbers(np.array([[4], [12], [8]], dtype)) == [12340004, 12340012, 12340008]
    for bad in ([4, 4, 8], [4, 8], [4, 8, 10_000], [0.5, 1.5, 2.5]):
        assert numbers(bad) == [12340000, 12340001, 12340002]


def test_a_message_does_not_take_many_times_its_size():
    many = b"\xdd" + struct.pack(">I", 8_000_000) + b"\x90" * 8_000_000
    nested = msgpack.packb([[[[]] * 100] * 50] * 50)
    wide = msgpack.packb([{str(i): [] for i in range(1000)}] * 200)
    decode = parse_address("crystfel+tcp://host:1").protocol.decoder({})
    for message in (many, nested, wide, msgpack.packb(["x" * 2_000_000])):
        tracemalloc.start()
        with pytest.raises(InputError, match="no MessagePack"):
            decode([message])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 30e6
    peaks = {"fs": [1.5] * 5000, "ss": [1.5] * 5000, "intensity": [1.5] * 5000}
    assert decode([of_crystfel(images(1, "i4").reshape(60, 30), peak_list=peaks)])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("axes=pm", "no order of p"),
        ("axes=pmsff", "no order of p"),
        ("frames=0", "no number of frames"),
        ("colour=red", "karabo\\+tcp has frames, source, key, axes"),
    ],
)
def test_options_that_are_none_are_one_sentence(query, words):
    with pytest.raises(InputError, match=words):
        parse_address(f"karabo+tcp://host:45000?{query}")


def of_crystfel(image: np.ndarray, **more) -> bytes:
    packed = {"type": image.dtype.str, "shape": list(image.shape), "data": image.tobytes()}
    return msgpack.packb([{"detector_data": packed, **more}])


@pytest.mark.parametrize("kind", ["REP", "PUB"])
def test_messages_of_crystfels_kind_are_frames(tmp_path, port, kind):
    # CrystFEL's documentation has names without a slash.
    slash = "/" * (kind == "PUB")
    geometry = geometry_of(
        tmp_path,
        photon_energy=f"{slash}photon_energy_eV eV",
        clen=f"{slash}detector_distance mm",
        data=f"{slash}detector_data",
    )
    sent = [each.reshape(60, 30) for each in images(4, "i4")]
    query = "?subscribe=ondaframedata" if kind == "PUB" else ""
    address = parse_address(f"crystfel+tcp://127.0.0.1:{port}{query}")
    ended = threading.Event()

    def serve() -> None:
        with zmq.Context() as context, context.socket(getattr(zmq, kind)) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(f"tcp://127.0.0.1:{port}")
            for number in itertools.count():
                if ended.is_set():
                    return
                if kind == "REP" and (not socket.poll(50) or socket.recv() != b"next"):
                    continue
                more = {"photon_energy_eV": 9000.0 + number, "detector_distance": 80.0}
                raw = msgpack.unpackb(of_crystfel(-sent[number % 4]))[0]["detector_data"]
                message = of_crystfel(sent[number % 4], raw=raw, **more)
                if kind == "REP":
                    socket.send(message)
                else:
                    socket.send_multipart([b"ondaframedata", message])
                    time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with StreamFrames(address, geometry, 50) as frames:
            found = record(frames, tmp_path / "frames.cxi", 4, idle=5.0)
    finally:
        ended.set()
        thread.join()
    with Run.open(found.data, Geometry.read(found.geometry)) as run:
        for frame in run:
            number = round(frame.photon_energy - 9000)
            np.testing.assert_array_equal(frame.data, sent[number % 4])
            assert frame.camera_length == pytest.approx(0.08)


class Hostile:
    ran = False

    def __reduce__(self):
        return setattr, (Hostile, "ran", True)


@pytest.mark.parametrize("scheme", ["karabo", "crystfel"])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_om_is_refused_unread(scheme, protocol):
    decode = parse_address(f"{scheme}+tcp://host:1").protocol.decoder({})
    message = pickle.dumps([{"detector_data": Hostile()}], protocol=protocol)
    with pytest.raises(InputError, match="is a pickle" if protocol >= 2 else None):
        decode([message, message])
    assert not Hostile.ran


VALID = {
    "karabo": [bytes(part) for part in serialize(*train(7, images(2)))],
    "crystfel": [of_crystfel(images(1, "i4").reshape(60, 30), photon_energy_eV=9000.0)],
}


@pytest.mark.parametrize("scheme", VALID)
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_mutated_messages_are_read_or_refused(scheme, seed):
    rng = random.Random(seed)
    parts = [bytearray(part) for part in VALID[scheme]]
    for _ in range(rng.randint(1, 5)):
        part = parts[rng.randrange(len(parts))]
        kind, place = rng.randrange(4), rng.randrange(len(part) + 1)
        place = min(place, rng.randrange(200))
        if kind == 0:
            part[place : place + 1] = rng.randbytes(1)
        elif kind == 1:
            del part[place : place + rng.randint(1, 30)]
        elif kind == 2:
            part[place:place] = rng.randbytes(rng.randint(1, 9))
        elif len(parts) > 1:
            del parts[rng.randrange(len(parts))]
    decode = parse_address(f"{scheme}+tcp://host:1").protocol.decoder({})
    try:
        for shot in decode([bytes(part) for part in parts]):
            shot.unpack()
    except InputError:
        pass
