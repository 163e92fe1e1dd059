"""Many settings on many frames in one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from wrappers.errors import InputError
from wrappers.frames.run import Frame, Run
from wrappers.peakfinding.kernel_arguments import MAX_N_PEAKS
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Finder", "FramePeaks", "find_all", "search_frames"]

FEW = 5
"""From so many settings on it is quicker to prepare a frame."""
LOOSEST = 2.0
"""Settings with a smaller min_snr are searched in full: preparing for them costs more."""


class Prepared(Protocol):
    """A frame made ready for many settings."""

    def find(self, settings: Settings, max_n_peaks: int = ...) -> PeakList:
        """Return the peaks for one of them."""
        ...


class Finder(Protocol):
    """A peak finder: peakfinder8, the robust one, or whichever the settings name."""

    def find(self, frame: Frame, settings: Settings, max_n_peaks: int = ...) -> PeakList:
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
    lists : tuple of PeakList
        One for each settings, in their order; empty where the frame cannot be read.
    failure : str
        Why it cannot, or "".
    """

    index: int
    lists: tuple[PeakList, ...]
    failure: str = ""


def search_frames(
    finder: Finder,
    frames: Run | Sequence[Frame],
    settings: Sequence[Settings],
    jobs: int = 1,
    max_n_peaks: int = MAX_N_PEAKS,
) -> Iterator[FramePeaks]:
    """Search frames with many settings and yield them in order, as they are done.

    A frame is read once, by the calling thread, while `jobs` threads search those before it
    (HDF5 reads one at a time in any case; the search needs no interpreter lock). Settings that
    give equal peaks by definition are searched once, and from `FEW` settings on a frame is
    prepared. Never more than `jobs` + 2 frames are in memory, however many there are.

    Parameters
    ----------
    finder : Finder
    frames : Run or sequence of Frame
    settings : sequence of Settings
    jobs : int
        Threads.
    max_n_peaks : int

    Yields
    ------
    FramePeaks

    Examples
    --------
    >>> for frame in search_frames(finder, run, grid, jobs=4):  # doctest: +SKIP
    ...     print(frame.index, [len(peaks) for peaks in frame.lists])
    """
    unique = {each.peak_key: each for each in settings}
    waiting: deque[Future[FramePeaks]] = deque()
    with ThreadPoolExecutor(jobs, "peaks") as pool:
        try:
            for index in range(len(frames)):
                if len(waiting) > jobs:
                    yield waiting.popleft().result()
                try:
                    frame = frames[index]
                except InputError as error:
                    done: Future[FramePeaks] = Future()
                    done.set_result(FramePeaks(index, (), str(error)))
                    waiting.append(done)
                    continue
                waiting.append(
                    pool.submit(_search, finder, index, frame, unique, settings, max_n_peaks)
                )
                del frame
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def find_all(
    finder: Finder,
    frames: Run | Sequence[Frame],
    settings: Sequence[Settings],
    jobs: int = 1,
    max_n_peaks: int = MAX_N_PEAKS,
) -> list[FramePeaks]:
    """Return what `search_frames` yields, all of it: a list takes 56 bytes a peak."""
    return list(search_frames(finder, frames, settings, jobs, max_n_peaks))


def _search(
    finder: Finder,
    index: int,
    frame: Frame,
    unique: dict[tuple[str | float, ...], Settings],
    settings: Sequence[Settings],
    max_n_peaks: int,
) -> FramePeaks:
    fast = [each.min_snr for each in unique.values() if each.min_snr >= LOOSEST]
    if len(fast) < FEW:
        found = {key: finder.find(frame, each, max_n_peaks) for key, each in unique.items()}
    else:
        prepared = finder.prepare(frame, min(fast))
        found = {key: prepared.find(each, max_n_peaks) for key, each in unique.items()}
    return FramePeaks(index, tuple(found[each.peak_key] for each in settings))
