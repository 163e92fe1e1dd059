"""DECTRIS SIMPLON stream V2: a CBOR map a message, of the type "start", "image" or "end".

Jungfraujoch speaks the same with one channel, signed types, an ``error_value`` and further types of
messages. Facts are from DECTRIS' documentation of the stream (stream_v2) and Jungfraujoch's
docs/CBOR.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.streams.messages import Message, SeriesEnd, SeriesStart, Shot
from wrappers.streams.typed import (
    COMPRESSED,
    DTYPES,
    MULTIDIMENSIONAL,
    PackedArray,
    compress,
    read_cbor,
)

__all__ = ["decode", "decoder", "encode_end", "encode_image", "encode_start"]

CHANNEL = "default"
"""Of what is played."""
TAGS = {np.dtype(kind): tag for tag, kind in DTYPES.items() if kind[0] != ">"}
"""Of arrays that are played."""


def decoder(options: Mapping[str, str]) -> Callable[[Sequence[bytes]], list[Message]]:
    """Return what reads a message, which is one part."""
    del options

    def read(parts: Sequence[bytes]) -> list[Message]:
        found = decode(parts[-1])
        return [] if found is None else [found]

    return read


def decode(message: bytes) -> Message | None:
    """Return what a message says; None for types of messages that say nothing here.

    Of several channels (thresholds) the first is taken.

    Raises
    ------
    InputError
        If it is damaged, or no message of this protocol.
    """
    document = read_cbor(message)
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise InputError("a message of the stream is no map with a type")
    kind, series = document["type"], _series(document)
    if kind == "start":
        return _start(document, series)
    if kind == "end":
        return SeriesEnd(series)
    if kind != "image":
        return None
    array = _first(document.get("data"), "an image's data")
    if array.shape is None or len(array.shape) != 2:
        raise InputError("an image of the stream has not two dimensions")
    number = _whole(document, "image_id")
    return Shot(series, number, array.unpack, n_bytes=len(array.packed.data))


def _start(document: Mapping[Any, Any], series: str) -> SeriesStart:
    height, width = (document.get(f"image_size_{axis}") for axis in "yx")
    shape = None
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        shape = height, width
    mask = None
    if document.get("pixel_mask"):
        bad = _first(document["pixel_mask"], "the pixel mask").unpack()
        if bad.ndim != 2 or (shape is not None and bad.shape != shape):
            raise InputError("the pixel mask is not of the images' size")
        mask = bad == 0
    distance = document.get("detector_distance")
    if distance is None and isinstance(document.get("detector_translation"), list):
        distance = (document["detector_translation"] or [None])[-1]
    error_value = document.get("error_value")
    return SeriesStart(
        series,
        shape,
        _positive(document.get("incident_energy")),
        _positive(distance),
        _positive(document.get("pixel_size_x")),
        mask,
        error_value if type(error_value) is int else None,
    )


def _series(document: Mapping[Any, Any]) -> str:
    unique = document.get("series_unique_id")
    return str(unique if unique is not None else document.get("series_id", ""))[:200]


def _first(channels: Any, what: str) -> PackedArray:
    """Return the array of the first channel."""
    values = list(channels.values()) if isinstance(channels, dict) else [channels]
    if not values or not isinstance(values[0], PackedArray):
        raise InputError(f"{what} is no array")
    return values[0]


def _whole(document: Mapping[Any, Any], key: str) -> int:
    value = document.get(key)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputError(f"a message's {key} is no whole number")
    return value


def _positive(value: Any) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return float(value)
    return None


def encode_start(start: SeriesStart, dtype: np.dtype[Any]) -> bytes:
    """Return the message with which a series begins."""
    import cbor2

    height, width = start.shape or (0, 0)
    document: dict[str, Any] = {
        "type": "start",
        "series_id": 1,
        "series_unique_id": start.series,
        "channels": [CHANNEL],
        "image_dtype": np.dtype(dtype).name,
        "image_size_x": width,
        "image_size_y": height,
        "pixel_size_x": start.pixel_size,
        "pixel_size_y": start.pixel_size,
        "incident_energy": start.photon_energy,
        "detector_translation": [0.0, 0.0, start.distance],
    }
    if start.mask is not None:
        document["pixel_mask"] = {CHANNEL: _array((~start.mask).astype("<u4"), "")}
    return bytes(cbor2.dumps(document))


def encode_image(series: str, number: int, image: NDArray[Any], algorithm: str = "bslz4") -> bytes:
    """Return an image's message; `algorithm` is one of `typed.COMPRESSIONS`, or "" for none."""
    import cbor2

    document = {
        "type": "image",
        "series_id": 1,
        "series_unique_id": series,
        "image_id": number,
        "data": {CHANNEL: _array(image, algorithm)},
    }
    return bytes(cbor2.dumps(document))


def encode_end(series: str) -> bytes:
    """Return the message with which a series ends."""
    import cbor2

    return bytes(cbor2.dumps({"type": "end", "series_id": 1, "series_unique_id": series}))


def _array(array: NDArray[Any], algorithm: str) -> Any:
    import cbor2

    array = np.ascontiguousarray(array)
    data: Any = array.tobytes()
    if algorithm:
        packed = compress(array, algorithm)
        data = cbor2.CBORTag(COMPRESSED, [algorithm, array.dtype.itemsize, packed])
    return cbor2.CBORTag(
        MULTIDIMENSIONAL, [list(array.shape), cbor2.CBORTag(TAGS[array.dtype], data)]
    )
