"""Messages that are HDF5 files, as LCLStreamer sends them.

The largest array of a file is its images, an event a row; further numbers, one for all events or
one for each, are what the geometry names: photon energy, camera length. HDF5's library was not
written for files of strangers, so a process of its own reads them, with bounded memory and time.
A message that it dies of is one damaged message.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.streams.hdf5_child import MOST_ANSWER, MOST_FILE, serve
from wrappers.streams.messages import Shot, counted_names
from wrappers.streams.packed import as_array

__all__ = ["decoder"]

PATIENCE = 10.0
"""Seconds that a message may take."""
TO_START = 60.0
"""Seconds that the process may take to start, on a busy machine."""
MOST_EVENTS = 10_000
"""In a message."""


def decoder(options: Mapping[str, str]) -> Callable[[Sequence[bytes]], list[Shot]]:
    """Return what reads a message, which is one part."""
    reader, names = _Reader(options.get("data", "")), counted_names()

    def decode(parts: Sequence[bytes]) -> list[Shot]:
        images, values = reader.read(parts[-1])
        return [
            Shot(*next(names), partial(np.asarray, image), values(row), image.nbytes)
            for row, image in enumerate(images)
        ]

    return decode


class _Reader:
    """The process that reads; it is started when there is something to read, and after it died."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def read(self, message: bytes) -> tuple[NDArray[Any], Callable[[int], dict[str, float]]]:
        """Return a message's images (event, ss, fs), and what gives an event's numbers.

        Raises
        ------
        InputError
            If there are none, or reading them takes too much.
        """
        with self._lock:
            if len(message) > MOST_FILE:
                raise InputError(f"an HDF5 file of the stream has over {MOST_FILE >> 20} MiB")
            if self._child is None:
                self._child = _Child(self._path)
            try:
                answer, data = self._child.ask(message)
            except (OSError, EOFError) as error:
                self._child.end()
                self._child = None
                raise InputError(
                    "a message that should be an HDF5 file cannot be read: it took more than "
                    f"{PATIENCE:g} s or too much memory, or ended the process that read it"
                ) from error
        if "error" in answer:
            raise InputError(str(answer["error"])[:300])
        shape, values = answer.get("shape"), answer.get("values")
        if not isinstance(shape, list) or len(shape) != 3 or not isinstance(values, dict):
            raise InputError("an HDF5 file of the stream has no images that can be made out")
        images = as_array(answer.get("dtype"), shape, data, "the images of an HDF5 file")()
        if len(images) > MOST_EVENTS:
            raise InputError(f"an HDF5 file of the stream has {len(images)} events")
        return images, partial(_of_event, values)


class _Child:
    def __init__(self, path: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, path), daemon=True)
        self._process.start()
        theirs.close()
        self._finalizer = weakref.finalize(self, _end, self._process, self._pipe)
        if not self._pipe.poll(TO_START):
            self.end()
            raise InputError("the process that reads HDF5 files of the stream did not start")
        self._pipe.recv_bytes(100)

    def ask(self, message: bytes) -> tuple[dict[str, Any], bytes]:
        self._pipe.send_bytes(message)
        if not self._pipe.poll(PATIENCE):
            raise EOFError
        try:
            answer = json.loads(self._pipe.recv_bytes(MOST_ANSWER))
        except ValueError as error:
            raise EOFError from error
        if not isinstance(answer, dict):
            raise EOFError
        return answer, b"" if "error" in answer else self._pipe.recv_bytes(MOST_FILE)

    def end(self) -> None:
        self._finalizer()


def _end(process: Any, pipe: Any) -> None:
    pipe.close()
    process.kill()
    process.join()


def _of_event(values: Mapping[Any, Any], row: int) -> dict[str, float]:
    """Return an event's numbers: a list has one for each, a number is for all."""
    found = {}
    for name, value in values.items():
        if isinstance(value, list):
            value = value[row] if row < len(value) else None
        if type(value) in (int, float):
            found[str(name)] = float(value)
    return found
