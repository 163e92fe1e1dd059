"""Every searcher must pass the same tests."""

import math

import pytest

from envs.evaluation import Evaluation
from envs.parameter_space import ParameterSpace
from tuner.search.contract import SearchTask
from tuner.search.grid import GridSearcher
from tuner.searchers import SEARCHERS, make_searcher
from wrappers.errors import InputError


@pytest.fixture(params=[name for name in SEARCHERS if not SEARCHERS.get(name).looks])
def name(request) -> str:
    return request.param


def goodness(values) -> float:
    return math.exp(
        -((values["min_snr"] - 4.3) ** 2) / 4 - math.log(values["threshold"] / 40) ** 2 / 4
    )


def answer(searcher, space, values, merit=None) -> None:
    evaluation = Evaluation(space.settings(values), ())
    searcher.ingest(values, goodness(values) if merit is None else merit, evaluation)


def path(name, space, seed, n=10):
    """What it suggests, each suggestion answered."""
    searcher = make_searcher(name, SearchTask(space, seed))
    tried = []
    for _ in range(n):
        values = searcher.suggest()
        if values is None:
            break
        tried.append(values)
        answer(searcher, space, values)
    return tried


def test_suggestions_can_be_executed_as_they_are(name, space: ParameterSpace):
    tried = path(name, space, 3, 12)
    assert len(tried) == {"defaults": 0, "static": 1}.get(name, 12)
    for values in tried:
        assert tuple(values) == space.names
        assert space.values(space.settings(values)) == values


def test_a_suggestion_stands_until_it_is_answered(name, space):
    searcher = make_searcher(name, SearchTask(space, 3))
    assert searcher.suggest() == searcher.suggest()


def test_what_was_not_suggested_can_be_ingested(name, space):
    searcher = make_searcher(name, SearchTask(space, 3))
    pending = searcher.suggest()
    answer(searcher, space, space.values(space.base), 0.25)
    assert searcher.suggest() == pending


def test_equal_seeds_give_equal_suggestions(name, space):
    assert path(name, space, 5) == path(name, space, 5)
    # The portfolio draws nothing, so there is nothing to seed.
    if not SEARCHERS.get(name).starts_itself:
        assert path(name, space, 5) != path(name, space, 6)


def test_optuna_is_as_loud_as_the_user_wants_it(space):
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        path("tpe", space, 1, 2)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("name", ["gp", "tpe", "cmaes"])
def test_learns_something(name, space):
    """With 40 evaluations the best must beat 97 of 100 random points."""
    rates = [goodness(values) for values in path(name, space, 1, 40)]
    others = [goodness(values) for values in path("random", space, 2, 300)]
    assert sum(other < max(rates) for other in others) / len(others) > 0.97


def test_the_grid_visits_every_point_once(space):
    searcher = GridSearcher(space, points=3)
    seen = []
    while (values := searcher.suggest()) is not None:
        seen.append(tuple(values.values()))
        answer(searcher, space, values, 0.0)
    assert len(seen) == searcher.size == 3**4
    assert len(set(seen)) == searcher.size


def test_an_unknown_searcher_is_refused_with_the_choice(space):
    with pytest.raises(
        InputError, match="no searcher 'magic'; choose one of map, map-gp, map-agent"
    ):
        make_searcher("magic", SearchTask(space))
