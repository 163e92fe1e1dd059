from dataclasses import replace

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.comparison.statistics import (
    bootstrap,
    holm,
    paired_by_frame,
    regret,
    summary,
    told_after,
)
from tuner.statistics import paired_difference
from wrappers.settings import Settings


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """Tasks differ, and so do seeds within a task; the interval must allow for both."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.normal(0, 1, (30, 1)) + rng.normal(0, 0.5, (30, 3))
        low, high = bootstrap(values, resamples=200, seed=trial)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_holm_multiplies_by_what_is_left():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_regret_is_the_share_of_the_reachable_that_is_missed():
    rates = np.array([0.0, 0.1, 0.4, 0.5])
    np.testing.assert_allclose(regret(rates, np.array(0.4)), [1, 0.75, 0, 0])
    np.testing.assert_array_equal(regret(np.zeros(2), np.zeros(2)), [1, 1])


def test_figures_of_a_short_budget_say_after_how_many_evaluations_they_are():
    regrets = np.random.default_rng(4).uniform(0, 1, (8, 2, 6))
    found = summary(regrets)
    assert told_after(6) == [5, 6] and told_after(20) == [5, 10, 20]
    assert found["regret_6"] == pytest.approx(regrets[:, :, 5].mean())
    assert "regret_10" not in found
    assert found["auc"] == pytest.approx(1 - regrets.mean())


def test_who_never_comes_near_is_counted_so():
    regrets = np.full((2, 2, 5), 0.5)
    regrets[0, :, 2:] = 0.05
    found = summary(regrets)
    assert found["never_within_90_percent"] == 0.5
    assert found["evaluations_to_90_percent"] == 4.5  # of 3, 3, and twice beyond the budget


def outcome(indexed: np.ndarray, first: int = 0) -> Evaluation:
    outcomes = (FrameOutcome(first + i, 20, True, int(x)) for i, x in enumerate(indexed))
    return Evaluation(Settings(), tuple(outcomes))


def test_halves_that_change_places_count_like_one_sample_of_all_frames():
    ours, theirs = (np.random.default_rng(seed).random(60) < 0.6 for seed in (0, 1))
    whole = paired_difference(outcome(ours), outcome(theirs))
    halves = [
        [outcome(indexed[:30]), outcome(indexed[30:], first=30)] for indexed in (ours, theirs)
    ]
    found = paired_by_frame(*halves, references=[0.8, 0.8])
    assert found["rate_difference"] == pytest.approx(whole.difference)
    assert found["rate_ci95"] == pytest.approx(whole.ci95)
    assert found["ci95"] == pytest.approx([end / 0.8 for end in whole.ci95])
    assert found["difference"] == pytest.approx(whole.difference / 0.8)
    assert (found["gained"], found["lost"]) == (whole.gained, whole.lost)
    assert found["p_sign"] == pytest.approx(whole.p_value)


def test_scoring_the_same_frames_again_does_not_narrow_the_interval():
    ours, theirs = (outcome(np.random.default_rng(seed).random(40) < 0.6) for seed in (0, 1))
    once = paired_by_frame([ours], [theirs], [1.0])
    often = paired_by_frame([ours] * 5, [theirs] * 5, [1.0] * 5)
    for what, value in once.items():
        assert often[what] == pytest.approx(value)


def test_where_nothing_is_indexed_the_difference_may_be_anything():
    nothing = outcome(np.zeros(10))
    found = paired_by_frame([nothing], [nothing], [0.0])
    assert found["difference"] == 0
    assert found["ci95"] == [-1, 1]


def test_what_chance_indexes_does_not_count_in_a_difference():
    honest = outcome(np.arange(40) < 20)
    lucky = replace(outcome(np.arange(40) < 30), n_decoys=20, n_decoys_indexed=5)
    assert paired_by_frame([honest], [lucky], [1.0])["rate_difference"] == pytest.approx(0)


def test_one_indexed_decoy_proves_no_difference():
    """The same frames are indexed; one scrambled list more may be chance."""
    none = replace(outcome(np.arange(100) < 30), n_decoys=50)
    one = replace(none, settings=Settings(min_snr=3), n_decoys_indexed=1)
    found = paired_by_frame([none], [one], [0.3])
    assert found["rate_difference"] > 0
    assert found["rate_ci95"][0] < 0 < found["rate_ci95"][1]
    assert found["ci95"][0] < 0 < found["ci95"][1]
