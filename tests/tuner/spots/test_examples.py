"""Which candidates are learnt as spots, and of which frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tuner.spots.examples as examples_module
from envs.simulation.families import draw_experiments, family_of
from tuner.spots.examples import TRAINED_ON, Examples, label, rendered_examples
from wrappers.spots.patches import FEATURES

NOTHING = np.empty((0, 2))


def test_each_spot_has_its_nearest_candidate_and_no_other():
    spots = np.array([[10.0, 10.0], [40.0, 40.0]])
    places = [(10.4, 10), (11, 10.5), (41.9, 40), (42.5, 40), (70, 70.5), (90, 90), (90, 30)]
    right, unclear = label(np.array(places), spots, np.array([[90.5, 30.0], [70.0, 70.0]]))
    assert right.tolist() == [True, False, True, False, False, False, False]
    assert unclear.tolist() == [False, False, False, False, True, False, True]


def test_a_frame_without_spots_or_candidates():
    right, unclear = label(np.ones((1, 2)), NOTHING, NOTHING)
    assert not right.any() and not unclear.any()
    assert [len(each) for each in label(NOTHING, np.ones((1, 2)), NOTHING)] == [0, 0]


def test_nothing_but_the_train_family_is_rendered(monkeypatch):
    seen = []
    real = examples_module.simulate_run
    monkeypatch.setattr(
        examples_module, "simulate_run", lambda e, *rest: (seen.append(e), real(e, *rest))[1]
    )
    found = rendered_examples(2, 1, seed=4)
    assert TRAINED_ON == "train" and {family_of(each) for each in seen} == {"train"}
    assert 0 < found.label.sum() < len(found.label)
    again = rendered_examples(2, 1, seed=4)
    np.testing.assert_array_equal(found.features, again.features)
    np.testing.assert_array_equal(found.label, again.label)
    other = draw_experiments("test", 1, 4, most_pixels=1e6)[0].experiment
    with pytest.raises(ValueError, match="of the test family"):
        examples_module._of_experiment(other, 1, 0, np.random.default_rng(0))


def test_joined_examples_keep_their_rows():
    first = Examples(
        np.ones((2, len(FEATURES)), np.float32), np.ones(2, np.float32), np.ones(2, np.float32),
        np.zeros(2, np.int32),
    )  # fmt: skip
    second = dataclasses.replace(first, label=np.zeros(2, np.float32))
    both = Examples.joined([first, second])
    assert both.label.tolist() == [1, 1, 0, 0] and len(Examples.joined([]).label) == 0
    assert both.of(np.array([1, 2])).label.tolist() == [1, 0]
