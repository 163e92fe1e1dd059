"""The Karabo bridge of the European XFEL, protocol 2.2: a message is a train.

It is pairs of parts, a header in MessagePack and a payload: a source's plain values, or one of its
arrays. Values that are numbers have the names that a geometry may have for them, ``source/key``.
Each pulse is an image, whose number is ten thousand times the train and the pulse's own, where that
is sent, or else its place. Modules are stacked in the order in which they come, which must be
that of the geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.streams.messages import Shot
from wrappers.streams.packed import as_array, plain_numbers, read_msgpack

__all__ = ["KEYS", "OPTIONS", "decoder"]

OPTIONS = ("source", "key", "axes")
"""Of the address: the detector's source, the key of its images, and the order of their axes."""
KEYS = ("image.data", "data.adc")
"""Of images, where the address names none: AGIPD and its like, and JUNGFRAU."""
AXES = {2: "sf", 3: "psf", 4: "pmsf"}
"""Order of axes, by their number, where the address names none: pulse, module, slow, fast."""
PULSE = "pulseId"
"""Beside the images: which pulse of the train each is."""
MOST_PULSES = 3520
"""In a train."""
PULSES = 10_000
"""Numbers that a train's images may have."""
MOST_PARTS = 1000


@dataclass(frozen=True)
class _Array:
    source: str
    key: str
    n_axes: int
    unpack: Callable[[], NDArray[Any]]


def decoder(options: Mapping[str, str]) -> Callable[[Sequence[bytes]], list[Shot]]:
    """Return what reads a train.

    Raises
    ------
    InputError
        If the axes are none.
    """
    axes = options.get("axes", "")
    if axes and (len(set(axes)) != len(axes) or not {*"sf"} <= {*axes} <= {*"pmsf"}):
        raise InputError(
            f"axes={axes} of the stream's address is no order of p (pulse), m (module), s (slow) "
            "and f (fast), such as pmsf"
        )
    return partial(_decode, options.get("source", ""), options.get("key", ""), axes)


def _decode(source: str, key: str, axes: str, parts: Sequence[bytes]) -> list[Shot]:
    if len(parts) < 2 or len(parts) % 2 or len(parts) > MOST_PARTS:
        raise InputError(
            f"a train comes in {len(parts)} parts, not in pairs: protocol 2.2 of the bridge is read"
        )
    arrays: list[_Array] = []
    pulses: dict[tuple[str, str], Callable[[], NDArray[Any]]] = {}
    values: dict[str, float] = {}
    train = 0
    for header, payload in zip(parts[::2], parts[1::2], strict=True):
        about = read_msgpack(header)
        if not isinstance(about, dict):
            raise InputError("a header of the train is no map")
        metadata = about.get("metadata")
        if isinstance(metadata, dict) and type(metadata.get("timestamp.tid")) is int:
            train = max(train, metadata["timestamp.tid"])
        if about.get("content") == "msgpack":
            named = read_msgpack(payload)
            if isinstance(named, dict):
                place = about.get("source")
                start = f"{place}/" if place else ""
                values |= {f"{start}{k}": v for k, v in plain_numbers(named).items()}
        if about.get("content") != "array":
            continue
        shape = about.get("shape")
        name = f"{str(about.get('source'))[:80]}, {str(about.get('path'))[:80]}"
        if not isinstance(shape, list) or not 1 <= len(shape) <= 4:
            continue
        path, is_pulses = _beside(str(about.get("path")))
        if not is_pulses and len(shape) == 1:
            continue
        unpack = as_array(about.get("dtype"), shape, payload, name)
        if is_pulses:
            pulses[str(about.get("source")), path] = unpack
            continue
        found = _Array(str(about.get("source")), str(about.get("path")), len(shape), unpack)
        arrays.append(found)
    images = _chosen(arrays, source, key)
    order = axes or AXES[images.n_axes]
    if len(order) != images.n_axes:
        raise InputError(
            f"{images.key} of {images.source} has {images.n_axes} axes, but axes={order} names "
            f"{len(order)}"
        )
    stack = _stacked(images.unpack(), order)
    if not 0 < len(stack) <= MOST_PULSES:
        raise InputError(f"a train has {len(stack)} pulses: is axes={order} the right order?")
    ids = _numbers(pulses.get((images.source, _beside(images.key)[0])), len(stack))
    return [
        Shot("", PULSES * train + pulse, partial(np.asarray, image), values, image.nbytes)
        for pulse, image in zip(ids, stack, strict=True)
    ]


def _beside(path: str) -> tuple[str, bool]:
    """Return an array's path without its last part, and whether that is the pulses."""
    where, _, last = path.rpartition(".")
    return where, last == PULSE


def _numbers(pulses: Callable[[], NDArray[Any]] | None, n: int) -> list[int]:
    """Return the pulses of a train's images; their places, where no good ones were sent."""
    ids = np.arange(n) if pulses is None else pulses().ravel()
    good = ids.dtype.kind in "ui" and len(np.unique(ids)) == len(ids) == n
    if not good or ids.min() < 0 or ids.max() >= PULSES:
        ids = np.arange(n)
    return [int(each) for each in ids]


def _chosen(arrays: Sequence[_Array], source: str, key: str) -> _Array:
    fitting = [each for each in arrays if source in ("", each.source)]
    for wanted in (key,) if key else KEYS:
        found = [each for each in fitting if each.key == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(each.source for each in found)
            raise InputError(f"a train has several detectors: name one with ?source=, of {names}")
    there = ", ".join(f"{each.source} {each.key}" for each in arrays[:5]) or "none"
    raise InputError(
        "a train has no images where they are looked for: name their source and key, as in "
        f"?source=SPB_DET/CAL&key=image.data (arrays that it has: {there[:200]})"
    )


def _stacked(images: NDArray[Any], order: str) -> NDArray[Any]:
    """Return images as (pulse, module × slow, fast)."""
    for axis in "pm":
        if axis not in order:
            images, order = images[None], axis + order
    images = images.transpose([order.index(axis) for axis in "pmsf"])
    return images.reshape(len(images), -1, images.shape[-1])
