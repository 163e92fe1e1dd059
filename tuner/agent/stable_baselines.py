"""`envs.environments.batched_env.BatchedTuningEnv` as Stable-Baselines3 wants its environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from envs.environments.batched_env import BatchedTuningEnv

__all__ = ["StableBaselinesEnv"]


class StableBaselinesEnv(VecEnv):
    """The vector environment behind Stable-Baselines3's older interface.

    Parameters
    ----------
    env : BatchedTuningEnv
    seed : int
        Of every episode from here on; the seeds that Stable-Baselines3 hands out are ignored.

    Attributes
    ----------
    env : BatchedTuningEnv
    """

    def __init__(self, env: BatchedTuningEnv, seed: int) -> None:
        self.env, self.render_mode = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros(env.action_space.shape or (), np.float32)
        self._return = np.zeros(env.num_envs)
        env.reset(seed=seed)

    def reset(self) -> VecEnvObs:
        """Begin new episodes everywhere; return the observations (n, size)."""
        self._return[:] = 0
        return self.env.reset()[0]

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Keep the actions (n, d) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step; ``infos`` has the last observation and mean reward of what is over."""
        observations, rewards, over, _, info = self.env.step(self._actions)
        self._return += rewards
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(over):
            length = int(info["final_info"]["evaluations"][i])
            infos[i]["terminal_observation"] = info["final_obs"][i]
            infos[i]["episode"] = {"r": self._return[i] / length, "l": length}
        self._return[over] = 0
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of this object, once an environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of this object: its environments have none of their own."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Environments are rows of arrays here and have no methods."""
        raise NotImplementedError("the environments of a BatchedTuningEnv are rows of arrays")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return False: nothing is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
