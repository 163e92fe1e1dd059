"""A source that is no file: frames in memory, by an address of their own."""

from __future__ import annotations

from collections.abc import Sequence

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource


class ArraySource(FrameSource):
    """Frames that are in memory already."""

    def __init__(self, geometry: Geometry, frames: Sequence[Frame]) -> None:
        self.geometry, self._frames = geometry, frames

    @property
    def n_frames(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        return self._frames[index]

    def name(self, index: int) -> tuple[str, str]:
        return "array://memory", f"//{index}"


class Stream(ArraySource):
    """The same without an end."""

    n_frames = None  # type: ignore[assignment]
