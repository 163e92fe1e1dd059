import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from envs import ENV_ID
from envs.box import POLICY_PARAMETERS
from envs.environments.batched_env import LEAST_REACHABLE, BatchedTuningEnv
from envs.environments.episodes import EpisodeKinds
from envs.environments.tuning_env import TuningEnv
from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool

ALL = tuple(POLICY_PARAMETERS)


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("train", 12, seed=5)


def make(pool, **options) -> BatchedTuningEnv:
    options = {"num_envs": 6} | options
    return BatchedTuningEnv(pool, **options)


def actions(seed: int, n: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, len(ALL))).astype(np.float32)


@pytest.mark.parametrize("reward", ["delta", "gain", "rate", "incumbent"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("tuned", [DEFAULT_TUNED, ALL, ("threshold",)])
def test_agrees_with_the_single_environment_step_for_step(pool, reward, tuned, relative):
    kinds = EpisodeKinds.only(7, 60, tuned, penalty=0.3)
    batched = make(pool, kinds=kinds, reward=reward, price_of_a_second=0.5, relative=relative)
    seen, _ = batched.reset(seed=3)
    episodes = batched.episodes()
    singles = [
        TuningEnv(
            pool.evaluator(episode.experiment, episode.n_frames, episode.draw),
            pool.space(episode.experiment, tuned),
            budget=7,
            reward=reward,
            unindexed_hit_penalty=0.3,
            price_of_a_second=0.5,
        )
        for episode in episodes
    ]
    np.testing.assert_array_equal(seen, [env.reset()[0] for env in singles])
    for number in range(7):
        chosen = actions(number)
        seen, rewards, over, truncated, info = batched.step(chosen)
        assert not truncated.any()
        for i, env in enumerate(singles):
            observation, reward_alone, terminated, _, alone = env.step(chosen[i])
            batch_sees = info["final_obs"][i] if over[i] else seen[i]
            np.testing.assert_allclose(batch_sees, observation, atol=2e-6)
            scale = max(pool.reachable[episodes[i].experiment], LEAST_REACHABLE) if relative else 1
            assert reward_alone == pytest.approx(rewards[i] * scale, abs=1e-5)
            assert terminated == over[i] == (number == 6)
            if terminated:
                assert info["final_info"]["evaluations"][i] == alone["evaluations"] == 7


def test_equal_seeds_give_equal_episodes(pool):
    def path(seed):
        env = make(pool)
        steps = [env.reset(seed=seed)[0]]
        for number in range(30):
            steps.append(env.step(actions(number))[0])
        return np.stack(steps)

    np.testing.assert_array_equal(path(1), path(1))
    assert not np.array_equal(path(1), path(2))


def test_budgets_and_tuned_parameters_vary(pool):
    env = make(pool, num_envs=200)
    env.reset(seed=3)
    episodes = env.episodes()
    budgets = {episode.budget for episode in episodes}
    assert min(budgets) == 5
    assert max(budgets) == 40
    assert {len(episode.tuned) for episode in episodes} >= {1, 2, 3, 4, 5}
    assert all(episode.tuned for episode in episodes)


def test_what_is_not_tuned_stays_at_the_base(pool):
    env = make(pool, kinds=EpisodeKinds.only(5, 50, ("min_snr",)))
    first, _ = env.reset(seed=3)
    second = env.step(actions(0))[0]
    other = actions(0)
    other[:, 1:] = -other[:, 1:]
    np.testing.assert_array_equal(first, env.reset(seed=3)[0])
    np.testing.assert_array_equal(second, env.step(other)[0])


def test_observations_stay_within_their_space(pool):
    env = make(pool, num_envs=40)
    env.reset(seed=3)
    for number in range(60):
        observation, reward, *_ = env.step(3 * actions(number, 40))
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward).all()


def test_what_is_over_begins_anew_in_the_same_step(pool):
    env = make(pool, kinds=EpisodeKinds.only(2, 50))
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    first, _ = env.reset(seed=3)
    env.step(actions(0))
    observation, _, over, _, info = env.step(actions(1))
    assert over.all()
    assert info["_final_obs"].all()
    assert (observation[:, 0] == 1).all()  # the whole budget is left
    assert all(last[0] == 0 for last in info["final_obs"])
    assert not np.array_equal(first, observation)


def test_nothing_is_done_before_the_first_reset(pool):
    with pytest.raises(gym.error.ResetNeeded):
        make(pool).step(actions(0))


def test_gymnasium_makes_it_by_its_id():
    options = {"budget": 3, "n_frames": 50, "reward": "incumbent", "n_experiments": 4}
    env = gym.make_vec(ENV_ID, num_envs=5, **options)
    assert isinstance(env.unwrapped, BatchedTuningEnv)
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=1)
    for number in range(3):
        *_, over, _, info = env.step(actions(number, 5))
    assert over.all()
    assert (info["episode"]["l"] == 3).all()


def test_neither_stable_baselines_nor_pytorch_is_needed():
    code = """
import sys, pkgutil, importlib, gymnasium, envs
for module in pkgutil.walk_packages(envs.__path__, "envs."):
    importlib.import_module(module.name)
for env in (gymnasium.make(envs.ENV_ID), gymnasium.make_vec(envs.ENV_ID, 2, n_experiments=3)):
    env.reset(seed=0)
    env.step(env.action_space.sample())
assert not {"stable_baselines3", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
