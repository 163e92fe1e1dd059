"""MessagePack as CrystFEL reads it, and OM's responder sends it: a map, or a list of one, an image.

The image is a map of ``type`` (such as ``<i4``), ``shape`` (ss, fs) and ``data``; numbers beside it
are what the geometry names: photon energy, camera length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wrappers.errors import InputError
from wrappers.streams.messages import Shot
from wrappers.streams.packed import as_array, plain_numbers, read_msgpack

__all__ = ["OPTIONS", "decoder"]

OPTIONS = ("subscribe", "request")
"""Of the address: a SUB socket with this tag, or what a REQ socket asks with."""


def decoder(options: Mapping[str, str]) -> Callable[[Sequence[bytes]], list[Shot]]:
    """Return what reads a message; of several parts the last one is it."""
    del options
    numbers = iter(range(2**62))

    def decode(parts: Sequence[bytes]) -> list[Shot]:
        document: Any = read_msgpack(parts[-1])
        if isinstance(document, list) and document:
            document = document[0]
        if not isinstance(document, dict):
            raise InputError("a message of the stream is no map")
        images = [value for value in document.values() if _is_image(value)]
        if len(images) != 1:
            raise InputError(f"a message of the stream holds {len(images)} images instead of one")
        (image,) = images
        unpack = as_array(image["type"], image["shape"], image["data"], "the image")
        return [Shot("", next(numbers), unpack, values=plain_numbers(document))]

    return decode


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and {"type", "shape", "data"} <= value.keys()
