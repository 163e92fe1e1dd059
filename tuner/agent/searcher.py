"""The trained agent as a searcher, and the search that it falls back on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS
from envs.evaluation import Evaluation
from envs.observation import FEATURES, MEMORY, TaskBatch, layout
from envs.parameter_space import ParameterSpace
from tuner.agent.policy import Policy
from tuner.search.contract import Searcher, SearchTask, Values
from tuner.search.locked import LockedSearcher
from tuner.search.points import PointsSearcher, same_peaks
from wrappers.errors import InputError

__all__ = ["AgentSearcher", "Fallback", "explain"]

STAYS = 0.02
"""Steps on the scale of the actions, 2 from end to end of a range, that are not worth a word."""

USUAL_BUDGET = 20
"""Evaluations that the agent reckons with where nobody says."""


@dataclass(frozen=True)
class Fallback:
    """The search that takes over from the agent, and when: as soon as the gain has stalled.

    Attributes
    ----------
    points : sequence of mapping
        Points of the unit cube, by name, of which the first `n_points` are tried first: far from
        each other, and so from where the agent is stuck, if it is.
    make_gp : callable
        Makes the searcher that goes on after them, for a space.
    least : int
        Evaluations before which the agent keeps the lead.
    patience : int
        Evaluations in a row that did not raise the best merit by `margin`.
    margin : float
        In standard errors of the best merit.
    n_points : int
    """

    points: Sequence[Mapping[str, float]]
    make_gp: Callable[[ParameterSpace], Searcher]
    least: int = 8
    patience: int = 2
    margin: float = 0.25
    n_points: int = 8

    def make(self, space: ParameterSpace) -> PointsSearcher:
        """Return the search, for the whole space of the agent."""
        gp = LockedSearcher(space, lambda rest, ingested: self.make_gp(rest))
        return PointsSearcher(space, self.points[: self.n_points], gp)

    def due(self, merits: list[float], n_frames: int) -> bool:
        """Whether these merits, in order, have stalled."""
        if len(merits) < max(self.least, self.patience + 1):
            return False
        best = np.maximum.accumulate(merits)
        rate = float(np.clip(best[-1], 0.02, 0.98))
        error = np.sqrt(rate * (1 - rate) / max(n_frames, 1))
        return bool(best[-1] - best[-1 - self.patience] <= self.margin * error)


@dataclass(frozen=True)
class _Ingested:
    """One evaluation: as it was ingested, and as the policy's selector sees it."""

    values: Values
    merit: float
    evaluation: Evaluation
    seen: NDArray[np.float64]


class AgentSearcher:
    """Proposes what the trained policy would try; a fallback search may take over.

    The fallback search learns all that was measured before, and it tunes every parameter of the
    space, those too that the agent leaves at the base.

    Parameters
    ----------
    task : SearchTask
        Its policy is the agent; its budget counts the evaluations ingested.
    fallback : Fallback, optional
        Without it the agent goes on to the end.

    Raises
    ------
    InputError
        If the policy was trained for another merit than the task's.
    """

    def __init__(self, task: SearchTask, fallback: Fallback | None = None) -> None:
        space, self._policy = task.space, _policy_of(task)
        if task.merit != self._policy.merit:
            raise InputError(
                f"the policy was trained for the merit {self._policy.merit.as_dict()}, and this "
                f"session's is {task.merit.as_dict()}: choose another searcher, or train a policy"
            )
        self._space = space
        self._tasks = TaskBatch.single(
            space, task.budget or USUAL_BUDGET, task.merit.unindexed_hit_penalty
        )
        self._names = [name for name in POLICY_PARAMETERS if name in space.names]
        self._fallback = fallback
        self._successor: PointsSearcher | None = None
        self._ingested: list[_Ingested] = []
        self._pending: dict[str, float] | None = None
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the last suggestion was made, in words."""
        return self._reason

    def suggest(self) -> dict[str, float] | None:
        """Return the values to try next; `reason` then says why."""
        if self._pending is None:
            successor = self._take_over()
            proposed = successor.suggest() if successor else self._from_policy()
            if proposed is None:
                return None
            fixed = float(self._tasks.fixed_clen[0])
            if successor is not None and "clen" in proposed and not np.isnan(fixed):
                proposed["clen"] = fixed
            # A box may have some values alone, which the policy does not know.
            self._pending = {n: self._space[n].clip(value) for n, value in proposed.items()}
        return dict(self._pending)

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn what the values gave."""
        self._tasks.record_one(values, merit, evaluation)
        seen = self._tasks.newest[0].copy()
        self._ingested.append(_Ingested(dict(values), merit, evaluation, seen))
        if self._successor is not None:
            self._successor.ingest(values, merit, evaluation)
        if self._pending is not None and same_peaks(self._pending, values):
            self._pending = None

    def recommend(self) -> int:
        """Return which of the evaluations that it ingested, counted from 0, it would recommend.

        Evaluations with fewer frames than others are left aside.
        """
        most = max(one.evaluation.n_frames for one in self._ingested)
        whole = [n for n, one in enumerate(self._ingested) if one.evaluation.n_frames == most]
        merits = np.array([[self._ingested[n].merit for n in whole]])
        seen = np.array([[self._ingested[n].seen for n in whole]])
        tasks = self._tasks
        return whole[int(self._policy.choose(seen, merits, tasks.facts, tasks.penalties, most)[0])]

    def _take_over(self) -> PointsSearcher | None:
        """Return the fallback search if it has taken over by now."""
        plan = self._fallback
        if self._successor is None and plan is not None:
            merits = [one.merit for one in self._ingested]
            n_frames = self._ingested[-1].evaluation.n_frames if self._ingested else 0
            if not self._names or plan.due(merits, n_frames):
                self._successor = plan.make(self._space)
                for one in self._ingested:
                    self._successor.ingest(one.values, one.merit, one.evaluation)
        if self._successor is not None:
            why = "the gain has stalled" if self._names else "the agent tunes none of these"
            what = "a far-apart point" if self._successor.at_points else "a Gaussian process"
            self._reason = f"{why}: {what}"
        return self._successor

    def _from_policy(self) -> dict[str, float]:
        action = self._policy.act(self._tasks.observe(), int(self._tasks.spent[0]))
        executed = dict(zip(POLICY_PARAMETERS, self._tasks.execute(action)[0], strict=True))
        proposed = self._space.values(self._space.base)
        proposed |= {name: self._space[name].clip(executed[name]) for name in self._names}
        self._reason = explain(self._policy, self._tasks)
        return proposed


@dataclass(frozen=True)
class _Clue:
    """A group of what is observed, in the words of a beamline."""

    features: tuple[str, ...]
    low: str
    high: str


CLUES = (
    _Clue(
        ("explained",),
        "few of the peaks are explained by the lattices",
        "the lattices explain most of the peaks",
    ),
    _Clue(("peaks",), "few peaks are found in a hit", "many peaks are found in a hit"),
    _Clue(("hits",), "few frames have enough peaks", "many frames have enough peaks"),
    _Clue(("indexed_hits",), "few of the hits are indexed", "most of the hits are indexed"),
    _Clue(
        ("residual",),
        "the spots lie close to their predicted places",
        "the spots lie far from their predicted places",
    ),
    _Clue(
        ("cell_scale", "refined_clen"),
        "the cells come out too small, so the detector is farther away",
        "the cells come out too large, so the detector is nearer",
    ),
    _Clue(
        ("decoys",), "scrambled peak lists are not indexed", "scrambled peak lists are indexed too"
    ),
    _Clue(("merit", "rate"), "the rates so far are low", "the rates so far are high"),
)


def _policy_of(task: SearchTask) -> Policy:
    return task.policy if isinstance(task.policy, Policy) else Policy.load()


def explain(policy: Policy, tasks: TaskBatch) -> str:
    """Return in words where the policy goes in the first task, and what it saw that moved it.

    For every group of diagnostics the action is worked out once more as if that group had been
    what it is on average; the group that changes the proposal most is the one that is named.
    """
    if tasks.spent[0] == 0:
        return "the first proposal: usually good for such a detector"
    observation, turn = tasks.observe(), int(tasks.spent[0])
    action = policy.act(observation, turn)
    veiled = np.repeat(observation, len(CLUES), axis=0)
    for row, group in enumerate(CLUES):
        places = [place for place in _places(group.features) if _measured(observation[0], place)]
        veiled[row, places] = policy.typical[places]
    # As executed: what is not tuned and a camera length that the lattices know do not move.
    after = tasks.boxes.units(tasks.execute(action))[0]
    otherwise = np.array(
        [tasks.boxes.units(tasks.execute(act[None]))[0] for act in policy.act(veiled, turn)]
    )
    shifts = np.abs(after - otherwise)
    if shifts.max() < STAYS:
        return "no single group of diagnostics moves the proposal"
    row, column = divmod(int(np.argmax(shifts)), len(POLICY_PARAMETERS))
    name, clue = POLICY_PARAMETERS[column], CLUES[row]
    seen = _places(clue.features[:1])[1]
    sight = clue.high if observation[0, seen] > policy.typical[seen] else clue.low
    step = after[column] - tasks.boxes.units(tasks.incumbent)[0, column]
    if abs(step) < STAYS:
        return f"{sight}: {name} stays"
    best = tasks.incumbent[0, column]
    return f"{sight}: {name} {'up' if step > 0 else 'down'} from the best ({best:.4g})"


def _places(features: tuple[str, ...]) -> list[int]:
    """Return where these features are seen: of the incumbent, then of the newest and so on."""
    parts = [layout()["incumbent"]]
    parts += [layout()[f"evaluation {age}"] for age in range(1, MEMORY + 1)]
    offsets = [len(POLICY_PARAMETERS) + FEATURES.index(feature) for feature in features]
    return [part.start + offset for part in parts for offset in offsets]


def _measured(observation: NDArray[np.float32], place: int) -> bool:
    """Whether the evaluation that a place belongs to was made at all."""
    part = next(part for part in layout().values() if part.start <= place < part.stop)
    return bool(observation[part.start + len(POLICY_PARAMETERS) + FEATURES.index("measured")] > 0)
