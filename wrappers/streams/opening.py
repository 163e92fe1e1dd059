"""A stream as a run: its next frames, in a temporary file.

So whatever takes a run takes a stream. Sessions and reductions have ways of their own, which keep
the frames and go on as they come.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack

from wrappers.detector.geometry import Geometry
from wrappers.files import temporary_folder
from wrappers.streams.protocols import asked_frames
from wrappers.streams.recording import RecordedRun, record
from wrappers.streams.sources import open_arriving

__all__ = ["FRAMES", "open_stream"]

FRAMES = 200
"""Where the address does not say how many (``?frames=500``)."""


def open_stream(name: str, geometry: Geometry) -> RecordedRun:
    """Wait for a stream's next frames, and return them as a run.

    They are in a temporary file, which goes when the program ends.

    Raises
    ------
    InputError
        If it is no address, no frame comes, or the frames are not of the geometry.
    """
    n = asked_frames(name) or FRAMES
    stack = ExitStack()
    atexit.register(stack.close)
    path = stack.enter_context(temporary_folder()) / "frames.cxi"
    with open_arriving(name, geometry, n) as frames:
        return RecordedRun.of(record(frames, path, n))
