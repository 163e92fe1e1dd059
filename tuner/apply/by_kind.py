"""A run or a stream reduced with its frames told by kind: some left out, alarms, kinds learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.apply.kind_drift import KindAlarm, KindWatch, changes
from wrappers.detector.geometry import Geometry
from wrappers.frame_kinds import FrameKinds, KindTeller, Told, run_digest, tell_kinds
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixels import spread_frames
from wrappers.reduction.parts import Part

__all__ = ["FIRST_FRAMES", "KINDS_FILE", "ByKind", "known_kinds"]

KINDS_FILE = "kinds.json"
"""Its name in a session's directory, and in the folder of a watch."""

FIRST_FRAMES = 400
"""Of a run, evenly spread over it, that make the kinds where none are known."""


class ByKind:
    """Tells frames by kind while they are reduced: those of one run, or of a stream.

    Parameters
    ----------
    known : FrameKinds or None
        Of earlier frames. Where there are none, `begin` makes them.
    veto : bool
    n_tests : int
        Tests that were begun before; see `KindWatch`.
    run : str
        What tells the run from others (`run_digest`); "" of a stream. One that the kinds have
        learnt is neither learnt again, nor held against itself.
    """

    def __init__(
        self, known: FrameKinds | None, veto: bool, n_tests: int = 0, run: str = ""
    ) -> None:
        self._known, self.veto, self._n_tests, self._run = known, veto, n_tests, run
        self._watch: KindWatch | None = None
        self._n_own = 0
        self._frames: list[int] = []
        self._names: list[str] = []
        self._points: list[Sequence[float]] = []
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
        by_kind = cls(known_kinds(file, session, run.geometry), veto, n_tests, run_digest(run))
        if by_kind.lacks_kinds:
            by_kind.begin(run, spread_frames(len(run), FIRST_FRAMES), jobs=jobs)
        return by_kind

    @property
    def lacks_kinds(self) -> bool:
        """Whether there are no kinds yet, by which frames could be told."""
        return self._known is None

    def begin(self, run: FrameSource, frames: Sequence[int], *, jobs: int) -> None:
        """Make the kinds of some frames; of a stream they are the first ones, and come again."""
        self._known = tell_kinds(run, frames, jobs=jobs).kinds
        self._n_own = len(frames)

    @property
    def kinds(self) -> FrameKinds:
        """The kinds, with what was learnt."""
        assert self._known is not None
        return self._known

    @property
    def options(self) -> dict[str, Any]:
        """What `reduce_run` is to be called with."""
        return {"kinds": self.kinds, "veto": self.veto, "on_part": self.on_part}

    def teller(self, geometry: Geometry) -> Callable[[Frame], Told]:
        """Return what tells the kinds of a stream's frames, by what was learnt until then."""
        teller = KindTeller(self.kinds, geometry)

        def tell(frame: Frame) -> Told:
            teller.kinds = self.kinds
            return teller.tell(frame)

        return tell

    def on_part(self, part: Part) -> None:
        """Count a part's frames."""
        self.count(part.told)

    def count(self, told: Sequence[Told]) -> None:
        """Count further frames."""
        if self._run:
            self._frames += [each.frame for each in told]
            self._names += [each.name for each in told]
            if self._run in self.kinds.runs:
                return
        else:
            told = [each for each in told if each.frame >= self._n_own]
        if self._watch is None:
            self._watch = KindWatch(self.kinds, self._n_tests)
        self._points += [each.point for each in told]
        self.alarms += self._watch.count(told)

    def finish(self, file: Path | None) -> list[str]:
        """Learn the run's frames, write the kinds into a file, if any; return what is to be said.

        That are the alarms, which kinds have become more frequent within the run, and which are
        new.
        """
        new = self._learn(file)
        told = {alarm.kind for alarm in self.alarms}
        within = changes(self._frames, self._names)
        self.alarms += [each for each in within if each.kind not in told]
        return [*map(str, self.alarms), *new]

    def finish_file(self, file: Path | None) -> list[str]:
        """Learn what has come of a stream since the last call; else as `finish`.

        A new test is begun: many good frames do not hide what comes then.
        """
        new, said = self._learn(file), [*map(str, self.alarms)]
        self.alarms = []
        if self._watch is not None:
            self._watch.begin_test()
        return [*said, *new]

    def _learn(self, file: Path | None) -> list[str]:
        new = tuple[str, ...]()
        if self._points:  # none, where the run had been reduced before
            self._known, new = self.kinds.learn(np.array(self._points), self._run)
            self._points = []
        if file is not None:
            self.kinds.write(file)
        return [f"frames of a new kind: {name}" for name in new]


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
