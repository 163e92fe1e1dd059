"""Where a loop's blocks of frames come from: a stream as it comes, or a run piece by piece.

A block is a file in the folder of the night: the frames themselves (``000012.cxi``), or a list of
them (``000012.lst``). So it can be searched by processes, and be kept for a session.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, UnreadableError
from wrappers.files import write_whole
from wrappers.frames.frame import Frame
from wrappers.frames.opening import Address, open_source
from wrappers.frames.source import FrameSource
from wrappers.streams.protocols import is_stream
from wrappers.streams.receiver import Counts
from wrappers.streams.recording import RecordedRun, record
from wrappers.streams.sources import open_arriving

__all__ = ["Feed", "block_file", "forget_blocks", "list_of_blocks", "open_feed"]

LIST, FRAMES = ".lst", ".cxi"


class Feed(Protocol):
    """Gives blocks of frames.

    Attributes
    ----------
    live : bool
        Whether frames come and go whatever is done with them.
    geometry : Path
        Of the frames in the blocks' files, once there was one.
    counts : Counts
        Of a stream's messages.
    """

    live: bool
    counts: Counts

    @property
    @abstractmethod
    def geometry(self) -> Path:
        """Of the frames in the blocks' files, once there was one."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether no more frames can come."""

    @abstractmethod
    def next(self, number: int, patience: float) -> FrameSource | None:
        """Return the frames of the block of that number; None where none come in time.

        Parameters
        ----------
        number : int
        patience : float
            Seconds without a frame.
        """

    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class StreamFeed(Feed):
    """Frames of a stream.

    What there is no time for waits in a ring, and is dropped and counted where that is full.
    Messages that are not of the geometry are left out, and said.

    Parameters
    ----------
    name : str
        The address.
    geometry : Path
    folder : Path
        Of the blocks.
    size : int
        Frames of a block.
    seconds : float
        Or as many as come in so many seconds.
    buffer : int
        Images that wait in the ring.
    on_note : callable
        Called with what is odd about the stream, a sentence each, again and again.
    """

    live = True
    ended = False

    def __init__(
        self,
        name: str,
        geometry: Path,
        folder: Path,
        size: int,
        *,
        seconds: float,
        buffer: int,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self._folder, self._size, self._seconds = folder, size, seconds
        self._frames = open_arriving(name, Geometry.read(geometry), buffer, every_series=True)
        self._on_note = on_note
        self.counts = self._frames.counts

    @property
    def geometry(self) -> Path:
        """Return that of the first block that is still there."""
        return min(self._folder.glob(f"*{FRAMES}.geom"))

    def next(self, number: int, patience: float) -> FrameSource | None:
        """Record the next frames."""
        first = math.inf

        def begin(frame: Frame) -> None:
            nonlocal first
            first = min(first, time.monotonic())

        try:
            recording = record(
                self._frames,
                block_file(self._folder, number, FRAMES),
                self._size,
                idle=patience,
                enough=lambda: time.monotonic() - first >= self._seconds,
                on_frame=begin,
            )
        except UnreadableError:
            return None
        finally:
            for note in self._frames.notes:
                self._on_note(note)
        return RecordedRun.of(recording)

    def close(self) -> None:
        """Close the socket."""
        self._frames.close()


class RunFeed(Feed):
    """Frames of a run, in its order.

    Parameters
    ----------
    run : FrameSource
    folder : Path
        Of the blocks.
    size : int
        Frames of a block.
    first : int
        Where to begin.
    """

    live = False

    def __init__(self, run: FrameSource, folder: Path, size: int, first: int = 0) -> None:
        self._run, self._folder, self._size, self._next = run, folder, size, first
        self.counts = Counts()

    @property
    def geometry(self) -> Path:
        """Return the run's."""
        return self._run.geometry.path

    @property
    def ended(self) -> bool:
        """Whether all frames were given."""
        return self._next >= len(self._run)

    def next(self, number: int, patience: float) -> FrameSource | None:
        """Return the next frames."""
        stop = min(self._next + self._size, len(self._run))
        if stop == self._next:
            return None
        names = [self._run.name(i) for i in range(self._next, stop)]
        self._next = stop
        path = block_file(self._folder, number, LIST)
        write_whole(path, "".join(f"{file} {event}\n" for file, event in names))
        return open_source(path, self._run.geometry)

    def close(self) -> None:
        """Close the run."""
        self._run.close()


def open_feed(
    source: Address,
    geometry: Path,
    folder: Path,
    size: int,
    first: int,
    *,
    seconds: float,
    buffer: int,
    on_note: Callable[[str], None],
) -> Feed:
    """Return the feed of a stream or a run; for the parameters see those."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_stream(source):
        return StreamFeed(
            *(str(source), geometry, folder, size), seconds=seconds, buffer=buffer, on_note=on_note
        )
    run = open_source(source, Geometry.read(geometry))
    for note in run.notes:
        on_note(note)
    return RunFeed(run, folder, size, first)


def block_file(folder: Path, number: int, suffix: str) -> Path:
    """Return where a block's file is."""
    return folder / f"{number:06d}{suffix}"


def list_of_blocks(folder: Path, numbers: Iterable[int], path: Path) -> None:
    """Write a list of the frames of several blocks.

    Raises
    ------
    InputError
        If a block is gone, or the list cannot be written.
    """
    lines = []
    for number in numbers:
        frames, names = (block_file(folder, number, suffix) for suffix in (FRAMES, LIST))
        if frames.exists():
            lines.append(f"{frames.absolute()}\n")
        elif names.exists():
            lines.append(names.read_text("utf-8", "surrogateescape"))
        else:
            raise InputError(f"the frames {frames} are gone: begin another night")
    write_whole(path, "".join(lines))


def forget_blocks(folder: Path, kept: Iterable[int]) -> None:
    """Remove the files of all blocks but some."""
    names = {f"{number:06d}" for number in kept}
    for path in folder.glob("[0-9]*"):
        if path.name[:6] not in names:
            with suppress(OSError):
                path.unlink()
