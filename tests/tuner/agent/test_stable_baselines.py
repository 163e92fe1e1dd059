import numpy as np
import pytest
from stable_baselines3 import PPO

from envs.environments.batched_env import BatchedTuningEnv
from envs.environments.episodes import EpisodeKinds
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.stable_baselines import StableBaselinesEnv


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("train", 6, seed=5)


def make(pool, **options) -> BatchedTuningEnv:
    return BatchedTuningEnv(pool, num_envs=6, **options)


def test_ppo_trains_on_it(pool):
    env = StableBaselinesEnv(make(pool, reward="incumbent"), seed=3)
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(96)


def test_steps_are_those_of_the_vector_environment(pool):
    """The mean reward and last observation of an episode are where Stable-Baselines3 looks."""
    kinds = EpisodeKinds.only(4, 50)
    adapted, plain = StableBaselinesEnv(make(pool, kinds=kinds), seed=3), make(pool, kinds=kinds)
    plain.reset(seed=3)
    np.testing.assert_array_equal(adapted.reset(), plain.reset()[0])
    rng = np.random.default_rng(0)
    total = np.zeros(6)
    for number in range(8):
        actions = rng.uniform(-1, 1, (6, 5)).astype(np.float32)
        observation, reward, over, infos = adapted.step(actions)
        expected, rewards, terminated, _, info = plain.step(actions)
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(reward, rewards.astype(np.float32))
        np.testing.assert_array_equal(over, terminated)
        total += rewards
        for i, each in enumerate(infos):
            assert bool(each) == (number % 4 == 3)
            if each:
                assert each["episode"] == {"r": pytest.approx(total[i] / 4), "l": 4}
                np.testing.assert_array_equal(each["terminal_observation"], info["final_obs"][i])
        total[over] = 0
