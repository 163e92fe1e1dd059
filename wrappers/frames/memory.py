"""Frames that are in memory already."""

from __future__ import annotations

from collections.abc import Sequence

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource

__all__ = ["MemoryFrames"]


class MemoryFrames(FrameSource):
    """Frames of one geometry, in memory.

    Parameters
    ----------
    geometry : Geometry
    frames : sequence of Frame
    """

    def __init__(self, geometry: Geometry, frames: Sequence[Frame]) -> None:
        self.geometry, self._frames = geometry, tuple(frames)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        """Return a frame."""
        return self._frames[index]

    def close(self) -> None:
        """Keep the frames: there is nothing to let go of."""

    def name(self, index: int) -> tuple[str, str]:
        """Return a frame's file (or address) and event."""
        return self._frames[index].file, self._frames[index].event
