"""Which pixels are usable, by everything a geometry file says about it.

Masks are bool arrays of the slab's shape, True where a pixel is usable. What does not depend on
the frame's values is in `Geometry.static_mask` and `stored_masks`; `flag_values` adds what does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Block, MaskSource, Panel

__all__ = ["flag_values", "stored_masks", "usable_by"]

Mask = NDArray[np.bool_]


def stored_masks(
    geometry: Geometry,
    sources: Set[MaskSource],
    read: Callable[[MaskSource, Block], NDArray[Any]],
) -> Mask:
    """Return the mask that mask files make of the given sources.

    Parameters
    ----------
    geometry : Geometry
    sources : set of MaskSource
        Those of the geometry's masks to apply; the others are left out.
    read : callable
        Takes a source and a block and returns the stored numbers in the block's rows and columns.

    Returns
    -------
    bool array (ss, fs)
        True also where there is no panel.
    """
    mask = np.ones(geometry.slab_shape, bool)
    for block in geometry.blocks:
        members = [geometry.panels[i] for i in block.panels]
        wanted = {source for panel in members for source in panel.masks} & sources
        for source in wanted:
            usable = usable_by(source, read(source, block))
            for panel in members:
                if source in panel.masks:
                    rows, columns = panel.rectangle
                    first = rows.start - block.slab_ss
                    mask[rows, columns] &= usable[first : first + panel.height, columns]
    return mask


def usable_by(source: MaskSource, stored: NDArray[Any]) -> Mask:
    """Return which pixels have all good bits of a mask and no bad one, by its stored numbers."""
    bits = stored.astype(np.int64, copy=False)
    usable = (bits & source.good_bits) == source.good_bits
    usable &= (bits & source.bad_bits) == 0
    return usable


def flag_values(geometry: Geometry, data: NDArray[Any], mask: Mask) -> Mask:
    """Take out the pixels whose own value says that they are bad.

    These are the values of ``flag_lessthan``, ``flag_morethan`` and ``flag_equal``, NaN and
    infinity.

    Parameters
    ----------
    geometry : Geometry
    data : array (ss, fs)
    mask : bool array (ss, fs)

    Returns
    -------
    bool array (ss, fs)
        The mask given, itself, where nothing changes; else a new one.
    """
    flagged = mask

    def strike(where: tuple[slice, ...], bad: Mask) -> None:
        nonlocal flagged
        bad &= mask[where]
        if bad.any():
            flagged = mask.copy() if flagged is mask else flagged
            flagged[where] &= ~bad

    if data.dtype.kind == "f":
        strike((), ~np.isfinite(data))
    panels = geometry.panels
    if all(panel.flags == panels[0].flags for panel in panels):
        panels_or_all: list[tuple[Panel, tuple[slice, ...]]] = [(panels[0], ())]
    else:
        panels_or_all = [(panel, panel.rectangle) for panel in panels]
    for panel, where in panels_or_all:
        for kind, value in panel.flags:
            bad = _flagged(data[where], kind, value)
            if bad is not None:
                strike(where, bad)
    return flagged


def _flagged(data: NDArray[Any], kind: str, value: float) -> Mask | None:
    """Compare without converting the data; None where the type alone rules a hit out."""
    if data.dtype.kind == "f":
        if kind == "equal":
            return np.asarray(np.rint(data) == value)
    elif kind == "equal" and value != int(value):
        return None
    else:
        # NumPy compares integers with Python's own by value, without an overflow.
        value = math.ceil(value) if kind == "lessthan" else math.floor(value)
    if kind == "equal":
        return np.asarray(data == value)
    return np.asarray(data < value if kind == "lessthan" else data > value)
