from dataclasses import replace

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.comparison.statistics import (
    bootstrap,
    compare_family,
    holm,
    interquartile_mean,
    paired_by_frame,
    probability_of_improvement,
)
from tuner.statistics import paired_difference
from wrappers.settings import Settings


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([[100.0, 1, 2, 3], [4, 5, 6, -100]])) == 3.5


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


def test_ties_are_half_an_improvement():
    assert probability_of_improvement(np.array([0.0, 1, 2]), np.array([0.0, 2, 1])) == 0.5


def test_a_family_is_told_as_the_contract_says():
    rng = np.random.default_rng(1)
    worse = rng.uniform(0.1, 0.3, (40, 3, 20))
    regrets = {"ppo": worse / 3, "warm-gp": worse, "random": worse + 0.2}
    found = compare_family(regrets)
    assert found["n_tasks"] == 40
    assert found["n_seeds"] == 3
    assert {"regret_5", "regret_10", "regret_20", "auc"} <= found["ppo"].keys()
    low, high = found["warm-gp_minus_ppo_10_ci95"]
    assert 0 < low < 2 / 3 * worse[:, :, 9].mean() < high
    assert found["paired"]["warm-gp"]["probability_of_improvement"] == 1
    assert found["paired"]["random"]["p_wilcoxon_holm"] < 1e-6


def test_figures_of_a_short_budget_say_after_how_many_evaluations_they_are():
    rng = np.random.default_rng(4)
    regrets = {name: rng.uniform(0, 1, (8, 2, 6)) for name in ("ppo", "warm-gp")}
    found = compare_family(regrets)
    assert found["evaluations"] == found["paired_after"] == 6
    assert found["ppo"]["regret_6"] == pytest.approx(regrets["ppo"][:, :, 5].mean())
    assert "regret_10" not in found["ppo"]
    assert found["ppo"]["auc"] == pytest.approx(1 - regrets["ppo"].mean())
    low, high = found["warm-gp_minus_ppo_6_ci95"]
    assert low < (regrets["warm-gp"] - regrets["ppo"])[:, :, 5].mean() < high


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


def test_two_that_do_the_same_do_not_differ():
    regrets = np.random.default_rng(2).uniform(0, 1, (20, 2, 20))
    found = compare_family({"ppo": regrets, "warm-gp": regrets.copy()})
    assert found["warm-gp_minus_ppo_10_ci95"] == [0, 0]
    assert found["paired"]["warm-gp"]["p_wilcoxon"] == 1


def test_one_indexed_decoy_proves_no_difference():
    """The same frames are indexed; one scrambled list more may be chance."""
    none = replace(outcome(np.arange(100) < 30), n_decoys=50)
    one = replace(none, settings=Settings(min_snr=3), n_decoys_indexed=1)
    found = paired_by_frame([none], [one], [0.3])
    assert found["rate_difference"] > 0
    assert found["rate_ci95"][0] < 0 < found["rate_ci95"][1]
    assert found["ci95"][0] < 0 < found["ci95"][1]
