"""Parts of a reduction: a batch of frames, searched and written by one process.

A part is a CXI file of the batch's hits. Beside what `wrappers.frames.cxi` writes it says, in
`FRAMES` and `HITS`, what became of every frame of the batch. It appears whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wrappers.errors import InputError
from wrappers.frames.cxi import CxiWriter
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.peak_batch import FindsPeaks
from wrappers.schema import Count, read_json_text
from wrappers.schema_arrays import open_hdf5, stored_array, stored_text
from wrappers.settings import Settings

__all__ = ["FRAMES", "HITS", "PART", "Batch", "Part", "Reducer", "SettingsSet", "read_part"]

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
        settings, mask = used.settings, self._mask(bad_pixels)
        clen_change = settings.clen_change(self._run.nominal_clen)
        n_peaks, hits, shifts, failures = [], [], [], []
        with CxiWriter(batch.path(self._folder), sources=True) as writer:
            for index in range(batch.first, batch.stop):
                try:
                    frame = self._run[index]
                except InputError as error:
                    n_peaks.append(UNREADABLE)
                    failures.append(str(error))
                    continue
                frame = replace(frame, mask=mask.on(frame.mask, settings))
                peaks = self._finder.find(frame, settings)
                n_peaks.append(len(peaks))
                if len(peaks) < settings.min_peaks:
                    continue
                writer.append(
                    peaks,
                    frame.photon_energy,
                    frame.camera_length + clen_change,
                    source=(frame.file, frame.event),
                    image=frame.data if self._images else None,
                    mask=frame.mask,
                )
                hits.append(index)
                shifts.append((frame.shift_x + settings.shift_x, frame.shift_y + settings.shift_y))
            writer.add(f"{FRAMES}/n_peaks", n_peaks, "i4")
            writer.add(f"{HITS}/frame", hits, "i8")
            writer.add(f"{HITS}/shift_x", [x for x, _ in shifts], "f8")
            writer.add(f"{HITS}/shift_y", [y for _, y in shifts], "f8")
            part = Part(len(n_peaks) - len(failures), len(hits), tuple(failures), used)
            document = {
                "n_frames": part.n_frames,
                "n_hits": part.n_hits,
                "failures": failures,
                "used": used.as_dict(),
            }
            writer.add(PART, json.dumps(document))
        return part

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
