"""Frames of a stream for a session, which keeps them: it can be resumed, reported and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuner.cells.search import usual_settings
from tuner.session.request import Request
from tuner.session.store import RECORDED, require_folder_for_session
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.memory import MemoryFrames
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings
from wrappers.streams.arriving import open_arriving
from wrappers.streams.receiver import BUFFER, IDLE, Counts
from wrappers.streams.recording import record

__all__ = ["HitCounter", "Seen", "with_recorded_frames"]

FOR_ALL = 1000
"""Frames that are recorded where a session is to have all frames of a stream, which has no end."""
FIRST = 10
"""Frames whose background says with which threshold hits are counted."""


@dataclass(frozen=True)
class Seen:
    """What has come so far.

    Attributes
    ----------
    n_frames, n_hits : int
        Frames that are kept, and those with enough peaks by the settings that are usual.
    n_wanted : int
    counts : Counts
        Of the stream's messages.
    """

    n_frames: int
    n_hits: int
    n_wanted: int
    counts: Counts

    def __str__(self) -> str:
        share = f" ({self.n_hits / self.n_frames:.0%})" if self.n_frames else ""
        return f"{self.n_frames} of {self.n_wanted} frames, {self.n_hits} hits{share}{self.counts}"


@dataclass
class HitCounter:
    """Counts hits with the settings that a session starts from: the threshold is the frames'."""

    geometry: Geometry
    n_hits: int = 0
    _first: list[Frame] = field(default_factory=list)
    _settings: Settings | None = None
    _finder: NamedFinder | None = None

    def add(self, frame: Frame) -> None:
        """Take one more frame."""
        if self._settings is None:
            self._first.append(frame)
            if len(self._first) < FIRST:
                return
            waiting, self._first = self._first, []
            try:
                run = MemoryFrames(self.geometry, waiting)
                self._settings = usual_settings(run, range(len(waiting)))
            except InputError:
                return  # all of them are masked: the next ones may say more
        else:
            waiting = [frame]
        self._finder = self._finder or NamedFinder(self.geometry)
        for each in waiting:
            n = len(self._finder.find(each, self._settings))
            self.n_hits += n >= self._settings.min_peaks


def with_recorded_frames(
    request: Request,
    directory: Path,
    *,
    buffer: int = BUFFER,
    idle: float = IDLE,
    stopped: Callable[[], bool] = lambda: False,
    on_seen: Callable[[Seen], None] = lambda seen: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Request:
    """Record a stream's next frames into a session's directory; return the request for them.

    Twice the sample is recorded, so that there are fresh frames. Frames that the directory has
    already are taken as they are.

    Parameters
    ----------
    request : Request
        Whose data is the address of a stream.
    directory : Path
        Of the session.
    buffer : int
        Images that wait in the ring.
    idle : float
        Seconds without a frame after which what has come is enough.
    stopped : callable
        Says that what has come is enough.
    on_seen : callable
        Called with what has come so far.
    on_note : callable
        Called with what is odd about the stream, a sentence each.

    Raises
    ------
    InputError
        If the stream or the directory cannot be used, or no frame comes.
    """
    data, beside, _ = (directory / name for name in RECORDED)
    if not (data.exists() and beside.exists()):
        require_folder_for_session(directory)
        geometry = Geometry.read(request.geometry)
        n = FOR_ALL if request.n_frames is None else 2 * request.n_frames
        counter = HitCounter(geometry)
        with open_arriving(str(request.data), geometry, buffer) as frames:
            done = record(
                frames,
                data,
                n,
                idle=idle,
                enough=stopped,
                on_frame=counter.add,
                progress=lambda done: on_seen(Seen(done, counter.n_hits, n, frames.counts)),
            )
            on_seen(Seen(done.n_frames, counter.n_hits, n, frames.counts))
        for note in done.notes:
            on_note(note)
    return replace(request, data=data, geometry=beside)
