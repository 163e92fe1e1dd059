import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import ENV_ID
from envs.box import POLICY_PARAMETERS
from envs.environments.tuning_env import TuningEnv
from envs.evaluation import Evaluation
from envs.observation import FEATURES, layout

CLEN = POLICY_PARAMETERS.index("clen")


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


def rates(steps) -> list[float]:
    return [info["n_indexed"] / info["n_frames"] for _, _, info in steps[1:]]


def total(steps) -> float:
    return sum(reward for _, reward, _ in steps)


def test_passes_gymnasiums_own_checks_without_a_warning(landscape, space):
    env = gym.make(ENV_ID, evaluator=landscape, space=space, budget=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_by_its_id_alone_it_passes_gymnasiums_checks_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID).unwrapped)


def test_by_its_id_alone_equal_seeds_tune_equal_experiments():
    one, other = gym.make(ENV_ID, budget=4), gym.make(ENV_ID, budget=4)
    for (a, reward_a, info_a), (b, reward_b, info_b) in zip(
        rollout(one), rollout(other), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert reward_a == reward_b
        assert info_a == info_b
    facts = layout()["facts"]
    seen = {tuple(one.reset(seed=seed)[0][facts]) for seed in range(5)}
    seen |= {tuple(one.reset()[0][facts]) for _ in range(5)}
    assert len(seen) == 10
    assert 0 <= one.step(one.action_space.sample())[4]["true_rate"] <= 1


def test_a_run_is_tuned_like_any_evaluator(shared_data):
    files = {
        "run": shared_data / "simulated/jf1m_lyso_60.h5",
        "geometry": shared_data / "simulated/jf1m.geom",
        "cell": shared_data / "simulated/lyso.cell",
    }
    env = gym.make(ENV_ID, **files, budget=2, n_frames=12)
    steps = rollout(env)
    assert [info["evaluations"] for _, _, info in steps] == [0, 1, 2]
    assert steps[-1][2]["n_frames"] == 12
    env.close()


@pytest.mark.parametrize("given", [{"evaluator": None}, {"space": None}, {"run": "run.h5"}])
def test_half_of_a_task_is_refused(landscape, space, given):
    known = {"evaluator": landscape, "space": space} if "run" not in given else {}
    with pytest.raises(ValueError, match="give an evaluator with its space"):
        TuningEnv(**known | given)


def test_the_docstring_has_the_observations_places():
    table = TuningEnv.__doc__.split("## Observation space")[1].split("The 18 numbers")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.count("|") == 5]
    spans = [row.split("-") for row in rows if row[:1].isdigit()]
    starts, ends = [int(span[0]) for span in spans], [int(span[-1]) + 1 for span in spans]
    assert starts == [0, *ends[:-1]]
    parts = list(layout().values())
    assert ends[-1] == parts[-1].stop == TuningEnv().observation_space.shape[0]
    assert {part.start for part in parts if part.start <= layout()["evaluation 1"].start} <= {
        *starts
    }
    assert layout()["facts"].start in starts


def test_equal_actions_give_equal_episodes(env):
    for (a, reward_a, _), (b, reward_b, _) in zip(rollout(env), rollout(env), strict=True):
        np.testing.assert_array_equal(a, b)
        assert reward_a == reward_b


def test_the_budget_ends_the_episode(env):
    assert len(rollout(env)) == 1 + 6


def test_delta_rewards_without_prices_add_up_to_the_last_rate(landscape, space):
    env = TuningEnv(landscape, space, budget=6, unindexed_hit_penalty=0)
    steps = rollout(env)
    assert total(steps) == pytest.approx(rates(steps)[-1])


def test_gain_rewards_add_up_to_the_best_rate(landscape, space):
    env = TuningEnv(landscape, space, budget=6, reward="gain", unindexed_hit_penalty=0)
    steps = rollout(env)
    assert all(reward >= 0 for _, reward, _ in steps)
    assert total(steps) == pytest.approx(max(rates(steps)))
    assert steps[-1][2]["incumbent_rate"] == max(rates(steps))


def test_rate_and_incumbent_rewards_are_the_areas_under_their_curves(landscape, space):
    steps = rollout(TuningEnv(landscape, space, budget=6, reward="rate", unindexed_hit_penalty=0))
    assert total(steps) == pytest.approx(sum(rates(steps)))
    env = TuningEnv(landscape, space, budget=6, reward="incumbent", unindexed_hit_penalty=0)
    assert total(rollout(env)) == pytest.approx(sum(np.maximum.accumulate(rates(steps))))


def test_waste_and_time_cost_what_the_prices_say(landscape, space):
    env = TuningEnv(landscape, space, budget=1, reward="rate", unindexed_hit_penalty=0.5)
    env.reset()
    _, reward, _, _, info = env.step(np.zeros(5, np.float32))
    rate = info["n_indexed"] / info["n_frames"]
    assert reward == pytest.approx(rate - 0.5 * (1 - rate))  # every frame is a hit there

    def costly(settings, n_frames=None) -> Evaluation:
        return evaluate(settings, n_frames).with_cost(1.0, 40.0)

    evaluate, landscape.evaluate = landscape.evaluate, costly
    env = TuningEnv(
        landscape, space, budget=1, reward="rate", unindexed_hit_penalty=0, price_of_a_second=0.25
    )
    env.reset()
    _, reward, _, _, info = env.step(np.zeros(5, np.float32))
    assert reward == pytest.approx(info["n_indexed"] / 200 - 0.25 * 40 / 200)


def test_info_tells_the_executed_settings(env, space):
    env.reset()
    *_, info = env.step(np.array([-9.0, 0.0, 0.1, 1.0, 0.0], np.float32))
    assert info["settings"]["min_snr"] == space.parameters[0].low
    assert isinstance(info["settings"]["min_pix_count"], int)
    assert info["settings"]["mask_hot_sigma"] == 0  # not tuned here
    assert info["ci95"][0] <= info["n_indexed"] / info["n_frames"] <= info["ci95"][1]
    assert info["frames_used"] == 200


def test_the_executed_settings_are_those_that_the_space_decodes(env, space):
    rng = np.random.default_rng(0)
    for _ in range(200):
        env.reset()
        action = rng.uniform(-1.1, 1.1, 5).astype(np.float32)
        *_, info = env.step(action)
        expected = space.decode((action[:4].astype(float) + 1) / 2).as_dict()
        assert info["settings"].pop("peak_finder") == expected.pop("peak_finder")
        assert info["settings"] == pytest.approx(expected, rel=1e-12)


def test_the_lattices_place_the_camera_length_once_they_know_it(env, landscape, space):
    env.reset()
    good = 2 * space.encode(space.base.replace(min_snr=4.3, threshold=40, clen=0.079)) - 1
    _, _, _, _, info = env.step(np.append(good, 0).astype(np.float32))
    assert info["settings"]["clen"] == 0.079
    observation, _, _, _, info = env.step(-np.ones(5, np.float32))
    assert info["settings"]["clen"] == pytest.approx(landscape.true_clen, rel=2e-4)
    assert observation[layout()["general"]][2] == 1


def test_an_episode_may_begin_with_an_evaluation_that_counts(env, space):
    _, info = env.reset(options={"start": [0.0, 0.5, 0.5, 0.5]})
    assert info["settings"]["min_snr"] == space.parameters[0].low
    for _ in range(4):
        assert not env.step(np.zeros(5, np.float32))[2]
    assert env.step(np.zeros(5, np.float32))[2]


def test_the_observation_tells_what_was_measured(env):
    observation, _ = env.reset()
    places = layout()
    newest = places["evaluation 1"].start + len(POLICY_PARAMETERS)
    assert not observation[places["evaluation 1"]].any()
    np.testing.assert_array_equal(observation[places["tuned"]], [1, 1, 1, 1, 0])
    observation, _, _, _, info = env.step(np.array([0.1, -0.4, 0, 0.2, 0], np.float32))
    rate = info["n_indexed"] / info["n_frames"]
    seen = dict(zip(FEATURES, observation[newest:], strict=False))
    assert np.sin(np.pi / 2 * seen["rate"]) ** 2 == pytest.approx(rate, abs=1e-6)
    assert seen["measured"] == 1
    assert observation[places["general"]][0] == pytest.approx(5 / 6)
    np.testing.assert_array_equal(observation[places["evaluation 2"]], 0)


def test_what_is_true_is_told_by_info_alone(landscape, space):
    env = TuningEnv(landscape, space, budget=3, truth=landscape.goodness)
    env.reset()
    *_, info = env.step(np.zeros(5, np.float32))
    assert 0 <= info["true_rate"] <= 1


def test_a_budget_of_nothing_is_refused(landscape, space):
    with pytest.raises(ValueError, match="at least one"):
        TuningEnv(landscape, space, budget=0)


def test_gymnasium_makes_many_side_by_side():
    env = gym.make_vec(ENV_ID, num_envs=3, budget=2, n_frames=50, reward="incumbent")
    seen, _ = env.reset(seed=1)
    assert env.observation_space.contains(seen)
    facts = layout()["facts"]
    assert len({tuple(row) for row in seen[:, facts]}) == 3
    for left in (0.5, 0.0):
        seen, rewards, over, *_ = env.step(env.action_space.sample())
        assert (seen[:, 0] == left).all() and np.isfinite(rewards).all()
    assert over.all()


def test_neither_stable_baselines_nor_pytorch_is_needed():
    code = """
import sys, pkgutil, importlib, gymnasium, envs
for module in pkgutil.walk_packages(envs.__path__, "envs."):
    importlib.import_module(module.name)
env = gymnasium.make(envs.ENV_ID)
env.reset(seed=0)
env.step(env.action_space.sample())
assert not {"stable_baselines3", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
