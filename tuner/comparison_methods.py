"""The methods of a comparison, each made for one task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from envs.parameter_space import ParameterSpace
from tuner.agent import AgentSearcher
from tuner.baselines import PinnedSearcher, PointsSearcher, sobol_points
from tuner.policy import SHIPPED, Policy
from tuner.searchers import Searcher, make_searcher
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["METHODS", "Kit", "WarmStart"]


@dataclass(frozen=True)
class WarmStart:
    """What the baselines know of the simulated experiments that the agent was trained on.

    Attributes
    ----------
    points : tuple of mapping
        A portfolio: places in the unit cube by name, each chosen to add most to what those
        before it reach on the training experiments. The first is the best single setting.
    gp, tpe : int
        Points of it that a warm-started search begins with; chosen on validation.
    provenance : mapping
        How it was made.
    """

    points: tuple[Mapping[str, float], ...]
    gp: int
    tpe: int
    provenance: Mapping[str, object]

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> WarmStart:
        """Read ``warm_start.json``.

        Raises
        ------
        InputError
            If it is missing or damaged.
        """
        path = directory / "warm_start.json"
        try:
            fields = json.loads(path.read_text())
            return cls(
                tuple({n: float(u) for n, u in point.items()} for point in fields["points"]),
                int(fields["gp"]),
                int(fields["tpe"]),
                dict(fields["provenance"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read as warm starts: {error}") from error

    def save(self, directory: Path) -> None:
        """Write ``warm_start.json``."""
        write_whole(directory / "warm_start.json", json.dumps(asdict(self), indent=1) + "\n")


@dataclass(frozen=True)
class Kit:
    """What was made beforehand: the trained policy, and the baselines' warm start."""

    policy: Policy
    warm_start: WarmStart


Method = Callable[[ParameterSpace, int, int, Kit], Searcher]


def _agent(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    make_gp = partial(_plain_of, "gp", seed)
    return AgentSearcher(space, kit.policy, budget=budget, price_of_a_vain_hit=0.0, make_gp=make_gp)


def _agent_only(space: ParameterSpace, seed: int, budget: int, kit: Kit) -> Searcher:
    return AgentSearcher(space, kit.policy, budget=budget, price_of_a_vain_hit=0.0)


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
"""By name: the agent that hands over to a GP, the agent alone, the GP and TPE that begin with the
portfolio, the same GP with the camera length pinned as in a session, the searches from cold, the
portfolio in its order, its first point, and CrystFEL's defaults, which search nothing."""
