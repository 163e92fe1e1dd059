"""Where the geometry says that frames, their masks and their numbers are in HDF5 files.

A frame is named as CrystFEL names it: its file, and its event, whose names fill the ``%`` of a
path and whose numbers those of the dimensions.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import MODULE, Block, Header, MaskSource
from wrappers.errors import InputError
from wrappers.frames.events import (
    fill_path,
    find_names,
    linked_path,
    split_event,
    wrong_dimensions,
)
from wrappers.frames.hdf5 import HDF5Files, Selection
from wrappers.frames.hdf5_links import why_unfit
from wrappers.frames.header_values import as_number, require_unit
from wrappers.masks.masks import stored_masks, usable_by

__all__ = ["Place", "StoredFrames"]

Mask = NDArray[np.bool_]
Place = tuple[Block, h5py.Dataset, Selection]

MOST_VALUES = 3
"""Of a mask that are named."""

_MAX_MASKS = 16
"""So many files' masks are kept: a run may have a file, and a mask, for each frame."""


class StoredFrames:
    """Reads parts of frames from HDF5 files; can be pickled, and used after a fork.

    All methods raise InputError where a file does not hold what the geometry says.

    Parameters
    ----------
    geometry : Geometry
    growing : bool
        Whether the files may be written meanwhile.

    Attributes
    ----------
    files : HDF5Files
    """

    def __init__(self, geometry: Geometry, growing: bool = False) -> None:
        self.geometry = geometry
        self.files = HDF5Files(growing=growing)
        self._masks: dict[str, tuple[Mask, frozenset[MaskSource]]] = {}
        self._several: dict[str, bool] = {}
        self._lab_mask: tuple[tuple[float, float], Mask | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_masks": {}, "_lab_mask": None}

    def places(self, file: str, event: str) -> list[Place]:
        """Return where a frame is: for each block the data set, and the index into it."""
        return [
            (block, *self._select(file, event, block, block.data, "data"))
            for block in self.geometry.blocks
        ]

    def slab(self, file: str, event: str) -> NDArray[Any]:
        """Read a frame's data, without a copy where one block is the slab."""
        parts = [
            self._read(file, event, block, block.data, "data") for block in self.geometry.blocks
        ]
        if len(parts) == 1:
            return parts[0]
        slab = np.zeros(self.geometry.slab_shape, np.result_type(*parts))
        for block, part in zip(self.geometry.blocks, parts, strict=True):
            slab[block.rows, : block.width] = part
        return slab

    def mask(self, file: str, event: str, shift: tuple[float, float] = (0.0, 0.0)) -> Mask:
        """Return the mask of a frame by everything but its own values.

        `shift` is what the data says of the detector's shift along x and y, in metres.
        """
        mask, changing = self.static_mask(file, event)
        if changing:
            mask = mask & self._stored_mask(file, event, changing)
        if not self.geometry.shifted_by_data:
            return mask
        if self._lab_mask is None or self._lab_mask[0] != shift:
            self._lab_mask = shift, self.geometry.moved(*shift).lab_mask()
        regions = self._lab_mask[1]
        return mask if regions is None else mask & regions

    def static_mask(self, file: str, event: str) -> tuple[Mask, frozenset[MaskSource]]:
        """Return what holds for all frames of a file, and the masks that do not."""
        sources = {mask for panel in self.geometry.panels for mask in panel.masks}
        key = file if any(source.file is None for source in sources) else ""
        if key in self._masks:
            return self._masks[key]
        changing = set()
        for block in self.geometry.blocks:
            members = (self.geometry.panels[i] for i in block.panels)
            for source in {mask for panel in members for mask in panel.masks}:
                if source.file is not None and (fault := why_unfit(source.file)):
                    raise InputError(
                        f"the mask file {source.file} of {self.geometry.path} {fault}: "
                        "correct mask0_file there, or put the mask in its place"
                    )
                path = fill_path(source.data, split_event(event)[0])
                dataset = self.files.dataset(source.file or file, path, "mask")
                if "%" in source.data or ("%" in block.dims and dataset.ndim == len(block.dims)):
                    changing.add(source)
        mask = self.geometry.static_mask()
        mask &= self._stored_mask(file, event, sources - changing)
        for known, _ in self._masks.values():
            if np.array_equal(known, mask):
                mask = known
                break
        if len(self._masks) == _MAX_MASKS:
            del self._masks[next(iter(self._masks))]
        self._masks[key] = mask, frozenset(changing)
        return self._masks[key]

    def mask_of_own_files(self) -> Mask:
        """Return what the geometry masks by itself and by mask files that are not the data's."""
        sources = {mask for panel in self.geometry.panels for mask in panel.masks}
        own = {source for source in sources if source.file is not None}
        return self.geometry.static_mask() & self._stored_mask("", "//0", own)

    def number(self, file: str, event: str, header: Header, field: str) -> float:
        """Return the number of a header, one for all frames or this event's own.

        As for CrystFEL, each dimension longer than 1 takes the next number of the event.
        """
        names, numbers = split_event(event)
        path = fill_path(header.path, names)
        array = self.files.small_array(file, path, field)
        require_unit(self.files.dataset(file, path, field), file, header, field)
        long = [n for n in array.shape if n != 1]
        if long and "%" not in header.path and self._is_linked(file, names):
            raise InputError(
                f"{path} in {file} has {' x '.join(map(str, array.shape))} values, which cannot "
                f"be told apart for linked data files: give {field} as a number in the geometry"
            )
        place = numbers[: len(long)]
        if len(place) < len(long) or any(i >= n for i, n in zip(place, long, strict=True)):
            raise InputError(
                f"{path} in {file} has {' x '.join(map(str, array.shape))} values, none of them "
                f"for the event {event}: correct {field} in the geometry"
            )
        return as_number(array.reshape(long)[tuple(place)], f"{path} in {file}", header, field)

    def _is_linked(self, file: str, names: list[str]) -> bool:
        """Tell whether a file has several data sets of frames, of which the event names one."""
        if not names:
            return False
        if file not in self._several:
            self._several[file] = len(find_names(self.files, file, self.geometry)) > 1
        return self._several[file]

    def _stored_mask(self, file: str, event: str, sources: Set[MaskSource]) -> Mask:
        return stored_masks(
            self.geometry, sources, lambda source, block: self._bits(file, event, source, block)
        )

    def _bits(self, file: str, event: str, source: MaskSource, block: Block) -> NDArray[Any]:
        """Read a block's part of a mask, as whole numbers are stored."""
        bits = self._read(source.file or file, event, block, source.data, "mask")
        # What is no number fails, too.
        if bits.dtype.kind == "f" and not (np.abs(bits) < 2.0**62).all():
            raise InputError(
                f"the mask {source.data} in {source.file or file} has pixels that are no "
                "whole number: write whole numbers"
            )
        return bits

    def idle_masks(self, file: str, event: str) -> list[str]:
        """Name the masks of a frame whose bits mask none of the pixels that they mark."""
        notes = []
        panels = self.geometry.panels
        for source in dict.fromkeys(mask for panel in panels for mask in panel.masks):
            values: set[int] = set()
            n_marked = 0
            for block in self.geometry.blocks:
                if not any(source in panels[i].masks for i in block.panels):
                    continue
                bits = self._bits(file, event, source, block)
                if not usable_by(source, bits).all():
                    break
                marked = bits[bits != 0]
                n_marked += marked.size
                values |= {int(value) for value in np.unique(marked)[:MOST_VALUES]}
            else:
                if n_marked:
                    shown = ", ".join(f"{value:#x}" for value in sorted(values)[:MOST_VALUES])
                    notes.append(
                        f"the mask {source.data} in {source.file or file} masks nothing: "
                        f"{n_marked} of its pixels are not 0 ({shown} …), but the bits of "
                        f"{self.geometry.path} (good {source.good_bits:#x}, bad "
                        f"{source.bad_bits:#x}) take all of them as usable: correct the bits"
                    )
        return notes

    @staticmethod
    def _path(event: str, pattern: str, field: str) -> str:
        """Return the name of an event's data set."""
        names = split_event(event)[0]
        return (linked_path if field == "data" else fill_path)(pattern, names)

    def _select(
        self, file: str, event: str, block: Block, pattern: str, field: str
    ) -> tuple[h5py.Dataset, Selection]:
        """Find a block's part of a frame: the data set, and the index into it."""
        numbers = split_event(event)[1]
        path = self._path(event, pattern, field)
        dataset = self.files.dataset(file, path, field)
        dims, shape = block.dims, dataset.shape
        if field != "data" and len(shape) < len(dims):
            # One mask for all events lacks the dimensions that count them.
            dims = tuple(dim for dim in dims if dim != "%")
        if len(shape) != len(dims):
            raise InputError(wrong_dimensions(dataset, file, block))
        if len(numbers) < dims.count("%"):
            raise InputError(
                f"the event {event} of {file} has {len(numbers)} numbers, but the geometry "
                f"needs {dims.count('%')}: add them, as in //3"
            )
        remaining = iter(numbers)
        whole = {"ss": block.height, "fs": block.width, MODULE: block.modules}
        selection: list[int | slice] = []
        for dim, size in zip(dims, shape, strict=True):
            if dim == "%":
                number = next(remaining)
                if number >= size:
                    raise InputError(
                        f"{file} has no event {event}: {path} holds {size} frames, numbered from 0"
                    )
                selection.append(number)
                continue
            if (dim >= size) if isinstance(dim, int) else (whole[dim] > size):
                raise InputError(self._outside(block, dataset, file))
            selection.append(dim if isinstance(dim, int) else slice(0, whole[dim]))
        return dataset, tuple(selection)

    def _read(self, file: str, event: str, block: Block, pattern: str, field: str) -> NDArray[Any]:
        """Read a block's part of a frame, or of a mask, as (rows, columns)."""
        _, selection = self._select(file, event, block, pattern, field)
        part = self.files.read(file, self._path(event, pattern, field), field, selection)
        if not part.dtype.isnative:
            part = part.astype(part.dtype.newbyteorder("="))
        return part.reshape(block.modules * block.height, block.width)

    def _outside(self, block: Block, dataset: h5py.Dataset, file: str) -> str:
        """Say which panel lies outside a data set."""
        for i in block.panels:
            panel = self.geometry.panels[i]
            last = {"ss": panel.max_ss, "fs": panel.max_fs, "%": 0}
            dims = panel.dims[-dataset.ndim :]
            if any(
                (dim if isinstance(dim, int) else last[dim]) >= size
                for dim, size in zip(dims, dataset.shape, strict=True)
            ):
                break
        shape = " x ".join(map(str, dataset.shape))
        return (
            f"panel {panel.name} of {self.geometry.path} (fs up to {panel.max_fs}, ss up to "
            f"{panel.max_ss}, dimensions {', '.join(map(str, panel.dims))}) lies outside "
            f"{dataset.name} of {file} ({shape}): give the geometry of this detector"
        )
