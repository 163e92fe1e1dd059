import dataclasses
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import envs.response.simulated_pool
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.actor_training import train_seed
from tuner.agent.policy import Policy
from tuner.agent.rollout import roll_out
from tuner.agent.selector_training import train_selector
from tuner.agent.training import Training, train
from wrappers.errors import InputError

SMALL = Training(
    seeds=(0, 1),
    steps=480,
    checkpoints=3,
    n_experiments=6,
    n_validation=5,
    imitation_steps=64,
    n_envs=8,
    n_steps=10,
    batch_size=40,
    n_epochs=2,
    hidden=(8,),
    selector_rounds=2,
    selector_steps=9,
    selector_batch=6,
    selector_width=4,
    selector_checkpoints=3,
)


def weights(directory) -> list[np.ndarray]:
    policy = Policy.load(directory)
    networks = list(policy.actors)
    if policy.selector is not None:
        networks += [policy.selector.encoder, policy.selector.head]
    return [array for layers in networks for layer in layers for array in layer]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("training")
    train(SMALL, directory)
    return directory


def test_writes_a_policy_its_curves_and_where_it_came_from(trained):
    policy = Policy.load(trained)
    assert len(policy.actors) == 2
    assert policy.selector is not None
    assert policy.provenance["training"]["steps"] == 480
    assert set(policy.provenance["validation"]) == {"regret_5", "regret_10", "regret_20"}
    assert len((trained / "curves.csv").read_text().splitlines()) == 1 + 2 * 3 + 3
    assert (trained / "curves.png").stat().st_size > 1000


def test_equal_seeds_train_equal_policies(trained, tmp_path):
    train(SMALL, tmp_path)
    for one, other in zip(weights(trained), weights(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_resumed_training_is_the_one_that_never_stopped(trained, tmp_path, monkeypatch):
    """It is stopped after its first checkpoint, as Ctrl-C would."""
    import tuner.agent.actor_training

    save = tuner.agent.actor_training.write_curve

    def save_and_stop(directory, rows):
        save(directory, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner.agent.actor_training, "write_curve", save_and_stop)
    directory = tmp_path / "seed_0"
    with pytest.raises(KeyboardInterrupt):
        train_seed(SMALL, 0, directory)
    monkeypatch.undo()
    train_seed(SMALL, 0, directory)
    for one, other in zip(
        weights(trained / "seed_0" / "best"), weights(directory / "best"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_resumed_selector_is_the_one_that_never_stopped(trained, tmp_path, monkeypatch):
    import tuner.agent.selector_training

    shutil.copytree(trained, tmp_path / "t")
    shutil.rmtree(tmp_path / "t" / "selector")
    save = tuner.agent.selector_training.write_curve

    def save_and_stop(directory, rows):
        save(directory, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner.agent.selector_training, "write_curve", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_selector(SMALL, tmp_path / "t")
    monkeypatch.undo()
    train_selector(SMALL, tmp_path / "t")
    for one, other in zip(
        weights(trained / "selector" / "best"), weights(tmp_path / "t/selector/best"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["seed_1/curve.csv", "reachable.npz"])
def test_damaged_files_of_a_training_are_told(trained, tmp_path, name):
    shutil.copytree(trained, tmp_path / "t")
    (tmp_path / "t" / name).write_text("score\nnothing\n")
    with pytest.raises(InputError, match="is damaged"):
        train(SMALL, tmp_path / "t", resume=True)


def test_a_training_in_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        train(SMALL, tmp_path / "file")


def test_a_training_is_not_overwritten(trained):
    with pytest.raises(InputError, match="--resume"):
        train(SMALL, trained)


def test_another_training_is_not_resumed(trained):
    with pytest.raises(InputError, match="other options"):
        train(dataclasses.replace(SMALL, gamma=0.5), trained, resume=True)


def test_only_train_and_validation_are_ever_drawn(tmp_path, monkeypatch):
    """Nothing of the test or shifted families may reach a training or its checkpoint's choice."""
    drawn = []
    original = envs.response.simulated_pool.draw_experiments

    def noting(family, n, seed, **options):
        drawn.append(family)
        return original(family, n, seed, **options)

    monkeypatch.setattr(envs.response.simulated_pool, "draw_experiments", noting)
    (tmp_path / "seed_0").mkdir()
    training = dataclasses.replace(SMALL, seeds=(0,))
    train_seed(training, 0, tmp_path / "seed_0")
    drawn_for_actors = len(drawn)
    train_selector(training, tmp_path)
    assert set(drawn[:drawn_for_actors]) == {"train", "validation"}
    assert set(drawn[drawn_for_actors:]) == {"train", "validation"}


def test_training_opens_no_file_of_the_shared_data(tmp_path, monkeypatch):
    import builtins
    import io

    opened = []
    original = io.open

    def noting(file, *args, **options):
        opened.append(str(file))
        return original(file, *args, **options)

    monkeypatch.setattr(builtins, "open", noting)
    monkeypatch.setattr(io, "open", noting)
    (tmp_path / "seed_0").mkdir()
    training = dataclasses.replace(SMALL, seeds=(0,), checkpoints=1, steps=80)
    train_seed(training, 0, tmp_path / "seed_0")
    train_selector(training, tmp_path)
    assert opened
    assert not [name for name in opened if "shared" in name]


@pytest.mark.slow
def test_learns_something(tmp_path):
    """A minute of training must leave less regret than an untrained policy."""
    training = Training(
        steps=100_000, checkpoints=2, n_experiments=200, n_validation=50, n_envs=64, hidden=(64, 64)
    )
    (tmp_path / "seed_0").mkdir()
    train_seed(training, 0, tmp_path / "seed_0")
    pool = SimulatedPool.draw("validation", 50, seed=7)
    learnt = Policy.load(tmp_path / "seed_0" / "best")
    nothing = tuple((np.zeros_like(w), np.zeros_like(b)) for w, b in learnt.actors[0])
    untrained = Policy([nothing], learnt.typical, {})
    before, after = (
        roll_out(policy, pool, budget=10).regrets[:, -1].mean() for policy in (untrained, learnt)
    )
    assert after < 0.8 * before


@pytest.mark.slow
def test_the_command_trains_and_says_how_well(tmp_path, monkeypatch):
    """What the command has no option for is as small as in the other tests."""
    from tuner.cli.train import command

    given = {"steps": 160, "checkpoints": 1, "n_experiments": 7, "selector_steps": 12}

    def train_small(training, directory, **options):
        offered = {name: getattr(training, name) for name in ("seeds", *given)}
        return train(dataclasses.replace(SMALL, **offered), directory, **options)

    monkeypatch.setattr("tuner.agent.training.train", train_small)
    options = [
        "-o",
        str(tmp_path / "t"),
        "--searcher",
        "ppo",
        "--seeds",
        "1",
        "--steps",
        "160",
        "--checkpoints",
        "1",
    ]
    options += ["--experiments", "7", "--selector-steps", "12", "-j", "1"]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "1 actor and a selector" in result.stdout
    done = Policy.load(tmp_path / "t").provenance["training"]
    assert {name: done[name] for name in given} == given
    assert done["seeds"] == [0]
