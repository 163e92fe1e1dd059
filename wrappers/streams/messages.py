"""What a message of a stream says, whatever the protocol.

Messages are other people's input. A decoder returns some of these, none for a message that means
nothing here, or raises InputError; no other exception.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MOST_BYTES",
    "MOST_PIXELS",
    "Decoder",
    "Message",
    "SeriesEnd",
    "SeriesStart",
    "Shot",
    "counted_names",
]

MOST_BYTES = 1 << 31
"""Of a message; a train of AGIPD 1M, 352 pulses in floats, has 1.5e9."""
MOST_PIXELS = 1 << 27
"""Of an image."""


@dataclass(frozen=True, eq=False)
class SeriesStart:
    """A series of images begins.

    Attributes
    ----------
    series : str
        What tells it from others.
    shape : (int, int) or None
        Of its images (ss, fs).
    photon_energy : float or None
        In eV.
    distance : float or None
        Of the detector, in metres.
    pixel_size : float or None
        In metres.
    mask : bool array (ss, fs) or None
        True where a pixel is usable.
    error_value : int or None
        What stands in a pixel that has no value, where it is not the type's largest number.
    """

    series: str
    shape: tuple[int, int] | None = None
    photon_energy: float | None = None
    distance: float | None = None
    pixel_size: float | None = None
    mask: NDArray[np.bool_] | None = None
    error_value: int | None = None


@dataclass(frozen=True, eq=False)
class Shot:
    """One image.

    Attributes
    ----------
    series : str
        What tells it from others, or "" where numbers do.
    number : int
        Within the series.
    unpack : callable
        Returns the image (ss, fs); raises InputError.
    values : mapping of str to float
        Numbers that came with it, by the names that a geometry may have for them.
    n_bytes : int
        That it takes in memory until it is unpacked.
    """

    series: str
    number: int
    unpack: Callable[[], NDArray[Any]]
    values: Mapping[str, float] = field(default_factory=dict)
    n_bytes: int = 0


@dataclass(frozen=True)
class SeriesEnd:
    """A series has ended."""

    series: str


def counted_names() -> Iterator[tuple[str, int]]:
    """Yield series and numbers for images that have none: they are counted from now on."""
    return zip(itertools.repeat(time.strftime("%Y%m%dT%H%M%S")), itertools.count(), strict=False)


Message = SeriesStart | Shot | SeriesEnd
Decoder = Callable[[Sequence[bytes]], Sequence[Message]]
"""Takes the parts of a message."""
