"""Training the agent: it begins as the map's rule, and goes on as if never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from envs.environments.map_env import MapTuningEnv
from envs.environments.map_tasks import MapTasks
from envs.evaluators.look_record import read_look_records
from tuner.map_agent import training as module
from tuner.map_agent.policy import MapPolicy
from tuner.map_agent.training import MapTraining, held_out, train_map_agent
from wrappers.errors import InputError

LOOKS = Path(__file__).parents[3] / "experiments" / "data" / "looks"
SMALL = MapTraining(
    steps=64, imitation_steps=240, checkpoints=2, n_envs=4, n_steps=8, batch_size=16, n_epochs=2,
    width=16, imitation_updates=60,
)  # fmt: skip
CHOSEN = ("train_007", "train_010", "train_003", "train_004")


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looks")
    for number, name in enumerate(CHOSEN):
        shutil.copy(LOOKS / f"{name}.npz", folder / f"train_{number:03d}.npz")
    return folder


@pytest.fixture(scope="module")
def trained(looks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("training")
    told: list[str] = []
    train_map_agent(SMALL, looks, directory, on_checkpoint=lambda what, row: told.append(what))
    assert told == ["rule", "imitation", "PPO", "PPO"]
    return directory


def test_a_training_leaves_nothing_outside_its_directory(
    looks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stable-Baselines3's own logger makes a folder in the temporary one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    records, _ = held_out(read_look_records(looks, "train"))
    model = module._make_model(SMALL, module._make_env(SMALL, MapTasks(records), 0))
    model.learn(SMALL.n_envs * SMALL.n_steps)
    assert model.num_timesteps and not [*tmp_path.glob("SB3*")]


def weights(policy: MapPolicy) -> list[np.ndarray]:
    return [array for part in policy.parts.values() for layer in part for array in layer]


def test_what_it_writes_says_where_it_came_from(trained: Path) -> None:
    policy = MapPolicy.load(trained)
    assert policy.provenance["training"]["steps"] == 64
    assert policy.provenance["held_out"] == ["train_000"]
    assert policy.provenance["chosen"]["score"] >= policy.provenance["imitation"]["score"]
    assert len((trained / "curve.csv").read_text().splitlines()) == 1 + 4


def test_stopped_and_resumed_it_is_the_training_that_never_stopped(
    trained: Path, looks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stop(what: str, row: dict[str, float]) -> None:
        if what == "PPO":
            raise Stopped

    with pytest.raises(Stopped):
        train_map_agent(SMALL, looks, tmp_path, on_checkpoint=stop)
    with pytest.raises(InputError, match="--resume"):
        train_map_agent(SMALL, looks, tmp_path)
    with pytest.raises(InputError, match="other options"):
        train_map_agent(MapTraining(steps=65), looks, tmp_path, resume=True)
    found = train_map_agent(SMALL, looks, tmp_path, resume=True)
    for ours, theirs in zip(weights(found), weights(MapPolicy.load(trained)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_imitation_does_what_the_maps_rule_does(looks: Path) -> None:
    records, held = held_out(read_look_records(looks, "train"))
    assert [each.name for each in held] == ["train_000"]
    training = MapTraining(imitation_steps=400, imitation_updates=250, n_envs=4, width=16)
    env = module._make_env(training, MapTasks(records), 0)
    policy = module._make_model(training, env).policy
    module.imitate(policy, env, training)
    found = MapPolicy(module.parts_of(policy))
    alike, session = [], MapTuningEnv(MapTasks(held))
    for seed in range(8):
        _, info = session.reset(seed=seed)
        over = False
        while not over:
            action = found.act(session.situation)
            alike.append(action == info["rule"])
            _, _, over, _, info = session.step(info["rule"])
    assert np.mean(alike) > 0.85
