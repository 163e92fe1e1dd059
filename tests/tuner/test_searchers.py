"""Every searcher must pass the same tests."""

import math

import pytest

from envs.parameter_space import ParameterSpace
from tuner.searchers import AGENTS, SEARCHERS, GridSearcher, make_searcher


@pytest.fixture(params=list(SEARCHERS))
def name(request) -> str:
    return request.param


def goodness(values) -> float:
    return math.exp(
        -((values["min_snr"] - 4.3) ** 2) / 4 - math.log(values["threshold"] / 40) ** 2 / 4
    )


def test_suggestions_can_be_executed_as_they_are(name, space: ParameterSpace):
    searcher = make_searcher(name, space, seed=3)
    for _ in range(12):
        values = searcher.suggest()
        assert tuple(values) == space.names
        assert space.values(space.settings(values)) == values
        searcher.ingest(values, goodness(values))


def test_a_suggestion_stands_until_it_is_answered(name, space):
    searcher = make_searcher(name, space, seed=3)
    assert searcher.suggest() == searcher.suggest()


def test_what_was_not_suggested_can_be_ingested(name, space):
    searcher = make_searcher(name, space, seed=3)
    pending = searcher.suggest()
    searcher.ingest(space.values(space.base), 0.25)
    assert searcher.suggest() == pending


def test_equal_seeds_give_equal_suggestions(name, space):
    def path(seed):
        searcher = make_searcher(name, space, seed)
        values = []
        for _ in range(10):
            values.append(searcher.suggest())
            searcher.ingest(values[-1], goodness(values[-1]))
        return values

    assert path(5) == path(5)
    if name not in AGENTS:  # the policy draws nothing, so there is nothing to seed
        assert path(5) != path(6)


@pytest.mark.parametrize("name", ["gp", "tpe", "cmaes"])
def test_learns_something(name, space):
    """With 40 evaluations the best must beat 97 of 100 random points."""
    searcher = make_searcher(name, space, seed=1)
    rates = []
    for _ in range(40):
        values = searcher.suggest()
        rates.append(goodness(values))
        searcher.ingest(values, rates[-1])
    random = make_searcher("random", space, seed=2)
    others = []
    for _ in range(300):
        values = random.suggest()
        others.append(goodness(values))
        random.ingest(values, others[-1])
    assert sum(other < max(rates) for other in others) / len(others) > 0.97


def test_the_grid_visits_every_point_once(space):
    searcher = GridSearcher(space, points=3)
    seen = []
    for _ in range(searcher.size):
        values = searcher.suggest()
        seen.append(tuple(values.values()))
        searcher.ingest(values, 0.0)
    assert searcher.size == 3**4
    assert len(set(seen)) == searcher.size


def test_an_unknown_searcher_is_refused_with_the_choice(space):
    with pytest.raises(ValueError, match="choose from ppo, ppo-only, gp, tpe"):
        make_searcher("magic", space, 0)
