"""The socket of a stream: responders are asked as they want it, and what waits is bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
import zmq

from tests.ports import free_port
from wrappers.errors import InputError
from wrappers.streams import receiver
from wrappers.streams.dectris import encode_end, encode_image, encode_start
from wrappers.streams.messages import Message, SeriesStart, Shot
from wrappers.streams.protocols import parse_address
from wrappers.streams.receiver import Receiver
from wrappers.streams.serving import HitServer

IMAGE = np.arange(12, dtype="<f4").reshape(3, 4)


def of_crystfel(**more: object) -> bytes:
    image = {"type": "<f4", "shape": [3, 4], "data": IMAGE.tobytes()}
    return msgpack.packb({"detector_data": image, **more})


def taken(stream: Receiver, n: int, patience: float = 10.0) -> list[Message]:
    """Return the next messages, up to `n`."""
    found: list[Message] = []
    ends = time.monotonic() + patience
    while len(found) < n and time.monotonic() < ends:
        message = stream.next(0.1)
        if message is not None:
            found.append(message)
    return found


def wait_until(true: Callable[[], bool], patience: float = 10.0) -> None:
    ends = time.monotonic() + patience
    while not true() and time.monotonic() < ends:
        time.sleep(0.01)


@contextmanager
def running(serve: Callable[[zmq.Context, threading.Event], None]) -> Iterator[None]:
    ended = threading.Event()
    context = zmq.Context()
    thread = threading.Thread(target=serve, args=(context, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        context.destroy(linger=0)


def test_oms_responder_is_asked_as_it_wants_it():
    """It is a ROUTER that reads the third part of a request, and answers with three."""
    port = free_port()

    def serve(context: zmq.Context, ended: threading.Event) -> None:
        socket = context.socket(zmq.ROUTER)
        socket.bind(f"tcp://127.0.0.1:{port}")
        number = 0
        while not ended.is_set():
            if socket.poll(50):
                request = socket.recv_multipart()
                if request[2] == b"next":
                    number += 1
                    answer = of_crystfel(beam_energy=9000.0 + number)
                    socket.send_multipart((request[0], b"", answer))

    with running(serve), Receiver(parse_address(f"crystfel+tcp://127.0.0.1:{port}"), 50) as stream:
        found = taken(stream, 5)
    assert len(found) == 5 and stream.counts.damaged == 0
    np.testing.assert_array_equal(found[0].unpack(), IMAGE)
    assert [shot.values["beam_energy"] for shot in found] == [9001, 9002, 9003, 9004, 9005]


def test_our_own_hits_are_taken():
    port = free_port()
    image = {"type": "<f4", "shape": [3, 4], "data": IMAGE.tobytes()}
    address = parse_address(f"crystfel+tcp://127.0.0.1:{port}")
    with HitServer(f"tcp://127.0.0.1:{port}") as server, Receiver(address, 50) as stream:
        server._offer(0, lambda: {"image": image})
        found = taken(stream, 1)
    assert len(found) == 1 and server.counts.taken == 1


def test_who_was_asked_is_not_asked_again_while_it_has_nothing():
    """A responder answers each request: one that nobody waits for any more costs an image."""
    port, requests = free_port(), []

    def serve(context: zmq.Context, ended: threading.Event) -> None:
        socket = context.socket(zmq.ROUTER)
        socket.bind(f"tcp://127.0.0.1:{port}")
        while not ended.is_set():
            if socket.poll(50):
                requests.append(socket.recv_multipart())

    with running(serve), Receiver(parse_address(f"crystfel+tcp://127.0.0.1:{port}"), 50):
        wait_until(lambda: bool(requests))
        time.sleep(1.0)
    assert len(requests) == 1


def test_images_keep_the_names_that_they_come_with():
    """OM's identifier; where there is none, the time from which they are counted."""
    decode = parse_address("crystfel+tcp://host:1").protocol.decoder({})
    for key in ("event_id", "event"):
        (shot,) = decode([of_crystfel(**{key: "run7_0042"})])
        assert shot.series == "run7_0042"
    first, second = (decode([of_crystfel()])[0] for _ in range(2))
    assert first.series == second.series and first.series.startswith(time.strftime("%Y"))
    assert second.number == first.number + 1


def test_images_are_named_by_the_geometry_where_there_are_several():
    image = {"type": "<f4", "shape": [3, 4], "data": IMAGE.tobytes()}
    message = [of_crystfel(corrected={**image, "data": (2 * IMAGE).tobytes()})]
    address = parse_address("crystfel+tcp://host:1")
    for named in (address.with_images("/corrected"), address.with_images("corrected")):
        (shot,) = named.protocol.decoder(named.options)(message)
        np.testing.assert_array_equal(shot.unpack(), 2 * IMAGE)
    given = parse_address("crystfel+tcp://host:1?data=detector_data").with_images("/corrected")
    (shot,) = given.protocol.decoder(given.options)(message)
    np.testing.assert_array_equal(shot.unpack(), IMAGE)
    of_files = address.with_images("/entry/data/data")
    decode = of_files.protocol.decoder(of_files.options)
    with pytest.raises(InputError, match=r"2 images \(corrected, detector_data\): name one with"):
        decode(message)
    assert len(decode([of_crystfel()])) == 1


@pytest.mark.parametrize("scheme", ["dectris", "crystfel"])
def test_after_a_message_that_is_too_large_the_stream_is_heard_on(scheme, monkeypatch):
    monkeypatch.setattr(receiver, "MOST_BYTES", 10_000)
    port = free_port()
    small, large = np.ones((20, 30), "u2"), np.ones((200, 300), "u2")
    messages = {
        "dectris": [encode_image("1", 0, image, "") for image in (small, large)],
        "crystfel": [of_crystfel(), of_crystfel(more=b"x" * 20_000)],
    }[scheme]

    def serve(context: zmq.Context, ended: threading.Event) -> None:
        socket = context.socket(zmq.PUSH if scheme == "dectris" else zmq.REP)
        socket.bind(f"tcp://127.0.0.1:{port}")
        number = 0
        while not ended.is_set():
            if scheme == "crystfel" and (not socket.poll(50) or not socket.recv()):
                continue
            try:
                socket.send(messages[number == 3], zmq.NOBLOCK)
                number += 1
            except zmq.Again:
                pass
            time.sleep(0.02)

    with running(serve), Receiver(parse_address(f"{scheme}+tcp://127.0.0.1:{port}"), 500) as stream:
        found = taken(stream, 10)
    assert len(found) == 10
    assert stream.counts.damaged == 1 and "MiB in one message" in stream.counts.reason


def kept(messages: list[bytes], size: int = 100, most: int = receiver.MOST_HELD) -> Receiver:
    """Return a receiver that has these messages of DECTRIS' in its ring."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        stream = Receiver(parse_address(f"dectris+tcp://127.0.0.1:{port}"), size, most)
        for message in [*messages, b"the end"]:
            sender.send(message)
        wait_until(lambda: stream.counts.damaged == 1)
        stream.close()
    return stream


def test_images_that_wait_are_bounded_in_bytes():
    images = [encode_image("1", number, np.ones((50, 100), "u2"), "") for number in range(20)]
    stream = kept(images, most=45_000)
    shots = taken(stream, 20, patience=0.3)
    assert [shot.number for shot in shots] == [16, 17, 18, 19] and stream.counts.dropped == 16
    (last,) = taken(kept(images, most=100), 20, patience=0.3)
    assert last.number == 19


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_series_keeps_its_beginning_as_long_as_its_images(size):
    mask = np.ones((3, 4), bool)
    messages = []
    for number in range(100):
        start = SeriesStart(str(number), (3, 4), 9000.0 + number, 0.1, 1e-4, mask)
        images = [encode_image(str(number), each, IMAGE) for each in range(5)]
        messages += [encode_start(start, IMAGE.dtype), *images, encode_end(str(number))]
    # Of series without images only the last one's beginning matters.
    last = SeriesStart("last", (3, 4), mask=mask)
    messages += [encode_start(last, IMAGE.dtype) for _ in range(3)]
    stream = kept(messages, size)
    n_starts, series = 0, ""
    shots = 0
    for message in taken(stream, 2000, patience=0.3):
        if isinstance(message, SeriesStart):
            n_starts, series = n_starts + 1, message.series
        elif isinstance(message, Shot):
            assert message.series == series
            shots += 1
    assert shots == min(size, 500) and series == "last"
    assert n_starts == -(-shots // 5) + 1 and stream._held == 0
