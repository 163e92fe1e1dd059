"""The methods of a comparison, each made for one task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from envs.parameter_space import ParameterSpace
from tuner.agent.policy import Policy
from tuner.agent.searcher import AgentSearcher, Fallback
from tuner.agent.warm_start import WarmStart
from tuner.search.baselines import PinnedSearcher, PointsSearcher, sobol_points
from tuner.searchers import Searcher, make_searcher

__all__ = ["METHODS", "Kit"]


@dataclass(frozen=True)
class Kit:
    """What was made beforehand: the trained policy, and the baselines' warm start."""

    policy: Policy
    warm_start: WarmStart


Method = Callable[[ParameterSpace, int, int, Kit], Searcher]


def _agent(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return AgentSearcher(
        space,
        kit.policy,
        budget=budget,
        unindexed_hit_penalty=0.0,
        fallback=Fallback(kit.warm_start.points, partial(_plain_of, "gp", seed)),
    )


def _agent_only(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return AgentSearcher(space, kit.policy, budget=budget, unindexed_hit_penalty=0.0)


def _plain_of(name: str, seed: int, space: ParameterSpace) -> Searcher:
    return make_searcher(name, space, seed)


def _plain(name: str) -> Method:
    return lambda space, seed, budget, kit: make_searcher(name, space, seed)


def _warm(space: ParameterSpace, seed: int, budget: int, kit: Kit, *, name: str) -> Searcher:
    n = kit.warm_start.gp if name == "gp" else kit.warm_start.tpe
    return PointsSearcher(space, kit.warm_start.points[:n], make_searcher(name, space, seed))


def _warm_gp_pinned(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    first = kit.warm_start.points[: kit.warm_start.gp]
    return PinnedSearcher(space, partial(_plain_of, "gp", seed), first)


def _cmaes(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    # Its first trial would be random, not the mean that it starts from.
    centre = dict.fromkeys(space.names, 0.5)
    return PointsSearcher(space, [centre], make_searcher("cmaes", space, seed))


def _sobol(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return PointsSearcher(space, sobol_points(space.names, budget, seed))


def _portfolio(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return PointsSearcher(space, kit.warm_start.points)


def _static(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return PointsSearcher(space, kit.warm_start.points[:1])


METHODS: dict[str, Method | None] = {
    "agent": _agent,
    "agent_only": _agent_only,
    "warm_gp": partial(_warm, name="gp"),
    "warm_gp_pinned": _warm_gp_pinned,
    "warm_tpe": partial(_warm, name="tpe"),
    "gp": _plain("gp"),
    "tpe": _plain("tpe"),
    "cmaes": _cmaes,
    "random": _plain("random"),
    "sobol": _sobol,
    "portfolio": _portfolio,
    "static": _static,
    "defaults": None,
}
"""By name: the agent that hands over to the portfolio and a GP, the agent alone, the GP and TPE
that begin with the portfolio, the same GP with the camera length pinned as in a session, the
searches from cold, the portfolio in its order, its first point, and CrystFEL's defaults, which
search nothing."""
