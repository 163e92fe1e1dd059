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
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frames.cxi import DATA, MASK, PEAKS, CxiWriter
from wrappers.frames.source import FrameSource
from wrappers.frames.stored_images import StoredImages
from wrappers.outputs import companion
from wrappers.reduction.parts import (
    FRAMES,
    HITS,
    Hit,
    Part,
    SettingsSet,
    hits_of_part,
    peaks_of_frames,
)
from wrappers.schema_arrays import open_hdf5
from wrappers.text import utf8_value

__all__ = ["SETS", "SUMMARY", "Joining", "frames_geometry_text", "require_virtual"]

SETS = "/sfx_tuner/sets"
"""Data set of JSON strings: the settings that were used, and their names."""
SUMMARY = "/sfx_tuner/summary"
"""JSON: what `core.Reduction` says."""

_HIT_COLUMNS = {"frame": "i8", "shift_x": "f8", "shift_y": "f8", "set": "i4"}


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

    Images are copied as they are packed, from the run or from the parts, one at a time. If the
    ``with`` block is left without `finish`, nothing remains of it, and an older file stays.

    Parameters
    ----------
    out : Path
    run : FrameSource
    virtual : bool
        Whether the images are those of the run's own files, by a virtual data set; see
        `require_virtual`.

    Raises
    ------
    InputError
        If the file cannot be written.
    """

    def __init__(self, out: Path, run: FrameSource, *, virtual: bool) -> None:
        self._out, self._run, self._virtual = out, run, virtual
        self._stored = StoredImages(run)
        self._sets: dict[SettingsSet, int] = {}
        self._of_frames: dict[str, list[NDArray[Any]]] = {"n_peaks": [], "set": []}
        self._kinds: list[str] = []
        self._of_hits: dict[str, list[float]] = {name: [] for name in _HIT_COLUMNS}
        self._writer = CxiWriter(out, sources=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.discard()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each frame so far, "" of an unreadable one; none where none were told."""
        return tuple(self._kinds) if any(self._kinds) else ()

    def append(self, path: Path, part: Part) -> None:
        """Append a part file; they must come in the order of the run."""
        number = self._sets.setdefault(part.used, len(self._sets))
        with open_hdf5(path, "the part", "remove it, and go on with --resume") as file:
            n_peaks = peaks_of_frames(file, part)
            for hit in hits_of_part(file, part):
                self._append(hit, number)
        self._of_frames["n_peaks"].append(n_peaks)
        self._kinds += [""] * len(n_peaks)
        for told in part.told:
            self._kinds[told.frame] = told.name
        self._of_frames["set"].append(np.full(len(n_peaks), number))

    def _append(self, hit: Hit, number: int) -> None:
        image = hit.image
        if image is None and not self._virtual:
            image = self._stored.find(hit.frame)
        self._writer.append(
            hit.pattern.peaks,
            hit.pattern.photon_energy,
            hit.pattern.camera_length,
            source=self._run.name(hit.frame),
            image=image,
            mask=hit.mask,
        )
        values = hit.frame, hit.pattern.shift_x, hit.pattern.shift_y, number
        for column, value in zip(self._of_hits.values(), values, strict=True):
            column.append(value)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the rest, and the geometry: it appears first, then the file, each whole."""
        writer = self._writer
        for name, arrays in self._of_frames.items():
            writer.add(f"{FRAMES}/{name}", np.concatenate(arrays), "i4")
        if self.kinds:
            writer.add(f"{FRAMES}/kind", self.kinds)
        for name, values in self._of_hits.items():
            writer.add(f"{HITS}/{name}", values, _HIT_COLUMNS[name])
        writer.add(SETS, [json.dumps(used.as_dict()) for used in self._sets])
        writer.add(SUMMARY, json.dumps(summary))
        attributes = writer.file[PEAKS].attrs
        attributes["software"] = "sfx-tuner"
        if len(self._sets) == 1:
            for name, value in next(iter(self._sets)).settings.as_dict().items():
                if value is not None:
                    attributes[name] = value
        if self._virtual and self._of_hits["frame"]:
            _map_images(writer.file, self._run, [*map(int, self._of_hits["frame"])])
        writer.complete()
        shifts = [np.array(self._of_hits[f"shift_{axis}"]) for axis in "xy"]
        geometry = frames_geometry_text(self._run.geometry, shifts)
        write_whole(companion(self._out, ".geom"), geometry)
        writer.close()


def _map_images(file: h5py.File, run: FrameSource, hits: Sequence[int]) -> None:
    """Make a virtual data set of the hits' slabs, where the run's files have them."""
    # (By h5py's VirtualLayout a hit takes a fifth of the time to read it.)
    shape = len(hits), *run.geometry.slab_shape
    target, plist = h5s.create_simple(shape), h5p.create(h5p.DATASET_CREATE)
    dtypes = {dataset.dtype for _, dataset, _ in run.places(hits[0]) or ()}
    for row, index in enumerate(hits):
        for block, dataset, place in run.places(index) or ():
            first, last = block.rows.start, block.rows.stop
            target.select_hyperslab((row, first, 0), (1, last - first, block.width))
            source = dataset.id.get_space()
            source.select_hyperslab(
                tuple(each.start if isinstance(each, slice) else each for each in place),
                tuple(each.stop if isinstance(each, slice) else 1 for each in place),
            )
            path = os.fsencode(os.path.abspath(dataset.file.filename))
            plist.set_virtual(target, path, dataset.name.encode(), source)
    dtype = h5t.py_create(np.result_type(*dtypes), logical=True)
    h5d.create(file.id, DATA.encode(), dtype, h5s.create_simple(shape), plist)


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
