"""The tuning task as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.evaluation import Evaluation, Evaluator
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.observation import OBSERVATION_SIZE, POLICY_PARAMETERS, TaskBatch, settings_of
from envs.parameter_space import ParameterSpace
from envs.reading import Reading
from wrappers.settings import Settings

__all__ = ["ENV_ID", "Reward", "TuningEnv", "rewards"]

ENV_ID = "sfx-tuner/Tuning-v1"

Observation = NDArray[np.float32]
Reward = Literal["delta", "gain", "rate", "incumbent"]


def rewards(kind: Reward, value: ArrayLike, before: ArrayLike, best_before: ArrayLike) -> Any:
    """Return the reward of an evaluation worth `value`.

    Parameters
    ----------
    kind : {"delta", "gain", "rate", "incumbent"}
        See `TuningEnv`.
    value, before, best_before : array_like
        What this evaluation is worth, the one before it and the best before it were; 0 where
        there was none.
    """
    if kind == "delta":
        return np.subtract(value, before)
    if kind == "gain":
        return np.maximum(np.subtract(value, best_before), 0)
    if kind == "rate":
        return np.asarray(value)
    return np.maximum(value, best_before)


class TuningEnv(gym.Env[Observation, NDArray[np.float32]]):
    """Choose settings one after the other so that more of the same frames index.

    An episode is one tuning session on one fixed sample of frames, from nothing.

    ## Action space

    `Box(-1, 1, (5,))`: min_snr, threshold, min_pix_count, clen, mask_hot_sigma, absolute; -1 and
    1 are the ends of each range. Actions for what the space does not tune are ignored. Values
    are clipped and rounded to what can be executed; once the indexed frames' lattices know the
    camera length, the executed ``clen`` is theirs. The executed settings are what the
    observation and ``info["settings"]`` tell.

    ## Observation space

    `Box(-1, 1, (177,))`, everything scaled by hand and clipped; `envs.observation.layout` has the
    places:

    | part | size | meaning |
    |---|---|---|
    | general | 4 | evaluations left / budget; evaluations left / 20; whether the camera length \
is known; price of a vain hit / 0.4 |
    | tuned | 5 | 1 for each parameter that is tuned |
    | incumbent | 5 + 13 | the evaluation with the highest merit so far, as below |
    | last eight evaluations, newest first | 8 (5 + 13) | executed parameters; merit, rate and \
hits / frames (arcsine scale); indexed / hits; log median peaks a hit; share of peaks explained; \
residual, 8 px full scale; deviation of the cells' size, ±4 % full scale; share of decoys \
indexed; camera length asked for, ±5 % full scale, and whether it is known; log frames; 1. Zeros \
where there was none |
    | facts | 6 | log photon energy, log median background, log contrast of the background's \
brightest pixels, log camera length, log pixel size, log radius of the detector |

    Seconds are not observed: they tell the machine more than the experiment.

    ## Reward

    An evaluation's value is its indexing rate, less the share that chance alone would index (by
    the decoys), less `unindexed_hit_penalty` × (hits not indexed) / frames, less
    `price_of_a_second` × core seconds / frames.

    | reward | is | an episode's sum |
    |---|---|---|
    | ``delta`` | the value minus that of the evaluation before; with both prices 0, Δ(indexing \
rate) | the last value |
    | ``gain`` | what it adds to the best value so far, never negative | the best value |
    | ``rate`` | the value | area under the values |
    | ``incumbent`` | the best value so far | area under the best-so-far curve |

    ## Episode start and end

    Nothing has been measured at the start, unless ``reset(options={"start": point})`` asks for
    the evaluation of a point of the unit cube of the space's parameters, which counts. The
    budget is part of the task: spending it is `terminated`. Nothing truncates.

    ## Arguments

    evaluator : Evaluator
        What turns settings into an evaluation.
    space : ParameterSpace
        The tuned parameters, made by `make_space`.
    budget : int
        Evaluations of an episode.
    reward : {"delta", "gain", "rate", "incumbent"}
        See above.
    unindexed_hit_penalty, price_of_a_second : float
        In indexed frames.
    truth : callable, optional
        Settings to the true rate, for ``info["true_rate"]``; a simulator's only.

    ## Version history

    v1: starts from nothing, sees eight evaluations, decoys and the camera length asked for; one
    action vector for every subset of the parameters. v0: started from the base settings.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        evaluator: Evaluator,
        space: ParameterSpace,
        *,
        budget: int = 20,
        reward: Reward = "delta",
        unindexed_hit_penalty: float = UNINDEXED_HIT_PENALTY,
        price_of_a_second: float = 0.0,
        truth: Callable[[Settings], float] | None = None,
    ) -> None:
        if budget < 1:
            raise ValueError("an episode needs a budget of at least one evaluation")
        self._evaluator, self._space, self._truth = evaluator, space, truth
        self._budget = budget
        self._reward: Reward = reward
        self._prices = unindexed_hit_penalty, price_of_a_second
        self.action_space = gym.spaces.Box(-1, 1, (len(POLICY_PARAMETERS),), np.float32)
        self.observation_space = gym.spaces.Box(-1, 1, (OBSERVATION_SIZE,), np.float32)
        self._tasks = TaskBatch.single(space, budget, unindexed_hit_penalty)
        self._trials: list[tuple[Evaluation, float]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a session from nothing, or from ``options["start"]``."""
        super().reset(seed=seed)
        self._tasks = TaskBatch.single(self._space, self._budget, self._prices[0])
        self._trials = []
        start = (options or {}).get("start")
        if start is not None:
            self._evaluate(self._space.decode(start))
        return self._tasks.observe()[0], self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Evaluate the settings that the action names."""
        before = self._trials[-1][1] if self._trials else 0.0
        best = max([0.0, *(value for _, value in self._trials)])
        values = self._tasks.execute(np.asarray(action)[None])[0]
        value = self._evaluate(settings_of(self._space.base, values))
        reward = float(rewards(self._reward, value, before, best))
        over = len(self._trials) >= self._budget
        return self._tasks.observe()[0], reward, over, False, self._info()

    def _evaluate(self, settings: Settings) -> float:
        evaluation = self._evaluator.evaluate(settings)
        reading = Reading.of_evaluation(evaluation)
        values = np.array([[float(getattr(settings, name)) for name in POLICY_PARAMETERS]])
        self._tasks.record(values, reading, reading.merit(self._prices[0]))
        seconds = evaluation.core_seconds / max(evaluation.n_frames, 1)
        value = float(reading.merit(self._prices[0])[0]) - self._prices[1] * seconds
        self._trials.append((evaluation, value))
        return value

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "frames_used": sum(trial.n_frames for trial, _ in self._trials),
            "seconds_used": sum(trial.seconds for trial, _ in self._trials),
        }
        if self._trials:
            last = self._trials[-1][0]
            best = max(self._trials, key=lambda trial: trial[1])[0]
            info |= {
                "settings": last.settings.as_dict(),
                "n_indexed": last.n_indexed,
                "n_frames": last.n_frames,
                "ci95": last.ci95,
                "false_rate": last.false_rate,
                "incumbent": best.settings.as_dict(),
                "incumbent_rate": best.rate,
            }
            if self._truth is not None:
                info["true_rate"] = self._truth(last.settings)
        return info


gym.register(id=ENV_ID, entry_point="envs.tuning_env:TuningEnv")
