"""Many settings on many frames in one call, and frames kept ready for the next call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Finder", "FramePeaks", "PeakBatch", "Prepared"]

FEW = 5
"""From so many settings on it is quicker to prepare a frame."""
LOOSEST = 2.0
"""Settings with a smaller min_snr are searched in full: preparing for them costs more."""

Mask = NDArray[np.bool_]
Key = tuple[str | float, ...]
Asked = dict[Key, dict[Key, Settings]]
"""Settings by what they mask, and those by what else decides the peaks."""


class Prepared(Protocol):
    """A frame made ready for many settings."""

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        """Return the peaks for each of some settings."""
        ...


class Finder(Protocol):
    """A peak finder: peakfinder8, the robust one, or whichever the settings name."""

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame."""
        ...

    def prepare(self, frame: Frame, min_snr: float = ...) -> Prepared:
        """Make a frame ready for settings with at least this min_snr."""
        ...


@dataclass(frozen=True, eq=False)
class FramePeaks:
    """The peaks of one frame.

    Attributes
    ----------
    index : int
        Of the frame in the run or sequence.
    patterns : tuple of Pattern
        The peaks for each settings, in their order, where the frame says that the detector
        stands; empty where the frame cannot be read.
    failure : str
        Why it cannot, or "".
    """

    index: int
    patterns: tuple[Pattern, ...]
    failure: str = ""


def _as_it_is(mask: Mask, settings: Settings) -> Mask:
    del settings
    return mask


class PeakBatch:
    """Searches frames with many settings in one call.

    Parameters
    ----------
    finder : Finder
    frames : FrameSource or sequence of Frame
    jobs : int
        Threads; with 1 the calling thread does everything.
    memory : int
        Bytes that may be taken to keep frames ready from one call to the next; frames beyond
        that are read anew each time.
    masked : callable
        Given a frame's mask and settings, returns the mask to use, such as
        `wrappers.masks.settings_mask.SettingsMask.on`.

    Examples
    --------
    >>> for frame in PeakBatch(finder, run, jobs=4).search(grid):  # doctest: +SKIP
    ...     print(frame.index, [len(pattern.peaks) for pattern in frame.patterns])
    """

    def __init__(
        self,
        finder: Finder,
        frames: FrameSource | Sequence[Frame],
        *,
        jobs: int = 1,
        memory: float = 0,
        masked: Callable[[Mask, Settings], Mask] = _as_it_is,
    ) -> None:
        self._finder, self._frames, self._jobs = finder, frames, jobs
        self._room = memory
        self._kept: dict[int, _OpenFrame] = {}
        self._masked, self._lock = masked, threading.Lock()

    def search(
        self,
        settings: Sequence[Settings],
        chosen: Sequence[int] | None = None,
    ) -> Iterator[FramePeaks]:
        """Search frames and yield them in order, as they are done.

        A frame is read by the calling thread while `jobs` threads search those before it (HDF5
        reads one at a time in any case; the search needs no interpreter lock). Settings that
        give equal peaks by definition are searched once. A frame is prepared when there are
        `FEW` settings or more, or when it was kept and is asked for with the same mask again.
        Beyond the frames that are kept, never more than `jobs` + 2 are in memory.

        Parameters
        ----------
        settings : sequence of Settings
        chosen : sequence of int, optional
            Indices of different frames; all by default.

        Yields
        ------
        FramePeaks
        """
        keys = [(each.mask_key, each.peak_key) for each in settings]
        asked: Asked = {}
        for (mask_key, peak_key), each in zip(keys, settings, strict=True):
            asked.setdefault(mask_key, {})[peak_key] = each

        def look(index: int, frame: _OpenFrame | str) -> FramePeaks:
            if isinstance(frame, str):
                return FramePeaks(index, (), frame)
            found = frame.search(self._finder, self._mask, asked)
            return FramePeaks(
                index, tuple(found[mask_key][peak_key] for mask_key, peak_key in keys)
            )

        indices = range(len(self._frames)) if chosen is None else chosen
        if self._jobs == 1:
            for index in indices:
                yield look(index, self._open(index))
            return
        waiting: deque[Future[FramePeaks]] = deque()
        with ThreadPoolExecutor(self._jobs, "peaks") as threads:
            try:
                for index in indices:
                    if len(waiting) > self._jobs:
                        yield waiting.popleft().result()
                    waiting.append(threads.submit(look, index, self._open(index)))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _open(self, index: int) -> _OpenFrame | str:
        """Return a frame, kept from before if it was, or why it cannot be read."""
        if index in self._kept:
            return self._kept[index]
        try:
            frame = self._frames[index]
        except InputError as error:
            return str(error)
        # What is prepared, too. A mask of the frame's own counts; one shared by all is for free.
        size = 1.5 * frame.data.nbytes + frame.mask.nbytes
        keep = size <= self._room
        opened = _OpenFrame(frame, keep)
        if keep:
            self._room -= size
            self._kept[index] = opened
        return opened

    def _mask(self, mask: Mask, settings: Settings) -> Mask:
        with self._lock:
            return self._masked(mask, settings)


class _OpenFrame:
    """A frame in memory, made ready for further settings where that pays.

    What is made ready holds for one mask only. It costs some five searches, so it is done when
    there are so many, or when a mask is asked for twice in a row: a session that tunes the mask
    asks for another each time.
    """

    def __init__(self, frame: Frame, keep: bool) -> None:
        self._frame, self._keep = frame, keep
        self._mask_key: Key | None = None
        self._prepared: Prepared | None = None

    def search(
        self,
        finder: Finder,
        masked: Callable[[Mask, Settings], Mask],
        asked: Asked,
    ) -> dict[Key, dict[Key, Pattern]]:
        """Return the peaks for each settings asked."""
        found: dict[Key, dict[Key, Pattern]] = {}
        for mask_key, group in asked.items():
            lists = self._find(finder, masked, mask_key, list(group.values()))
            found[mask_key] = dict(zip(group, map(self._pattern, lists), strict=True))
        return found

    def _find(
        self,
        finder: Finder,
        masked: Callable[[Mask, Settings], Mask],
        mask_key: Key,
        group: Sequence[Settings],
    ) -> list[PeakList]:
        """Return the peaks for settings of one mask."""
        again = mask_key == self._mask_key
        if again and self._prepared is not None:
            return self._prepared.find_all(group)
        frame = replace(self._frame, mask=masked(self._frame.mask, group[0]))
        fast = [settings.min_snr for settings in group if settings.min_snr >= LOOSEST]
        self._mask_key, self._prepared = mask_key, None
        if not again and len(fast) < FEW:
            return [finder.find(frame, settings) for settings in group]
        # Nobody knows what a frame that is kept will be asked next.
        self._prepared = finder.prepare(frame, LOOSEST if self._keep else min(fast))
        return self._prepared.find_all(group)

    def _pattern(self, peaks: PeakList) -> Pattern:
        frame = self._frame
        place = frame.photon_energy, frame.camera_length, frame.shift_x, frame.shift_y
        return Pattern(peaks, *place)
