"""The process that reads HDF5 files of strangers: what it may use is bounded, and it may die."""

from __future__ import annotations

import json
import math
import resource
from multiprocessing.connection import Connection
from typing import Any

import h5py
import numpy as np
import psutil

import wrappers.frames.filters  # noqa: F401  (HDF5 learns of bitshuffle, LZ4, zstd and others)
from wrappers.processes import serve_parent

__all__ = ["MOST_ANSWER", "MOST_FILE", "serve"]

MOST_FILE = 1 << 29
"""Bytes of a file, and of its images."""
MOST_ANSWER = 1 << 20
"""Bytes of what is said of a file's arrays."""
MOST_MEMORY = 4 * MOST_FILE
"""Bytes that a file may take while it is read: the message, a chunk, the images, and again."""
MOST_NAMES, MOST_VALUES = 500, 10_000
"""Arrays of a file that are looked at; numbers of one that is not the images."""


def serve(pipe: Connection, path: str) -> None:
    """Read messages and answer each, until the pipe is closed."""
    serve_parent()
    most = psutil.Process().memory_info().vms + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send_bytes(b"ready")
    while True:
        try:
            message = pipe.recv_bytes(MOST_FILE)
        except (EOFError, OSError):
            return
        try:
            answer, images = _read(message, path)
        except Exception as error:  # of damaged bytes it may be any
            words = " ".join(str(error).split())[:200]
            answer, images = {"error": f"an HDF5 file of the stream cannot be read: {words}"}, None
        text = json.dumps(answer).encode()
        if len(text) > MOST_ANSWER:
            answer, images = {"error": "an HDF5 file of the stream holds too many numbers"}, None
            text = json.dumps(answer).encode()
        pipe.send_bytes(text)
        if images is not None:
            pipe.send_bytes(images)


def _read(message: bytes, path: str) -> tuple[dict[str, Any], bytes | None]:
    with h5py.File(h5py.h5f.open_file_image(message)) as file:
        arrays: dict[str, h5py.Dataset] = {}

        def look(name: str, item: object) -> bool | None:
            if (
                isinstance(item, h5py.Dataset)
                and item.dtype.kind in "uif"
                and item.shape is not None
            ):
                arrays[name] = item
            return True if len(arrays) >= MOST_NAMES else None

        file.visititems(look)  # follows no links to other files
        name, images = _images(arrays, path.strip("/"))
        n_bytes = math.prod(images.shape) * images.dtype.itemsize
        chunk = math.prod(images.chunks or (0,)) * images.dtype.itemsize
        if max(n_bytes, chunk) > MOST_FILE:
            return {"error": f"{name} of an HDF5 file of the stream has {n_bytes} bytes"}, None
        if images.is_virtual or images.external:
            return {"error": f"{name} of an HDF5 file of the stream lies in other files"}, None
        stack = images[()]
        if stack.ndim == 2:
            stack = stack[None]
        stack = np.ascontiguousarray(stack.reshape(len(stack), -1, stack.shape[-1]))
        values = {
            each: _numbers(array, len(stack))
            for each, array in arrays.items()
            if each != name and not array.is_virtual and not array.external
        }
        known = {each: value for each, value in values.items() if value is not None}
        about = {"shape": stack.shape, "dtype": stack.dtype.str, "values": known}
        return about, stack.tobytes()


def _images(arrays: dict[str, h5py.Dataset], path: str) -> tuple[str, h5py.Dataset]:
    if path:
        if path not in arrays or not 2 <= arrays[path].ndim <= 4:
            raise ValueError(f"it has no images at {path}, but {', '.join(arrays)[:100]}")
        return path, arrays[path]
    of_images = {name: each for name, each in arrays.items() if 2 <= each.ndim <= 4}
    if not of_images:
        raise ValueError("it has no images")
    name = max(of_images, key=lambda name: of_images[name].size)
    return name, of_images[name]


def _numbers(array: h5py.Dataset, n: int) -> float | list[float] | None:
    """Return the numbers of an array that has one for all events or one for each."""
    if array.size > MOST_VALUES or array.size not in (1, n):
        return None
    found = np.asarray(array[()]).reshape(-1).astype(float).tolist()
    return found if len(found) == n else found[0]
