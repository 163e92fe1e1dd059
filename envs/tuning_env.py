"""The tuning task as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import ParameterSpace

__all__ = ["ENV_ID", "TuningEnv"]

ENV_ID = "sfx-tuner/Tuning-v0"

MEMORY = 4
"""Number of past evaluations in the observation."""

DIAGNOSTICS = 8
"""Number of diagnostics an evaluation adds to the observation."""

Observation = NDArray[np.float32]


class TuningEnv(gym.Env[Observation, NDArray[np.float32]]):
    """Choose settings one after the other so that more of the same frames index.

    An episode is one tuning session on one fixed sample of frames. It starts from an
    evaluation of the space's base settings; each step evaluates one more settings.

    ## Action space

    `Box(-1, 1, (d,))`: the tuned parameters, absolute, in the space's order; -1 and 1 are the
    ends of each range. Values are clipped and rounded to what can be executed, and the
    executed settings are what the observation and ``info["settings"]`` tell.

    ## Observation space

    `Box(-1, 1, (1 + (d + 2) + 4 (d + 8) + 2,))`, everything scaled by hand and clipped:

    | part | size | meaning |
    |---|---|---|
    | budget | 1 | evaluations left / budget |
    | incumbent | d + 2 | executed parameters, rate (arcsine scale), its standard error × 2 |
    | last four evaluations, newest first | 4 (d + 8) | executed parameters; rate (arcsine \
scale); share of frames without an answer; log median peaks a hit; hits / frames; indexed / \
hits; share of peaks explained; deviation of the cells' size, ±4 % full scale; residual, \
8 px full scale. Zeros where there was none |
    | known beforehand | 2 | log photon energy, log background level |

    ## Reward

    ``reward="delta"``: Δ(indexing rate), the rate of this evaluation minus that of the one
    before; an episode's sum is the last rate minus the first. ``reward="gain"``: what this
    evaluation adds to the best rate so far, never negative; the sum is the best rate minus
    the first.

    ## Episode end

    The budget is part of the task: spending it is `terminated`. Nothing truncates.

    ## Arguments

    evaluator : Evaluator
        What turns settings into an evaluation.
    space : ParameterSpace
        The tuned parameters.
    budget : int
        Steps of an episode.
    reward : {"delta", "gain"}
        See above.
    photon_energy : float
        In eV.
    background : float
        Typical pixel value, in the data's units (ADU).

    `reset(options={"start": point})` starts from another point of the unit cube.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        evaluator: Evaluator,
        space: ParameterSpace,
        *,
        budget: int = 20,
        reward: Literal["delta", "gain"] = "delta",
        photon_energy: float = 9300.0,
        background: float = 1.0,
    ) -> None:
        if budget < 1:
            raise ValueError("an episode needs a budget of at least one evaluation")
        self._evaluator = evaluator
        self._space = space
        self._budget = budget
        self._reward = reward
        self._known = np.array([np.log10(photon_energy / 1e4), np.log10(max(background, 1e-3)) / 3])
        d = len(space)
        size = 1 + (d + 2) + MEMORY * (d + DIAGNOSTICS) + len(self._known)
        self.action_space = gym.spaces.Box(-1, 1, (d,), np.float32)
        self.observation_space = gym.spaces.Box(-1, 1, (size,), np.float32)
        self._trials: list[Evaluation] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a session from the base settings, or from ``options["start"]``."""
        super().reset(seed=seed)
        start = (options or {}).get("start")
        settings = self._space.base if start is None else self._space.decode(start)
        self._trials = [self._evaluator.evaluate(settings)]
        return self._observe(), self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Evaluate the settings that the action names."""
        settings = self._space.decode((np.asarray(action, float) + 1) / 2)
        before = self._trials[-1].rate if self._reward == "delta" else self._incumbent.rate
        self._trials.append(self._evaluator.evaluate(settings))
        reward = self._trials[-1].rate - before
        if self._reward == "gain":
            reward = max(reward, 0.0)
        return self._observe(), reward, self._left == 0, False, self._info()

    @property
    def _left(self) -> int:
        return self._budget - (len(self._trials) - 1)

    @property
    def _incumbent(self) -> Evaluation:
        return max(self._trials, key=lambda trial: trial.rate)

    def _observe(self) -> Observation:
        best = self._incumbent
        error = np.sqrt(best.rate * (1 - best.rate) / max(best.n_frames, 1))
        parts = [
            np.array([self._left / self._budget]),
            self._point(best),
            np.array([_arcsine(best.rate), 2 * error]),
        ]
        for trial in self._trials[: -MEMORY - 1 : -1]:
            parts += [self._point(trial), _diagnostics(trial)]
        missing = MEMORY - min(MEMORY, len(self._trials))
        parts += [np.zeros(missing * (len(self._space) + DIAGNOSTICS)), self._known]
        return np.clip(np.concatenate(parts), -1, 1).astype(np.float32)

    def _point(self, trial: Evaluation) -> NDArray[np.float64]:
        return 2 * self._space.encode(trial.settings) - 1

    def _info(self) -> dict[str, Any]:
        last, best = self._trials[-1], self._incumbent
        return {
            "settings": last.settings.as_dict(),
            "n_indexed": last.n_indexed,
            "n_frames": last.n_frames,
            "ci95": last.ci95,
            "false_rate": last.false_rate,
            "frames_used": sum(trial.n_frames for trial in self._trials),
            "seconds_used": sum(trial.seconds for trial in self._trials),
            "incumbent": best.settings.as_dict(),
            "incumbent_rate": best.rate,
        }


def _arcsine(rate: float) -> float:
    """Return the rate on the scale where binomial noise is the same everywhere."""
    return 2 / np.pi * float(np.arcsin(np.sqrt(rate)))


def _diagnostics(trial: Evaluation) -> NDArray[np.float64]:
    peaks = [outcome.n_peaks for outcome in trial.outcomes if outcome.hit]
    values = [
        _arcsine(trial.rate),
        trial.n_failed / max(trial.n_frames, 1),
        np.log10(1 + np.median(peaks)) / 3.5 if peaks else 0.0,
        trial.n_hits / max(trial.n_frames, 1),
        trial.n_indexed / max(trial.n_hits, 1),
        trial.explained,
        trial.scale_deviation / 0.04,
        trial.residual / 8,
    ]
    return np.nan_to_num(np.array(values, float))


gym.register(id=ENV_ID, entry_point="envs.tuning_env:TuningEnv")
