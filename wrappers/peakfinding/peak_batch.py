"""Many settings on many frames in one call, and frames kept ready for the next call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = [
    "Counts",
    "Finder",
    "Finders",
    "FindsPeaks",
    "FrameCounts",
    "FramePeaks",
    "PeakBatch",
    "Prepared",
]

FEW = 5
"""From so many settings on it is quicker to prepare a frame."""
MOST_COUNTED = int(np.iinfo(np.uint16).max)
"""A larger number of peaks counts as this; peakfinder8 finds no more than 2048."""
LOOSEST = 2.0
"""Settings with a smaller min_snr are searched in full: preparing for them costs more."""

R = TypeVar("R")
Mask = NDArray[np.bool_]
Key = tuple[str | float, ...]


class Prepared(Protocol):
    """A frame made ready for many settings."""

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        """Return the peaks for each of some settings."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A prepared frame that counts peaks for less than it finds them."""

    def count_all(self, settings: Sequence[Settings]) -> NDArray[np.int64]:
        """Return the lengths of the lists of `Prepared.find_all`."""
        ...


class FindsPeaks(Protocol):
    """A peak finder, or whichever the settings name."""

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame."""
        ...


class Finder(FindsPeaks, Protocol):
    """A peak finder: peakfinder8, the robust one, or another that is registered."""

    def prepare(self, frame: Frame, min_snr: float = ...) -> Prepared:
        """Make a frame ready for settings with at least this min_snr."""
        ...


@runtime_checkable
class Finders(Protocol):
    """Peak finders of which settings name one."""

    def of(self, frame: Frame, settings: Settings) -> Finder:
        """Return the finder that the settings name, for a frame."""
        ...


@dataclass(frozen=True, eq=False)
class FramePeaks:
    """The peaks of one frame.

    Attributes
    ----------
    index : int
        Of the frame in the run or sequence.
    patterns : tuple of Pattern
        The peaks for each parameter set, in their order, where the frame says that the detector
        stands; empty where the frame cannot be read.
    failure : str
        Why it cannot, or "".
    """

    index: int
    patterns: tuple[Pattern, ...]
    failure: str = ""


@dataclass(frozen=True, eq=False)
class FrameCounts:
    """The numbers of peaks of one frame.

    Attributes
    ----------
    index : int
        Of the frame in the run or sequence.
    counts : uint16 array (n_settings,) or None
        Of peaks with each parameter set, in their order, at most `MOST_COUNTED`; None where the
        frame cannot be read.
    failure : str
        Why it cannot, or "".
    """

    index: int
    counts: NDArray[np.uint16] | None
    failure: str = ""


def _as_it_is(mask: Mask, settings: Settings) -> Mask:
    del settings
    return mask


class PeakBatch:
    """Searches frames with many settings in one call.

    Parameters
    ----------
    finder : Finder or Finders
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
    >>> for frame in PeakBatch(finder, run, jobs=4).search(range(len(run)), grid):  # doctest: +SKIP
    ...     print(frame.index, [len(pattern.peaks) for pattern in frame.patterns])
    """

    def __init__(
        self,
        finder: Finder | Finders,
        frames: FrameSource | Sequence[Frame],
        *,
        jobs: int = 1,
        memory: float = 0,
        masked: Callable[[Mask, Settings], Mask] = _as_it_is,
    ) -> None:
        self._finder_of = (
            finder.of if isinstance(finder, Finders) else lambda frame, settings: finder
        )
        self._frames, self._jobs = frames, jobs
        self._room = memory
        self._kept: dict[int, _OpenFrame] = {}
        self._masked, self._lock = masked, threading.Lock()

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> Iterator[FramePeaks]:
        """Search frames and yield them in order, as they are done.

        A frame is read by the calling thread while `jobs` threads search those before it (HDF5
        reads one at a time in any case; the search needs no interpreter lock). Parameter sets
        that give equal peaks by definition are searched once. A frame is prepared when there are
        `FEW` sets or more, or when it was kept and is asked for with the same mask again. Beyond
        the frames that are kept, never more than `jobs` + 2 are in memory.

        Parameters
        ----------
        frames : sequence of int
            Indices of different frames.
        settings : sequence of Settings

        Yields
        ------
        FramePeaks
        """
        question = _Question.of(settings, self._finder_of, self._mask)
        return self._each(frames, lambda index: self._open(index).search, question)

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> Iterator[FrameCounts]:
        """Count the peaks that `search` finds, for less, and yield the counts as it does.

        Frames are not kept for it: it may be asked for any number of them. Those that are kept
        already are not read again.

        Parameters
        ----------
        frames : sequence of int
            Indices of different frames.
        settings : sequence of Settings

        Yields
        ------
        FrameCounts
        """
        question = _Question.of(settings, self._finder_of, self._mask)
        return self._each(frames, lambda index: self._open(index, keep=False).count, question)

    def _each(
        self,
        frames: Sequence[int],
        opened: Callable[[int], Callable[[_Question], R]],
        question: _Question,
    ) -> Iterator[R]:
        """Ask each frame, with what `opened` returns of it in the calling thread."""
        if self._jobs == 1:
            for index in frames:
                yield opened(index)(question)
            return
        waiting: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self._jobs, "peaks") as threads:
            try:
                for index in frames:
                    if len(waiting) > self._jobs:
                        yield waiting.popleft().result()
                    waiting.append(threads.submit(opened(index), question))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _open(self, index: int, keep: bool = True) -> _OpenFrame | _Unreadable:
        """Return a frame, kept from before if it was, and from now on if there is room."""
        if index in self._kept:
            return self._kept[index]
        try:
            frame = self._frames[index]
        except InputError as error:
            return _Unreadable(index, str(error))
        # What is prepared, too. A mask of the frame's own counts; one shared by all is for free.
        size = 1.5 * frame.data.nbytes + frame.mask.nbytes
        keep = keep and size <= self._room
        opened = _OpenFrame(index, frame, keep)
        if keep:
            self._room -= size
            self._kept[index] = opened
        return opened

    def _mask(self, mask: Mask, settings: Settings) -> Mask:
        with self._lock:
            return self._masked(mask, settings)


@dataclass(frozen=True)
class _Question:
    """What is asked of every frame, regrouped once for all of them.

    Attributes
    ----------
    groups : dict
        By peak finder and by what they mask, the parameter sets by what else decides the peaks.
    keys : tuple
        Where in the groups each parameter set is.
    """

    groups: dict[tuple[str, Key], dict[Key, Settings]]
    keys: tuple[tuple[tuple[str, Key], Key], ...]
    finder_of: Callable[[Frame, Settings], Finder]
    masked: Callable[[Mask, Settings], Mask]

    @classmethod
    def of(
        cls,
        settings: Sequence[Settings],
        finder_of: Callable[[Frame, Settings], Finder],
        masked: Callable[[Mask, Settings], Mask],
    ) -> _Question:
        groups: dict[tuple[str, Key], dict[Key, Settings]] = {}
        keys = [((each.peak_finder, each.mask_key), each.peak_key) for each in settings]
        for (group, key), each in zip(keys, settings, strict=True):
            groups.setdefault(group, {})[key] = each
        return cls(groups, tuple(keys), finder_of, masked)


@dataclass(frozen=True)
class _Unreadable:
    """A frame that cannot be read, and why."""

    index: int
    failure: str

    def search(self, question: _Question) -> FramePeaks:
        return FramePeaks(self.index, (), self.failure)

    def count(self, question: _Question) -> FrameCounts:
        return FrameCounts(self.index, None, self.failure)


class _OpenFrame:
    """A frame in memory, made ready for further parameter sets where that pays.

    What is made ready holds for one finder and mask. It costs some five searches, so it is done
    when there are so many, or when a mask is asked for twice in a row: a session that tunes the
    mask asks for another each time.
    """

    def __init__(self, index: int, frame: Frame, keep: bool) -> None:
        self._index, self._frame, self._keep = index, frame, keep
        self._ready: dict[str, tuple[Key, Prepared | None]] = {}
        """By peak finder the last mask, and the frame prepared with it."""

    def search(self, question: _Question) -> FramePeaks:
        """Return the peaks for each parameter set."""
        here = self._frame
        place = here.photon_energy, here.camera_length, here.shift_x, here.shift_y
        found: dict[tuple[str, Key], dict[Key, Pattern]] = {}
        for group, members in question.groups.items():
            settings = list(members.values())
            lists = self._find(question, self._prepared(question, group, settings), settings)
            patterns = (Pattern(peaks, *place) for peaks in lists)
            found[group] = dict(zip(members, patterns, strict=True))
        return FramePeaks(self._index, tuple(found[group][key] for group, key in question.keys))

    def count(self, question: _Question) -> FrameCounts:
        """Return the number of peaks for each parameter set."""
        found: dict[tuple[str, Key], dict[Key, int]] = {}
        for group, members in question.groups.items():
            settings = list(members.values())
            ready = self._prepared(question, group, settings)
            if isinstance(ready, Counts):
                counts = ready.count_all(settings).tolist()
            else:
                counts = [*map(len, self._find(question, ready, settings))]
            found[group] = dict(zip(members, counts, strict=True))
        numbers = np.array([found[group][key] for group, key in question.keys], np.int64)
        return FrameCounts(self._index, np.minimum(numbers, MOST_COUNTED).astype(np.uint16))

    def _find(
        self, question: _Question, ready: Prepared | Frame, settings: Sequence[Settings]
    ) -> list[PeakList]:
        """Return the peaks in what `_prepared` returned."""
        if not isinstance(ready, Frame):
            return ready.find_all(settings)
        finder = question.finder_of(self._frame, settings[0])
        return [finder.find(ready, each) for each in settings]

    def _prepared(
        self, question: _Question, group: tuple[str, Key], settings: Sequence[Settings]
    ) -> Prepared | Frame:
        """Return the frame made ready for sets of one finder and mask, or only masked."""
        name, mask_key = group
        last, ready = self._ready.get(name, (None, None))
        if last == mask_key and ready is not None:
            return ready
        frame = replace(self._frame, mask=question.masked(self._frame.mask, settings[0]))
        fast = [each.min_snr for each in settings if each.min_snr >= LOOSEST]
        if last != mask_key and len(fast) < FEW:
            self._ready[name] = mask_key, None
            return frame
        # Nobody knows what a frame that is kept will be asked next.
        min_snr = LOOSEST if self._keep else min(fast)
        ready = question.finder_of(frame, settings[0]).prepare(frame, min_snr)
        self._ready[name] = mask_key, ready
        return ready
