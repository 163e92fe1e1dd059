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
    PORTIONS,
    SESSION_FEATURES,
    Progress,
    Situation,
    situation,
)
from wrappers.settings import Settings

__all__ = ["STOP", "LookingEvaluator", "MapTask", "MapTuningEnv", "chosen"]

STOP = CANDIDATES * len(PORTIONS)
"""The action that ends the session."""

LEAST_COST = 0.3
"""Of an evaluation that finds no hits, in that of the leader on as many frames."""

Observation = dict[str, NDArray[np.float32]]


class LookingEvaluator(Evaluator, Looks, Protocol):
    """An evaluator that can look at its frames."""


@dataclass(frozen=True)
class MapTask:
    """What is tuned in an episode.

    Attributes
    ----------
    evaluator : LookingEvaluator
    space : ParameterSpace
    budget : float
        In evaluations of the leader on all frames.
    truth : callable, optional
        Parameter set to its true merit, and what is reachable; only a simulator has it.
    reachable : float
        The highest true merit; 1 where nobody knows it.
    merit : Merit
    indexer : str, optional
        Whose costs are reckoned with; the evaluator's own by default.
    design : sequence of Settings, optional
        What is looked at.
    n_draws, n_neighbours : int
        Of the map; see `MapSession`.
    """

    evaluator: LookingEvaluator
    space: ParameterSpace
    budget: float = 8.0
    truth: Callable[[Settings], float] | None = None
    reachable: float = 1.0
    merit: Merit = USUAL_MERIT
    indexer: str = ""
    design: Sequence[Settings] | None = None
    n_draws: int = 64
    n_neighbours: int = 64


def chosen(action: int) -> tuple[int, float]:
    """Return the place of the candidate that an action measures, and on which portion of frames."""
    place, portion = divmod(int(action), len(PORTIONS))
    return place, PORTIONS[portion]


class MapTuningEnv(gym.Env[Observation, np.int64]):
    """Choose what to measure next, on how many frames, or stop.

    ## Action space

    `Discrete(CANDIDATES * 3 + 1)`: the candidate `action // 3` on a quarter, half or all of the
    frames (`action % 3`); the last action stops. ``info["allowed"]`` says which actions there are;
    one that is not there stops.

    ## Observation space

    A dictionary: ``candidates`` (`CANDIDATES`, 13) and ``session`` (15,), see
    `envs.response_map.situation`.

    ## Rewards

    | Reward | Meaning |
    |---|---|
    | ``delta`` | what the true merit of the recommended set gains (without a truth: the expected \
merit), less the price of what was spent |
    | ``anytime`` | minus what is missing to what can be reached, relative to it, times what was \
spent, less the price: the sum is the area above the anytime curve |

    ## Arguments

    draw : callable
        Random generator to the task of an episode.
    reward : {"delta", "anytime"}
    price : float
        Of an evaluation of the leader on all frames, in merit (``delta``) or in what is reachable.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        draw: Callable[[np.random.Generator], MapTask],
        *,
        reward: Literal["delta", "anytime"] = "delta",
        price: float = 0.003,
    ) -> None:
        self._draw, self._reward, self._price = draw, reward, price
        self.action_space = gym.spaces.Discrete(STOP + 1)
        self.observation_space = gym.spaces.Dict(
            {
                "candidates": gym.spaces.Box(-2, 2, (CANDIDATES, len(CANDIDATE_FEATURES))),
                "session": gym.spaces.Box(-2, 2, (len(SESSION_FEATURES),)),
            }
        )
        self._task: MapTask | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a task and look at its frames."""
        super().reset(seed=seed)
        task = self._task = self._draw(self.np_random)
        self._session = MapSession(
            task.evaluator,
            task.space,
            seed=int(self.np_random.integers(2**31)),
            penalty=task.merit.unindexed_hit_penalty,
            design=task.design,
            n_draws=task.n_draws,
            n_neighbours=task.n_neighbours,
        )
        self._indexer = task.indexer or self._session.indexer
        self._spent, self._lead = 0.0, 0.0
        self._portions: dict[Settings, float] = {}
        self._look()
        return self._observation(), self._info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Measure, or stop."""
        if self._task is None:
            raise gym.error.ResetNeeded("call reset before step")
        task, before = self._task, self._standing()
        left = task.budget - self._spent
        if action == STOP or not self._situation.allowed[action]:
            idle = left * self._missing(before) if self._reward == "anytime" else 0.0
            return self._observation(), -idle, True, False, self._info()
        place, portion = chosen(action)
        settings = self._session.map.settings[self._situation.columns[place]]
        n_frames = max(round(portion * task.evaluator.n_frames), 1)
        evaluation = task.evaluator.evaluate(settings, n_frames)
        cost = self._cost(evaluation)
        self._portions[settings] = portion
        self._session.ingest(evaluation, task.merit(evaluation))
        self._spent += cost
        self._look()
        if self._reward == "anytime":
            reward = -min(cost, left) * self._missing(before) - self._price * cost
        else:
            reward = self._standing() - before - self._price * cost
        over = self._spent >= task.budget
        return self._observation(), float(reward), over, False, self._info()

    def _look(self) -> None:
        """Work out what stands to choice now."""
        assert self._task is not None
        session, lead = self._session, self._lead
        self._forecast, portion = session.survey()
        self._situation = situation(
            self._forecast,
            Progress(portion, session.points(), self._task.budget - self._spent, lead),
            penalty=session.penalty,
            indexer=self._indexer,
            n_frames=self._task.evaluator.n_frames,
            strangeness=session.map.strangeness,
        )

    def _standing(self) -> float:
        """Return the merit of what would be recommended now: true where it is known."""
        leader = self._situation.leader
        if leader is None:
            return 0.0
        assert self._task is not None
        if self._task.truth is not None:
            return max(self._task.truth(self._session.map.settings[leader]), 0.0)
        return float(self._forecast.merits(self._session.penalty).mean(axis=0)[leader])

    def _missing(self, standing: float) -> float:
        assert self._task is not None
        return 1 - standing / max(self._task.reachable, 1e-6)

    def _cost(self, evaluation: Evaluation) -> float:
        """Return what an evaluation costs beyond what was paid for it, in the leader's."""
        assert self._task is not None
        n = self._task.evaluator.n_frames
        paid = self._portions.get(evaluation.settings, 0.0)
        new = evaluation.outcomes[round(paid * n) :]
        hits, indexed = sum(o.hit for o in new), sum(o.indexed for o in new)
        rates = self._forecast.mean
        leader = self._situation.leader
        reference = max(rates[leader] if leader is not None else rates.max(), 0.05)
        spent = (hits + UNINDEXED_COST[self._indexer] * (hits - indexed)) / n / reference
        return float(max(spent, LEAST_COST * len(new) / n))

    def _observation(self) -> Observation:
        return {"candidates": self._situation.candidates, "session": self._situation.session}

    def _info(self) -> dict[str, Any]:
        leader = self._situation.leader
        info: dict[str, Any] = {
            "allowed": self._situation.allowed,
            "spent": self._spent,
            "evaluations": len(self._session.evaluations),
            "standing": self._standing(),
        }
        if leader is not None:
            info["leader"] = self._session.map.settings[leader].as_dict()
        return info
