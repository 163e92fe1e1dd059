"""The socket of a stream, and the ring of its last messages.

A thread takes messages from the socket as they come, so that the sender never waits for us: what
the ring has no room for is dropped, oldest first, and counted.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wrappers.errors import InputError, ProgramError
from wrappers.streams.messages import MOST_BYTES, Message, SeriesEnd, SeriesStart, Shot
from wrappers.streams.protocols import StreamAddress

if TYPE_CHECKING:
    import zmq

__all__ = ["BUFFER", "IDLE", "Counts", "Receiver"]

BUFFER = 1000
"""Images that wait in the ring, where nobody says how many."""
IDLE = 60.0
"""Seconds without a frame after which what has come is enough, where nobody says how long."""

POLL = 0.1
"""Seconds between two looks whether to end."""
MOST_WAITING = 16
"""Messages that ZeroMQ keeps while the thread is busy; the sender has a queue of its own."""
MOST_HELD = 1 << 31
"""Bytes of images that wait in the ring, however many images may."""
MOST_REASONS, MOST_LETTERS = 50, 500
"""Reasons that are kept why messages are damaged, and letters of each, as strangers write them."""
TO_RETRY = 1.0
"""Seconds within which ZeroMQ says that it connects again, where the sender has gone."""
KEEPALIVE = {"": 1, "_IDLE": 30, "_INTVL": 10, "_CNT": 3}
"""Of TCP, in seconds: so that a sender whose machine is gone is noticed, and asked again."""


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
    reasons : list of str
        Why messages could not be read: of reasons that differ in numbers alone only the first.
    """

    received: int = 0
    dropped: int = 0
    series: int = 0
    damaged: int = 0
    other: int = 0
    reason: str = ""
    reasons: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def damage(self, reason: str) -> None:
        """Count a message that could not be read; from any thread."""
        # What is wrong with a message may be said in its own words.
        reason = re.sub(r"\s+", " ", reason)[:MOST_LETTERS]
        reason = "".join(letter if letter.isprintable() else "?" for letter in reason)
        with self._lock:
            self.damaged += 1
            self.reason = reason
            words = _without_numbers(reason)
            if len(self.reasons) < MOST_REASONS and all(
                _without_numbers(each) != words for each in self.reasons
            ):
                self.reasons.append(reason)

    def leave_out(self, reason: str) -> None:
        """Count an image of another series or detector; from any thread."""
        with self._lock:
            self.other += 1
            self.reason = reason

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
    most : int
        Bytes that they may take; one image has room always.

    Attributes
    ----------
    counts : Counts

    Raises
    ------
    ProgramError
        If the socket cannot be made.
    """

    def __init__(self, address: StreamAddress, size: int, most: int = MOST_HELD) -> None:
        import zmq

        self._address, self._size, self._most = address, size, most
        self.counts = Counts()
        self._decode = address.protocol.decoder(address.options)
        self._ring: deque[Message] = deque()
        self._n_shots = self._held = 0
        self._change = threading.Condition()
        self._ended = threading.Event()
        self._context = zmq.Context()
        try:
            self._open()
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
            return self._taken()

    def close(self) -> None:
        """End the thread and the socket."""
        self._ended.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _open(self) -> None:
        import zmq

        address = self._address
        self._asked = False
        self._socket = self._context.socket(_kind(address))
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, min(self._size, MOST_WAITING))
        self._socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        for name, value in KEEPALIVE.items():
            self._socket.setsockopt(getattr(zmq, f"TCP_KEEPALIVE{name}"), value)
        if address.subscribed is not None:
            self._socket.setsockopt(zmq.SUBSCRIBE, address.subscribed)
        events = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(events)
        if address.listens:
            self._socket.bind(address.endpoint)
        else:
            self._socket.connect(address.endpoint)

    def _receive(self) -> None:
        import zmq

        lost = False
        while not self._ended.is_set():
            try:
                if self._address.request is not None and not self._asked:
                    self._socket.send(self._address.request, zmq.NOBLOCK)
                    self._asked = True
                lost = self._disconnected(0) or lost
                if not self._socket.poll(int(1000 * POLL)):
                    if lost:  # and what came before is taken
                        lost = False
                        self._connect_again()
                    continue
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                self.counts.reason = str(error)
                time.sleep(POLL)
                continue
            self._asked = False
            try:
                messages = self._decode(parts)
            except InputError as error:
                self.counts.damage(str(error))
                continue
            except Exception as error:  # whatever a message is, the next one is heard
                self.counts.damage(f"a message cannot be read: {type(error).__name__}: {error}")
                continue
            for message in messages:
                self._keep(message)

    def _disconnected(self, timeout: float, *, again: bool = False) -> bool:
        """Return whether a sender has gone, or with `again`, whether ZeroMQ connects to it again.

        What the socket says is waited for so many seconds, and read.
        """
        import zmq
        from zmq.utils.monitor import recv_monitor_message

        wanted = zmq.EVENT_CONNECT_RETRIED if again else zmq.EVENT_DISCONNECTED
        found = False
        while not found and self._monitor.poll(int(1000 * timeout)):
            found = recv_monitor_message(self._monitor)["event"] == wanted
        return found

    def _connect_again(self) -> None:
        """Connect to a sender that has gone, where ZeroMQ does not.

        It does not where it ended the connection itself, as it does at a message that is too large.
        What was asked for is asked for again in any case.
        """
        too_large = f"it sent more than {MOST_BYTES >> 20} MiB in one message, or no ZeroMQ"
        if self._address.listens:
            self.counts.reason = f"a sender has gone from {self._address.name}, or {too_large}"
            return
        again = self._disconnected(TO_RETRY, again=True)
        if not again:
            self.counts.damage(f"the connection to {self._address.name} was ended: {too_large}")
        if not again or self._asked:
            self._socket.disable_monitor()
            self._socket.close(linger=0)
            self._open()

    def _keep(self, message: Message) -> None:
        """Let a message wait; what a series began with does as long as images of it may."""
        with self._change:
            if isinstance(message, SeriesEnd):
                return
            if isinstance(message, Shot):
                self.counts.received += 1
                while self._n_shots and (
                    self._n_shots == self._size or self._held + _n_bytes(message) > self._most
                ):
                    self._drop_oldest()
                self._n_shots += 1
            elif self._ring and isinstance(self._ring[-1], SeriesStart):
                self._held -= _n_bytes(self._ring.pop())
            self._held += _n_bytes(message)
            self._ring.append(message)
            self._change.notify()

    def _taken(self) -> Message:
        message = self._ring.popleft()
        self._n_shots -= isinstance(message, Shot)
        self._held -= _n_bytes(message)
        return message

    def _drop_oldest(self) -> None:
        """Drop the oldest image, and what its series began with if it was the last of it."""
        start = None
        message = self._taken()
        if not isinstance(message, Shot):
            start, message = message, self._taken()
        self.counts.dropped += 1
        if start is not None and (not self._ring or isinstance(self._ring[0], Shot)):
            self._held += _n_bytes(start)
            self._ring.appendleft(start)


def _without_numbers(reason: str) -> str:
    return re.sub(r"\d+", "0", reason)


def _n_bytes(message: Message) -> int:
    if isinstance(message, Shot):
        return message.n_bytes
    mask = message.mask if isinstance(message, SeriesStart) else None
    return 0 if mask is None else mask.nbytes


def _kind(address: StreamAddress) -> int:
    import zmq

    if address.subscribed is not None:
        return int(zmq.SUB)
    return int(getattr(zmq, address.protocol.socket))
