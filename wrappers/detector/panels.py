"""The vocabulary of a geometry: panels, bad regions, header values, and the slab.

Frames are handled as one two-dimensional array (ss, fs), the *slab*. Where the file has all
panels in one array, the slab is that array; where the panels have an axis of their own (as at
the European XFEL: module, ss, fs), that axis is folded into ss, which copies nothing; data sets
of their own are stacked along ss.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wrappers.errors import InputError

__all__ = [
    "HC",
    "MODULE",
    "BadRegion",
    "Block",
    "Header",
    "Law",
    "MaskSource",
    "Panel",
    "lay_out",
]

HC = 12398.4198
"""Planck's constant times the speed of light, in eV Å."""

ELECTRON_MASS = 510998.95
"""In eV."""

MODULE = "module"
"""The dimension of a block that is folded into ss."""

MAX_PIXELS = 2**27
"""A slab beyond this is taken for a mistake in the geometry file."""


Law = Literal["proportional", "reciprocal", "electrons"]


@dataclass(frozen=True)
class Header:
    """A value that each data file holds for itself.

    Attributes
    ----------
    path : str
        Of the data set in the data file.
    factor : float
        Of the stored number's unit: metres, eV, Å or V.
    law : str
        What the stored number is to the value wanted (m, or eV): "proportional"; "reciprocal",
        a wavelength where an energy is wanted; "electrons", their voltage where the energy of
        photons of the same wavelength is wanted.
    """

    path: str
    factor: float
    law: Law = "proportional"

    def convert(self, stored: float) -> float:
        """Return the value wanted; infinite where a stored wavelength is 0, NaN where none."""
        number = self.factor * stored
        if self.law == "proportional":
            return number
        wavelength = electron_wavelength(number) if self.law == "electrons" else number
        return HC / wavelength if wavelength else math.inf

    def stored(self, value: float) -> float:
        """Return what `convert` makes a value of.

        Raises
        ------
        ValueError
            If the header is a voltage.
        """
        if self.law == "electrons":
            raise ValueError("a voltage is not made from the energy of photons")
        return (value if self.law == "proportional" else HC / value) / self.factor


def electron_wavelength(voltage: float) -> float:
    """Return the relativistic wavelength in Å of electrons; NaN below 0 V."""
    momentum_squared = voltage * (voltage + 2 * ELECTRON_MASS)
    return HC / math.sqrt(momentum_squared) if voltage > 0 else math.nan


@dataclass(frozen=True)
class MaskSource:
    """Where a mask is stored: a pixel is usable when it has all good bits and no bad one.

    ``file`` is None where the mask is in the data file itself.
    """

    data: str
    file: str | None
    good_bits: int
    bad_bits: int


@dataclass(frozen=True)
class BadRegion:
    """A rectangle of pixels to ignore.

    Attributes
    ----------
    limits : tuple of 4 floats
        min_fs, max_fs, min_ss, max_ss (pixels of the data array, inclusive), or min_x, max_x,
        min_y, max_y (pixel widths from the beam, exclusive) where `in_lab`.
    panel : str
        The panel that it is confined to, unless `in_lab`, or "".
    """

    name: str
    limits: tuple[float, float, float, float]
    in_lab: bool
    panel: str = ""


@dataclass(frozen=True)
class Panel:
    """One rigid piece of the detector.

    Attributes
    ----------
    min_fs, max_fs, min_ss, max_ss : int
        Its rectangle in the file's array, inclusive.
    fs_vector, ss_vector : tuple of 3 floats
        Step from pixel to pixel in the laboratory, in units of 1 / `res`.
    corner_x, corner_y : float
        Corner of its first pixel, in the same units.
    res : float
        Pixels per metre.
    clen : float or None
        In metres; None where it is a header value, or is not given.
    coffset : float
        In metres, added to `clen`.
    data : str
        Path of the data set, perhaps with ``%`` for names that make up the event.
    dims : tuple
        What each dimension of the data set is: "%", "ss", "fs", or a fixed index.
    flags : tuple of (str, float)
        "lessthan", "morethan" or "equal", and the value: such pixels are bad.
    max_adu : float
        Saturation.
    adu_per_photon, adu_per_ev : float or None
        At most one is given.
    no_index : bool
        The whole panel is bad.
    edge : int
        This many pixels along its rim are bad.
    slab_fs, slab_ss : int
        Its first pixel in the slab.
    """

    name: str
    min_fs: int
    max_fs: int
    min_ss: int
    max_ss: int
    fs_vector: tuple[float, float, float]
    ss_vector: tuple[float, float, float]
    corner_x: float
    corner_y: float
    res: float
    clen: float | None = None
    coffset: float = 0.0
    data: str = "/data/data"
    dims: tuple[int | str, ...] = ("ss", "fs")
    masks: tuple[MaskSource, ...] = ()
    flags: tuple[tuple[str, float], ...] = ()
    max_adu: float = math.inf
    adu_per_photon: float | None = None
    adu_per_ev: float | None = None
    no_index: bool = False
    edge: int = 0
    slab_fs: int = 0
    slab_ss: int = 0

    @property
    def width(self) -> int:
        """Pixels along fs."""
        return self.max_fs - self.min_fs + 1

    @property
    def height(self) -> int:
        """Pixels along ss."""
        return self.max_ss - self.min_ss + 1

    @property
    def rectangle(self) -> tuple[slice, slice]:
        """Its place in the slab, as an index (ss, fs)."""
        return (
            slice(self.slab_ss, self.slab_ss + self.height),
            slice(self.slab_fs, self.slab_fs + self.width),
        )


@dataclass(frozen=True)
class Block:
    """A part of one data set that is read at once, and the rows of the slab that it fills.

    Attributes
    ----------
    data : str
        The data set's path.
    dims : tuple
        As in `Panel`, and `MODULE` for the dimension that is folded into ss.
    modules, height, width : int
        Extent along `MODULE`, ss and fs, each from 0.
    slab_ss : int
        First row in the slab.
    panels : tuple of int
        Indices of the panels inside.
    """

    data: str
    dims: tuple[int | str, ...]
    modules: int
    height: int
    width: int
    slab_ss: int
    panels: tuple[int, ...]

    @property
    def rows(self) -> slice:
        """The rows of the slab."""
        return slice(self.slab_ss, self.slab_ss + self.modules * self.height)


def lay_out(
    panels: Sequence[Panel], source: str
) -> tuple[tuple[Panel, ...], tuple[Block, ...], tuple[int, int]]:
    """Give each panel its place in the slab.

    Parameters
    ----------
    panels : sequence of Panel
    source : str
        Name of the geometry, for the error message.

    Returns
    -------
    panels : tuple of Panel
        The same, with `slab_fs` and `slab_ss` set.
    blocks : tuple of Block
        What to read for a frame.
    shape : tuple of int
        Of the slab: (ss, fs).

    Raises
    ------
    InputError
        If the slab would have more than `MAX_PIXELS` pixels.
    """
    placed = list(panels)
    blocks: list[Block] = []
    for data in dict.fromkeys(panel.data for panel in panels):
        members = [i for i, panel in enumerate(panels) if panel.data == data]
        height = 1 + max(panels[i].max_ss for i in members)
        width = 1 + max(panels[i].max_fs for i in members)
        for dims, modules, inside in _group(panels, members):
            start = blocks[-1].rows.stop if blocks else 0
            blocks.append(Block(data, dims, modules, height, width, start, tuple(inside)))
            fold = dims.index(MODULE) if MODULE in dims else None
            for i in inside:
                module = 0 if fold is None else int(panels[i].dims[fold])
                placed[i] = dataclasses.replace(
                    panels[i],
                    slab_fs=panels[i].min_fs,
                    slab_ss=start + module * height + panels[i].min_ss,
                )
    shape = (blocks[-1].rows.stop, max(block.width for block in blocks))
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InputError(
            f"the panels of {source} span {shape[1]} x {shape[0]} pixels (fs x ss), "
            "which no detector has: check max_fs, max_ss and the fixed dimensions"
        )
    return tuple(placed), tuple(blocks), shape


def _group(
    panels: Sequence[Panel], members: list[int]
) -> list[tuple[tuple[int | str, ...], int, list[int]]]:
    """Group the panels of one data set by their fixed indices, folding one axis where possible.

    Folding needs that the panels' dimensions differ in one fixed index only, and that this axis
    is slower than ss; otherwise each set of fixed indices is a group of its own.
    """
    layouts = sorted({panels[i].dims for i in members}, key=str)
    first = layouts[0]
    differing = [
        k
        for k in range(len(first))
        if any(len(dims) != len(first) or dims[k] != first[k] for dims in layouts)
    ]
    if len(differing) == 1:
        k = differing[0]
        indices = [dims[k] for dims in layouts]
        if all(isinstance(index, int) for index in indices) and k < first.index("ss"):
            folded = (*first[:k], MODULE, *first[k + 1 :])
            return [(folded, 1 + max(int(index) for index in indices), members)]
    return [(dims, 1, [i for i in members if panels[i].dims == dims]) for dims in layouts]
