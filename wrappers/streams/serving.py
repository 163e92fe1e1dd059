"""Hits out again, to a running ``indexamajig --zmq-input``.

Its workers ask, each for itself, and a thread of ours answers. So the reduction never waits: where
nobody asks, hits wait up to a bound, and beyond it the oldest are dropped and counted.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

import h5py

from wrappers.crystfel.messages import image_entry, pattern_entries
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.extras import require
from wrappers.frames.cxi import SOURCE_EVENT, SOURCE_FILE, stored_peaks
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.reduction import Reduction
from wrappers.reduction.parts import HITS
from wrappers.reduction.placed import Placed
from wrappers.streams.protocols import is_loopback

__all__ = ["REQUEST", "HitServer", "ServedCounts", "serving_endpoint"]

REQUEST = b"next"
MOST_WAITING = 1 << 30
"""Bytes of hits that wait in memory."""
POLL = 0.05
"""Seconds between two looks whether there is something to send."""
LINGER = 2000
"""Milliseconds that the last messages may take."""

_ENDPOINT = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^/:?#\s]+):(\d{1,5})")


def serving_endpoint(name: str) -> tuple[str, bool]:
    """Return where to listen, and whether only this machine can reach it.

    Raises
    ------
    InputError
        If it is no address.
    """
    match = _ENDPOINT.fullmatch(name)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise InputError(
            f"--serve {name} is no address to listen at: write it such as tcp://127.0.0.1:5555"
        )
    return name, is_loopback(name)


@dataclass
class ServedCounts:
    """What has become of the hits: offered, taken, and dropped, with why the last one was."""

    offered: int = 0
    taken: int = 0
    dropped: int = 0
    reason: str = ""


class HitServer:
    """Answers an ``indexamajig --zmq-request=next``; close it, or use it as a context manager.

    Parameters
    ----------
    endpoint : str
        Of ZeroMQ, such as ``tcp://127.0.0.1:5555``.
    most : int
        Bytes of hits that wait.

    Attributes
    ----------
    counts : ServedCounts
    asked : bool
        Whether anybody has asked yet.

    Raises
    ------
    InputError
        If what it needs is not installed, or the address cannot be listened at.
    """

    def __init__(self, endpoint: str, most: int = MOST_WAITING) -> None:
        require("live", "--serve", "msgpack", "zmq")
        import zmq

        self.counts = ServedCounts()
        self.asked = False
        self._most, self._size = most, 0
        self._waiting: deque[tuple[int, Callable[[], dict[str, object]]]] = deque()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        # A worker that died while it waited is noticed, and the hit goes to another.
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 16)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(f"--serve {endpoint} cannot be listened at: {error}") from error
        self._thread = threading.Thread(target=self._answer, name="serve", daemon=True)
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

    @property
    def n_waiting(self) -> int:
        """Hits that nobody has taken yet, the one that is being handed over included."""
        counts = self.counts
        return counts.offered - counts.taken - counts.dropped

    @property
    def answers(self) -> bool:
        """Whether whoever asks is answered still."""
        return self._thread.is_alive()

    def offer(self, placed: Placed) -> None:
        """Let a frame wait for whoever asks, if it is a hit; never blocks."""
        if placed.is_hit:
            size = placed.frame.data.nbytes
            self._offer(size, partial(_entries, placed.frame, placed.pattern))

    def offer_file(self, reduction: Reduction) -> None:
        """Let all hits of a file wait there, where none is dropped."""
        stored = _StoredHits(reduction)
        for row in range(reduction.n_hits):
            self._offer(0, partial(stored.entries, row))

    def close(self) -> None:
        """End; what nobody has taken is gone."""
        self._ended.set()
        self._thread.join()
        self._context.destroy(linger=LINGER)

    def _offer(self, size: int, entries: Callable[[], dict[str, object]]) -> None:
        with self._lock:
            self.counts.offered += 1
            self._waiting.append((size, entries))
            self._size += size
            while self._size > self._most:
                dropped, _ = self._waiting.popleft()
                self._size -= dropped
                self._drop("nobody took them in time")

    def _drop(self, reason: str) -> None:
        self.counts.dropped += 1
        self.counts.reason = reason

    def _next(self) -> Callable[[], dict[str, object]] | None:
        with self._lock:
            if not self._waiting:
                return None
            size, entries = self._waiting.popleft()
            self._size -= size
            return entries

    def _answer(self) -> None:
        """Give each worker that asks a hit, as soon as there is one."""
        import msgpack
        import zmq

        idle: deque[bytes] = deque()
        message: bytes | None = None
        while not self._ended.is_set():
            if self._socket.poll(1 if idle and self.n_waiting else int(1000 * POLL)):
                worker, *rest = self._socket.recv_multipart()
                if rest[-1:] == [REQUEST] and worker not in idle:
                    self.asked = True
                    idle.append(worker)
            while idle:
                if message is None:
                    entries = self._next()
                    if entries is None:
                        break
                    try:
                        message = msgpack.packb(entries())
                    except (OSError, KeyError, InputError) as error:  # the file of hits is gone
                        self._drop(f"they cannot be read: {error}")
                        continue
                try:
                    self._socket.send_multipart([idle.popleft(), b"", message], zmq.NOBLOCK)
                except zmq.ZMQError:
                    continue  # that worker has gone
                message = None
                self.counts.taken += 1


def _entries(frame: Frame, pattern: Pattern) -> dict[str, object]:
    names = {"file": frame.file, "event": frame.event}
    return {**names, **pattern_entries(pattern), **image_entry(frame)}


class _StoredHits:
    """Hits of a file, read when they are asked for."""

    def __init__(self, reduction: Reduction) -> None:
        self._path = reduction.hits
        self._run = Run.open(reduction.hits, Geometry.read(reduction.geometry))

    def entries(self, row: int) -> dict[str, object]:
        frame = self._run[row]
        with h5py.File(self._path) as file:
            peaks = stored_peaks(file, row)
            shift_x, shift_y = (float(file[f"{HITS}/shift_{axis}"][row]) for axis in "xy")
            names = (file[name].asstr()[row] for name in (SOURCE_FILE, SOURCE_EVENT))
            frame = replace(frame, **dict(zip(("file", "event"), names, strict=True)))
        pattern = Pattern(peaks, frame.photon_energy, frame.camera_length, shift_x, shift_y)
        return _entries(frame, pattern)
