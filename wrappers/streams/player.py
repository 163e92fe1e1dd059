"""A run as the messages of a stream, for tests and for trying a beamline's set-up beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np

from wrappers.errors import InputError
from wrappers.frames.source import FrameSource
from wrappers.streams.dectris import encode_end, encode_image, encode_start
from wrappers.streams.messages import SeriesStart
from wrappers.streams.protocols import StreamAddress

__all__ = ["Player", "messages_of"]


def messages_of(
    run: FrameSource, algorithm: str = "bslz4", series: str = "1", first: int = 0
) -> Iterator[bytes]:
    """Yield a run's messages as DECTRIS' stream V2 has them: start, images, end.

    Parameters
    ----------
    run : FrameSource
    algorithm : str
        One of `typed.COMPRESSIONS`, or "" for none.
    series : str
    first : int
        Number of the first image.
    """
    frame, geometry = run[0], run.geometry
    start = SeriesStart(
        series,
        geometry.slab_shape,
        frame.photon_energy,
        frame.camera_length,
        1 / geometry.panels[0].res,
        run.static_mask(0),
    )
    yield encode_start(start, frame.data.dtype)
    for index in range(len(run)):
        yield encode_image(series, first + index, np.asarray(run[index].data), algorithm)
    yield encode_end(series)


class Player:
    """Sends messages at a rate; close it, or use it as a context manager.

    Parameters
    ----------
    address : StreamAddress
        Where it listens, on this machine as a rule (127.0.0.1). Port 0 is not taken.
    waiting : int
        Messages that wait for a receiver; a sender of a detector drops further ones.

    Attributes
    ----------
    n_sent, n_dropped : int

    Raises
    ------
    InputError
        If the address cannot be listened at.
    """

    def __init__(self, address: StreamAddress, waiting: int = 100) -> None:
        import zmq

        self.n_sent = self.n_dropped = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, waiting)
        try:
            self._socket.bind(address.endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(f"{address.name} cannot be listened at: {error}") from error

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
        messages: Iterator[bytes],
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
        while not self._socket.poll(100, zmq.POLLOUT):
            if stopped() or time.monotonic() > ends:
                return
        due = time.monotonic()
        for message in messages:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1.0) + 1 / rate
            if stopped():
                return
            try:
                self._socket.send(message, zmq.NOBLOCK)
                self.n_sent += 1
            except zmq.Again:
                self.n_dropped += 1

    def close(self, linger: int = 0) -> None:
        """Close the socket; `linger` milliseconds are left for what was not yet taken."""
        self._context.destroy(linger=linger)
