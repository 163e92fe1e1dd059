"""Frames of a stream as a CXI file, so that whatever reads files can read them.

The file has the frames as they came, compressed by bitshuffle and LZ4, with their masks; the
geometry beside it is the given one in the slab's layout, good for further frames of the stream.
Peaks found in the file are those of the stream's frames.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import UnreadableError
from wrappers.files import write_whole
from wrappers.frames.cxi import SOURCE_EVENT, SOURCE_FILE, CxiWriter
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.outputs import companion
from wrappers.peaks import PeakList
from wrappers.reduction.joining import frames_geometry_text
from wrappers.streams.arriving import ArrivingFrames
from wrappers.streams.frames import mask_of_recording
from wrappers.streams.receiver import IDLE

__all__ = ["RecordedRun", "Recorder", "Recording", "no_frame", "record"]

LOOK = 0.5
"""Seconds between two calls of `progress` while nothing comes."""
SOURCES = (SOURCE_FILE, SOURCE_EVENT)
MASK_LINES = """\
mask1_file = {file}
mask1_data = /mask
mask1_goodbits = 0x00
mask1_badbits = 0x01
"""
"""What the geometry masked by itself, for further frames of the same stream; the masks in the file
are of its own frames."""


@dataclass(frozen=True)
class Recording:
    """What was recorded.

    Attributes
    ----------
    data, geometry : Path
    n_frames : int
    notes : tuple of str
        What is odd about the stream, a sentence each.
    """

    data: Path
    geometry: Path
    n_frames: int
    notes: tuple[str, ...]


def record(
    frames: ArrivingFrames,
    path: Path,
    n_frames: int,
    *,
    idle: float = IDLE,
    enough: Callable[[], bool] = lambda: False,
    on_frame: Callable[[Frame], None] = lambda frame: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Recording:
    """Write the next frames to a file, which appears when all is well.

    Parameters
    ----------
    frames : ArrivingFrames
    path : Path
        The CXI file; its geometry has ``.geom`` behind its name.
    n_frames : int
        At most.
    idle : float
        Seconds without a frame after which what has come is enough.
    enough : callable
        Says, before each frame and while none come, that what has come is enough.
    on_frame : callable
        Called with each frame.
    progress : callable
        Called with the number of frames so far, also while none come.

    Raises
    ------
    UnreadableError
        If no frame came.
    InputError
        If the frames are not of the geometry, another series begins, or the file cannot be written.
    """
    last = time.monotonic()
    with Recorder(frames, path) as recorder:
        while len(recorder) < n_frames and not enough():
            late = frames.next(min(LOOK, idle))
            progress(len(recorder))
            frame = None if late is None else late()
            if frame is None:
                if time.monotonic() - last >= idle:
                    break
                continue
            recorder.append(frame)
            on_frame(frame)
            last = time.monotonic()  # what takes us long is not the sender's silence
        if not len(recorder):
            raise no_frame(frames, time.monotonic() - last)
        return recorder.finish()


class Recorder:
    """Writes frames that arrive to a file; without `finish` in the ``with`` block there is none.

    Parameters
    ----------
    frames : ArrivingFrames
        Where they come from.
    path : Path
        The CXI file; its geometry has ``.geom`` behind its name.

    Raises
    ------
    InputError
        If the file cannot be written; that goes for each method.
    """

    def __init__(self, frames: ArrivingFrames, path: Path) -> None:
        self._frames, self._path, self._finished = frames, path, False
        self._writer = CxiWriter(path, sources=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._finished:
            self._writer.discard()

    def __len__(self) -> int:
        return len(self._writer)

    def append(self, frame: Frame) -> None:
        """Write one more frame."""
        self._writer.append(
            PeakList.empty(),
            frame.photon_energy,
            frame.camera_length,
            source=(frame.file, frame.event),
            image=frame.data,
            mask=frame.mask,
        )

    def finish(self) -> Recording:
        """Give the file, and the geometry beside it, their names."""
        frames, path = self._frames, self._path
        self._finished = True
        self._writer.close()
        none, what = np.zeros(0), f"frames of {frames.name}, by"
        text = frames_geometry_text(frames.geometry, (none, none), what, _numbers(frames.geometry))
        beside = companion(path, ".geom")
        masked = mask_of_recording(beside)
        _write_mask(masked, ~frames.own_mask)
        write_whole(beside, MASK_LINES.format(file=masked.name) + text)
        return Recording(path, beside, len(self), tuple(frames.notes))


def no_frame(frames: ArrivingFrames, waited: float) -> UnreadableError:
    """Return what to say where no frame came."""
    reason = f" ({frames.counts.reason})" if frames.counts.reason else ""
    return UnreadableError(
        f"no frame came from {frames.name} within {waited:.2g} s{reason}: is the sender running, "
        "and is this its address?"
    )


def _write_mask(path: Path, bad: NDArray[np.bool_]) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("/mask", data=bad.view(np.uint8), compression="gzip", shuffle=True)
    write_whole(path, content.getvalue())


def _numbers(geometry: Geometry) -> dict[str, str]:
    """Return the fields that the geometry gives as numbers: they hold for any frame to come."""
    fields = {}
    if geometry.clen_header is None:
        fields["clen"] = f"{geometry.camera_length()!r} m"
    if isinstance(geometry.photon_energy, float):
        fields["photon_energy"] = f"{geometry.photon_energy!r} eV"
    return fields


class RecordedRun(Run):
    """A recording as a run, whose frames have the names that they had in the stream."""

    _sources: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, recording: Recording) -> RecordedRun:
        """Open a recording.

        Raises
        ------
        InputError
            If it is not there any more.
        """
        run = cls.open(recording.data, Geometry.read(recording.geometry))
        assert isinstance(run, cls)
        with h5py.File(recording.data) as file:
            columns = (file[name].asstr(errors="surrogateescape")[()] for name in SOURCES)
            run._sources = tuple(zip(*columns, strict=True))
        return run

    def __getitem__(self, index: int) -> Frame:
        """Read a frame.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        file, event = self._sources[index]
        return replace(super().__getitem__(index), file=str(file), event=str(event))
