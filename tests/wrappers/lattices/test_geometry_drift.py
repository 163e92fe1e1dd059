"""Whether a camera length that changes within a run is found, and a constant one left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from wrappers.lattices.geometry_drift import FALSE_ALARMS, find_drift

CLEN = 0.08


def frames_of(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random frame numbers of a long run, as a sample's indexed frames are."""
    return rng.choice(1000, n, replace=False)


def normal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    errors = CLEN * 2e-4 * rng.uniform(0.5, 3, n)
    return CLEN + errors * rng.standard_normal(n), errors


def heavy_tailed(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors half as large as they should be, and a wrong lattice now and then."""
    values, errors = normal(rng, n)
    wrong = rng.random(n) < 0.01
    return np.where(wrong, CLEN * 1.02, CLEN + 2 * (values - CLEN)), errors


@pytest.mark.parametrize("kind", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [10, 40, 100])
def test_false_alarms_are_as_rare_as_is_stated(kind, n):
    rng = np.random.default_rng(n)
    runs = 200
    alarms = sum(find_drift(frames_of(rng, n), *kind(rng, n)) is not None for _ in range(runs))
    # More than this many have a chance of one in a thousand, if the stated rate is true.
    assert alarms <= binom.isf(1e-3, runs, FALSE_ALARMS)


@pytest.mark.parametrize("n", [20, 60, 200])
@pytest.mark.parametrize("change", [-0.012, 0.004, 0.02])
def test_two_camera_lengths_one_after_the_other_are_a_step(n, change):
    rng = np.random.default_rng(1)
    frames = frames_of(rng, n)
    values, errors = normal(rng, n)
    values = np.where(frames >= 400, values * (1 + change), values)
    found = find_drift(frames, values, errors)
    assert found is not None and found.kind == "step" and found.grave
    assert found.at == frames[frames >= 400].min()
    assert found.last / found.first - 1 == pytest.approx(change, rel=0.1)
    assert f"before frame {found.at}" in str(found)


def test_a_slow_change_is_a_trend():
    rng = np.random.default_rng(2)
    frames = frames_of(rng, 60)
    values, errors = normal(rng, 60)
    found = find_drift(frames, values * (1 + 0.01 * frames / 1000), errors)
    assert found is not None and found.kind == "trend" and found.grave
    assert found.size == pytest.approx(0.01, rel=0.1)
    assert "drifts within the run, from 80.0" in str(found)


def test_two_camera_lengths_in_turns_are_two_groups():
    rng = np.random.default_rng(3)
    values, errors = normal(rng, 60)
    values = np.where(np.arange(60) % 2, values * 1.024, values)
    found = find_drift(np.arange(60), values, errors)
    assert found is not None and found.kind == "groups" and found.grave
    assert sorted((found.first, found.last)) == pytest.approx([CLEN, 1.024 * CLEN], rel=1e-3)


def test_crystals_that_differ_scatter_without_a_warning():
    rng = np.random.default_rng(4)
    values, errors = normal(rng, 80)
    found = find_drift(np.arange(80), values * (1 + 0.002 * rng.standard_normal(80)), errors)
    assert found is not None and found.kind == "scatter" and not found.grave
    assert found.scatter == pytest.approx(0.002, rel=0.3)


def test_few_frames_say_nothing():
    values, errors = normal(np.random.default_rng(5), 9)
    values[5:] *= 1.1
    assert find_drift(range(9), values, errors) is None
    assert find_drift([], [], []) is None


def test_equal_values_are_no_drift():
    assert find_drift(range(20), [CLEN] * 20, [1e-6] * 20) is None
