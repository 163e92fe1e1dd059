"""The socket of a stream, and the ring of its last messages.

A thread takes messages from the socket as they come, so that the sender never waits for us: what
the ring has no room for is dropped, oldest first, and counted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from wrappers.errors import InputError, ProgramError
from wrappers.streams.messages import MOST_BYTES, Message, Shot
from wrappers.streams.protocols import StreamAddress

__all__ = ["BUFFER", "IDLE", "Counts", "Receiver"]

BUFFER = 1000
"""Images that wait in the ring, where nobody says how many."""
IDLE = 60.0
"""Seconds without a frame after which what has come is enough, where nobody says how long."""

POLL = 0.1
"""Seconds between two looks whether to end."""
MOST_WAITING = 1000
"""Messages that ZeroMQ keeps while the thread is busy."""
MOST_OTHERS = 64
"""Messages in the ring that are no images."""
PATIENCE = 5.0
"""Seconds that an answer may take before it is asked for again."""


@dataclass
class Counts:
    """What has become of a stream's messages.

    Attributes
    ----------
    received, dropped : int
        Images; and of those, the ones that the ring had no room for.
    series : int
        Series that began.
    damaged : int
        Messages that could not be read.
    other : int
        Images that were left out, as they are of another series or detector.
    reason : str
        Why the last of these were, or "".
    """

    received: int = 0
    dropped: int = 0
    series: int = 0
    damaged: int = 0
    other: int = 0
    reason: str = ""

    def __str__(self) -> str:
        """Say what was lost, to be put behind other words; nothing where all is well."""
        lost = f", {self.dropped} of {self.received} frames dropped" if self.dropped else ""
        damaged = f", {self.damaged} damaged" if self.damaged else ""
        other = f", {self.other} of another series left out" if self.other else ""
        return f"{lost}{damaged}{other}"


class Receiver:
    """Receives a stream's messages; close it, or use it as a context manager.

    Parameters
    ----------
    address : StreamAddress
    size : int
        Images that the ring has room for.

    Attributes
    ----------
    counts : Counts

    Raises
    ------
    ProgramError
        If the socket cannot be made.
    """

    def __init__(self, address: StreamAddress, size: int) -> None:
        import zmq

        self._address, self._size = address, size
        self.counts = Counts()
        self._decode = address.protocol.decoder(address.options)
        self._ring: deque[Message] = deque()
        self._n_shots = 0
        self._change = threading.Condition()
        self._ended = threading.Event()
        self._context = zmq.Context()
        try:
            self._socket = self._context.socket(_kind(address))
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RCVHWM, min(size, MOST_WAITING))
            self._socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
            self._socket.setsockopt(zmq.RCVTIMEO, int(1000 * POLL))
            if address.subscribed is not None:
                self._socket.setsockopt(zmq.SUBSCRIBE, address.subscribed)
            if address.request is not None:
                # So that it may ask again where the sender went away with the answer.
                self._socket.setsockopt(zmq.REQ_RELAXED, 1)
                self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
            if address.listens:
                self._socket.bind(address.endpoint)
            else:
                self._socket.connect(address.endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            how = "listened at" if address.listens else "connected to"
            hint = ": where the sender listens, put ?connect= behind it" if address.listens else ""
            raise ProgramError(f"{address.name} cannot be {how}: {error}{hint}") from error
        self._thread = threading.Thread(target=self._receive, name="stream", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def next(self, timeout: float) -> Message | None:
        """Return the oldest message of the ring; None where none comes within `timeout` seconds."""
        with self._change:
            if not self._ring:
                self._change.wait_for(lambda: bool(self._ring), timeout)
            if not self._ring:
                return None
            message = self._ring.popleft()
            self._n_shots -= isinstance(message, Shot)
            return message

    def close(self) -> None:
        """End the thread and the socket."""
        self._ended.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _receive(self) -> None:
        import zmq

        asked, request = -math.inf, self._address.request
        while not self._ended.is_set():
            try:
                if request is not None and time.monotonic() - asked > PATIENCE:
                    self._socket.send(request, zmq.NOBLOCK)
                    asked = time.monotonic()
                parts = self._socket.recv_multipart()
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                self.counts.reason = str(error)
                time.sleep(POLL)
                continue
            asked = -math.inf
            try:
                messages = self._decode(parts)
            except InputError as error:
                self.counts.damaged += 1
                self.counts.reason = str(error)
                continue
            except Exception as error:  # whatever a message is, the next one is heard
                self.counts.damaged += 1
                self.counts.reason = f"a message cannot be read: {type(error).__name__}: {error}"
                continue
            for message in messages:
                self._keep(message)

    def _keep(self, message: Message) -> None:
        with self._change:
            if isinstance(message, Shot):
                self.counts.received += 1
                if self._n_shots == self._size:
                    self._drop_oldest()
                self._n_shots += 1
            elif len(self._ring) - self._n_shots == MOST_OTHERS:
                self._drop_oldest_other()
            self._ring.append(message)
            self._change.notify()

    def _drop_oldest(self) -> None:
        """Drop the oldest image; what a series began with is needed by those behind it."""
        for place, message in enumerate(self._ring):
            if isinstance(message, Shot):
                del self._ring[place]
                self._n_shots -= 1
                self.counts.dropped += 1
                return

    def _drop_oldest_other(self) -> None:
        for place, message in enumerate(self._ring):
            if not isinstance(message, Shot):
                del self._ring[place]
                return


def _kind(address: StreamAddress) -> int:
    import zmq

    if address.subscribed is not None:
        return int(zmq.SUB)
    return int(getattr(zmq, address.protocol.socket))
