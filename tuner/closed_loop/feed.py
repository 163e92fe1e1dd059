"""Where a loop's frames come from: as they arrive, or a run's in its order.

While they are searched, frames may be kept: a block's are then a file in the night's folder
(``000012.cxi``), which a session can have, and another set can be tried on.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import append_line, write_whole
from wrappers.frames.address import Address
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.frames.stored import StoredFrames
from wrappers.schema import Count, read_json_lines
from wrappers.streams.arriving import ArrivingFrames, Late, read_already
from wrappers.streams.protocols import is_stream
from wrappers.streams.recording import Recorder
from wrappers.streams.sources import open_arriving

__all__ = [
    "Ahead",
    "RunInOrder",
    "Taken",
    "Tap",
    "block_file",
    "forget_blocks",
    "list_of_blocks",
    "note_taken",
    "open_frames",
    "taken_before",
]

TAKEN = "taken.jsonl"
"""In a night's folder: the frames of files that grow, a line a block, before it is in the log."""
EVERY = 7
"""Pixel along each axis that is looked at for how light a frame is."""
LOOK = 0.1
"""Seconds between two looks at a source that has nothing yet."""
OF_BLOCK = re.compile(r"(\d{6}\.cxi)(\.geom|\.mask\.h5)?")
"""Names of a block's files, and of nothing else."""


class RunInOrder(ArrivingFrames):
    """Frames of a run, which come as soon as they are asked for.

    Parameters
    ----------
    run : FrameSource
    first : int
        Where to begin.

    Attributes
    ----------
    place : int
        Of the next frame.
    """

    def __init__(self, run: FrameSource, first: int = 0) -> None:
        super().__init__(run.name(0)[0], run.geometry)
        self._run, self.place = run, first
        self._said = list(run.notes)
        self._reading = threading.Lock()

    @property
    def ended(self) -> bool:
        """Whether all frames were given."""
        return self.place >= len(self._run)

    @property
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""
        return StoredFrames(self.geometry).mask_of_own_files()

    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None behind the last one."""
        if self.ended:
            return None
        self.place += 1
        self.counts.received += 1
        return partial(self._read, partial(self._of_run, self.place - 1))

    def close(self) -> None:
        """Close the run."""
        self._run.close()

    def _of_run(self, index: int) -> Frame:
        with self._reading:  # a run is one thread's at a time
            return self._run[index]


class Ahead(ArrivingFrames):
    """A night's frames, the next of which may be looked at before they are taken.

    Parameters
    ----------
    frames : ArrivingFrames
        The source, which is closed with it.

    Attributes
    ----------
    waits : bool
        Whether frames wait until they are asked for.
    """

    def __init__(self, frames: ArrivingFrames) -> None:
        super().__init__(frames.name, frames.geometry)
        self._frames, self.counts = frames, frames.counts
        self._run = frames if isinstance(frames, RunInOrder) else None
        self.waits = self._run is not None
        self._early: deque[tuple[int | None, Frame]] = deque()
        self._n_changes = 0  # as it was before those

    @property
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""
        return self._frames.own_mask

    @property
    def notes(self) -> list[str]:
        """What is odd about the frames, a sentence each."""
        return self._frames.notes

    @property
    def n_changes(self) -> int:
        """How often a series with another energy or distance has begun before the next frame."""
        return self._n_changes if self._early else self._frames.n_changes

    @property
    def place(self) -> int | None:
        """Of a run, the place of the next frame."""
        if self._early:
            return self._early[0][0]
        return None if self._run is None else self._run.place

    @property
    def has_looked_ahead(self) -> bool:
        """Whether frames were looked at that nobody has taken yet."""
        return bool(self._early)

    @property
    def ended(self) -> bool:
        """Whether no more frames can come."""
        return not self._early and self._run is not None and self._run.ended

    def look(self, n: int, patience: float, stopped: Callable[[], bool]) -> list[Frame]:
        """Wait for up to `n` frames, which `next` still gives; none where none comes in time.

        They are of one series.
        """
        last = time.monotonic()
        while len(self._early) < n and time.monotonic() - last < patience:
            if stopped() or (self._run is not None and self._run.ended):
                break
            if self._early and self._n_changes != self._frames.n_changes:
                break
            place = None if self._run is None else self._run.place
            late = self._frames.next(LOOK)
            frame = None if late is None else late()
            if frame is not None:
                self._n_changes = self._frames.n_changes
                self._early.append((place, frame))
                last = time.monotonic()
        return [frame for _, frame in self._early][:n]

    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None where none arrives within `timeout` seconds."""
        if self._early:
            return read_already(self._early.popleft()[1])
        return self._frames.next(timeout)

    def close(self) -> None:
        """Close the source."""
        self._frames.close()


@dataclass(frozen=True)
class Taken:
    """Frames of a block.

    Attributes
    ----------
    block : int
    events : mapping of str to tuple of str
        By the name of their file.
    """

    block: Count
    events: dict[str, tuple[str, ...]]


def note_taken(night: Path, block: int, names: Iterable[tuple[str, str]]) -> None:
    """Note which frames a block has.

    Raises
    ------
    InputError
        If that cannot be written.
    """
    events: dict[str, list[str]] = {}
    for file, event in names:
        events.setdefault(file, []).append(event)
    append_line(night / TAKEN, json.dumps({"block": block, "events": events}))


def taken_before(night: Path, block: int) -> frozenset[tuple[str, str]]:
    """Return the file and event of each frame that was taken before a block.

    Raises
    ------
    InputError
        If nobody knows.
    """
    if block == 1:
        return frozenset()
    remedy = "begin another night on what is new, as every frame would be taken a second time"
    path = night / TAKEN
    if not path.exists():
        raise InputError(f"{path} is gone, which says what frames the night has had: {remedy}")
    blocks = read_json_lines(path, Taken, "the list of the night's frames", remedy, mend=True)
    return frozenset(
        (file, event)
        for each in blocks
        if each.block < block
        for file, events in each.events.items()
        for event in events
    )


def open_frames(
    source: Address,
    geometry: Path,
    first: int,
    buffer: int,
    *,
    goes_on: bool = False,
    before: tuple[float | None, float | None] = (None, None),
    taken: Collection[tuple[str, str]] = (),
) -> Ahead:
    """Open what a name stands for.

    Parameters
    ----------
    source : path or str
    geometry : Path
    first : int
        Of a run: the frame to begin with.
    buffer : int
        Of a stream: images that wait in memory.
    goes_on, before : bool, (float or None, float or None)
        Of a stream: whether frames were taken before, and their photon energy (eV) and distance
        (m).
    taken : collection of (str, str)
        Of files that grow: the file and event of frames that were taken before.

    Raises
    ------
    InputError
        If it cannot be opened, or the geometry does not go with it.
    """
    read = Geometry.read(geometry)
    if is_stream(source):
        arriving = open_arriving(
            *(str(source), read, buffer),
            every_series=True,
            before=before,
            goes_on=goes_on,
            taken=taken,
        )
        return Ahead(arriving)
    return Ahead(RunInOrder(open_source(source, read), first))


class Tap(ArrivingFrames):
    """The frames of one block, on their way from the source to the search.

    Parameters
    ----------
    frames : ArrivingFrames
        The source, which stays open.
    path : Path or None
        Where the frames are kept; use it as a context manager, and `finish` it.

    Attributes
    ----------
    levels : list of float
        Of each frame: mean of the usable pixels.
    names : list of (str, str)
        Their files and events.
    """

    def __init__(self, frames: ArrivingFrames, path: Path | None) -> None:
        super().__init__(frames.name, frames.geometry)
        self._frames, self.counts = frames, frames.counts
        self._recorder = None if path is None else Recorder(frames, path)
        self.levels: list[float] = []
        self.names: list[tuple[str, str]] = []

    @property
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""
        return self._frames.own_mask

    @property
    def n_changes(self) -> int:
        """How often a series with another energy or distance has begun before the next frame."""
        return self._frames.n_changes

    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None where none arrives within `timeout` seconds."""
        late = self._frames.next(timeout)
        return None if late is None else partial(self._seen, late)

    def finish(self) -> None:
        """Have the frames that were kept in their file."""
        if self._recorder is not None and len(self._recorder):
            self._recorder.finish()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        if self._recorder is not None:
            self._recorder.__exit__(None, None, None)

    def _seen(self, late: Late) -> Frame | None:
        frame = late()
        if frame is None:
            return None
        used = frame.mask[::EVERY, ::EVERY]
        values = frame.data[::EVERY, ::EVERY][used]
        with self._lock:
            self.names.append((frame.file, frame.event))
            if values.size:
                self.levels.append(float(np.mean(values, dtype=np.float64)))
            if self._recorder is not None:
                self._recorder.append(frame)
        return frame


def block_file(folder: Path, number: int) -> Path:
    """Return where a block's frames are, where they are kept."""
    return folder / f"{number:06d}.cxi"


def list_of_blocks(folder: Path, numbers: Iterable[int], path: Path) -> None:
    """Write a list of the frames of several blocks.

    Raises
    ------
    InputError
        If a block is gone, or the list cannot be written.
    """
    files = [block_file(folder, number) for number in numbers]
    if gone := next((file for file in files if not file.exists()), None):
        raise InputError(f"the frames {gone} are gone: begin another night")
    write_whole(path, "".join(f"{file.absolute()}\n" for file in files))


def forget_blocks(folder: Path, kept: Iterable[int]) -> None:
    """Remove the files of all blocks but some."""
    names = {block_file(folder, number).name for number in kept}
    for path in folder.iterdir():
        match = OF_BLOCK.fullmatch(path.name)
        if match is not None and match[1] not in names:
            with suppress(OSError):
                path.unlink()
