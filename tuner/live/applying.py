"""The reduction core on frames that arrive: hits go to one CXI file after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tuner.apply.by_kind import ByKind
from wrappers.files import temporary_folder
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.memory import MemoryFrames
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import needs_map
from wrappers.reduction import Reduction, SettingsSet
from wrappers.reduction.placed import Placed
from wrappers.streams.arriving import ArrivingFrames, Late
from wrappers.streams.receiver import Counts
from wrappers.streams.recording import RecordedRun, no_frame, record
from wrappers.streams.reducing import POLL, reduce_arriving

__all__ = ["LivePart", "apply_arriving"]

FIRST_FRAMES = 200
"""Frames that the map of bad pixels, and the kinds, are made of."""


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


def apply_arriving(
    frames: ArrivingFrames,
    settings: Callable[[FrameSource], SettingsSet],
    folder: Path,
    *,
    bad_pixels: BadPixelMap | None = None,
    batch: int,
    seconds: float,
    idle: float,
    n_frames: int | None = None,
    jobs: int = 1,
    by_kind: ByKind | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_frame: Callable[[Placed], None] = lambda placed: None,
) -> Iterator[LivePart]:
    """Yield files of hits as they are written, ``hits-00001.cxi`` and so on.

    Where the settings mask bad pixels and no map of them is given, or there are no kinds yet, the
    first frames are recorded and make them; they are the first file's.

    Parameters
    ----------
    frames : ArrivingFrames
    settings : callable
        Says for frames with what they are searched.
    folder : Path
        It is made where it is not there; files that it has are kept.
    bad_pixels : BadPixelMap, optional
    by_kind : ByKind, optional
        Tells the frames' kinds; it counts them.
    batch, seconds, idle, n_frames, jobs, stopped, on_frame
        As for `reduce_arriving`.

    Raises
    ------
    UnreadableError
        If no frame comes at all.
    InputError
        If the stream is another than the geometry's, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before: FrameSource = MemoryFrames(frames.geometry, [_first(frames, idle, stopped)])
    nominal, n_changes = before, frames.n_changes
    with ExitStack() as stack:
        lacks_map = bad_pixels is None and needs_map(settings(before).settings)
        lacks_kinds = by_kind is not None and by_kind.lacks_kinds
        if lacks_map or lacks_kinds:
            path = stack.enter_context(temporary_folder(folder)) / "frames.cxi"
            n = FIRST_FRAMES if n_frames is None else min(FIRST_FRAMES, n_frames)

            def enough() -> bool:
                return stopped() or frames.n_changes != n_changes

            found = record(_Before(before, frames, n_changes), path, n, idle=idle, enough=enough)
            before = stack.enter_context(RecordedRun.of(found))
        if lacks_map:
            bad_pixels = find_bad_pixels(before, jobs=jobs)
        if by_kind is not None and lacks_kinds:
            by_kind.begin(before, range(len(before)), jobs=jobs)
        tell = _no_kind if by_kind is None else by_kind.teller(frames.geometry)

        def decided(placed: Placed) -> None:
            if by_kind is not None and placed.told is not None:
                by_kind.count([placed.told])
            on_frame(placed)

        for reduction in reduce_arriving(
            _Before(before, frames, n_changes),
            lambda: settings(nominal),
            folder,
            nominal_clen=nominal.nominal_clen,
            bad_pixels=bad_pixels,
            batch=batch,
            seconds=seconds,
            idle=idle,
            n_frames=n_frames,
            jobs=jobs,
            stopped=stopped,
            on_frame=decided,
            tell=tell,
            veto=by_kind is not None and by_kind.veto,
        ):
            yield LivePart(reduction, frames.counts)


def _no_kind(frame: Frame) -> None:
    return None


def _first(frames: ArrivingFrames, idle: float, stopped: Callable[[], bool]) -> Frame:
    """Wait for the first frame."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < idle and not stopped():
        late = frames.next(min(POLL, idle))
        frame = None if late is None else late()
        if frame is not None:
            return frame
    raise no_frame(frames, waited)


class _Before(ArrivingFrames):
    """Frames that have arrived already, and then those that arrive.

    Parameters
    ----------
    run : FrameSource
        Of one series.
    frames : ArrivingFrames
    n_changes : int
        Of them, as it was before `run`.
    """

    def __init__(self, run: FrameSource, frames: ArrivingFrames, n_changes: int) -> None:
        super().__init__(frames.name, frames.geometry)
        self._run, self._frames, self._n_changes = run, frames, n_changes
        self._places = deque(range(len(run)))
        self.counts = frames.counts

    @property
    def own_mask(self) -> Mask:
        return self._frames.own_mask

    @property
    def notes(self) -> list[str]:
        return self._frames.notes

    @property
    def n_changes(self) -> int:
        return self._n_changes if self._places else self._frames.n_changes

    def next(self, timeout: float) -> Late | None:
        if not self._places:
            return self._frames.next(timeout)
        return partial(self._again, self._places.popleft())

    def _again(self, place: int) -> Frame:
        with self._lock:  # a run is one thread's at a time
            return self._run[place]

    def close(self) -> None:
        self._frames.close()
