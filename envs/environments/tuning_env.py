"""The tuning task as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS, settings_of
from envs.environments.tasks import Task, run_task, simulated_task
from envs.evaluation import Evaluation, Evaluator
from envs.objective import UNINDEXED_HIT_PENALTY, Merit
from envs.observation import OBSERVATION_SIZE, TaskBatch
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace
from wrappers.indexing import Indexer
from wrappers.settings import Settings

__all__ = ["TuningEnv"]

Action = NDArray[np.float32]
Observation = NDArray[np.float32]
Reward = Literal["delta", "gain", "rate", "incumbent"]


class TuningEnv(gym.Env[Observation, NDArray[np.float32]]):
    """Choose one parameter set after the other so that more of the same frames index.

    ## Description

    An episode is one tuning session on one fixed sample of frames, from nothing. Without
    arguments each episode is on another simulated experiment, drawn by the seed of ``reset``; with
    `run`, `geometry` and `cell` all are on the frames of that run; with `evaluator` and `space` on
    whatever that evaluates. `gymnasium.make_vec` makes many side by side.

    ## Action space

    `Box(-1, 1, (5,))`, absolute: -1 and 1 are the ends of the parameter's range.

    | Index | Parameter | Meaning |
    |---|---|---|
    | 0 | min_snr | signal over noise of a peak |
    | 1 | threshold | least value of a peak's pixel, in ADU |
    | 2 | min_pix_count | least number of a peak's pixels |
    | 3 | clen | camera length, in metres |
    | 4 | mask_hot_sigma | how far from its neighbours a pixel may be before it is masked as hot |

    An action for a parameter that the task does not tune is ignored. Values are clipped and
    rounded to what can be executed; once the indexed frames' lattices know the camera length, the
    executed ``clen`` is theirs. The observation and ``info["settings"]`` have what was executed.

    ## Observation space

    `Box(-1, 1, (177,))`, scaled by hand and clipped; `envs.observation.layout` has the places.
    Seconds are not observed: they tell the machine more than the experiment.

    | Index | Meaning | Min | Max |
    |---|---|---|---|
    | 0 | evaluations left / budget | 0 | 1 |
    | 1 | evaluations left / 20 | 0 | 1 |
    | 2 | 1 once the camera length is fixed from the lattices | 0 | 1 |
    | 3 | penalty for a hit that is not indexed / 0.4 | 0 | 1 |
    | 4-8 | 1 for each parameter that is tuned | 0 | 1 |
    | 9-26 | the incumbent: the evaluation with the highest merit so far | -1 | 1 |
    | 27-170 | the last eight evaluations, 18 numbers each, newest first | -1 | 1 |
    | 171 | 2 log10(photon energy / 10 keV) | -1 | 1 |
    | 172 | log10(median background / ADU) / 4 | -1 | 1 |
    | 173 | log10(brightest thousandth of the background / median) / 3 | 0 | 1 |
    | 174 | log10(camera length of the geometry / 0.2 m) | -1 | 1 |
    | 175 | log10(pixel size / 0.1 mm) | -1 | 1 |
    | 176 | log10(radius of the detector / 1000 pixels) | -1 | 1 |

    The 18 numbers of an evaluation, all 0 where there was none; "arcsine" is the scale
    2/π arcsin √x, on which binomial noise is the same everywhere:

    | Offset | Meaning | Min | Max |
    |---|---|---|---|
    | 0-4 | the executed parameter set, as an action | -1 | 1 |
    | 5 | merit, arcsine, with its sign | -1 | 1 |
    | 6 | indexing rate, arcsine | 0 | 1 |
    | 7 | hits / frames, arcsine | 0 | 1 |
    | 8 | indexed frames / hits | 0 | 1 |
    | 9 | log10(1 + median peaks of a hit) / 3.5 | 0 | 1 |
    | 10 | share of the peaks that the lattices explain | 0 | 1 |
    | 11 | residual / 8 pixels | 0 | 1 |
    | 12 | deviation of the refined cells' size / 0.04 | -1 | 1 |
    | 13 | share of the decoys that were indexed | 0 | 1 |
    | 14 | (refined / executed camera length - 1) / 0.05 | -1 | 1 |
    | 15 | 1 if the lattices know the camera length | 0 | 1 |
    | 16 | log10(frames / 100) | -1 | 1 |
    | 17 | 1 | 0 | 1 |

    ## Rewards

    An evaluation's value is its indexing rate, less the share that chance alone would index (by
    the decoys), less `unindexed_hit_penalty` × (hits not indexed) / frames, less
    `price_of_a_second` × core seconds / frames.

    | Reward | Meaning | Sum over an episode |
    |---|---|---|
    | ``delta`` | the value minus that of the evaluation before; with penalty and price 0, \
Δ(indexing rate) | the last value |
    | ``gain`` | what it adds to the best value so far, never negative | the best value |
    | ``rate`` | the value | area under the values |
    | ``incumbent`` | the best value so far | area under the best-so-far curve |

    ## Starting state

    Nothing has been measured, unless ``reset(options={"start": point})`` names a point of the
    unit cube of the space's parameters, which is evaluated and counts.

    ## Episode end

    The budget is part of the task: spending it is `terminated`. Nothing truncates.

    ## Arguments

    evaluator : Evaluator
        What turns a parameter set into an evaluation.
    space : ParameterSpace
        The evaluator's tuned parameters, made by `make_space`.
    truth : callable, optional
        Parameter set to its true rate, for ``info["true_rate"]``; a simulator's only.
    run, geometry, cell : path
        Instead: files of a run's frames, the detector's geometry and the unit cell.
    indexer : Indexer, optional
        Of the run; the embedded one by default.
    jobs : int
        Processes that find peaks in the run's frames.
    family : str
        Without either: the family of `envs.simulation.families` that experiments are drawn from.
    tuned : sequence of str
        The tuned parameters of a run or a simulated experiment.
    n_frames : int
        Size of its sample of frames. A run's is the same in every episode.
    budget : int
        Evaluations of an episode.
    reward : {"delta", "gain", "rate", "incumbent"}
        See above.
    unindexed_hit_penalty, price_of_a_second : float
        In indexed frames.

    ```python
    >>> import gymnasium, envs
    >>> env = gymnasium.make("sfx-tuner/Tuning-v1", budget=10, reward="incumbent")
    >>> observation, info = env.reset(seed=1)
    >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> info["evaluations"], info["n_frames"]
    (1, 200)

    ```

    ## Version history

    * v1: starts from nothing; observes eight evaluations, decoys and the refined camera length;
      one action vector for every subset of the parameters. Since 0.2 it draws a simulated
      experiment where it is made without arguments.
    * v0: started from the base's parameter set.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        evaluator: Evaluator | None = None,
        space: ParameterSpace | None = None,
        *,
        truth: Callable[[Settings], float] | None = None,
        run: Path | str | None = None,
        geometry: Path | str | None = None,
        cell: Path | str | None = None,
        indexer: Indexer | None = None,
        jobs: int = 1,
        family: str = "train",
        tuned: Sequence[str] = DEFAULT_TUNED,
        n_frames: int = 200,
        budget: int = 20,
        reward: Reward = "delta",
        unindexed_hit_penalty: float = UNINDEXED_HIT_PENALTY,
        price_of_a_second: float = 0.0,
    ) -> None:
        if budget < 1:
            raise ValueError("an episode needs a budget of at least one evaluation")
        self._fixed: Task | None = None
        if evaluator is not None and space is not None:
            self._fixed = Task(evaluator, space, truth)
        elif run is not None and geometry is not None and cell is not None:
            self._fixed = run_task(
                run, geometry, cell, indexer=indexer, tuned=tuned, n_frames=n_frames, jobs=jobs
            )
        elif any(given is not None for given in (evaluator, space, run, geometry, cell)):
            raise ValueError(
                "give an evaluator with its space, or a run with its geometry and cell, or none of "
                "these for simulated experiments"
            )
        self._simulated: dict[str, Any] = {"family": family, "tuned": tuned, "n_frames": n_frames}
        self._task: Task | None = None
        self._budget = budget
        self._reward: Reward = reward
        self._merit, self._price = Merit(unindexed_hit_penalty), price_of_a_second
        self.action_space: gym.Space[Action] = gym.spaces.Box(
            -1, 1, (len(POLICY_PARAMETERS),), np.float32
        )
        self.observation_space: gym.Space[Observation] = gym.spaces.Box(
            -1, 1, (OBSERVATION_SIZE,), np.float32
        )
        self._trials: list[tuple[Evaluation, float]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a session from nothing, or from ``options["start"]``."""
        super().reset(seed=seed)
        self._task = self._fixed
        if self._task is None:
            self._task = simulated_task(int(self.np_random.integers(2**31)), **self._simulated)
        self._batch = TaskBatch.single(
            self._task.space, self._budget, self._merit.unindexed_hit_penalty
        )
        self._trials = []
        start = (options or {}).get("start")
        if start is not None:
            self._evaluate(self._task, self._task.space.decode(start))
        return self._batch.observe()[0], self._info(self._task)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Evaluate the parameter set that the action names."""
        if self._task is None:
            raise gym.error.ResetNeeded("call reset before step")
        before = self._trials[-1][1] if self._trials else 0.0
        best = max([0.0, *(value for _, value in self._trials)])
        values = self._batch.execute(np.asarray(action)[None])[0]
        value = self._evaluate(self._task, settings_of(self._task.space.base, values))
        rewards = {
            "delta": value - before,
            "gain": max(value - best, 0.0),
            "rate": value,
            "incumbent": max(value, best),
        }
        reward = float(rewards[self._reward])
        over = len(self._trials) >= self._budget
        return self._batch.observe()[0], reward, over, False, self._info(self._task)

    def close(self) -> None:
        """End what a run's evaluator holds."""
        if self._fixed is not None:
            self._fixed.close()

    def _evaluate(self, task: Task, settings: Settings) -> float:
        evaluation = task.evaluator.evaluate(settings)
        merit = self._merit(evaluation)
        executed = {name: getattr(settings, name) for name in POLICY_PARAMETERS}
        self._batch.record_one(executed, merit, evaluation)
        seconds = evaluation.core_seconds / max(evaluation.n_frames, 1)
        value = merit - self._price * seconds
        self._trials.append((evaluation, value))
        return value

    def _info(self, task: Task) -> dict[str, Any]:
        info: dict[str, Any] = {
            "evaluations": len(self._trials),
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
            if task.truth is not None:
                info["true_rate"] = task.truth(last.settings)
        return info
