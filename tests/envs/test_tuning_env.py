import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.tuning_env import ENV_ID, TuningEnv


@pytest.fixture
def env(landscape, space) -> TuningEnv:
    return TuningEnv(landscape, space, budget=6)


def rollout(env: gym.Env, seed: int = 4):
    observation, info = env.reset(seed=seed)
    steps = [(observation, 0.0, info)]
    rng = np.random.default_rng(seed)
    done = False
    while not done:
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, done, truncated, info = env.step(action)
        assert not truncated
        steps.append((observation, reward, info))
    return steps


def test_passes_gymnasiums_own_checks_without_a_warning(landscape, space):
    env = gym.make(ENV_ID, evaluator=landscape, space=space, budget=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_equal_actions_give_equal_episodes(env):
    for (a, reward_a, _), (b, reward_b, _) in zip(rollout(env), rollout(env), strict=True):
        np.testing.assert_array_equal(a, b)
        assert reward_a == reward_b


def test_the_budget_ends_the_episode(env):
    assert len(rollout(env)) == 1 + 6


def test_delta_rewards_add_up_to_the_change_of_the_rate(env):
    steps = rollout(env)
    rates = [info["n_indexed"] / info["n_frames"] for _, _, info in steps]
    assert sum(reward for _, reward, _ in steps) == pytest.approx(rates[-1] - rates[0])


def test_gain_rewards_add_up_to_the_best_rate(landscape, space):
    steps = rollout(TuningEnv(landscape, space, budget=6, reward="gain"))
    rates = [info["n_indexed"] / info["n_frames"] for _, _, info in steps]
    assert all(reward >= 0 for _, reward, _ in steps)
    assert sum(reward for _, reward, _ in steps) == pytest.approx(max(rates) - rates[0])
    assert steps[-1][2]["incumbent_rate"] == max(rates)


def test_info_tells_the_executed_settings(env, space):
    env.reset()
    *_, info = env.step(np.array([-9.0, 0.0, 0.1, 1.0], np.float32))
    assert info["settings"]["min_snr"] == space.parameters[0].low
    assert isinstance(info["settings"]["min_pix_count"], int)
    assert info["ci95"][0] <= info["n_indexed"] / info["n_frames"] <= info["ci95"][1]
    assert info["frames_used"] == 400


def test_an_episode_may_start_elsewhere(env, space):
    _, info = env.reset(options={"start": [0.0, 0.5, 0.5, 0.5]})
    assert info["settings"]["min_snr"] == space.parameters[0].low


def test_a_budget_of_nothing_is_refused(landscape, space):
    with pytest.raises(ValueError, match="at least one"):
        TuningEnv(landscape, space, budget=0)
