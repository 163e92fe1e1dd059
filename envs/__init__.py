"""Search space, evaluations and Gymnasium environments; the simulator of experiments.

Importing it makes `gymnasium.make` and `gymnasium.make_vec` know `ENV_ID`.
"""

import gymnasium

__all__ = ["ENV_ID"]

ENV_ID = "sfx-tuner/Tuning-v1"

gymnasium.register(id=ENV_ID, entry_point="envs.environments.tuning_env:TuningEnv")
