"""MessagePack as CrystFEL reads it, and OM's responder sends it: a map, or a list of one, an image.

The image is a map of ``type`` (such as ``<i4``), ``shape`` (ss, fs) and ``data``; numbers beside it
are what the geometry names: photon energy, camera length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wrappers.errors import InputError
from wrappers.streams.messages import Shot, counted_names
from wrappers.streams.packed import as_array, plain_numbers, read_msgpack

__all__ = ["OPTIONS", "decoder"]

OPTIONS = ("subscribe", "request", "data")
"""Of the address: a SUB socket with this tag, what a REQ socket asks with, and which image of a
message is meant where it has several; the geometry names that, too."""
NAMES = ("event_id", "event")
"""Of what says which image it is: OM's, and that of the hits that we serve."""


def decoder(options: Mapping[str, str]) -> Callable[[Sequence[bytes]], list[Shot]]:
    """Return what reads a message; of several parts the last one is it."""
    wanted, names = options.get("data", "").lstrip("/"), counted_names()

    def decode(parts: Sequence[bytes]) -> list[Shot]:
        document: Any = read_msgpack(parts[-1])
        if isinstance(document, list) and document:
            document = document[0]
        if not isinstance(document, dict):
            raise InputError("a message of the stream is no map")
        image = _chosen({str(k): v for k, v in document.items() if _is_image(v)}, wanted)
        unpack = as_array(image["type"], image["shape"], image["data"], "the image")
        series, number = next(names)
        name = next((document[key] for key in NAMES if isinstance(document.get(key), str)), "")
        values = plain_numbers(document)
        return [Shot(name[:200] or series, number, unpack, values, len(image["data"]))]

    return decode


def _chosen(images: Mapping[str, Any], wanted: str) -> Any:
    if wanted in images:
        return images[wanted]
    if len(images) == 1:
        return next(iter(images.values()))
    if not images:
        raise InputError("a message of the stream holds no image")
    there = ", ".join(sorted(images))[:200]
    raise InputError(
        f"a message of the stream holds {len(images)} images ({there}): name one with 'data =' in "
        "the geometry, or with ?data="
    )


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and {"type", "shape", "data"} <= value.keys()
