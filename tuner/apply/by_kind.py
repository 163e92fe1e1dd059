"""A run reduced with its frames told by kind: some left out, alarms, and the kinds carried on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tuner.apply.kind_drift import KindAlarm, KindWatch, changes
from wrappers.frame_kinds import KINDS, FrameKinds, Told, tell_kinds
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixels import spread_frames
from wrappers.reduction.parts import Part

__all__ = ["KINDS_FILE", "ByKind", "known_kinds"]

KINDS_FILE = "kinds.json"
"""Its name in a session's directory, and in the folder of a watch."""

FIRST_FRAMES = 400
"""Of a run, spread over it, that make the kinds where none are known."""


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
        known = known_kinds(file, session)
        if known is not None:
            known.require_shape(run.geometry.slab_shape, file or session / KINDS_FILE)
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

    @property
    def counts(self) -> dict[str, int]:
        """Frames of each kind so far."""
        found = Counter(each.name for each in self._told)
        return {name: found[name] for name in KINDS if found[name]}

    def finish(self, file: Path | None) -> list[str]:
        """Learn the run's frames, write the kinds into a file, if any; return what is to be said.

        That are the alarms, and which kinds are new.
        """
        learnt, new = self.kinds, tuple[str, ...]()
        if not self._own and self._told:
            learnt, new = self.kinds.learn(np.array([each.point for each in self._told]))
        if file is not None:
            learnt.write(file)
        self.kinds = learnt
        told = {alarm.kind for alarm in self.alarms}
        within = changes([each.frame for each in self._told], [each.name for each in self._told])
        self.alarms += [each for each in within if each.kind not in told]
        return [*map(str, self.alarms), *(f"frames of a new kind: {name}" for name in new)]


def known_kinds(file: Path | None, session: Path) -> FrameKinds | None:
    """Return the kinds of a file, or of a session's directory; None where there are none yet."""
    if file is not None:
        return FrameKinds.read(file) if file.exists() else None
    kept = session / KINDS_FILE
    return FrameKinds.read(kept) if session.is_dir() and kept.exists() else None
