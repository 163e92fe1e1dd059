"""The end of a reduction: part files become one CXI file and the geometry to read it with."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import Unfinished, cannot_write, write_whole
from wrappers.frames.cxi import DATA, MASK, PACKED, PEAKS, create_images
from wrappers.frames.disk import Disk
from wrappers.frames.source import FrameSource
from wrappers.outputs import companion
from wrappers.reduction.parts import FRAMES, HITS, PART, Part, SettingsSet
from wrappers.schema_arrays import NUMBERS, open_hdf5, stored_array
from wrappers.text import utf8_value

__all__ = ["SETS", "SUMMARY", "Joining", "frames_geometry_text", "require_virtual"]

VERSION = "/cxi_version"
SETS = "/sfx_tuner/sets"
"""Data set of JSON strings: the settings that were used, and their names."""
SUMMARY = "/sfx_tuner/summary"
"""JSON: what `core.Reduction` says."""

N_COLUMNS = 64
"""Width of a chunk of a table, and the rows of one."""


def require_virtual(run: FrameSource) -> None:
    """Refuse to leave images where they are if no virtual data set can name them.

    Raises
    ------
    InputError
        If they are in no HDF5 file, or in one whose name HDF5 would write so that nobody could
        read it.
    """
    if run.places(0) is None:
        raise InputError(
            f"the images of {run.name(0)[0]} cannot be left where they are, as they are in no "
            "HDF5 file: leave out --virtual"
        )
    for file in run.files:
        utf8_value(os.path.abspath(file), "with --virtual the run's file")


class Joining:
    """Puts part files together while others are still being made.

    Images are copied as they were compressed, one at a time; the rest part by part. If the
    ``with`` block is left without `finish`, nothing remains of it, and an older file stays.

    Parameters
    ----------
    out : Path
    geometry : Geometry
        Of the frames.
    virtual : FrameSource, optional
        The run in whose own files the images stay, by a virtual data set; see `require_virtual`.

    Raises
    ------
    InputError
        If the file cannot be written.
    """

    def __init__(
        self, out: Path, geometry: Geometry, *, virtual: FrameSource | None = None
    ) -> None:
        self._out, self._geometry, self._virtual = out, geometry, virtual
        self._sets: dict[SettingsSet, int] = {}
        try:
            self._unfinished = Unfinished(out)
        except OSError as error:
            raise cannot_write(out, error) from error
        self._disk = Disk(self._unfinished.descriptor, "w+")
        self._file = h5py.File(self._disk, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._disk.close()
        self._unfinished.discard()

    def append(self, path: Path, part: Part) -> None:
        """Append a part file; they must come in the order of the run."""
        with open_hdf5(path, "the part", "remove it, and go on with --resume") as source:
            _append_part(self._file, source)
        number = self._sets.setdefault(part.used, len(self._sets))
        n_frames = part.n_frames + len(part.failures)
        _append(self._file, f"{FRAMES}/set", np.full(n_frames, number, np.int32))
        _append(self._file, f"{HITS}/set", np.full(part.n_hits, number, np.int32))
        self._check_disk()

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the rest, and the geometry: it appears first, then the file, each whole."""
        file = self._file
        file[VERSION] = 140
        file[SETS] = [json.dumps(used.as_dict()) for used in self._sets]
        file[SUMMARY] = json.dumps(summary)
        file[PEAKS].attrs["software"] = "sfx-tuner"
        if len(self._sets) == 1:
            for name, value in next(iter(self._sets)).settings.as_dict().items():
                if value is not None:
                    file[PEAKS].attrs[name] = value
        hits = file[f"{HITS}/frame"][:].tolist()
        if self._virtual is not None and hits:
            file.create_virtual_dataset(DATA, _virtual_images(self._virtual, hits))
        shifts = [file[f"{HITS}/shift_{axis}"][:] for axis in "xy"]
        file.close()
        self._disk.close()
        self._check_disk()
        geometry = frames_geometry_text(self._geometry, shifts)
        write_whole(companion(self._out, ".geom"), geometry)
        try:
            self._unfinished.finish()
        except OSError as error:
            raise cannot_write(self._out, error) from error

    def _check_disk(self) -> None:
        error = self._disk.error
        if error is not None:
            raise cannot_write(self._out, error)


def _append_part(file: h5py.File, source: h5py.File) -> None:
    names: list[str] = []
    source.visititems(
        lambda name, item: names.append(f"/{name}") if isinstance(item, h5py.Dataset) else None
    )
    for name in names:
        if name in (DATA, MASK):
            _append_images(file, name, source[name])
        elif name not in (PART, VERSION, SETS, SUMMARY) and source[name].shape:
            _append(file, name, stored_array(source, name, f"{NUMBERS}OS"), source[name].dtype)


def _append_images(file: h5py.File, name: str, images: h5py.Dataset) -> None:
    """Copy images as they are compressed."""
    if name not in file:
        create_images(file, name, 0, images.shape[1:], images.dtype)
    target = file[name]
    first = len(target)
    target.resize(first + len(images), axis=0)
    for row in range(len(images)):
        filters, chunk = images.id.read_direct_chunk((row, 0, 0))
        target.id.write_direct_chunk((first + row, 0, 0), chunk, filters)


def _append(
    file: h5py.File, name: str, values: NDArray[Any], dtype: np.dtype[Any] | None = None
) -> None:
    """Append rows to a column, or to a table that widens where need be."""
    if name not in file:
        table = values.ndim == 2
        file.create_dataset(
            name,
            (0,) * values.ndim,
            dtype or values.dtype,
            maxshape=(None,) * values.ndim,
            chunks=(N_COLUMNS, N_COLUMNS) if table else (1024,),
            **(PACKED if table else {}),
        )
    target = file[name]
    first = len(target)
    width = (max(target.shape[1], values.shape[1]),) if values.ndim == 2 else ()
    target.resize((first + len(values), *width))
    if values.size:
        target[(slice(first, None), *(slice(0, n) for n in values.shape[1:]))] = values


def _virtual_images(run: FrameSource, hits: list[int]) -> h5py.VirtualLayout:
    """Map each hit's slab to where the run's files have it."""
    dtype = np.result_type(*(dataset.dtype for _, dataset, _ in run.places(hits[0]) or ()))
    layout = h5py.VirtualLayout((len(hits), *run.geometry.slab_shape), dtype)
    for row, index in enumerate(hits):
        for block, dataset, place in run.places(index) or ():
            path = os.path.abspath(dataset.file.filename)
            source = h5py.VirtualSource(path, dataset.name, dataset.shape, dataset.dtype)
            layout[row, block.rows, : block.width] = source[place]
    return layout


def frames_geometry_text(
    geometry: Geometry,
    shifts: Sequence[NDArray[np.float64]],
    what: str = "hits",
    fields: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the slab geometry with the masks, and with the panels' saturation.

    Parameters
    ----------
    geometry : Geometry
    shifts : pair of float64 array
        Of the frames, along x and y, in metres.
    what : str
        What the file holds, for its first line.
    fields : mapping of str to str
        ``clen`` and ``photon_energy``, where they are not to be taken from the file.
    """
    if all(len(np.unique(shift)) <= 1 for shift in shifts):
        shift_x, shift_y = (f"{shift[0] if len(shift) else 0.0:.9f} m" for shift in shifts)
    else:
        shift_x, shift_y = (f"{HITS}/shift_{axis} m" for axis in "xy")
    text = slab_geometry_text(geometry, shift_x=shift_x, shift_y=shift_y, **fields)
    masks = f"mask = {MASK}\nmask_good = 0x00\nmask_bad = 0x01\n"
    saturation = [
        f"{panel.name}/max_adu = {panel.max_adu!r}\n"
        for panel in geometry.panels
        if math.isfinite(panel.max_adu)
    ]
    return f"; {what} of {geometry.path.name}\n{masks}{text}{''.join(saturation)}"
