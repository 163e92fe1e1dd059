"""Frames of files that are being written: one that grows, a master whose parts are late, a folder.

What cannot be read now may be there later: it is tried again. Each look opens the files anew, as
that is how HDF5 shows what was added to them and to those that they link to.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.cbf import CBF_SUFFIXES, CBFFrames
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.hdf5 import is_hdf5
from wrappers.frames.run import HDF5_SUFFIXES, Run
from wrappers.frames.source import FrameSource
from wrappers.frames.stored import StoredFrames
from wrappers.locks import is_locked_by_writer
from wrappers.streams.arriving import ArrivingFrames, Late, read_already
from wrappers.streams.protocols import parse_growing

__all__ = ["GrowingFiles"]

POLL = 0.5
"""Seconds between two looks at the files while nothing new is there."""
GIVEN_UP = 30.0
"""Seconds after which a frame that cannot be read, while later ones can, is counted as damaged."""
AHEAD = 16
"""Frames that are not there yet that are tried at each look: files may come in any order, but a
file that was laid out for a night is not to be read to its end each time. Where these have failed
for `GIVEN_UP`, as many further ones are tried, at each look the next."""
PARTS_LATE = 600.0
"""Seconds for which a master that does not change itself is looked at for further parts."""
SAID = 10.0
"""Seconds after which it is said why a file that does not change cannot be read."""


@dataclass
class _Failure:
    """When a frame could not be read first, and why it could not last."""

    since: float
    reason: str

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self.since > GIVEN_UP


@dataclass
class _File:
    """What is known of a file.

    Attributes
    ----------
    done : set of (str, str)
        Names of the frames that were read or given up.
    failed : dict of (str, str) to _Failure
        Of each frame that is not there yet.
    n_frames : int
        That it had at the last look.
    further : int
        Where the frames begin that are tried next beyond the first that are not there.
    since : float
        When the file was first seen as it is now.
    signature : tuple of int
    complete : bool
        Whether all frames that it had at the last look are done.
    is_master : bool
        Whether its frames are in other files.
    """

    done: set[tuple[str, str]] = field(default_factory=set)
    failed: dict[tuple[str, str], _Failure] = field(default_factory=dict)
    n_frames: int = 0
    further: int = 0
    since: float = 0.0
    signature: tuple[int, int, int] = (0, 0, 0)
    complete: bool = False
    is_master: bool = False


class GrowingFiles(ArrivingFrames):
    """Frames of a file, or of a folder's files, that others are still writing.

    Parameters
    ----------
    name : str
        The address, such as ``growing+file:///data/run.h5``.
    geometry : Geometry
    taken : collection of (str, str)
        File and event of frames that were taken before, and are not given again.

    Raises
    ------
    InputError
        If the address or a mask file of the geometry cannot be used.
    """

    def __init__(
        self, name: str, geometry: Geometry, taken: Collection[tuple[str, str]] = ()
    ) -> None:
        super().__init__(name, geometry)
        self._taken_before = frozenset(taken)
        self._address = parse_growing(name)
        self._own_mask = StoredFrames(geometry).mask_of_own_files()
        self._files: dict[Path, _File] = {}
        self._lost = ""  # why the last frame that was given up could not be read
        self._coming = self._look()

    @property
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""
        return self._own_mask

    @property
    def unread(self) -> str:
        """How many frames of the files were not read, and why the last was not; "" where none."""
        late = sum(max(0, file.n_frames - len(file.done)) for file in self._files.values())
        if not (n := self.counts.damaged + late):
            return ""
        reason = self._lost or self.counts.reason
        were = "1 frame was" if n == 1 else f"{n} frames were"
        return f"{were} not read of {self.name}{reason and f': {reason}'}"

    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None where none arrives within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            for frame in self._coming:
                self.counts.received += 1
                return partial(self._read, read_already(frame))
            self._coming = self._look()
            now = time.monotonic()
            if now >= deadline:
                return None
            time.sleep(min(POLL, deadline - now))

    def close(self) -> None:
        """Close the files."""
        self._coming.close()

    def _look(self) -> Generator[Frame]:
        """Yield the frames that are new, file by file."""
        paths = self._paths()
        if not paths:
            self.counts.reason = f"no file of {self._address.path} is one of those that are meant"
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                self.counts.reason = f"{path}: {error.strerror}"
                continue
            file = self._files.setdefault(path, _File())
            signature = status.st_ino, status.st_size, status.st_mtime_ns
            if signature != file.signature:
                if signature[0] != file.signature[0]:
                    file = self._files[path] = _File()  # another file of that name
                file.signature, file.since, file.complete = signature, time.monotonic(), False
            elif file.complete and not (
                file.is_master and time.monotonic() - file.since < PARTS_LATE
            ):
                continue
            try:
                with self._open(path) as run:
                    yield from self._new(run, file)
            except InputError as error:
                if time.monotonic() - file.since > SAID:
                    with self._lock:
                        self._note(f"nothing new is read now: {error}")
                self.counts.reason = str(error)

    def _paths(self) -> list[Path]:
        path, pattern = self._address.path, self._address.pattern
        if not path.is_dir():
            return [path]
        found = []
        with suppress(OSError, ValueError):
            found = [each for each in path.glob(pattern or "*") if each.is_file()]
        return sorted(each for each in found if pattern or _looks_like_frames(each))

    def _open(self, path: Path) -> FrameSource:
        if path.suffix.lower() in CBF_SUFFIXES:
            return CBFFrames.open(str(path), self.geometry)
        return Run.open(path, self.geometry, growing=True)

    def _new(self, run: FrameSource, file: _File) -> Generator[Frame]:
        file.is_master = any(
            dataset.is_virtual or dataset.file.filename != run.name(0)[0]
            for _, dataset, _ in run.places(0) or ()
        )
        file.n_frames = len(run)
        missing: list[tuple[str, str]] = []
        n_tries = AHEAD
        for index in range(len(run)):
            name = run.name(index)
            if name in file.done or name in self._taken_before:
                file.done.add(name)
                self._give_up(file, missing)
                missing = []
                continue
            if len(missing) >= AHEAD and index < file.further and name in file.failed:
                missing.append(name)  # the look before this one tried it
                continue
            try:
                frame = run[index]
                # We have no lock: what was read meanwhile may be half of what is written.
                if is_locked_by_writer(name[0]):
                    raise InputError(f"{name[0]} is being written by another program")
            except InputError as error:
                self.counts.reason = str(error)
                file.failed.setdefault(name, _Failure(time.monotonic(), "")).reason = str(error)
                missing.append(name)
                n_tries -= 1
                if len(missing) == AHEAD and all(file.failed[each].is_late for each in missing):
                    n_tries = AHEAD
                if not n_tries:
                    file.further = index + 1
                    break
                continue
            self._give_up(file, missing)
            missing, n_tries = [], AHEAD
            file.failed.pop(name, None)
            file.done.add(name)
            yield frame
        else:
            file.further = 0
        file.complete = not missing and not file.failed

    def _give_up(self, file: _File, before: list[tuple[str, str]]) -> None:
        """Count frames as damaged that a later one has overtaken long ago."""
        for name in before:
            if file.failed[name].is_late:
                self._lost = file.failed.pop(name).reason
                file.done.add(name)
                self.counts.damage(self._lost)


def _looks_like_frames(path: Path) -> bool:
    return path.suffix.lower() in (*HDF5_SUFFIXES, *CBF_SUFFIXES) or is_hdf5(path)
