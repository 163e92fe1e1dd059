"""What is put into rendered frames beside the spots of their crystals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from envs.simulation.artefacts import Artefacts
from envs.simulation.experiment import demo_experiment
from envs.simulation.rendering import pixel_positions, render_frame


@pytest.fixture(scope="module")
def experiment():
    return demo_experiment(seed=3)


@pytest.fixture(scope="module")
def rendered(experiment):
    return render_frame(experiment, 0)


def test_equal_seeds_give_equal_frames_of_the_same_kind(experiment, rendered):
    data, truth = rendered
    artefacts = Artefacts(experiment)
    for seed in range(12):
        first, doubtful = artefacts.add(data, truth.spots, np.random.default_rng(seed))
        again, same = artefacts.add(data, truth.spots, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(doubtful, same)
        assert first.dtype == data.dtype and first.shape == data.shape
        assert first.max() <= experiment.detector.saturation


def test_each_kind_is_added_to_some_frames_and_none_to_others(experiment, rendered):
    data, truth = rendered
    artefacts = Artefacts(experiment)
    changed, split = [], 0
    for seed in range(60):
        frame, doubtful = artefacts.add(data, truth.spots, np.random.default_rng(seed))
        changed.append(np.count_nonzero(frame != data))
        split += len(doubtful) > 0
    assert min(changed) == 0 and max(changed) > 0.1 * data.size
    assert 5 < split < 30


def test_split_spots_stay_on_their_module(experiment):
    data, truth = render_frame(experiment, 1)
    spots = truth.spots if len(truth.spots) else np.array([[5.0, 0.5, 50.0], [5.0, 255.5, 90.0]])
    artefacts = Artefacts(experiment)
    for seed in range(40):
        _, doubtful = artefacts.add(data, spots, np.random.default_rng(seed))
        height, width = experiment.detector.shape
        assert ((doubtful >= 0) & (doubtful < [width, height])).all()


def test_a_photon_counter_stays_one(rendered):
    data, truth = rendered
    counter = dataclasses.replace(demo_experiment(seed=3).detector, gain=1.0, read_noise=0.0)
    experiment = dataclasses.replace(demo_experiment(seed=3), detector=counter)
    artefacts = Artefacts(experiment)
    frames = [
        artefacts.add(np.abs(data), truth.spots, np.random.default_rng(s))[0] for s in range(20)
    ]
    assert min(frame.min() for frame in frames) >= 0


def test_pixels_are_where_the_detector_truly_is(experiment):
    moved = dataclasses.replace(experiment, shift_x=1e-3)
    x, y = pixel_positions(experiment)
    assert len(x) == len(y) == np.prod(experiment.detector.shape)
    np.testing.assert_allclose(pixel_positions(moved)[0] - x, 1e-3)
