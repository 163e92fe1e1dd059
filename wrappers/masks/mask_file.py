"""Mask files, and the lines with which a CrystFEL geometry uses them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geom_text import split_lines, statements
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import MODULE, Block
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import BITS

__all__ = ["geometry_lines", "write_mask"]

MASK = "/mask"
N_MASKS = 8
"""A panel may have so many masks in CrystFEL."""
_MASK_KEY = re.compile(r"mask([0-7])_\w+|mask(?:_file|_good|_bad)?")


def write_mask(
    path: Path,
    geometry: Geometry,
    bits: NDArray[np.uint8],
    bad_pixels: BadPixelMap | None = None,
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Write a mask file; it appears whole or not at all.

    The data set ``/mask`` has the shape of a frame as the data files have it, so that CrystFEL
    takes it with the same dimensions. Where a frame is spread over several data sets it is the
    slab, and ``/mask_0``, ``/mask_1`` … are what CrystFEL takes.

    Parameters
    ----------
    path : Path
    geometry : Geometry
    bits : uint8 array (ss, fs)
        The slab, in `settings_mask.BITS`; 0 is good.
    bad_pixels : BadPixelMap, optional
        Written beside it, so that other thresholds can be applied later.
    attributes : mapping, optional
        Further attributes of ``/mask``.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    blocks = geometry.blocks
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        if len(blocks) == 1:
            stored = {MASK: _as_stored(bits, blocks[0])}
        else:
            stored = {MASK: bits}
            stored |= {f"{MASK}_{i}": _as_stored(bits, b) for i, b in enumerate(blocks)}
        for name, values in stored.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        file[MASK].attrs["good"] = 0
        for kind, bit in BITS.items():
            file[MASK].attrs[f"bit_{kind}"] = bit
        for key, value in (attributes or {}).items():
            file[MASK].attrs[key] = value
        if bad_pixels is not None:
            bad_pixels.write_into(file)
    write_whole(path, content.getvalue())


def geometry_lines(mask: Path, geometry: Geometry) -> tuple[list[str], list[str]]:
    """Return the lines with which a geometry uses a mask file besides its own masks.

    Returns
    -------
    top, bottom : list of str
        To be put before the first statement of the geometry file, and behind the last.

    Raises
    ------
    InputError
        If the geometry has eight masks already, the most that CrystFEL takes.
    """
    used = set()
    for statement in statements(split_lines(geometry.path), geometry.path):
        match = _MASK_KEY.fullmatch(statement.key)
        if match:
            used.add(int(match[1] or 0))
    free = sorted(set(range(N_MASKS)) - used)
    if not free:
        raise InputError(
            f"{geometry.path} has {N_MASKS} masks already, the most that CrystFEL takes: merge two "
            "of them"
        )
    key = f"mask{free[0]}"
    top = [
        f"{key}_file = {mask.absolute()}",
        f"{key}_goodbits = 0x00",
        f"{key}_badbits = {sum(BITS.values()):#04x}",
    ]
    if len(geometry.blocks) == 1:
        return [*top, f"{key}_data = {MASK}"], []
    return top, [
        f"{geometry.panels[panel].name}/{key}_data = {MASK}_{number}"
        for number, block in enumerate(geometry.blocks)
        for panel in block.panels
    ]


def _as_stored(bits: NDArray[np.uint8], block: Block) -> NDArray[np.uint8]:
    """Return a block's part of the slab in the dimensions of its data set, events apart."""
    dims = [dim for dim in block.dims if dim != "%"]
    whole = {MODULE: block.modules, "ss": block.height, "fs": block.width}
    shape = [dim + 1 if isinstance(dim, int) else whole[dim] for dim in dims]
    stored = np.zeros(shape, np.uint8)
    place = tuple(dim if isinstance(dim, int) else slice(None) for dim in dims)
    part = bits[block.rows, : block.width]
    stored[place] = part.reshape([whole[dim] for dim in dims if not isinstance(dim, int)])
    return stored
