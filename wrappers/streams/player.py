"""A run as the messages of a stream, for tests and for trying a beamline's set-up beforehand."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import h5py
import numpy as np

from wrappers.detector.panels import Header
from wrappers.errors import InputError
from wrappers.frames.filters import COMPRESSION
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.streams.dectris import encode_end, encode_image, encode_start
from wrappers.streams.karabo import KEYS
from wrappers.streams.messages import SeriesStart
from wrappers.streams.protocols import StreamAddress

if TYPE_CHECKING:
    import zmq

__all__ = ["Player", "Remembered", "messages_of"]


def messages_of(
    run: FrameSource, scheme: str = "dectris", algorithm: str = "bslz4", series: str = "1"
) -> Iterator[list[bytes]]:
    """Yield a run's messages, each in its parts.

    Parameters
    ----------
    run : FrameSource
    scheme : str
        The protocol: "dectris" or "jungfraujoch" (start, images, end), "karabo" (a train an image)
        "crystfel", or "hdf5" (a file an image).
    algorithm : str
        One of `typed.COMPRESSIONS`, or "" for none; only of the first two.
    series : str
        What tells this series from others.
    """
    return _PLAYED[scheme](run, algorithm, series)


def _of_dectris(run: FrameSource, algorithm: str, series: str) -> Iterator[list[bytes]]:
    frame, geometry = run[0], run.geometry
    start = SeriesStart(
        series,
        geometry.slab_shape,
        frame.photon_energy,
        frame.camera_length,
        1 / geometry.panels[0].res,
        run.static_mask(0),
    )
    yield [encode_start(start, frame.data.dtype)]
    for index in range(len(run)):
        yield [encode_image(series, index, np.asarray(run[index].data), algorithm)]
    yield [encode_end(series)]


def _of_karabo(run: FrameSource, algorithm: str, series: str) -> Iterator[list[bytes]]:
    from msgpack import packb

    source = "SIMULATED/DET/APPEND_CORRECTED"
    for index in range(len(run)):
        frame = run[index]
        image = np.ascontiguousarray(frame.data)[None]
        named: list[bytes] = []
        for header, value in _numbers(run, frame):
            place, _, key = header.path.lstrip("/").rpartition("/")
            of = {"source": place, "content": "msgpack", "metadata": {"timestamp.tid": index}}
            named += packb(of), packb({key: value})
        about = {"source": source, "content": "msgpack", "metadata": {"timestamp.tid": index}}
        header_of_image = {
            "source": source,
            "content": "array",
            "path": KEYS[0],
            "dtype": str(image.dtype),
            "shape": image.shape,
        }
        yield [packb(about), packb({}), *named, packb(header_of_image), image.tobytes()]


def _of_crystfel(run: FrameSource, algorithm: str, series: str) -> Iterator[list[bytes]]:
    from msgpack import packb

    for index in range(len(run)):
        frame = run[index]
        image = np.ascontiguousarray(frame.data)
        packed = {"type": image.dtype.str, "shape": image.shape, "data": image.tobytes()}
        named = {h.path.lstrip("/"): value for h, value in _numbers(run, frame)}
        energy = {"photon_energy_eV": frame.photon_energy}
        yield [packb([{"detector_data": packed, **energy, **named}])]


def _numbers(run: FrameSource, frame: Frame) -> list[tuple[Header, float]]:
    """Return what the run's geometry takes from the data of a frame, as it is stored there."""
    geometry = run.geometry
    coffset = float(np.mean([panel.coffset for panel in geometry.panels]))
    numbers = (
        (geometry.photon_energy, frame.photon_energy),
        (geometry.clen_header, frame.camera_length - coffset),
    )
    return [(h, float(h.stored(value))) for h, value in numbers if isinstance(h, Header)]


def _of_hdf5(run: FrameSource, algorithm: str, series: str) -> Iterator[list[bytes]]:
    for index in range(len(run)):
        frame = run[index]
        image = np.asarray(frame.data)[None]
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset(_IMAGES, data=image, chunks=image.shape, **COMPRESSION)
            for header, value in _numbers(run, frame):
                file[header.path] = [value]
        yield [content.getvalue()]


class Remembered:
    """Messages that were made once, if they are not too large.

    Parameters
    ----------
    most : int
        Bytes.

    Attributes
    ----------
    messages : list
    is_whole : bool
        Whether they are all.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self.messages: list[list[bytes]] = []
        self.is_whole = False

    def of(self, messages: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
        """Yield messages, and keep them."""
        self.messages = []
        for message in messages:
            self._left -= sum(map(len, message))
            if self._left >= 0:
                self.messages.append(message)
            yield message
        self.is_whole = self._left >= 0
        if not self.is_whole:
            self.messages = []


AGAIN = 5.0
"""Seconds that the system may take to let go of an address."""
_IMAGES = "/data/data"
_PLAYED = {
    "dectris": _of_dectris,
    "jungfraujoch": _of_dectris,
    "karabo": _of_karabo,
    "crystfel": _of_crystfel,
    "hdf5": _of_hdf5,
}


class Player:
    """Sends messages at a rate; close it, or use it as a context manager.

    Where receivers ask for messages, the one that is due goes to who has asked by then.

    Parameters
    ----------
    address : StreamAddress
        Where it listens, or for some protocols the receiver does; on this machine as a rule
        (127.0.0.1). Port 0 is not taken.
    waiting : int
        Messages that wait for a receiver; a sender of a detector drops further ones.

    Attributes
    ----------
    n_sent, n_dropped : int

    Raises
    ------
    InputError
        If the address cannot be listened at, or connected to.
    """

    def __init__(self, address: StreamAddress, waiting: int = 100) -> None:
        import zmq

        self.n_sent = self.n_dropped = 0
        self._address, self._waiting = address, waiting
        self._context = zmq.Context()
        self._answers = address.protocol.socket == "REQ"
        try:
            self._socket = self._open()
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(f"{address.name} cannot be played at: {error}") from error

    def _open(self) -> zmq.Socket[bytes]:
        import zmq

        socket = self._context.socket(zmq.REP if self._answers else zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, self._waiting)
        if self._address.listens:
            # Only whoever listens by then gets messages.
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.connect(self._address.endpoint)
        else:
            socket.bind(self._address.endpoint)
        return socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(linger=0 if kind else 2000)

    def play(
        self,
        messages: Iterable[Sequence[bytes]],
        rate: float,
        *,
        patience: float = 60.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send messages, so many a second; those that nobody takes in time are dropped.

        The first waits until somebody listens, `patience` seconds at most.
        """
        import zmq

        ends = time.monotonic() + patience
        while not self._socket.poll(100, zmq.POLLIN if self._answers else zmq.POLLOUT):
            if stopped() or time.monotonic() > ends:
                return
        due = time.monotonic()
        for message in messages:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1.0) + 1 / rate
            if stopped():
                return
            try:
                if self._answers:
                    self._socket.recv(zmq.NOBLOCK)
                self._socket.send_multipart(message, zmq.NOBLOCK)
                self.n_sent += 1
            except zmq.Again:
                self.n_dropped += 1

    def restart(self) -> None:
        """Go and come back, as a sender that was killed; what nobody has taken yet is lost."""
        import zmq

        self._socket.close(linger=0)
        ends = time.monotonic() + AGAIN
        while True:
            try:
                self._socket = self._open()
                return
            except zmq.ZMQError:  # the address is let go of a moment later
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)

    def close(self, linger: int = 0) -> None:
        """Close the socket; `linger` milliseconds are left for what was not yet taken."""
        self._context.destroy(linger=linger)
