"""What proposes the next settings to try.

A searcher is two methods: `suggest` names a point, `ingest` takes what was measured there.
All searchers share them, so a session, a study or a test runs any of them the same way.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from envs.evaluation import Evaluation
from envs.parameter_space import Parameter, ParameterSpace

if TYPE_CHECKING:
    from tuner.agent.policy import Policy
    from tuner.agent.searcher import AgentSearcher

__all__ = ["AGENTS", "SEARCHERS", "GridSearcher", "OptunaSearcher", "Searcher", "make_searcher"]

Values = Mapping[str, float]


class Searcher(Protocol):
    """Proposes values of the tuned parameters and learns from what they gave."""

    def suggest(self) -> dict[str, float]:
        """Return the values to try next, by name."""
        ...

    def ingest(self, values: Values, rate: float, evaluation: Evaluation | None = None) -> None:
        """Learn that the values, which need not be the last suggestion, gave the rate.

        The agent looks at the whole evaluation; the others need only the rate.
        """
        ...


class OptunaSearcher:
    """An Optuna sampler as a searcher.

    Parameters
    ----------
    space : ParameterSpace
    sampler : optuna.samplers.BaseSampler

    Notes
    -----
    TPE and CMA-ES are made for hundreds of trials; at the twenty or thirty of a session the
    Gaussian process is the one that is within its documented regime. It takes the noise of
    the rates to be the same everywhere, which that of a counted fraction is not.
    """

    def __init__(self, space: ParameterSpace, sampler: optuna.samplers.BaseSampler) -> None:
        # Its GP warns where all rates are equal and it falls back to its default kernel.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._distributions = {p.name: _distribution(p) for p in space.parameters}
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._pending: Trial | None = None

    def suggest(self) -> dict[str, float]:
        """Return the values that the sampler asks for."""
        if self._pending is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._pending = self._study.ask(self._distributions)
        return self._executable(self._pending)

    def ingest(self, values: Values, rate: float, evaluation: Evaluation | None = None) -> None:
        """Tell the sampler what was measured."""
        params = {
            name: int(values[name]) if isinstance(distribution, IntDistribution) else values[name]
            for name, distribution in self._distributions.items()
        }
        if self._pending is not None and dict(values) == self._executable(self._pending):
            self._study.tell(self._pending, rate)
            self._pending = None
        else:
            self._study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    value=rate,
                    params=params,
                    distributions=self._distributions,
                )
            )

    def _executable(self, trial: Trial) -> dict[str, float]:
        return {p.name: p.clip(trial.params[p.name]) for p in self._space.parameters}


class GridSearcher:
    """Visits every point of a grid once, in an order that spreads early points widely.

    After the last point it begins again.

    Parameters
    ----------
    space : ParameterSpace
    points : int
        Values per parameter, both ends of its range included; an integer parameter with
        fewer values has all of them.
    seed : int
        Of the order.
    """

    def __init__(self, space: ParameterSpace, points: int = 4, seed: int = 0) -> None:
        axes = [_grid_axis(parameter, points) for parameter in space.parameters]
        grid = list(itertools.product(*axes))
        order = np.random.default_rng(seed).permutation(len(grid))
        self.size = len(grid)
        self._next = itertools.cycle(
            dict(zip(space.names, grid[index], strict=True)) for index in order
        )
        self._pending: dict[str, float] | None = None

    def suggest(self) -> dict[str, float]:
        """Return the next point of the grid."""
        if self._pending is None:
            self._pending = next(self._next)
        return dict(self._pending)

    def ingest(self, values: Values, rate: float, evaluation: Evaluation | None = None) -> None:
        """Go on; a grid learns nothing."""
        if self._pending == dict(values):
            self._pending = None


def _grid_axis(parameter: Parameter, points: int) -> list[float]:
    values = [parameter.from_unit(unit) for unit in np.linspace(0, 1, points)]
    return sorted(set(values))


def _distribution(parameter: Parameter) -> BaseDistribution:
    log = parameter.scale == "log"
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=log)
    return FloatDistribution(parameter.low, parameter.high, log=log)


def _gp(space: ParameterSpace, seed: int) -> Searcher:
    from tuner.threads import single_threaded_algebra  # PyTorch takes seconds; reports do without

    single_threaded_algebra()
    # The session's own first looks stand in for most of the random start.
    return OptunaSearcher(
        space, optuna.samplers.GPSampler(seed=seed, n_startup_trials=2 + len(space))
    )


def _tpe(space: ParameterSpace, seed: int) -> Searcher:
    # Explicit, because Optuna 5 changed these defaults.
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=2 + len(space), multivariate=True, constant_liar=False
    )
    return OptunaSearcher(space, sampler)


def _cmaes(space: ParameterSpace, seed: int) -> Searcher:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # with_margin keeps whole-number parameters from freezing.
        sampler = optuna.samplers.CmaEsSampler(
            seed=seed, with_margin=True, warn_independent_sampling=False
        )
    return OptunaSearcher(space, sampler)


def _random(space: ParameterSpace, seed: int) -> Searcher:
    return OptunaSearcher(space, optuna.samplers.RandomSampler(seed=seed))


def _grid(space: ParameterSpace, seed: int) -> Searcher:
    points = max(2, math.floor(100 ** (1 / len(space))))
    return GridSearcher(space, points, seed)


def _ppo(
    space: ParameterSpace, seed: int, budget: int | None = None, policy: Policy | None = None
) -> AgentSearcher:
    return _agent(space, seed, budget, policy, hands_over=True)


def _ppo_only(
    space: ParameterSpace, seed: int, budget: int | None = None, policy: Policy | None = None
) -> AgentSearcher:
    return _agent(space, seed, budget, policy, hands_over=False)


def _agent(
    space: ParameterSpace, seed: int, budget: int | None, policy: Policy | None, hands_over: bool
) -> AgentSearcher:
    from tuner.agent.policy import Policy
    from tuner.agent.searcher import AgentSearcher, Fallback  # which hands over to searchers
    from tuner.agent.warm_start import WarmStart

    plan = Fallback(WarmStart.load().points, lambda rest: _gp(rest, seed)) if hands_over else None
    return AgentSearcher(space, policy or Policy.load(), budget=budget, fallback=plan)


SEARCHERS: dict[str, Callable[[ParameterSpace, int], Searcher]] = {
    "ppo": _ppo,
    "ppo-only": _ppo_only,
    "gp": _gp,
    "tpe": _tpe,
    "cmaes": _cmaes,
    "random": _random,
    "grid": _grid,
}


AGENTS = {"ppo": _ppo, "ppo-only": _ppo_only}
"""Those of `SEARCHERS` that look at whole evaluations and reckon with the budget.

They take the budget in evaluations and a policy, too; None is the shipped one.
"""


def make_searcher(
    name: str, space: ParameterSpace, seed: int, budget: int | None = None
) -> Searcher:
    """Return the searcher of a name in `SEARCHERS`.

    Parameters
    ----------
    name : str
    space : ParameterSpace
    seed : int
        Equal seeds give equal suggestions.
    budget : int, optional
        Evaluations of the whole session; the agent reckons with it.

    Raises
    ------
    ValueError
        If there is no such searcher.
    """
    if name not in SEARCHERS:
        raise ValueError(f"no searcher is called {name!r}; choose from {', '.join(SEARCHERS)}")
    if name in AGENTS:
        return AGENTS[name](space, seed, budget)
    return SEARCHERS[name](space, seed)
