"""DECTRIS' stream V2: what is played is read back, and what is damaged is refused."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrappers.errors import InputError
from wrappers.streams import typed
from wrappers.streams.dectris import decode, encode_end, encode_image, encode_start
from wrappers.streams.messages import SeriesEnd, SeriesStart, Shot
from wrappers.streams.typed import COMPRESSED, COMPRESSIONS, MULTIDIMENSIONAL


def image(dtype: str, shape: tuple[int, int] = (31, 57)) -> np.ndarray:
    rng = np.random.default_rng(3)
    if dtype.startswith("f"):
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("algorithm", ["", *COMPRESSIONS])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"])
def test_images_come_back_as_they_were(dtype, algorithm):
    sent = image(dtype)
    shot = decode(encode_image("a", 7, sent, algorithm))
    assert isinstance(shot, Shot) and (shot.series, shot.number) == ("a", 7)
    found = shot.unpack()
    assert found.dtype == sent.dtype
    np.testing.assert_array_equal(found, sent)


def test_big_endian_arrays_are_read_as_numbers():
    sent = image("u2")
    document = cbor2.loads(encode_image("a", 7, sent, ""))
    flat = cbor2.CBORTag(65, sent.astype(">u2").tobytes())
    document["data"] = {"t": cbor2.CBORTag(MULTIDIMENSIONAL, [list(sent.shape), flat])}
    np.testing.assert_array_equal(decode(cbor2.dumps(document)).unpack(), sent)


def test_the_start_says_size_energy_distance_and_mask():
    mask = image("u1") > 20
    start = SeriesStart("b", mask.shape, 9300.0, 0.08, 75e-6, mask)
    found = decode(encode_start(start, np.dtype("u2")))
    assert isinstance(found, SeriesStart)
    assert (found.series, found.shape, found.photon_energy) == ("b", mask.shape, 9300.0)
    assert (found.distance, found.pixel_size, found.error_value) == (0.08, 75e-6, None)
    np.testing.assert_array_equal(found.mask, mask)
    assert decode(encode_end("b")) == SeriesEnd("b")


def test_jungfraujoch_names_its_distance_and_its_value_of_errors():
    document = {
        "type": "start",
        "series_unique_id": "run 7",
        "image_size_x": 4,
        "image_size_y": 3,
        "detector_distance": 0.12,
        "error_value": -32768,
    }
    found = decode(cbor2.dumps(document))
    assert (found.distance, found.error_value) == (0.12, -32768)
    for kind in ("calibration", "metadata"):
        assert decode(cbor2.dumps({"type": kind, "series_id": 1})) is None


def array_of(data: object, shape: object = (3, 4), tag: int = 69) -> bytes:
    array = cbor2.CBORTag(MULTIDIMENSIONAL, [shape, cbor2.CBORTag(tag, data)])
    return cbor2.dumps({"type": "image", "image_id": 0, "data": {"t": array}})


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff" * 40,
        cbor2.dumps([1, 2]),
        cbor2.dumps({"type": 3}),
        cbor2.dumps({"type": "image", "image_id": "x", "data": {}}),
        cbor2.dumps({"type": "image", "image_id": 1, "data": {"a": b"123"}}),
        cbor2.dumps({"type": "image", "image_id": 1, "data": {"a": cbor2.CBORTag(1234, b"")}}),
        array_of(b"too short"),
        array_of("text" * 6),
        array_of(b"x" * 24, shape=[3, -4]),
        array_of(b"x" * 24, shape=[2**40, 2**40]),
        array_of(b"x" * 24, shape=[24]),
        array_of(cbor2.CBORTag(COMPRESSED, ["gzip", 2, b"x" * 30])),
        array_of(cbor2.CBORTag(COMPRESSED, ["bslz4", 2, b"x" * 30])),
        array_of(cbor2.CBORTag(COMPRESSED, ["bslz4", 2, (24).to_bytes(8, "big") + b"\xff" * 30])),
        array_of(cbor2.CBORTag(COMPRESSED, ["lz4", 2, b""])),
        b"\x9f" * 100_000,
    ],
)
def test_what_is_damaged_is_one_sentence(message):
    with pytest.raises(InputError) as error:
        decode(message).unpack()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_message_does_not_take_many_times_its_size(monkeypatch):
    monkeypatch.setattr(typed, "MOST_BESIDE", 100_000)
    many = b"\x9a" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000
    endless = b"\x9f" + b"\x80" * 1_000_000 + b"\xff"
    text = cbor2.dumps({"type": "start", "user_data": "x" * 200_000})
    for message in (many, endless, text):
        tracemalloc.start()
        with pytest.raises(InputError, match="beside its arrays"):
            decode(message)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1e6


def test_a_message_may_have_many_spots_and_a_large_image():
    spots = [{"x": 1.5, "y": 2.5, "I": 3.5}] * 10_000
    document = {**cbor2.loads(encode_image("a", 7, image("u1", (2000, 2000)), "")), "spots": spots}
    assert decode(cbor2.dumps(document)).number == 7


class Hostile:
    ran = False

    def __reduce__(self):
        return setattr, (Hostile, "ran", True)


def test_a_pickle_is_refused_unread():
    for protocol in range(6):
        with pytest.raises(InputError):
            decode(pickle.dumps([{"data": Hostile()}], protocol=protocol))
    assert not Hostile.ran


VALID = [
    encode_start(SeriesStart("s", (31, 57), 9300.0, 0.08, 75e-6, image("u1") > 5), np.dtype("u2")),
    *(encode_image("s", 1, image("u2"), algorithm) for algorithm in ("", *COMPRESSIONS)),
    encode_end("s"),
]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.integers(0, 2**32))
def test_mutated_messages_are_read_or_refused(which, seed):
    rng = random.Random(seed)
    message = bytearray(VALID[which])
    for _ in range(rng.randint(1, 6)):
        kind, place = rng.randrange(3), rng.randrange(len(message))
        if kind == 0:
            # The beginning is where the structure is.
            message[place if rng.random() < 0.5 else min(place, rng.randrange(60))] = rng.randrange(
                256
            )
        elif kind == 1:
            del message[place : place + rng.randint(1, 30)]
        else:
            message[place:place] = rng.randbytes(rng.randint(1, 9))
        message += bytes(not message)
    try:
        found = decode(bytes(message))
        if isinstance(found, Shot):
            found.unpack()
    except InputError:
        pass
