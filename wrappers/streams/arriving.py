"""Frames as they arrive, from a socket or a file that is being written.

A stranger's message is no reason to stop. What cannot be read is counted and said, and so is what
belongs to another series or detector, once there are frames that it would not go with.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.streams.frames import FrameMaker, OtherFrames
from wrappers.streams.messages import SeriesStart, Shot
from wrappers.streams.protocols import StreamAddress, is_loopback
from wrappers.streams.receiver import BUFFER, Counts, Receiver

__all__ = ["ArrivingFrames", "Late", "StreamFrames", "read_already"]

MOST_NOTES = 50
"""Sentences about a stream that are kept."""

Late = Callable[[], Frame | None]
"""Reads a frame that has arrived, in any thread; None where it is left out, which is counted."""


def read_already(frame: Frame) -> Callable[[], Frame]:
    """Return what gives a frame that was read already."""
    return lambda: frame


class ArrivingFrames(ABC):
    """Frames of one geometry as they arrive; close it, or use it as a context manager.

    Parameters
    ----------
    name : str
        Of the source, for messages.
    geometry : Geometry

    Attributes
    ----------
    counts : Counts
    """

    def __init__(self, name: str, geometry: Geometry) -> None:
        self.name, self.geometry = name, geometry
        self.counts = Counts()
        self._lock = threading.Lock()
        self._taken = False
        self._dtype: object = None
        self._said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None where none arrives within `timeout` seconds.

        Raises
        ------
        InputError
            If what arrives first is not of the geometry.
        """

    @property
    @abstractmethod
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""

    @property
    def notes(self) -> list[str]:
        """What is odd about the geometry and what has arrived so far, a sentence each."""
        return [*self._said, *(f"left out as damaged: {why}" for why in self.counts.reasons)]

    @property
    def n_changes(self) -> int:
        """How often a series with another energy or distance has begun before the next frame.

        Frames before and behind that are not to be put together.
        """
        return 0

    @property
    def unread(self) -> str:
        """What there is to say in the end of frames that were there and not read, or ""."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Let go of sockets and files."""

    def _read(self, make: Callable[[], Frame]) -> Frame | None:
        try:
            frame = make()
            with self._lock:
                if self._dtype not in (None, frame.data.dtype):
                    raise OtherFrames(
                        f"the images of {self.name} were {self._dtype} and are "
                        f"{frame.data.dtype} now: another series has begun"
                    )
                self._dtype, self._taken = frame.data.dtype, True
            return frame
        except OtherFrames as error:
            if not self._taken:
                raise
            self._leave_out(error)
        except InputError as error:
            self.counts.damage(str(error))
        return None

    def _leave_out(self, error: OtherFrames) -> None:
        sentence = f"{error} (such frames are left out)"
        self.counts.leave_out(sentence)
        with self._lock:
            self._note(sentence)

    def _note(self, sentence: str) -> None:
        if sentence not in self._said and len(self._said) < MOST_NOTES:
            self._said.append(sentence)


class StreamFrames(ArrivingFrames):
    """Frames from a socket.

    Parameters
    ----------
    address : StreamAddress
    geometry : Geometry
    size : int
        Images that wait; what there is no room for is dropped, oldest first.
    every_series : bool
        Whether a series with another energy or distance is taken, too, which `n_changes` then
        counts; else it is left out.
    before : (float or None, float or None)
        See `FrameMaker`.
    goes_on : bool
        Whether frames were taken before, by a program that has ended: in the middle of a series
        nobody says its energy and distance, and its frames are left out, and not the end.

    Raises
    ------
    InputError
        If the geometry takes something from the data that a stream does not have.
    ProgramError
        If the socket cannot be made.
    """

    def __init__(
        self,
        address: StreamAddress,
        geometry: Geometry,
        size: int = BUFFER,
        *,
        every_series: bool = False,
        before: tuple[float | None, float | None] = (None, None),
        goes_on: bool = False,
    ) -> None:
        super().__init__(address.name, geometry)
        self._taken, self._n_changes = goes_on, 0
        self._maker = FrameMaker(address.name, geometry, every_series=every_series, before=before)
        self._receiver = Receiver(address.with_images(geometry.panels[0].data), size)
        self.counts = self._receiver.counts
        self._refused: OtherFrames | None = None
        if address.listens and not is_loopback(address.endpoint):
            self._note(
                f"whoever reaches {address.endpoint} can send frames: it is not of this machine "
                "alone"
            )

    @property
    def own_mask(self) -> Mask:
        """What the geometry and its mask files mask by themselves; True is usable."""
        return self._maker.own_mask

    @property
    def notes(self) -> list[str]:
        """What the stream says otherwise than the geometry, and what was left out of it."""
        return [*self._maker.notes, *super().notes]

    @property
    def n_changes(self) -> int:
        """How often a series with another energy or distance has begun before the next frame."""
        return self._n_changes

    def next(self, timeout: float) -> Late | None:
        """Return what reads the next frame; None where none arrives within `timeout` seconds."""
        message = self._receiver.next(timeout)
        if isinstance(message, SeriesStart):
            try:
                is_other = self._maker.begin(message)
                self.counts.series += 1
                self._refused = None
                if is_other:
                    self._n_changes += 1
                    self._note(is_other)
            except OtherFrames as error:
                if not self._taken:
                    raise
                self._refused = error
        if not isinstance(message, Shot):
            return None
        refused = self._refused or self._maker.lost_beginning(message)
        if refused is not None:
            self._leave_out(refused)
            return None
        return partial(self._read, self._maker.reading(message))

    def close(self) -> None:
        """End the socket."""
        self._receiver.close()
