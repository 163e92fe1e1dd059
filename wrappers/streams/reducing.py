"""Frames searched as they arrive; hits go to one CXI file after the other.

Threads read and search them, for decompression and the peak finders' kernels need no interpreter
lock. This thread hands frames out and writes the hits in the frames' order, so a frame is decided
a few milliseconds after it came.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frame_kinds import Told
from wrappers.frames.frame import Frame
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import SettingsMask
from wrappers.outputs import companion
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peaks import PeakList
from wrappers.reduction.core import Reduction, Summary
from wrappers.reduction.hits_file import HitsWriter
from wrappers.reduction.joining import SETS, SUMMARY, frames_geometry_text
from wrappers.reduction.parts import FRAMES, HITS, SettingsSet
from wrappers.reduction.placed import Placed
from wrappers.settings import Settings
from wrappers.streams.arriving import ArrivingFrames, Late

__all__ = ["POLL", "FrameSearch", "reduce_arriving"]

POLL = 0.1
"""Seconds between two looks whether to end."""
UNDER_WAY = 2
"""Frames for each thread that are handed out."""


def reduce_arriving(
    frames: ArrivingFrames,
    settings: Callable[[], SettingsSet],
    folder: Path,
    *,
    nominal_clen: float,
    bad_pixels: BadPixelMap | None = None,
    batch: int,
    seconds: float,
    idle: float,
    n_frames: int | None = None,
    jobs: int = 1,
    stopped: Callable[[], bool] = lambda: False,
    on_frame: Callable[[Placed], None] = lambda placed: None,
    beside: Callable[[Frame], Placed | None] = lambda frame: None,
    tell: Callable[[Frame], Told | None] = lambda frame: None,
    veto: bool = False,
) -> Generator[Reduction]:
    """Yield files of hits as they are written, ``hits-00001.cxi`` and so on.

    Each is what `reduce_run` makes of its frames, and appears whole. The last one is written when
    no frame has come for `idle` seconds, or `stopped` says so. A series with another energy or
    distance begins another file.

    Parameters
    ----------
    frames : ArrivingFrames
    settings : callable
        Asked before each file; returns with what its frames are searched.
    folder : Path
        It must be there; files that it has are kept.
    nominal_clen : float
        Camera length in metres that the settings' ``clen`` is beside.
    bad_pixels : BadPixelMap, optional
        For settings that need one.
    batch : int
        Frames that a file's hits are of.
    seconds : float
        Or as many as come in so many seconds.
    idle : float
        Seconds without a frame, also one that is left out, that end it.
    n_frames : int, optional
        Frames that end it.
    jobs : int
        Threads that search; with one, this thread does.
    stopped : callable
    on_frame : callable
        Called with each frame, once it is decided.
    beside : callable
        Called with each frame as it came, in the thread that searches it: what another set makes
        of it, or None. `on_frame` gets that with the frame.
    tell : callable
        Called likewise: the frame's kind, or None. `on_frame` gets it with the frame's number,
        counted from the first one, and the file has it.
    veto : bool
        Leave out frames whose kind holds nothing to be indexed: they are not searched.

    Raises
    ------
    InputError
        If what comes first is not of the geometry, or a file cannot be written.
    """
    work = _Work(FrameSearch(frames.geometry, bad_pixels), beside, tell, veto)
    with _Searching(frames, work, jobs, idle, stopped) as searching:
        number, n_done, left = 0, 0, math.inf if n_frames is None else n_frames
        while not searching.ended and left > 0:
            used, out = settings(), _unused_name(folder, number + 1)
            with HitsWriter(out, used, nominal_clen) as writer:
                n_vetoed = 0
                for each in searching.frames(used, min(batch, left), seconds):
                    told = each.told and replace(each.told, frame=n_done + writer.n_frames)
                    kind = "" if told is None else told.name
                    placed = writer.add(each.frame, each.peaks, writer.n_frames, kind)
                    n_vetoed += veto and told is not None and told.dropped
                    on_frame(replace(placed, beside=each.beside, told=told))
                if not writer.n_frames:
                    continue
                done = _finish(writer, out, used, frames.geometry, n_vetoed)
            number += 1
            n_done += done.n_frames
            left -= done.n_frames
            yield done


class FrameSearch:
    """Searches frames of one geometry, in any thread.

    Parameters
    ----------
    geometry : Geometry
    bad_pixels : BadPixelMap, optional
        For settings that need one.
    """

    def __init__(self, geometry: Geometry, bad_pixels: BadPixelMap | None = None) -> None:
        self._mask = SettingsMask(geometry, bad_pixels)
        self._finder = NamedFinder(geometry)
        self._lock = threading.Lock()

    def __call__(self, frame: Frame, settings: Settings) -> tuple[Frame, PeakList]:
        """Return a frame with the mask that the settings put on it, and its peaks."""
        with self._lock:
            mask = self._mask.on(frame.mask, settings)
        frame = replace(frame, mask=mask)
        return frame, self._finder.find(frame, settings)


@dataclass(frozen=True, eq=False)
class _Searched:
    """A frame with its peaks, what another set makes of it, and its kind."""

    frame: Frame
    peaks: PeakList
    beside: Placed | None
    told: Told | None


@dataclass(frozen=True)
class _Work:
    """What is done with each frame, in any thread."""

    search: FrameSearch
    beside: Callable[[Frame], Placed | None]
    tell: Callable[[Frame], Told | None]
    veto: bool

    def __call__(self, late: Late, used: SettingsSet) -> _Searched | None:
        frame = late()
        if frame is None:
            return None
        told = self.tell(frame)
        if self.veto and told is not None and told.dropped:
            return _Searched(frame, PeakList.empty(), None, told)
        return _Searched(*self.search(frame, used.settings), self.beside(frame), told)


class _Searching:
    """Yields frames as they are searched, in their order."""

    def __init__(
        self,
        frames: ArrivingFrames,
        work: _Work,
        jobs: int,
        idle: float,
        stopped: Callable[[], bool],
    ) -> None:
        self._frames, self._work, self._idle, self._stopped = frames, work, idle, stopped
        self._pool = ThreadPoolExecutor(jobs) if jobs > 1 else None
        self._most = 1 if self._pool is None else UNDER_WAY * jobs
        self._last = time.monotonic()
        self._left_out = 0
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def frames(self, used: SettingsSet, n: float, seconds: float) -> Iterator[_Searched]:
        """Yield up to `n` frames of one series, or those of so many seconds from the first on."""
        waiting: deque[Callable[[], _Searched | None]] = deque()
        first, done, n_changes = math.inf, 0, 0
        while True:
            now = time.monotonic()
            self.ended = self.ended or self._stopped()
            if first == math.inf:
                n_changes = self._frames.n_changes
            full = (
                self.ended
                or done + len(waiting) >= n
                or now - first >= seconds
                or self._frames.n_changes != n_changes
            )
            counts = self._frames.counts
            if (left_out := counts.other + counts.damaged) != self._left_out:
                self._left_out, self._last = left_out, now  # the sender is there
            late = None
            if not full and len(waiting) < self._most:
                # Whatever has come goes to a thread before any is waited for.
                late = self._frames.next(0 if waiting else POLL)
            if late is not None:
                self._last, first = now, min(first, now)
                search = partial(self._work, late, used)
                waiting.append(search if self._pool is None else self._pool.submit(search).result)
            elif waiting:
                found = waiting.popleft()()
                if found is not None:
                    done += 1
                    yield found
                    self._last = time.monotonic()  # what takes us long is not the sender's silence
            elif full:
                return
            elif time.monotonic() - self._last >= self._idle:
                self.ended = True


def _finish(
    writer: HitsWriter, out: Path, used: SettingsSet, geometry: Geometry, n_vetoed: int
) -> Reduction:
    """Give a file of hits, and the geometry beside it, their names."""
    write_whole(companion(out, ".geom"), frames_geometry_text(geometry, writer.shifts))
    of_run = {
        f"{FRAMES}/set": np.zeros(writer.n_frames, np.int32),
        f"{HITS}/set": np.zeros(len(writer.shifts[0]), np.int32),
        SETS: [json.dumps(used.as_dict())],
        SUMMARY: json.dumps(asdict(Summary("", writer.n_frames, (), n_vetoed))),
    }
    part = writer.finish(of_run)
    return Reduction(
        hits=out,
        geometry=companion(out, ".geom"),
        n_frames=part.n_frames,
        n_hits=part.n_hits,
        unreadable=part.failures,
        sets=(used,),
        n_vetoed=n_vetoed,
        kinds=writer.kinds,
    )


def _unused_name(folder: Path, number: int) -> Path:
    """Return the name of the next file of hits that is not there.

    Raises
    ------
    InputError
        If all names are taken.
    """
    for further in range(number, 100_000):
        path = folder / f"hits-{further:05d}.cxi"
        if not path.exists():
            return path
    raise InputError(f"{folder} is full of files of hits: name another folder")
