"""Parts of a reduction: a batch of frames, searched and written by one process.

A part is a CXI file of the batch's hits. Beside what `wrappers.frames.cxi` writes it says, in
`FRAMES` and `HITS`, what became of every frame of the batch. It appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.cxi import CxiWriter
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.indexing import Pattern
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.peak_batch import FindsPeaks
from wrappers.peaks import PeakList
from wrappers.schema import Count, read_json_text
from wrappers.schema_arrays import open_hdf5, stored_array, stored_text
from wrappers.settings import Settings

__all__ = [
    "FRAMES",
    "HITS",
    "PART",
    "Batch",
    "Part",
    "PartWriter",
    "Placed",
    "Reducer",
    "SettingsSet",
    "read_part",
]

FRAMES = "/sfx_tuner/frames"
"""Group of data sets with a row for each frame, in the run's order."""
HITS = "/sfx_tuner/hits"
"""Group of data sets with a row for each hit."""
PART = "/sfx_tuner/part"

UNREADABLE = -1
"""In place of a number of peaks."""


@dataclass(frozen=True)
class SettingsSet:
    """Settings, and the name under which they are recorded."""

    settings: Settings
    name: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"name": self.name, "settings": self.settings.as_dict()}


@dataclass(frozen=True)
class Batch:
    """Frames `first` to `stop` - 1 of a run, the batch of that number."""

    number: int
    first: int
    stop: int

    def path(self, folder: Path) -> Path:
        """Return where its part file belongs."""
        return folder / f"{self.number:06d}.cxi"


@dataclass(frozen=True)
class Part:
    """What a part file says of its batch.

    Attributes
    ----------
    n_frames, n_hits : int
        Frames that were read, and those of them with enough peaks.
    failures : tuple of str
        Why others could not be read.
    used : SettingsSet
        What all its frames were searched with.
    """

    n_frames: Count
    n_hits: Count
    failures: tuple[str, ...]
    used: SettingsSet


@dataclass(frozen=True, eq=False)
class Placed:
    """A frame that was searched, and where the settings put its detector.

    Attributes
    ----------
    frame : Frame
        With the mask that it was searched with.
    pattern : Pattern
        What was found in it.
    is_hit : bool
        Whether that is as much as the settings ask for.
    """

    frame: Frame
    pattern: Pattern
    is_hit: bool


class PartWriter:
    """Writes a part, frame by frame; leave the ``with`` block without `finish`, and there is none.

    Parameters
    ----------
    path : Path
    used : SettingsSet
        What all its frames were searched with.
    nominal_clen : float
        See `Settings.clen_change`.
    images : bool
        Whether the part holds the hits' images; their masks it holds in any case.

    Raises
    ------
    InputError
        If the part cannot be written; that goes for each method.
    """

    def __init__(self, path: Path, used: SettingsSet, nominal_clen: float, images: bool) -> None:
        self._used, self._images = used, images
        self._clen_change = used.settings.clen_change(nominal_clen)
        self._n_peaks: list[int] = []
        self._hits: list[int] = []
        self._shifts: list[tuple[float, float]] = []
        self._failures: list[str] = []
        attributes = {"software": "sfx-tuner", **used.settings.as_dict()}
        self._writer = CxiWriter(path, attributes=attributes, sources=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.discard()

    @property
    def n_frames(self) -> int:
        """Frames so far, unreadable ones included."""
        return len(self._n_peaks)

    def failed(self, error: InputError) -> None:
        """Note a frame that cannot be read."""
        self._n_peaks.append(UNREADABLE)
        self._failures.append(str(error))

    def add(self, frame: Frame, peaks: PeakList, index: int) -> Placed:
        """Note a frame that was searched, number `index` of its run; write it if it is a hit."""
        settings = self._used.settings
        pattern = Pattern(
            peaks,
            frame.photon_energy,
            frame.camera_length + self._clen_change,
            frame.shift_x + settings.shift_x,
            frame.shift_y + settings.shift_y,
        )
        placed = Placed(frame, pattern, len(peaks) >= settings.min_peaks)
        self._n_peaks.append(len(peaks))
        if placed.is_hit:
            self._writer.append(
                peaks,
                frame.photon_energy,
                pattern.camera_length,
                source=(frame.file, frame.event),
                image=frame.data if self._images else None,
                mask=frame.mask,
            )
            self._hits.append(index)
            self._shifts.append((pattern.shift_x, pattern.shift_y))
        return placed

    @property
    def shifts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The hits' shifts of the detector along x and y, in metres."""
        found = np.array(self._shifts).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def finish(self, further: Mapping[str, Any] = MappingProxyType({})) -> Part:
        """Give the file its name; `further` are data sets that it is to have, too."""
        writer, failures = self._writer, self._failures
        writer.add(f"{FRAMES}/n_peaks", self._n_peaks, "i4")
        writer.add(f"{HITS}/frame", self._hits, "i8")
        for axis, shifts in zip("xy", self.shifts, strict=True):
            writer.add(f"{HITS}/shift_{axis}", shifts, "f8")
        n_read = len(self._n_peaks) - len(failures)
        part = Part(n_read, len(self._hits), tuple(failures), self._used)
        document = {
            "n_frames": part.n_frames,
            "n_hits": part.n_hits,
            "failures": failures,
            "used": self._used.as_dict(),
        }
        writer.add(PART, json.dumps(document))
        for name, values in further.items():
            writer.add(name, values)
        writer.close()
        return part


class Reducer:
    """Turns batches of frames into part files, one after the other.

    Parameters
    ----------
    run : FrameSource
    finder : FindsPeaks
        Of the run's geometry.
    folder : Path
        Where the parts go.
    images : bool
        Whether the parts hold the hits' images; their masks they hold in any case.
    """

    def __init__(self, run: FrameSource, finder: FindsPeaks, folder: Path, images: bool) -> None:
        self._run, self._finder, self._folder, self._images = run, finder, folder, images
        self._masks: dict[Path | None, SettingsMask] = {}

    def reduce(self, batch: Batch, used: SettingsSet, bad_pixels: Path | None) -> Part:
        """Search a batch's frames and write its part.

        Parameters
        ----------
        batch : Batch
        used : SettingsSet
        bad_pixels : Path or None
            The map of bad pixels that the settings' masks are made of.

        Raises
        ------
        InputError
            If the part cannot be written.
        """
        mask, path = self._mask(bad_pixels), batch.path(self._folder)
        with PartWriter(path, used, self._run.nominal_clen, self._images) as writer:
            for index in range(batch.first, batch.stop):
                try:
                    frame = self._run[index]
                except InputError as error:
                    writer.failed(error)
                    continue
                frame = replace(frame, mask=mask.on(frame.mask, used.settings))
                writer.add(frame, self._finder.find(frame, used.settings), index)
            return writer.finish()

    def _mask(self, bad_pixels: Path | None) -> SettingsMask:
        if bad_pixels not in self._masks:
            geometry = self._run.geometry
            found = None if bad_pixels is None else BadPixelMap.load(bad_pixels, geometry)
            self._masks = {bad_pixels: SettingsMask(geometry, found)}
        return self._masks[bad_pixels]


def read_part(path: Path) -> Part | None:
    """Return what a part file says, or None if there is none or it is damaged."""
    remedy = "it is made anew"
    try:
        with open_hdf5(path, "the part", remedy) as file:
            (text,) = stored_text(file, PART)
            part = read_json_text(text, Part, str(path), remedy)
            stored_array(file, f"{FRAMES}/n_peaks", "i", (part.n_frames + len(part.failures),))
            for name in ("frame", "shift_x", "shift_y"):
                stored_array(file, f"{HITS}/{name}", shape=(part.n_hits,))
    except InputError:
        return None
    return part
