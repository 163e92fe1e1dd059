"""Frames of a stream for a session, which keeps them: it can be resumed, reported and compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from envs.strata import share_standing_out
from tuner.cells.search import usual_settings
from tuner.session.request import Request
from tuner.session.store import RECORDED, require_folder_for_session
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.frames.memory import MemoryFrames
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings
from wrappers.streams.receiver import BUFFER, IDLE, Counts
from wrappers.streams.recording import record
from wrappers.streams.sources import open_arriving

__all__ = ["HitCounter", "Seen", "with_recorded_frames"]

PROMISING = 0.2
"""Share of twice the sample that is to be promising: with less a search has little to go by."""
MOST = 10
"""Frames for each of the sample that are waited for at most, where few of them are promising."""
MOSTLY = 0.5
"""Share of frames that are hits from which on there are too few blank ones to stand out from."""
FOR_ALL = 1000
"""Frames that are recorded where a session is to have all frames of a stream, which has no end."""
FIRST = 10
"""Frames whose background says with which threshold hits are counted."""


@dataclass(frozen=True)
class Seen:
    """What has come so far.

    Attributes
    ----------
    n_frames, n_hits, n_promising : int
        Frames that are kept, and of `HitCounter`.
    n_wanted, n_wanted_promising : int
        How many are waited for.
    counts : Counts
        Of the stream's messages.
    """

    n_frames: int
    n_hits: int
    n_promising: int
    n_wanted: int
    n_wanted_promising: int
    counts: Counts

    def __str__(self) -> str:
        share = f" ({self.n_hits / self.n_frames:.0%})" if self.n_frames else ""
        few = self.n_promising < self.n_wanted_promising
        wanted = f", {self.n_promising} of {self.n_wanted_promising} promising" if few else ""
        return (
            f"{self.n_frames} of {self.n_wanted} frames, {self.n_hits} hits{share}{wanted}"
            f"{self.counts}"
        )


@dataclass
class HitCounter:
    """Counts hits with the settings that a session starts from: the threshold is the frames'."""

    geometry: Geometry
    n_frames: int = 0
    n_hits: int = 0
    _counts: list[int] = field(default_factory=list)
    _first: list[Frame] = field(default_factory=list)
    _settings: Settings | None = None
    _finder: NamedFinder | None = None

    def add(self, frame: Frame) -> None:
        """Take one more frame."""
        self.n_frames += 1
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
            self._counts.append(n)
            self.n_hits += n >= self._settings.min_peaks

    @property
    def n_promising(self) -> int:
        """Frames that stand out from blank ones as in a session's look, or hits if most are.

        The threshold is that of a few frames: in a poor run noise may make hits of blank ones.
        """
        if self.n_hits > MOSTLY * len(self._counts) or not self._counts:
            return self.n_hits
        share = share_standing_out(np.array(self._counts)[:, None], [True])
        return round(share * len(self._counts))


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

    Twice the sample is recorded, so that there are fresh frames, and more of a poor run, until
    enough of them are promising: the session then draws its frames by what they promise. Frames
    that the directory has already are taken as they are.

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
        sample = request.n_frames
        n = FOR_ALL if sample is None else 2 * sample
        most = n if sample is None else MOST * sample
        n_promising = math.ceil(PROMISING * n)
        counter = HitCounter(geometry)

        def seen(n_done: int, counts: Counts) -> Seen:
            return Seen(n_done, counter.n_hits, counter.n_promising, n, n_promising, counts)

        def enough() -> bool:
            return stopped() or (counter.n_frames >= n and counter.n_promising >= n_promising)

        with open_arriving(str(request.data), geometry, buffer) as frames:
            done = record(
                frames,
                data,
                most,
                idle=idle,
                enough=enough,
                on_frame=counter.add,
                progress=lambda done: on_seen(seen(done, frames.counts)),
            )
            on_seen(seen(done.n_frames, frames.counts))
        for note in done.notes:
            on_note(note)
    return replace(request, data=data, geometry=beside)
