from __future__ import annotations

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.racing import Race
from wrappers.settings import Settings

SETTINGS = Settings()


class Coins:
    """Indexes each frame with a probability of its own kind."""

    def __init__(self, indexed: np.ndarray) -> None:
        self.indexed, self.looks = indexed, 0

    @property
    def n_frames(self) -> int:
        return len(self.indexed)

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        self.looks += 1
        outcomes = (
            FrameOutcome(i, 20, True, int(x)) for i, x in enumerate(self.indexed[:n_frames])
        )
        return Evaluation(settings, tuple(outcomes), seconds=1.0, core_seconds=2.0)


def pair(rng, n: int, first: float, second: float, shared: float = 0.5):
    """Two settings that agree on a share of the frames, as settings on one run do."""
    common = rng.random(n)
    own = rng.random((2, n))
    same = rng.random(n) < shared
    a, b = np.where(same, common, own[0]) < first, np.where(same, common, own[1]) < second
    return Coins(a), Coins(b).evaluate(SETTINGS)


@pytest.mark.parametrize("n", [60, 200])
def test_an_equal_candidate_is_dropped_no_more_often_than_stated(n):
    rng, race, repeats = np.random.default_rng(5), Race(first_look=25, error_rate=0.05), 1500
    dropped = 0
    for _ in range(repeats):
        candidate, incumbent = pair(rng, n, 0.4, 0.4)
        dropped += race.run(candidate, SETTINGS, incumbent).n_frames < n
    assert dropped / repeats < 0.05


def test_a_hopeless_candidate_is_dropped_at_the_first_look():
    candidate, incumbent = Coins(np.zeros(200)), Coins(np.ones(200)).evaluate(SETTINGS)
    evaluation = Race(first_look=25).run(candidate, SETTINGS, incumbent)
    assert evaluation.n_frames == 25


def test_a_better_candidate_sees_every_frame_and_pays_for_all_looks():
    rng = np.random.default_rng(1)
    candidate, incumbent = pair(rng, 100, 0.6, 0.3)
    evaluation = Race(first_look=25).run(candidate, SETTINGS, incumbent)
    assert evaluation.n_frames == 100
    assert evaluation.seconds == candidate.looks == 3
    assert evaluation.core_seconds == 6


def test_without_an_incumbent_there_is_one_look():
    candidate = Coins(np.zeros(100))
    assert Race().run(candidate, SETTINGS, None).n_frames == 100
    assert candidate.looks == 1
