"""What the kernels of peakfinder8 take and give, by name: tuples, which cost nothing in Numba."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bits",
    "Clipping",
    "Disc",
    "Layout",
    "Memory",
    "Raster",
    "Regions",
    "RingLimits",
    "Rings",
    "Search",
    "Tail",
    "Tails",
]


class Rings(NamedTuple):
    """The pixels by ring: of a `radial_layout.RadialLayout`, its radius flat."""

    radius: NDArray[np.float32]
    start: NDArray[np.int64]
    pixel: NDArray[np.int32]


class Raster(NamedTuple):
    """The pixels by row: each one's ring, the slab's width, and the panels' corners."""

    ring: NDArray[np.integer[Any]]
    width: int
    panels: NDArray[np.int64]


class Layout(NamedTuple):
    """All of a `radial_layout.RadialLayout`."""

    rings: Rings
    raster: Raster
    place: NDArray[np.int32]
    max_adu: NDArray[np.float64]
    bands: NDArray[np.int64]
    passed: NDArray[np.int32]


class Bits(NamedTuple):
    """A bit for each pixel, each of `peak_regions.no_bits`.

    Where a pixel is bright and not yet taken; where it cannot be background; and room for more.
    """

    free: NDArray[np.uint64]
    closed: NDArray[np.uint64]
    room: tuple[NDArray[np.uint64], NDArray[np.uint64]]


class Regions(NamedTuple):
    """Regions of pixels, with room for more.

    Region *i* is on panel ``owner[i]`` and has the pixels ``ss[k]``, ``fs[k]`` with *k* from
    ``start[i]`` to before ``start[i + 1]``.
    """

    start: NDArray[np.int64]
    owner: NDArray[np.int64]
    ss: NDArray[np.int32]
    fs: NDArray[np.int32]


class RingLimits(NamedTuple):
    """The limits of each ring: mean, and what a bright pixel is not below.

    `first` is of a prepared frame: the first value of a ring's bright tail that is not below
    `upper`.
    """

    mean: NDArray[np.float32]
    upper: NDArray[np.float32]
    first: NDArray[np.int64]


class Disc(NamedTuple):
    """A disc as pieces of rows, of `peak_measurement`.

    Of each piece its first pixel from the centre, in the flat frame; its first column from the
    centre; and the bits of its pixels that are in the disc.
    """

    offset: NDArray[np.int64]
    column: NDArray[np.int64]
    lanes: NDArray[np.uint64]


class Memory(NamedTuple):
    """What a search may overwrite; `outside` has the bits of what is not `between` two radii.

    `unusable`, `target` and `values` are the last frame's, of `ring_order.sort_into_rings`; `place`
    and `far` have room for a ring; `progress` is of `peak_measurement.find_peaks`.
    """

    values: NDArray[np.float32]
    bright: NDArray[np.int32]
    bits: Bits
    regions: Regions
    unusable: NDArray[np.uint64]
    target: NDArray[np.int32]
    outside: NDArray[np.uint64]
    between: NDArray[np.float64]
    limits: RingLimits
    place: NDArray[np.int32]
    far: NDArray[np.float32]
    disc: Disc
    progress: NDArray[np.int64]


class Clipping(NamedTuple):
    """What decides the rings' limits; `max_res` is infinite for no limit."""

    min_snr: float
    threshold: float
    min_res: float
    max_res: float


class Search(NamedTuple):
    """What else decides the peaks."""

    min_snr: float
    min_pix_count: np.int64
    max_pix_count: np.int64
    local_bg_radius: np.int64


class Tail(NamedTuple):
    """The values on one side of the rings' cores.

    Attributes
    ----------
    values : array (n + BLOCK,)
        Ring by ring, each ring's sorted outwards.
    start : int64 array (n_rings + 1,)
        Where each ring's values begin.
    sums : float64 array (n_blocks, 2)
        Sum and sum of squares of a ring's values before each `kept_tails.BLOCK` of them.
    first_sum : int64 array (n_rings,)
        Each ring's first row of `sums`.
    """

    values: NDArray[Any]
    start: NDArray[np.int64]
    sums: NDArray[np.float64]
    first_sum: NDArray[np.int64]


class Tails(NamedTuple):
    """A frame, reduced to the tails of its rings' values.

    Attributes
    ----------
    everything, core : float64 array (n_rings, 3)
        Number, sum and sum of squares of all values of a ring, and of those in its core.
    window : float32 array (n_rings, 2)
        The core lies strictly between these.
    faint, bright : Tail
        On either side of the cores.
    place : unsigned array (n,)
        Place within its ring of each value of the bright tail.
    outer_pixel : int32 array (n,)
        Flat indices of the brightest pixels of each ring, in the order of `bright`.
    outer_start : int64 array (n_rings + 1,)
        Where each ring's begin.
    """

    everything: NDArray[np.float64]
    core: NDArray[np.float64]
    window: NDArray[np.float32]
    faint: Tail
    bright: Tail
    place: NDArray[Any]
    outer_pixel: NDArray[np.int32]
    outer_start: NDArray[np.int64]
