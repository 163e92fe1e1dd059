from __future__ import annotations

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from tuner.session.racing import FRUITLESS, INDIFFERENCE, Race, separated
from tuner.session.trial import Trial
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


def test_a_winner_is_seldom_declared_where_another_is_better():
    rng, repeats, wrong = np.random.default_rng(7), 400, 0
    for _ in range(repeats):
        # The best by chance of eight settings; one of them is better by the indifference.
        n, common = 200, rng.random(200)
        truth = [0.4] * 7 + [0.4 + INDIFFERENCE]
        own = rng.random((8, n))
        same = rng.random((8, n)) < 0.7
        indexed = [np.where(s, common, o) < p for s, o, p in zip(same, own, truth, strict=True)]
        trials = [Trial(i, "search", Coins(x).evaluate(SETTINGS)) for i, x in enumerate(indexed)]
        winner = max(trials, key=lambda trial: trial.evaluation.rate)
        later = [
            Trial(8 + i, "search", Coins(np.zeros(25)).evaluate(SETTINGS)) for i in range(FRUITLESS)
        ]
        wrong += winner.number < 7 and separated(winner, trials + later)
    assert wrong / repeats < 0.05


def test_a_clear_winner_is_separated_once_the_search_has_looked_on():
    good, bad = np.arange(200) < 120, np.arange(200) < 60
    trials = [Trial(0, "start", Coins(bad).evaluate(SETTINGS))]
    winner = Trial(1, "search", Coins(good).evaluate(SETTINGS))
    later = [Trial(2 + i, "search", Coins(bad).evaluate(SETTINGS, 25)) for i in range(FRUITLESS)]
    assert not separated(winner, [*trials, winner, *later[:-1]])
    assert separated(winner, [*trials, winner, *later])
