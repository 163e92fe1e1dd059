"""What finds peaks and indexes on many frames at once: the contract of the pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from wrappers.indexing import Done, Indexer, Indexing, Pattern, unheard
from wrappers.lattices.own_peaks import FrameLattices, FrameSplit
from wrappers.peakfinding.peak_batch import FrameCounts, FramePeaks
from wrappers.settings import Settings

__all__ = ["KILLED", "Pool", "batches"]

FRAMES_PER_BATCH = 50
"""Frames a process gets at once where a whole run is worked through."""

KILLED = "the process that worked on this frame was killed, for want of memory perhaps"


class Pool(Protocol):
    """Processes that find peaks in the frames of a run and index them.

    `frame_pool.FramePool` has processes of this machine, `cluster_pool.ClusterPool` the workers of
    a Dask cluster.
    """

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FramePeaks]:
        """Return, by frame, the peaks for each parameter set, or why there are none."""
        ...

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        """Return, by frame, the numbers of the peaks that `search` finds, for less.

        Frames of the whole run may be asked for; none is kept for it.
        """
        ...

    def split(
        self, lattices: Sequence[FrameLattices], settings: Sequence[Settings]
    ) -> dict[int, FrameSplit]:
        """Return, by frame, how many of the peaks of each parameter set are on its lattices.

        Each frame comes once, with all its lattices.
        """
        ...

    def index(
        self, patterns: Sequence[Pattern], done: Done = unheard, indexer: Indexer | None = None
    ) -> list[Indexing]:
        """Index the patterns, in order, with another indexer than the pool's if one is given."""
        ...

    def core_seconds(self) -> float:
        """Return the processor time spent so far, here and by all processes at work."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


def batches(n_frames: int, jobs: int) -> Iterator[range]:
    """Return ranges of frames to hand to a pool one after the other, to bound its memory."""
    size = FRAMES_PER_BATCH * jobs
    for first in range(0, n_frames, size):
        yield range(first, min(first + size, n_frames))
