import numpy as np
import pytest
from stable_baselines3 import PPO

from envs.batched_env import LEAST_REACHABLE, BatchedTuningEnv, EpisodeKinds
from envs.observation import POLICY_PARAMETERS
from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from envs.tuning_env import TuningEnv

ALL = tuple(POLICY_PARAMETERS)


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("train", 12, seed=5)


def make(pool, **options) -> BatchedTuningEnv:
    options = {"n_envs": 6, "seed": 3} | options
    return BatchedTuningEnv(pool, **options)


def actions(seed: int, n: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, len(ALL))).astype(np.float32)


@pytest.mark.parametrize("reward", ["delta", "gain", "rate", "incumbent"])
@pytest.mark.parametrize("tuned", [DEFAULT_TUNED, ALL, ("threshold",)])
def test_agrees_with_the_single_environment_step_for_step(pool, reward, tuned):
    kinds = EpisodeKinds.only(7, 60, tuned, price=0.3)
    batched = make(pool, kinds=kinds, reward=reward, price_of_a_second=0.5)
    seen = batched.reset()
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
        batched.step_async(chosen)
        seen, rewards, over, infos = batched.step_wait()
        for i, env in enumerate(singles):
            observation, reward_alone, terminated, _, _ = env.step(chosen[i])
            batch_sees = infos[i]["terminal_observation"] if over[i] else seen[i]
            np.testing.assert_allclose(batch_sees, observation, atol=2e-6)
            scale = max(pool.reachable[episodes[i].experiment], LEAST_REACHABLE)
            assert reward_alone == pytest.approx(rewards[i] * scale, abs=1e-5)
            assert terminated == over[i] == (number == 6)


def test_equal_seeds_give_equal_episodes(pool):
    def path(seed):
        env = make(pool, seed=seed)
        steps = [env.reset()]
        for number in range(30):
            env.step_async(actions(number))
            steps.append(env.step_wait()[0])
        return np.stack(steps)

    np.testing.assert_array_equal(path(1), path(1))
    assert not np.array_equal(path(1), path(2))


def test_budgets_and_tuned_parameters_vary(pool):
    env = make(pool, n_envs=200)
    episodes = env.episodes()
    budgets = {episode.budget for episode in episodes}
    assert min(budgets) == 5
    assert max(budgets) == 40
    assert {len(episode.tuned) for episode in episodes} >= {1, 2, 3, 4, 5}
    assert all(episode.tuned for episode in episodes)


def test_what_is_not_tuned_stays_at_the_base(pool):
    env = make(pool, kinds=EpisodeKinds.only(5, 50, ("min_snr",)))
    first = env.reset()
    env.step_async(actions(0))
    second = env.step_wait()[0]
    other = actions(0)
    other[:, 1:] = -other[:, 1:]
    again = make(pool, kinds=EpisodeKinds.only(5, 50, ("min_snr",)))
    np.testing.assert_array_equal(first, again.reset())
    again.step_async(other)
    np.testing.assert_array_equal(second, again.step_wait()[0])


def test_observations_stay_within_their_space(pool):
    env = make(pool, n_envs=40)
    env.reset()
    for number in range(60):
        env.step_async(3 * actions(number, 40))
        observation, reward, _, _ = env.step_wait()
        assert np.isfinite(observation).all()
        assert (abs(observation) <= 1).all()
        assert np.isfinite(reward).all()


def test_stable_baselines_can_train_on_it(pool):
    env = make(pool)
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(96)
