"""The environment on the response map: what is charged, what is rewarded, and many at once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.environments.map_env import MapTask, MapTuningEnv
from envs.environments.map_tasks import MapTasks
from envs.evaluators.look_record import read_look_records
from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    PORTIONS,
    SESSION_FEATURES,
    STOP,
    Place,
    chosen,
)
from wrappers.errors import InputError

LOOKS = Path(__file__).parents[3] / "experiments" / "data" / "looks"


@pytest.fixture(scope="module")
def tasks() -> MapTasks:
    wanted = {"train_007", "train_010", "train_003"}
    return MapTasks([each for each in read_look_records(LOOKS, "train") if each.name in wanted])


def play(env: gym.Env, seed: int, n: int = 8) -> list[tuple]:
    """Return what steps at random give."""
    rng = np.random.default_rng(seed)
    observed, info = env.reset(seed=seed)
    steps = [(observed, 0.0, False, info)]
    while len(steps) <= n and not steps[-1][2]:
        action = rng.choice(np.flatnonzero(info["allowed"]))
        observed, reward, over, _, info = env.step(action)
        steps.append((observed, reward, over, info))
    return steps


def test_passes_gymnasiums_own_checks(tasks: MapTasks) -> None:
    check_env(MapTuningEnv(tasks), skip_render_check=True)


def test_single_and_batched_agree_step_for_step(tasks: MapTasks) -> None:
    makes = [lambda: MapTuningEnv(tasks, reward="anytime")] * 3
    batched = SyncVectorEnv(makes, autoreset_mode=AutoresetMode.DISABLED)
    alone = [make() for make in makes]
    observed, info = batched.reset(seed=[4, 5, 6])
    singles = [env.reset(seed=seed) for env, seed in zip(alone, (4, 5, 6), strict=True)]
    for _ in range(3):
        for n, (single, _) in enumerate(singles):
            for name in ("candidates", "session"):
                np.testing.assert_array_equal(observed[name][n], single[name])
        actions = [int(np.flatnonzero(info["allowed"][n])[4]) for n in range(3)]
        observed, rewards, over, _, info = batched.step(np.array(actions))
        stepped = [env.step(action) for env, action in zip(alone, actions, strict=True)]
        assert rewards.tolist() == [each[1] for each in stepped]
        assert over.tolist() == [each[2] for each in stepped]
        if over.any():
            break
        singles = [(each[0], each[4]) for each in stepped]
    else:
        return
    pytest.fail("a session ended too soon to compare")


def test_frames_that_were_measured_before_are_not_charged_again(tasks: MapTasks) -> None:
    def draw(rng: np.random.Generator) -> MapTask:
        return replace(tasks(rng), budget=50.0)

    env = MapTuningEnv(draw)
    _, info = env.reset(seed=2)
    assert info["spent"] == 0 and info["evaluations"] == 1  # the first one is free
    settings = env._session.map.settings[env.situation.columns[0]]
    spent = [0.0]
    for portion in range(len(PORTIONS)):
        column = env._session.map.column(settings)
        (place,) = np.flatnonzero(env.situation.columns == column)[:1]
        _, _, _, _, info = env.step(int(place) * len(PORTIONS) + portion)
        spent.append(info["spent"])
    # Half of a charge is for the frames, which are a whole sample's in the end.
    assert spent[-1] > 0.5
    assert np.diff(spent)[0] < np.diff(spent)[3] < 0.9 * spent[-1]
    assert not (env.situation.columns == column).any()  # there is nothing more to be learnt of it


@pytest.mark.parametrize("kind", ["delta", "anytime"])
def test_rewards_tell_what_the_recommendation_gained_on_frames_that_were_not_seen(
    tasks: MapTasks, kind: str
) -> None:
    env = MapTuningEnv(tasks, reward=kind, price=0.01)
    gained = 0
    for seed in range(6):
        steps = play(env, seed)
        budget = env._task.budget
        for (_, _, _, before), (_, reward, over, after) in itertools.pairwise(steps):
            cost = after["spent"] - before["spent"]
            gain = after["standing"] - before["standing"]
            weight = 1.0 if kind == "delta" else (budget - after["spent"]) / budget
            assert reward == pytest.approx(weight * gain - 0.01 * cost)
            gained += gain > 0
            assert over or after["spent"] <= budget
    assert gained  # there is something to gain at all


def test_stopping_costs_nothing_and_what_is_not_allowed_stops(tasks: MapTasks) -> None:
    env = MapTuningEnv(tasks)
    _, info = env.reset(seed=1)
    _, reward, over, _, after = env.step(STOP)
    assert over and reward == 0 and after["spent"] == info["spent"]
    n_refused = 0
    for seed in range(8):
        env.reset(seed=seed)
        _, _, over, _, info = env.step(PORTIONS.index(0.5))
        half = np.flatnonzero(env.situation.candidates[:, Place("portion")] > 0)
        if over or not len(half):
            continue
        # The same set on fewer frames than before.
        action = int(half[0]) * len(PORTIONS) + PORTIONS.index(0.25)
        assert not info["allowed"][action]
        _, reward, over, _, after = env.step(action)
        assert over and reward == 0 and after["spent"] == info["spent"]
        n_refused += 1
    assert n_refused
    with pytest.raises(gym.error.ResetNeeded):
        MapTuningEnv(tasks).step(STOP)


def test_what_is_shown_is_of_the_candidates_that_there_are(tasks: MapTasks) -> None:
    env = MapTuningEnv(tasks)
    for observed, _, over, info in play(env, 3):
        there = observed["candidates"][:, -1] > 0.5
        assert there.any() or over
        assert (observed["candidates"][~there] == 0).all()
        allowed = info["allowed"][:STOP].reshape(-1, len(PORTIONS))
        assert not allowed[~there].any()
        portion = observed["candidates"][:, Place("portion")]
        assert (allowed[there].sum(axis=1) == (np.array(PORTIONS) > portion[there, None] + 1e-6)
                .sum(axis=1)).all()  # fmt: skip
        assert observed["candidates"].shape[1] == len(CANDIDATE_FEATURES)
        assert observed["session"].shape == (len(SESSION_FEATURES),)


def test_by_the_maps_rule_sessions_soon_recommend_nearly_the_best(tasks: MapTasks) -> None:
    env = MapTuningEnv(tasks)
    missed = []
    for seed in range(9):
        _, info = env.reset(seed=seed)
        over, first = False, True
        while not over:
            if first and info["rule"] != STOP:
                assert chosen(info["rule"]) == (0, PORTIONS[0])
            first = False
            _, _, over, _, info = env.step(info["rule"])
        best = max(env._task.truth(each) for each in env._task.sets)
        missed.append(best - info["standing"])
    assert np.mean(missed) < 0.08


def test_a_folder_without_looks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no recorded looks .*record_looks"):
        read_look_records(tmp_path, "train")
    whole = (LOOKS / "train_003.npz").read_bytes()
    (tmp_path / "train_000.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="train_000"):
        read_look_records(tmp_path, "train")
