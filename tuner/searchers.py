"""The searchers that a session can be run with, by name.

One more is one more `SEARCHERS.register`. What a searcher is able to do beyond suggesting and
learning stands in its `SearcherKind`; see `tuner.search.contract`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from envs.parameter_space import ParameterSpace
from tuner.search.contract import Searcher, SearcherKind, SearchTask
from wrappers.registry import Registry

__all__ = ["SEARCHERS", "make_searcher"]

SEARCHERS: Registry[SearcherKind] = Registry("searcher")


def make_searcher(name: str, task: SearchTask) -> Searcher:
    """Return the searcher of a name in `SEARCHERS`.

    Raises
    ------
    InputError
        If there is no such searcher, or it cannot be used for the task.
    """
    return SEARCHERS.get(name).make(task)


# Each imports what it needs when it is made: PyTorch and Optuna take seconds.


def _agent(task: SearchTask) -> Searcher:
    from tuner.agent.searcher import AgentSearcher, Fallback
    from tuner.agent.warm_start import WarmStart

    return AgentSearcher(task, Fallback(WarmStart.load().points, _of_rest(_gp, task)))


def _agent_only(task: SearchTask) -> Searcher:
    from tuner.agent.searcher import AgentSearcher

    return AgentSearcher(task)


def _gp(task: SearchTask) -> Searcher:
    from tuner.search.samplers import make_gp

    return make_gp(task)


def _tpe(task: SearchTask) -> Searcher:
    from tuner.search.samplers import make_tpe

    return make_tpe(task)


def _cmaes(task: SearchTask) -> Searcher:
    from tuner.search.samplers import make_cmaes

    return make_cmaes(task)


def _random(task: SearchTask) -> Searcher:
    from tuner.search.samplers import make_random

    return make_random(task)


def _grid(task: SearchTask) -> Searcher:
    from tuner.search.grid import make_grid

    return make_grid(task)


def _sobol(task: SearchTask) -> Searcher:
    from tuner.search.points import make_sobol

    return make_sobol(task)


def _warm(make: Callable[[SearchTask], Searcher], name: str, task: SearchTask) -> Searcher:
    """Return a search that begins with as many points of the portfolio as serve it best."""
    from tuner.agent.warm_start import WarmStart
    from tuner.search.locked import LockedSearcher
    from tuner.search.points import PointsSearcher

    warm_start = WarmStart.load()
    n = warm_start.gp if name == "gp" else warm_start.tpe
    of_rest = _of_rest(make, task)
    then = LockedSearcher(task.space, lambda rest, ingested: of_rest(rest))
    return PointsSearcher(task.space, warm_start.points[:n], then)


def _portfolio(task: SearchTask, size: int | None = None) -> Searcher:
    from tuner.agent.warm_start import WarmStart
    from tuner.search.points import PointsSearcher

    return PointsSearcher(task.space, WarmStart.load().points[:size])


def _nothing(task: SearchTask) -> Searcher:
    from tuner.search.points import PointsSearcher

    return PointsSearcher(task.space, ())


def _of_rest(
    make: Callable[[SearchTask], Searcher], task: SearchTask
) -> Callable[[ParameterSpace], Searcher]:
    """Return what makes the searcher of a task for a part of its space."""
    return lambda rest: make(replace(task, space=rest))


for _name, _kind, _aliases in (
    (
        "ppo",
        SearcherKind(
            _agent,
            "the trained agent; once its gain stalls, the portfolio and a Gaussian process",
            handles_geometry=True,
            starts_itself=True,
            takes_policy=True,
            peak_finders=("peakfinder8",),
        ),
        ("agent",),
    ),
    (
        "ppo-only",
        SearcherKind(
            _agent_only,
            "the trained agent to the end",
            handles_geometry=True,
            starts_itself=True,
            takes_policy=True,
            peak_finders=("peakfinder8",),
        ),
        ("agent_only",),
    ),
    ("gp", SearcherKind(_gp, "Optuna's Gaussian process"), ()),
    ("tpe", SearcherKind(_tpe, "Optuna's tree-structured Parzen estimator"), ()),
    ("cmaes", SearcherKind(_cmaes, "Optuna's CMA-ES"), ()),
    ("random", SearcherKind(_random, "points drawn at random"), ()),
    ("grid", SearcherKind(_grid, "every point of a grid, in random order"), ()),
    ("sobol", SearcherKind(_sobol, "evenly spread points", handles_geometry=True), ()),
    (
        "warm-gp",
        SearcherKind(
            lambda task: _warm(_gp, "gp", task),
            "a Gaussian process that begins with the portfolio of the simulated experiments",
            handles_geometry=True,
            starts_itself=True,
            peak_finders=("peakfinder8",),
        ),
        ("warm_gp_pinned",),
    ),
    (
        "warm-tpe",
        SearcherKind(
            lambda task: _warm(_tpe, "tpe", task),
            "the same with a tree-structured Parzen estimator",
            handles_geometry=True,
            starts_itself=True,
            peak_finders=("peakfinder8",),
        ),
        (),
    ),
    (
        "portfolio",
        SearcherKind(
            _portfolio,
            "the points that together served the simulated experiments best, in order",
            handles_geometry=True,
            starts_itself=True,
            peak_finders=("peakfinder8",),
        ),
        (),
    ),
    (
        "static",
        SearcherKind(
            lambda task: _portfolio(task, 1),
            "the single point that served the simulated experiments best",
            handles_geometry=True,
            starts_itself=True,
            peak_finders=("peakfinder8",),
        ),
        (),
    ),
    (
        "defaults",
        SearcherKind(_nothing, "CrystFEL's defaults, and nothing else", True, starts_itself=True),
        (),
    ),
):
    SEARCHERS.register(_name, _kind, _aliases)
