"""The agent as a searcher: the map's, but for what it measures, where, and when it ends."""

from __future__ import annotations

from functools import partial

import numpy as np

from envs.environments.map_tasks import DRAWS
from envs.response_map.session import MapSession
from envs.response_map.situation import STOP, Situation, chosen, situation
from tuner.map_agent.policy import MapPolicy
from tuner.search.contract import SearchTask
from tuner.search.map_searcher import GLIMPSE, GLIMPSING, WHOLE, MapSearcher
from wrappers.settings import Settings

__all__ = ["MapAgentSearcher"]

USUAL_BUDGET = 8.0
"""Evaluations on all frames that the agent reckons with, where nobody says or more are left."""


class MapAgentSearcher(MapSearcher):
    """Proposes what the trained policy chooses of the sets that the map puts up.

    It recommends the measured set that the map expects most of, less its error; what was measured
    on a part of the frames only counts as well. Of small samples it measures all frames at once,
    unless CrystFEL indexes them.

    Parameters
    ----------
    task : SearchTask
        With `looks`. Its budget counts evaluations.
    policy : MapPolicy, optional
        The shipped one by default.
    """

    def __init__(self, task: SearchTask, policy: MapPolicy | None = None) -> None:
        self._policy = MapPolicy.shipped() if policy is None else policy
        super().__init__(task, partial(MapSession, model=self._policy.model, n_draws=DRAWS))
        self._budget = task.budget
        self._seen: tuple[int, Situation] | None = None

    def recommend(self) -> int:
        """Return which of the evaluations that it ingested is of the set that it would take."""
        evaluations = self._session.evaluations
        leader = self._situation().leader
        if leader is None:  # nothing was measured near the geometry that the lattices fix
            return max(
                (evaluation.n_indexed > 0, evaluation.n_frames, merit, number)
                for number, (evaluation, merit) in enumerate(evaluations)
            )[-1]
        taken = self._session.tried[leader]
        return next(n for n, (evaluation, _) in enumerate(evaluations) if evaluation is taken)

    def _situation(self) -> Situation:
        """Return what is up for choice; worked out once after every evaluation."""
        n = len(self._session.evaluations)
        if self._seen is None or self._seen[0] != n:
            self._seen = n, situation(self._session, self._left())
        return self._seen[1]

    def _left(self) -> float:
        """Return the budget that is left, in evaluations on all frames."""
        evaluations = self._session.evaluations
        if self._budget is not None:
            return float(np.clip(self._budget - self._n_proposed, 0.0, USUAL_BUDGET))
        n = max(len(self._session.map.look.frames), 1)
        spent = sum(evaluation.n_frames for evaluation, _ in evaluations[1:]) / n
        return max(USUAL_BUDGET - spent, 1.0)

    def _worth_the_rest(self, found: Situation) -> int | None:
        """Return the leader if it was measured on a part of the frames, and indexed any of them."""
        leader = found.leader
        if leader is None or found.leader_is_whole or not self._session.tried[leader].n_indexed:
            return None
        return leader

    def _frames(self, portion: float) -> int:
        """Return how many frames are measured for a portion of the sample.

        In small samples a few frames are not worth a proposal of their own, nor are they in any
        where they are more than half.
        """
        n = len(self._session.map.look.frames)
        if n > WHOLE:
            return max(round(portion * n), 1)
        if self._session.indexer not in GLIMPSING or n < 2 * GLIMPSE:
            return n
        return max(GLIMPSE, round(portion * n))

    def _choose(self) -> Settings | None:
        found, session = self._situation(), self._session
        action = self._policy.act(found)
        n = len(session.map.look.frames)
        if action == STOP and (leader := self._worth_the_rest(found)) is not None:
            self.n_frames = n
            self.reason = "the best by what was measured on a part of the frames, and the map"
            return session.map.settings[leader]
        if action == STOP:
            self.ended = (
                "the agent expects no further evaluation to be worth its frames; the best that the "
                f"map knows of is expected to gain {100 * max(found.gain, 0):.1f} points"
            )
            return None
        place, portion = chosen(action)
        column = int(found.columns[place])
        self.n_frames = self._frames(portion)
        mean, sd = found.forecast.mean[column], found.forecast.sd[column]
        self.reason = f"the agent's choice: the map expects {100 * mean:.0f} ± {100 * sd:.0f} %"
        if self.n_frames < n:
            self.reason += f", on {self.n_frames} of {n} frames"
        if session.map.far:
            self.reason += " (the run is unlike those that the map was fitted to)"
        return session.map.settings[column]
