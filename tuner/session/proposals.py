"""A session's searcher at work: what it is told of, what it proposes, what it recommends.

All of it follows from the trials, in order. A resumed session therefore asks its searcher again
for every proposal that it has measured already (`Proposals.replay`), which brings the searcher,
random numbers included, to where the interrupted session was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from envs.evaluation import Evaluation
from envs.geometry_rule import GeometryLock
from envs.parameter_space import ParameterSpace
from tuner.search.contract import (
    ChoosesFrames,
    Ends,
    Explains,
    KeepsMap,
    Recommends,
    Searcher,
    SearcherKind,
    SearchTask,
)
from tuner.search.locked import LockedSearcher
from tuner.session.choice import best_trial
from tuner.session.trial import Trial
from wrappers.settings import Settings

__all__ = ["Proposals"]

FEW_PARTS = 3
"""Proposals on a part of the frames that count as one on all."""


class Proposals:
    """What a searcher makes of a session's trials.

    Whatever it proposes is executed at the geometry that the lattices fix.

    Parameters
    ----------
    kind : SearcherKind
    task : SearchTask
    """

    def __init__(self, kind: SearcherKind, task: SearchTask) -> None:
        self._kind, self._task = kind, task
        self._seconds = 0.0
        self._restart()

    def _restart(self) -> None:
        self._searcher = self._make()
        self._lock = GeometryLock(self._task.space)
        self._seen = 0
        self._ingested: list[int] = []

    def _make(self) -> Searcher:
        kind, task = self._kind, self._task
        if kind.handles_geometry:
            return kind.make(task)

        def make(space: ParameterSpace, ingested: int) -> Searcher:
            return kind.make(replace(task, space=space, seed=task.seed + ingested))

        return LockedSearcher(task.space, make)

    def fixed(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Return the geometry that the lattices of the trials fix, by name."""
        self._observe(trials)
        return self._lock.fixed

    def recommended_geometry(self, trials: Sequence[Trial], winner: Evaluation) -> dict[str, float]:
        """Return the geometry that a winner is recommended with; see `GeometryLock.recommended`."""
        self._observe(trials)
        return self._lock.recommended(winner)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    def seconds(self) -> float:
        """Return how long the searcher has thought since this was last asked."""
        spent, self._seconds = self._seconds, 0.0
        return spent

    def propose(self, trials: Sequence[Trial]) -> Settings | None:
        """Return what to measure next, or None when there is nothing more to propose."""
        with self._timed():
            return self._proposed(trials)

    def _proposed(self, trials: Sequence[Trial]) -> Settings | None:
        fixed, space = self.fixed(trials), self._task.space
        if not space.fixed(**fixed).parameters:
            return None
        values = self._searcher.suggest()
        return None if values is None else space.settings(values).replace(**fixed)

    @property
    def n_frames(self) -> int | None:
        """On how many frames the last proposal is measured; None: it is raced on all of them."""
        return self._searcher.n_frames if isinstance(self._searcher, ChoosesFrames) else None

    @property
    def chooses_frames(self) -> bool:
        """Whether the searcher says on how many frames a proposal is measured."""
        return isinstance(self._searcher, ChoosesFrames)

    @property
    def recommends_parts(self) -> bool:
        """Whether the searcher may recommend what was measured on a part of the frames."""
        return self.chooses_frames and isinstance(self._searcher, Recommends)

    @property
    def patience(self) -> int:
        """Proposals of which none is convincing, before the initial design is begun."""
        return FEW_PARTS if self.recommends_parts else 1

    def explained(self, trials: Sequence[Trial]) -> str:
        """Return why the last of the trials was proposed, where the searcher can say it.

        It has learnt by then what came of it, and may say where that is not what it expected.
        """
        self._observe(trials)
        return self._searcher.reason if isinstance(self._searcher, Explains) else ""

    def keep_map(self, trials: Sequence[Trial], path: Path) -> None:
        """Write the map that the searcher goes by, if it does, as all the trials leave it."""
        if isinstance(self._searcher, KeepsMap):
            self._observe(trials)
            self._searcher.keep_map(path)

    @property
    def ended(self) -> str:
        """Why nothing more is proposed, in words."""
        own = self._searcher.ended if isinstance(self._searcher, Ends) else ""
        return own or "the searcher has nothing more to propose"

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the best of the trials, None if none indexed: what would be recommended now.

        It is `best_trial`, or what a searcher that recommends takes, unless what it was not told
        of, CrystFEL's defaults, is best. A searcher that chooses frames may take what was measured
        on a part of them.
        """
        highest = self.highest(trials)
        if not isinstance(self._searcher, Recommends):
            return highest
        if highest is None and not self.recommends_parts:
            return None
        with self._timed():
            self._observe(trials)
            if not self._ingested or (highest and highest.number not in self._ingested):
                return highest
            number = self._ingested[self._searcher.recommend()]
        taken = next(trial for trial in trials if trial.number == number)
        return taken if taken.evaluation.n_indexed else highest

    def highest(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the trial with the highest merit; see `best_trial`."""
        return best_trial(trials, self._task.space, self._task.merit)

    def replay(self, trials: Sequence[Trial]) -> None:
        """Ask the searcher once more for what it proposed, to go on where it was.

        Where it proposes something else (a session of another version, or with another budget), it
        is made anew instead and learns all that was measured.
        """
        for n, trial in enumerate(trials):
            if trial.stage == "search" and self.propose(trials[:n]) != trial.evaluation.settings:
                self._restart()
                return

    def _observe(self, trials: Sequence[Trial]) -> None:
        space = self._task.space
        for trial in trials[self._seen :]:
            evaluation = trial.evaluation
            merit = self._task.merit(evaluation)
            self._lock.observe(evaluation, merit)
            values = space.values(evaluation.settings)
            # CrystFEL's defaults, say, differ from the base in more than the tuned parameters.
            joined = {p.name: getattr(evaluation.settings, p.name) for p in space.joining}
            within = space.settings(values).replace(**joined) == evaluation.settings
            if within or self._kind.looks or not self._kind.handles_geometry:
                self._searcher.ingest(values, merit, evaluation)
                self._ingested.append(trial.number)
        self._seen = max(self._seen, len(trials))
