"""A run reduced with its frames told by kind: some left out, alarms, and the kinds carried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tuner.apply.kind_drift import KindAlarm, KindWatch, changes
from wrappers.detector.geometry import Geometry
from wrappers.frame_kinds import FrameKinds, Told, tell_kinds
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixels import spread_frames
from wrappers.reduction.parts import Part

__all__ = ["FIRST_FRAMES", "KINDS_FILE", "ByKind", "known_kinds"]

KINDS_FILE = "kinds.json"
"""Its name in a session's directory, and in the folder of a watch."""

FIRST_FRAMES = 400
"""Of a run, evenly spread over it, that make the kinds where none are known."""


class ByKind:
    """Tells the frames of one run by kind while it is reduced.

    Parameters
    ----------
    kinds : FrameKinds
        Of earlier frames, or of some of this run.
    veto : bool
    n_tests : int
        Tests that were begun before; see `KindWatch`.
    own : bool
        Whether the kinds were made of this run: then they are not learnt twice.
    """

    def __init__(
        self, kinds: FrameKinds, veto: bool, n_tests: int = 0, *, own: bool = False
    ) -> None:
        self.kinds, self.veto, self._own = kinds, veto, own
        self._watch = None if own else KindWatch(kinds, n_tests)
        self._told: list[Told] = []
        self.alarms: list[KindAlarm] = []

    @classmethod
    def of(
        cls,
        run: FrameSource,
        file: Path | None,
        session: Path,
        veto: bool,
        n_tests: int = 0,
        *,
        jobs: int,
    ) -> ByKind:
        """Return what tells a run's frames by the kinds of a file, a session, or the run itself."""
        known = known_kinds(file, session, run.geometry)
        if known is not None:
            return cls(known, veto, n_tests)
        frames = spread_frames(len(run), FIRST_FRAMES)
        return cls(tell_kinds(run, frames, jobs=jobs).kinds, veto, own=True)

    @property
    def options(self) -> dict[str, Any]:
        """What `reduce_run` is to be called with."""
        return {"kinds": self.kinds, "veto": self.veto, "on_part": self.on_part}

    def on_part(self, part: Part) -> None:
        """Count a part's frames."""
        self._told += part.told
        if self._watch is not None:
            self.alarms += self._watch.count(part.told)

    def finish(self, file: Path | None) -> list[str]:
        """Learn the run's frames, write the kinds into a file, if any; return what is to be said.

        That are the alarms, and which kinds are new.
        """
        learnt, new = self.kinds, tuple[str, ...]()
        if not self._own and self._told:  # none, where the run had been reduced before
            learnt, new = self.kinds.learn(np.array([each.point for each in self._told]))
        if file is not None:
            learnt.write(file)
        self.kinds = learnt
        told = {alarm.kind for alarm in self.alarms}
        within = changes([each.frame for each in self._told], [each.name for each in self._told])
        self.alarms += [each for each in within if each.kind not in told]
        return [*map(str, self.alarms), *(f"frames of a new kind: {name}" for name in new)]


def known_kinds(file: Path | None, session: Path, geometry: Geometry) -> FrameKinds | None:
    """Return the kinds that there are of a detector, or None where there are none yet.

    Parameters
    ----------
    file : Path or None
        Where they are carried on; it need not be there yet.
    session : Path
        A session's directory or its ``recommended.toml``, whose kinds they are otherwise.
    geometry : Geometry

    Raises
    ------
    InputError
        If they cannot be read, or are of another detector.
    """
    directory = session if session.is_dir() else session.parent
    for place in (file, directory / KINDS_FILE):
        if place is not None and place.exists():
            known = FrameKinds.read(place)
            known.require_detector(geometry, place)
            return known
    return None
