"""Training: it learns, it is reproducible, and what it gives is what NumPy makes of the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tuner.spots.examples import Examples
from tuner.spots.networks import Schedule, fit, log_loss, new_model
from tuner.spots.training import SpotTraining, train_spots
from wrappers.spots.model import SpotModel
from wrappers.spots.patches import FEATURES, PATCH


@pytest.fixture(scope="module")
def easy() -> Examples:
    """Spots have a bright pixel in the middle, wherever they are turned to."""
    rng = np.random.default_rng(0)
    label = (rng.random(3000) < 0.3).astype(np.float32)
    features = rng.normal(0, 1, (3000, len(FEATURES))).astype(np.float32)
    features[:, PATCH**2 // 2] += 6 * label
    return Examples(features, label, np.ones(3000, np.float32), np.zeros(3000, np.int32))


def test_it_learns_and_equal_seeds_give_equal_weights(easy):
    begun = new_model(easy, 2, (8,), seed=1)
    losses = []
    model = fit(begun, easy, Schedule(40, 1e-2), 1, lambda epoch, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]
    probability, uncertainty = model.judge(easy.features)
    assert ((probability > 0.5) == (easy.label > 0.5)).mean() > 0.85
    assert uncertainty.max() > 0.01  # the members are not copies of one another
    again = fit(begun, easy, Schedule(40, 1e-2), 1)
    for first, second in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(first, second)
    other = fit(begun, easy, Schedule(1, 1e-2), 2)
    assert not np.array_equal(model.weights[0], other.weights[0])


def test_a_pull_holds_the_weights(easy):
    begun = fit(new_model(easy, 2, (8,), seed=1), easy, Schedule(1, 1e-2), 1)

    def moved(pull):
        after = fit(begun, easy, Schedule(2, 1e-2, pull), 1)
        return np.abs(after.weights[0] - begun.weights[0]).sum()

    assert moved(1.0) < 0.5 * moved(0.0)


def test_the_loss_is_that_of_the_mean_probability():
    examples = Examples(
        np.zeros((3, len(FEATURES)), np.float32), np.array([1, 0, 1], np.float32),
        np.ones(3, np.float32), np.zeros(3, np.int32),
    )  # fmt: skip
    loss = log_loss(np.array([0.5, 0.1, 0.0]), examples)
    assert loss[:2] == pytest.approx([np.log(2), -np.log(0.9)])
    assert np.isfinite(loss).all()


def test_a_small_training_writes_a_model_that_can_be_read(tmp_path):
    training = SpotTraining(n_experiments=8, n_frames=1, n_members=2, hidden=(8,), epochs=1, seed=3)
    model = train_spots(training, tmp_path / "model")
    again = SpotModel.load(tmp_path / "model")
    assert again.provenance == model.provenance
    assert again.provenance["family"] == "train" and "held_out_f1" in again.provenance
    for first, second in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_shipped_weights_are_those_that_the_command_makes():
    made = SpotModel.load().provenance["training"]
    assert made == {**dataclasses.asdict(SpotTraining()), "hidden": list(SpotTraining().hidden)}
