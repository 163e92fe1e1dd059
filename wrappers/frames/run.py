"""Runs of frames in HDF5 files, read lazily, frame by frame.

A run is one HDF5 file with any number of frames (multi-event HDF5, CXI, an NXmx master with
linked or virtual data), or a CrystFEL list of such files. Where the frames are in a file is for
the geometry to say, as for CrystFEL: ``data``, and ``dim0 = %`` and so on.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.detector.masks import flag_values, stored_masks
from wrappers.detector.panels import MODULE, Block, Header, MaskSource
from wrappers.errors import InputError
from wrappers.frames.events import (
    fill_path,
    find_events,
    linked_path,
    read_list,
    split_event,
    wrong_dimensions,
)
from wrappers.frames.hdf5 import HDF5Files, is_hdf5, reading

if TYPE_CHECKING:
    from wrappers.detector.bad_pixels import BadPixelMap

__all__ = ["Frame", "Run"]

Mask = NDArray[np.bool_]
Selection = tuple[int | slice, ...]

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs", ".nexus")

_MAX_MASKS = 16
"""So many files' masks are kept: a run may have a file, and a mask, for each frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One detector image.

    Attributes
    ----------
    data : array (ss, fs)
        The slab, in the file's data type.
    mask : bool array (ss, fs)
        True where a pixel is usable. Frames share one array where they can: don't write to it.
    photon_energy : float
        In eV.
    camera_length : float
        Mean over the panels of ``clen`` + ``coffset``, in metres.
    file, event : str
        As CrystFEL names the frame.
    shift_x, shift_y : float
        Shift of the detector in metres, where the geometry takes it from the data.
    """

    data: NDArray[Any]
    mask: Mask
    photon_energy: float
    camera_length: float
    file: str
    event: str
    shift_x: float = 0.0
    shift_y: float = 0.0


class Run:
    """The frames of a run; `Run.open` makes one.

    ``len(run)`` is their number and ``run[i]`` reads one of them. A run can be pickled, and used
    after a fork: each process opens the files for itself.

    Parameters
    ----------
    geometry : Geometry
    names : sequence of (file, event)

    Attributes
    ----------
    bad_pixels : BadPixelMap or None
        What is known of the detector's pixels, of `with_bad_pixels`. The frames' own masks do not
        have it: settings say what to make of it.
    """

    bad_pixels: BadPixelMap | None = None

    def __init__(self, geometry: Geometry, names: Sequence[tuple[str, str]]) -> None:
        self.geometry = geometry
        self._names = tuple(names)
        self._files = HDF5Files()
        self._masks: dict[str, tuple[Mask, frozenset[MaskSource]]] = {}

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        geometry: Geometry,
        events: Sequence[str] | None = None,
    ) -> Run:
        """Open a run.

        Parameters
        ----------
        path : path
            An HDF5 file, or a list: a text file of lines ``file`` or ``file //event``. Relative
            names in it count from the working directory, as for CrystFEL, else from the list's
            own folder.
        geometry : Geometry
        events : sequence of str, optional
            Only these events of an HDF5 file, such as "//3".

        Raises
        ------
        InputError
            If a file is missing or damaged, if it does not hold what the geometry says, or if
            there is no frame.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path} does not exist: check its name")
        if path.is_dir():
            raise InputError(f"{path} is a folder: give an HDF5 file in it, or a list of files")
        if is_hdf5(path) or path.suffix.lower() in _HDF5_SUFFIXES:
            wanted = [
                (str(path.absolute()), event) for event in ([""] if events is None else events)
            ]
        else:
            wanted = read_list(path)
        run = cls(geometry, ())
        expanded = {
            file: find_events(run._files, file, geometry)
            for file in dict.fromkeys(file for file, event in wanted if not event)
        }
        names: list[tuple[str, str]] = []
        for file, event in wanted:
            names += [(file, each) for each in ([event] if event else expanded[file])]
        if not names:
            raise InputError(f"{path} holds no frame: give a run with at least one")
        run._names = tuple(names)
        for name in sorted({name for name in wanted if name[1]} | {names[0]}):
            run._check(*name)
        run.photon_energy(0)
        run.camera_length(0)
        run._static_mask(*names[0])
        return run

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Frame:
        """Read a frame.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        file, event = self._names[index]
        data = self._read_slab(file, event)
        shift_x, shift_y = (
            0.0 if header is None else self._header(file, event, header, "detector_shift")
            for header in self.geometry.shift_headers
        )
        return Frame(
            data=data,
            mask=flag_values(self.geometry, data, self._mask(file, event)),
            photon_energy=self.photon_energy(index),
            camera_length=self.camera_length(index),
            file=file,
            event=event,
            shift_x=shift_x,
            shift_y=shift_y,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_masks": {}}

    def places(self, index: int) -> list[tuple[Block, h5py.Dataset, Selection]]:
        """Return where a frame is stored: for each block the data set, and the index into it.

        Raises
        ------
        InputError
            If it is not where the geometry says.
        """
        file, event = self._names[index]
        return [
            (block, *self._select(file, event, block, block.data, "data"))
            for block in self.geometry.blocks
        ]

    def name(self, index: int) -> tuple[str, str]:
        """Return a frame's file and event, as CrystFEL writes them."""
        return self._names[index]

    def static_mask(self, index: int) -> Mask:
        """Return what holds for all frames of a frame's file (ss, fs): don't write to it.

        That is all that the geometry masks, but for masks that are stored for each event and
        for pixels flagged by their value.

        Raises
        ------
        InputError
            If a mask cannot be read.
        """
        return self._static_mask(*self._names[index])[0]

    @property
    def files(self) -> list[Path]:
        """The different files that the frames are named in."""
        return [Path(file) for file in dict.fromkeys(file for file, _ in self._names)]

    def select(self, indices: Sequence[int]) -> Run:
        """Return a run of some of the frames, in the order given."""
        run = copy.copy(self)
        run.__dict__.pop("nominal_clen", None)
        run._names = tuple(self._names[i] for i in indices)
        return run

    def with_bad_pixels(self, bad_pixels: BadPixelMap | None) -> Run:
        """Return the same run with a map of the bad pixels, for settings that need one."""
        run = copy.copy(self)
        run.bad_pixels = bad_pixels
        return run

    @cached_property
    def nominal_clen(self) -> float:
        """Median of the frames' camera lengths, in metres."""
        if self.geometry.clen_header is None:
            return self.geometry.camera_length()
        return float(np.median([self.camera_length(i) for i in range(len(self))]))

    def photon_energy(self, index: int) -> float:
        """Return a frame's photon energy in eV.

        Raises
        ------
        InputError
            If neither the geometry nor the file has a sensible one.
        """
        file, event = self._names[index]
        energy = self.geometry.photon_energy
        if energy is None:
            raise InputError(
                f"{self.geometry.path} gives no photon energy: add a line such as "
                "'photon_energy = 9500 eV'"
            )
        if isinstance(energy, Header):
            value = self._header(file, event, energy, "photon_energy or wavelength")
            _require_positive(value, "photon energy", "eV", f"{energy.path} of {file} {event}")
            return value
        return energy

    def camera_length(self, index: int) -> float:
        """Return a frame's camera length in metres: mean over the panels of clen + coffset.

        Raises
        ------
        InputError
            If neither the geometry nor the file has a sensible one.
        """
        file, event = self._names[index]
        header = self.geometry.clen_header
        place = str(self.geometry.path)
        if header is None:
            value = self.geometry.camera_length()
        else:
            value = self.geometry.camera_length(self._stored(file, event, header, "clen"))
            place += f" (with {header.path} of {file} {event})"
        _require_positive(value, "camera length (clen + coffset)", "m", place)
        return value

    def _header(self, file: str, event: str, header: Header, field: str) -> float:
        return header.convert(self._stored(file, event, header, field))

    def _stored(self, file: str, event: str, header: Header, field: str) -> float:
        """Return the number of a header, one for all frames or this event's own.

        As for CrystFEL, each dimension longer than 1 takes the next number of the event.
        """
        names, numbers = split_event(event)
        path = fill_path(header.path, names)
        array = self._files.small_array(file, path, field)
        long = [n for n in array.shape if n != 1]
        if long and names and "%" not in self.geometry.blocks[0].data:
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
        return float(array.reshape(long)[tuple(place)])

    def _read_slab(self, file: str, event: str) -> NDArray[Any]:
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

    def _mask(self, file: str, event: str) -> Mask:
        """Return the mask of a frame by everything but its own values."""
        static, changing = self._static_mask(file, event)
        return static & self._stored_mask(file, event, changing) if changing else static

    def _static_mask(self, file: str, event: str) -> tuple[Mask, frozenset[MaskSource]]:
        """Return what holds for all frames of a file, and the masks that do not."""
        sources = {mask for panel in self.geometry.panels for mask in panel.masks}
        key = file if any(source.file is None for source in sources) else ""
        if key in self._masks:
            return self._masks[key]
        changing = set()
        for block in self.geometry.blocks:
            members = (self.geometry.panels[i] for i in block.panels)
            for source in {mask for panel in members for mask in panel.masks}:
                if source.file is not None and not os.path.exists(source.file):
                    raise InputError(
                        f"the mask file {source.file} of {self.geometry.path} does not exist: "
                        "correct mask0_file there, or put the mask in its place"
                    )
                path = fill_path(source.data, split_event(event)[0])
                dataset = self._files.dataset(source.file or file, path, "mask")
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

    def _stored_mask(self, file: str, event: str, sources: Set[MaskSource]) -> Mask:
        def read(source: MaskSource, block: Block) -> NDArray[Any]:
            return self._read(source.file or file, event, block, source.data, "mask")

        return stored_masks(self.geometry, sources, read)

    def _check(self, file: str, event: str) -> None:
        """Check, without reading, that a frame is where the geometry says."""
        for block in self.geometry.blocks:
            self._select(file, event, block, block.data, "data")

    def _read(self, file: str, event: str, block: Block, pattern: str, field: str) -> NDArray[Any]:
        """Read a block's part of a frame, or of a mask, as (rows, columns)."""
        dataset, selection = self._select(file, event, block, pattern, field)
        with reading(file, pattern):
            part = dataset[selection]
        if not part.dtype.isnative:
            part = part.astype(part.dtype.newbyteorder("="))
        return part.reshape(block.modules * block.height, block.width)

    def _select(
        self, file: str, event: str, block: Block, pattern: str, field: str
    ) -> tuple[h5py.Dataset, Selection]:
        """Find a block's part of a frame: the data set, and the index into it."""
        names, numbers = split_event(event)
        path = (linked_path if field == "data" else fill_path)(pattern, names)
        dataset = self._files.dataset(file, path, field)
        dims = block.dims
        if field != "data" and dataset.ndim < len(dims):
            # One mask for all events lacks the dimensions that count them.
            dims = tuple(dim for dim in dims if dim != "%")
        if dataset.ndim != len(dims):
            raise InputError(wrong_dimensions(dataset, file, block))
        if len(numbers) < dims.count("%"):
            raise InputError(
                f"the event {event} of {file} has {len(numbers)} numbers, but the geometry "
                f"needs {dims.count('%')}: add them, as in //3"
            )
        remaining = iter(numbers)
        whole = {"ss": block.height, "fs": block.width, MODULE: block.modules}
        selection: list[int | slice] = []
        for dim, size in zip(dims, dataset.shape, strict=True):
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


def _require_positive(value: float, name: str, unit: str, place: str) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"the {name} in {place} is {value:g} {unit}, but must be above 0")
