"""The reduction core on a stream: hits go to one CXI file after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, UnreadableError
from wrappers.files import temporary_folder
from wrappers.frames.source import FrameSource
from wrappers.peakfinding.finders import NamedFinder
from wrappers.reduction import Reduction, SettingsSet, reduce_run
from wrappers.streams.frames import FrameMaker
from wrappers.streams.protocols import StreamAddress
from wrappers.streams.receiver import Counts, Receiver
from wrappers.streams.recording import RecordedRun, record

__all__ = ["LivePart", "apply_stream"]


@dataclass(frozen=True)
class LivePart:
    """A file of hits.

    Attributes
    ----------
    reduction : Reduction
    counts : Counts
        Of the stream's messages, since the beginning.
    """

    reduction: Reduction
    counts: Counts


def apply_stream(
    address: StreamAddress,
    geometry: Geometry,
    settings: Callable[[FrameSource], SettingsSet],
    prepare: Callable[[FrameSource, SettingsSet], FrameSource],
    folder: Path,
    *,
    batch: int,
    seconds: float,
    idle: float,
    buffer: int,
    jobs: int = 1,
) -> Iterator[LivePart]:
    """Yield files of hits as they are written, ``hits-00001.cxi`` and so on.

    While one is made, the stream's further frames wait in the ring; what it has no room for is
    dropped and counted.

    Parameters
    ----------
    address : StreamAddress
    geometry : Geometry
    settings : callable
        Says for frames with what they are searched.
    prepare : callable
        Returns the frames with the map of bad pixels that this needs.
    folder : Path
        It is made where it is not there; files that it has are kept.
    batch : int
        Frames that a file's hits are of.
    seconds : float
        Or as many as come in so many seconds.
    idle : float
        Seconds without a frame that end it.
    buffer : int
        Images that wait in the ring.
    jobs : int
        Processes.

    Raises
    ------
    UnreadableError
        If no frame comes at all.
    InputError
        If the stream is another than the geometry's, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, maker = 0, FrameMaker(address.name, geometry)
    with Receiver(address, buffer) as receiver:
        while True:
            with temporary_folder(folder) as waiting:
                try:
                    recording = record(
                        receiver,
                        maker,
                        waiting / "frames.cxi",
                        batch,
                        idle=idle,
                        seconds=seconds,
                    )
                except UnreadableError:
                    if number:
                        return
                    raise
                run: FrameSource = RecordedRun.of(recording)
                used = settings(run)
                number += 1
                out = _free(folder, number)
                run = prepare(run, used)
                with run:
                    finder = NamedFinder(run.geometry)
                    reduction = reduce_run(run, finder, used, out, jobs=jobs, replace=False)
            yield LivePart(reduction, receiver.counts)


def _free(folder: Path, number: int) -> Path:
    """Return the name of the next file that is not there."""
    for further in range(number, 100_000):
        path = folder / f"hits-{further:05d}.cxi"
        if not path.exists():
            return path
    raise InputError(f"{folder} is full of files of hits: name another folder")
