"""The searchers that a session can be run with, by name.

One more is one more `SEARCHERS.register`. What a searcher is able to do beyond suggesting and
learning stands in its `SearcherKind`; see `tuner.search.contract`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from envs.parameter_space import ParameterSpace
from tuner.search.contract import Searcher, SearcherKind, SearchTask
from wrappers.registry import Registry

if TYPE_CHECKING:
    from tuner.map_agent.policy import MapPolicy

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


def _map(task: SearchTask) -> Searcher:
    from tuner.search.map_searcher import make_map

    return make_map(task)


def _map_gp(task: SearchTask) -> Searcher:
    from tuner.search.map_gp import make_map_gp

    return make_map_gp(task)


def _map_agent(task: SearchTask) -> Searcher:
    from tuner.map_agent.searcher import MapAgentSearcher

    return MapAgentSearcher(task, task.policy)


def _map_policy(path: Path) -> MapPolicy:
    from tuner.map_agent.policy import MapPolicy  # with scipy, which --help should not wait for

    return MapPolicy.load(path)


def _warm_gp(task: SearchTask) -> Searcher:
    from tuner.search.warm_start import WarmStart

    warm_start = WarmStart.load()
    return _after(warm_start.points[: warm_start.gp], task, _gp)


def _warm_tpe(task: SearchTask) -> Searcher:
    from tuner.search.warm_start import WarmStart

    warm_start = WarmStart.load()
    return _after(warm_start.points[: warm_start.tpe], task, _tpe)


def _portfolio(task: SearchTask) -> Searcher:
    from tuner.search.warm_start import WarmStart

    return _after(WarmStart.load().points, task)


def _static(task: SearchTask) -> Searcher:
    from tuner.search.warm_start import WarmStart

    return _after(WarmStart.load().points[:1], task)


def _defaults(task: SearchTask) -> Searcher:
    return _after((), task)


def _after(
    points: Sequence[Mapping[str, float]],
    task: SearchTask,
    make: Callable[[SearchTask], Searcher] | None = None,
) -> Searcher:
    """Return the search that visits points, and then leaves the task to another searcher."""
    from tuner.search.locked import LockedSearcher
    from tuner.search.points import PointsSearcher

    if make is None:
        return PointsSearcher(task.space, points)

    def make_for(rest: ParameterSpace, ingested: int) -> Searcher:
        return make(replace(task, space=rest))

    return PointsSearcher(task.space, points, LockedSearcher(task.space, make_for))


_whole = partial(SearcherKind, handles_geometry=True)
_learnt = partial(_whole, starts_itself=True, peak_finders=("peakfinder8",))
"""Made on the simulated experiments, for that peak finder."""

_mapped = partial(_whole, looks=True, peak_finders=("peakfinder8", "robust"))
"""Of the response map, whose features are the settings of these."""

for _name, _kind, _aliases in (
    (
        "map",
        _mapped(_map, "the response map of the session's own frames"),
        ("response_map",),
    ),
    (
        "map-gp",
        _mapped(_map_gp, "a Gaussian process that begins with the response map"),
        (),
    ),
    (
        "map-agent",
        _mapped(
            _map_agent,
            "the agent that goes by the response map, and chooses frames",
            load_policy=_map_policy,
        ),
        ("ppo", "agent"),  # what the first agent was called: this one is trained by PPO as well
    ),
    ("gp", SearcherKind(_gp, "Optuna's Gaussian process", extra="gp"), ()),
    ("tpe", SearcherKind(_tpe, "Optuna's tree-structured Parzen estimator"), ()),
    ("cmaes", SearcherKind(_cmaes, "Optuna's CMA-ES"), ()),
    ("random", SearcherKind(_random, "points drawn at random"), ()),
    ("grid", SearcherKind(_grid, "every point of a grid, in random order"), ()),
    ("sobol", _whole(_sobol, "evenly spread points"), ()),
    (
        "warm-gp",
        _learnt(
            _warm_gp,
            "the best points on simulated experiments, then the Gaussian process",
            extra="gp",
        ),
        ("warm_gp_pinned",),
    ),
    ("warm-tpe", _learnt(_warm_tpe, "the same with the Parzen estimator"), ()),
    ("portfolio", _learnt(_portfolio, "the best points on simulated experiments, in order"), ()),
    ("static", _learnt(_static, "the single best point on simulated experiments"), ()),
    ("defaults", _whole(_defaults, "CrystFEL's defaults alone", starts_itself=True), ()),
):
    SEARCHERS.register(_name, _kind, _aliases)

SEARCHERS.retire(
    "the searcher ppo-only, the first agent to the end, was retired: map-agent replaces it, and is "
    "the default",
    "ppo-only",
    "agent_only",
)
