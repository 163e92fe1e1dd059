import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.statistics import paired_difference
from wrappers.settings import Settings


def evaluation(indexed: np.ndarray, first: int = 0) -> Evaluation:
    outcomes = (FrameOutcome(first + i, 20, True, int(x)) for i, x in enumerate(indexed))
    return Evaluation(Settings(), tuple(outcomes))


def test_counts_and_exact_p_value():
    a = evaluation(np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0]))
    b = evaluation(np.array([1, 0, 0, 0, 0, 0, 0, 0, 1, 1]))
    result = paired_difference(a, b)
    assert (result.gained, result.lost, result.n_frames) == (5, 1, 10)
    assert result.difference == pytest.approx(0.4)
    assert result.p_value == pytest.approx(2 * (1 + 6) / 2**6)


def test_equal_evaluations_differ_by_nothing():
    a = evaluation(np.array([1, 0, 1]))
    result = paired_difference(a, a)
    assert result.difference == 0
    assert result.p_value == 1
    assert result.ci95[0] < 0 < result.ci95[1]


def test_only_shared_frames_count():
    a, b = evaluation(np.ones(5)), evaluation(np.zeros(5), first=3)
    assert paired_difference(a, b).n_frames == 2
    with pytest.raises(ValueError, match="no frame in common"):
        paired_difference(a, evaluation(np.zeros(5), first=9))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    truth, covered, repeats = 0.07, 0, 600
    for _ in range(repeats):
        both = rng.choice(4, size=150, p=[0.30, 0.12, 0.05, 0.53])
        a, b = evaluation((both == 0) | (both == 1)), evaluation((both == 0) | (both == 2))
        low, high = paired_difference(a, b).ci95
        covered += low <= truth <= high
    assert 0.93 < covered / repeats < 0.985
