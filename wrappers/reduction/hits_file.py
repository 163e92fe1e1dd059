"""A file of hits, written frame by frame: what a stream's frames become."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.cxi import CxiWriter
from wrappers.frames.frame import Frame
from wrappers.peaks import PeakList
from wrappers.reduction.parts import FRAMES, HITS, UNREADABLE, Part, SettingsSet
from wrappers.reduction.placed import Placed, place

__all__ = ["HitsWriter"]


class HitsWriter:
    """Writes a file of hits frame by frame; it is there once `finish` was called.

    Parameters
    ----------
    path : Path
    used : SettingsSet
        What all its frames were searched with.
    nominal_clen : float
        See `Settings.clen_change`.

    Raises
    ------
    InputError
        If the file cannot be written; that goes for each method.
    """

    def __init__(self, path: Path, used: SettingsSet, nominal_clen: float) -> None:
        self._used = used
        self._clen_change = used.settings.clen_change(nominal_clen)
        self._n_peaks: list[int] = []
        self._kinds: list[str] = []
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
        self._kinds.append("")
        self._failures.append(str(error))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each frame so far, "" where it was not told; empty where none was."""
        return tuple(self._kinds) if any(self._kinds) else ()

    def add(self, frame: Frame, peaks: PeakList, index: int, kind: str = "") -> Placed:
        """Note a frame that was searched, number `index` of its run; write it if it is a hit."""
        placed = place(frame, peaks, self._used.settings, self._clen_change)
        pattern = placed.pattern
        self._n_peaks.append(len(peaks))
        self._kinds.append(kind)
        if placed.is_hit:
            self._writer.append(
                peaks,
                frame.photon_energy,
                pattern.camera_length,
                source=(frame.file, frame.event),
                image=frame.data,
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
        if self.kinds:
            writer.add(f"{FRAMES}/kind", [*self.kinds])
        writer.add(f"{HITS}/frame", self._hits, "i8")
        for axis, shifts in zip("xy", self.shifts, strict=True):
            writer.add(f"{HITS}/shift_{axis}", shifts, "f8")
        n_read = len(self._n_peaks) - len(failures)
        part = Part(n_read, len(self._hits), tuple(failures), self._used)
        for name, values in further.items():
            writer.add(name, values)
        writer.close()
        return part
