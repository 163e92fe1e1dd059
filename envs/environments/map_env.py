"""The tuning task as one sees it who has looked at the frames: which set next, on how many frames.

`envs.environments.tuning_env.TuningEnv` shows rates of past evaluations and takes any point of the
box. Here the response map is looked at, some sets are put up, and the action is a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, Evaluator
from envs.look import Looks
from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import ParameterSpace
from envs.response_map.gains import UNINDEXED_COST
from envs.response_map.session import MapSession
from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    MOST,
    N_ACTIONS,
    SESSION_FEATURES,
    STOP,
    Situation,
    chosen,
    situation,
)
from wrappers.settings import Settings

__all__ = ["LookingEvaluator", "MapReward", "MapTask", "MapTuningEnv", "Observation"]

Observation = dict[str, NDArray[np.float32]]
MapReward = Literal["delta", "anytime"]

DEAREST = 6.0
"""Of an evaluation, in that of the leader on as many frames: what is dearer counts as much."""


class LookingEvaluator(Evaluator, Looks, Protocol):
    """An evaluator that can look at its frames."""


@dataclass(frozen=True)
class MapTask:
    """What is tuned in an episode.

    Attributes
    ----------
    evaluator : LookingEvaluator
    space : ParameterSpace
    first : Settings
        What was measured on all frames beforehand, for nothing: what is in use, or defaults.
    budget : float
        In evaluations on all frames, beyond the first.
    truth : callable, optional
        Parameter set to its true merit; without it the map's expectation stands for it.
    merit : Merit
    indexer : str, optional
        Whose costs are reckoned with; the evaluator's own by default.
    sets : sequence of Settings, optional
        What can be measured; all that is looked at by default.
    n_draws, n_neighbours : int
        Of the map; see `MapSession`.
    """

    evaluator: LookingEvaluator
    space: ParameterSpace
    first: Settings
    budget: float = 8.0
    truth: Callable[[Settings], float] | None = None
    merit: Merit = USUAL_MERIT
    indexer: str = ""
    sets: Sequence[Settings] | None = None
    n_draws: int = 64
    n_neighbours: int = 64


class MapTuningEnv(gym.Env[Observation, np.int64]):
    """Choose what to measure next, on how many frames, or stop.

    ## Action space

    `Discrete(65)`: the candidate `action // 4` on an eighth, a quarter, half or all of the frames
    (`action % 4`); the last action stops. ``info["allowed"]`` says which actions there are; one
    that is not there stops as well.

    ## Observation space

    A dictionary: ``candidates`` (16, 15) and ``session`` (13,), see
    `envs.response_map.situation`.

    ## Rewards

    What would be recommended if the session ended is the measured set that the map expects most
    of, less its error. Its merit counts on frames that the session does not have.

    | Reward | Meaning | Sum over an episode |
    |---|---|---|
    | ``delta`` | what an evaluation adds to it, less the price: Δ(indexing rate), net of chance \
and cost | what the first set lacks, less the price of all |
    | ``anytime`` | the same times the share of the budget that is then left | area under the \
anytime curve, less the price |

    An evaluation costs the mean of its frames, in all of the sample, and of its processor time,
    in that of the leader on all of them; what was measured before is not charged again. One that
    the budget does not cover is not made: the session ends.

    ## Arguments

    draw : callable
        Random generator to the task of an episode.
    reward : {"delta", "anytime"}
    price : float
        Of an evaluation of the leader on all frames, in merit.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        draw: Callable[[np.random.Generator], MapTask],
        *,
        reward: MapReward = "delta",
        price: float = 0.002,
    ) -> None:
        self._draw, self._reward, self._price = draw, reward, price
        self.action_space = gym.spaces.Discrete(N_ACTIONS)
        self.observation_space: gym.Space[Any] = gym.spaces.Dict(
            {
                "candidates": gym.spaces.Box(-MOST, MOST, (CANDIDATES, len(CANDIDATE_FEATURES))),
                "session": gym.spaces.Box(-MOST, MOST, (len(SESSION_FEATURES),)),
            }
        )
        self._task: MapTask | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a task, look at its frames and measure its first set."""
        super().reset(seed=seed)
        task = self._task = self._draw(self.np_random)
        self._session = MapSession(
            task.evaluator,
            task.space,
            seed=int(self.np_random.integers(2**31)),
            penalty=task.merit.unindexed_hit_penalty,
            sets=task.sets,
            n_draws=task.n_draws,
            n_neighbours=task.n_neighbours,
        )
        self._indexer = task.indexer or self._session.indexer
        self._spent = 0.0
        self._portions: dict[Settings, float] = {}
        self._ingest(task, task.evaluator.evaluate(task.first))
        self._situation = self._look(task)
        return self._observation(), self._info(task)

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Measure, or stop."""
        task = self._task
        if task is None:
            raise gym.error.ResetNeeded("call reset before step")
        if action == STOP or not self.situation.allowed[action]:
            return self._observation(), 0.0, True, False, self._info(task)
        place, portion = chosen(int(action))
        settings = self._session.map.settings[self.situation.columns[place]]
        evaluation = task.evaluator.evaluate(
            settings, max(round(portion * task.evaluator.n_frames), 1)
        )
        cost = self._cost(task, evaluation)
        left = task.budget - self._spent - cost
        if left < 0:
            return self._observation(), 0.0, True, False, self._info(task)
        before = self._standing(task)
        self._spent += cost
        self._ingest(task, evaluation)
        self._situation = self._look(task)
        gain = self._standing(task) - before
        weight = left / task.budget if self._reward == "anytime" else 1.0
        reward = weight * gain - self._price * cost
        return self._observation(), float(reward), left <= 0, False, self._info(task)

    @property
    def situation(self) -> Situation:
        """What stands to choice now."""
        return self._situation

    def _ingest(self, task: MapTask, evaluation: Evaluation) -> None:
        self._portions[evaluation.settings] = evaluation.n_frames / task.evaluator.n_frames
        self._session.ingest(evaluation, task.merit(evaluation))

    def _look(self, task: MapTask) -> Situation:
        return situation(self._session, task.budget - self._spent, self._indexer)

    def _standing(self, task: MapTask) -> float:
        """Return the merit of what would be recommended now: true where it is known."""
        leader = self.situation.leader
        assert leader is not None  # the first set was measured
        if task.truth is not None:
            return task.truth(self._session.map.settings[leader])
        merits = self.situation.forecast.merits(self._session.penalty)
        return float(merits[:, leader].mean())

    def _cost(self, task: MapTask, evaluation: Evaluation) -> float:
        """Return what an evaluation costs beyond what was paid for it; see the class."""
        n = task.evaluator.n_frames
        paid = self._portions.get(evaluation.settings, 0.0)
        new = evaluation.outcomes[round(paid * n) :]
        if not new:
            return 0.0
        hits, indexed = sum(o.hit for o in new), sum(o.indexed for o in new)
        leader = self.situation.leader
        assert leader is not None
        reference = max(float(self.situation.forecast.mean[leader]), 0.05)
        dear = (hits + UNINDEXED_COST[self._indexer] * (hits - indexed)) / len(new) / reference
        return len(new) / n * (1 + min(dear, DEAREST)) / 2

    def _observation(self) -> Observation:
        found = self.situation
        return {"candidates": found.candidates, "session": found.session}

    def _info(self, task: MapTask) -> dict[str, Any]:
        leader = self.situation.leader
        assert leader is not None
        return {
            "allowed": self.situation.allowed,
            "rule": self.situation.rule(),
            "spent": self._spent,
            "evaluations": len(self._session.evaluations),
            "standing": self._standing(task),
            "leader": self._session.map.settings[leader].as_dict(),
        }
