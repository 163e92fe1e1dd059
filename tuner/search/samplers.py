"""Optuna's samplers as searchers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from envs.evaluation import Evaluation
from envs.parameter_space import Parameter
from tuner.search.contract import SearchTask, Values

__all__ = ["OptunaSearcher", "make_cmaes", "make_gp", "make_random", "make_tpe"]


class OptunaSearcher:
    """An Optuna sampler as a searcher.

    Parameters
    ----------
    task : SearchTask
    sampler : optuna.samplers.BaseSampler

    Notes
    -----
    TPE and CMA-ES are made for hundreds of trials; at the twenty or thirty of a session the
    Gaussian process is the one that is within its documented regime. It takes the noise of
    the rates to be the same everywhere, which that of a counted fraction is not.
    """

    def __init__(self, task: SearchTask, sampler: optuna.samplers.BaseSampler) -> None:
        self._space = task.space
        self._distributions = {p.name: _distribution(p) for p in task.space.parameters}
        with quiet_optuna():
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._pending: Trial | None = None

    def suggest(self) -> dict[str, float]:
        """Return the values that the sampler asks for."""
        if self._pending is None:
            with quiet_optuna():
                self._pending = self._study.ask(self._distributions)
        return self._executable(self._pending)

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Let the sampler know what was measured."""
        params = {
            name: int(values[name]) if isinstance(distribution, IntDistribution) else values[name]
            for name, distribution in self._distributions.items()
        }
        with quiet_optuna():
            if self._pending is not None and dict(values) == self._executable(self._pending):
                self._study.tell(self._pending, merit)
                self._pending = None
            else:
                self._study.add_trial(
                    create_trial(
                        state=TrialState.COMPLETE,
                        value=merit,
                        params=params,
                        distributions=self._distributions,
                    )
                )

    def _executable(self, trial: Trial) -> dict[str, float]:
        return {p.name: p.clip(trial.params[p.name]) for p in self._space.parameters}


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna silent for a while: its GP warns where all merits are equal, and goes on."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(parameter: Parameter) -> BaseDistribution:
    log = parameter.scale == "log"
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=log)
    return FloatDistribution(parameter.low, parameter.high, log=log)


def make_gp(task: SearchTask) -> OptunaSearcher:
    """Return a Gaussian process; PyTorch, which it needs, takes seconds to import."""
    from tuner.threads import single_threaded_algebra

    single_threaded_algebra()
    # A session's initial design stands in for most of the random start.
    n_startup = 2 + len(task.space)
    return OptunaSearcher(
        task, optuna.samplers.GPSampler(seed=task.seed, n_startup_trials=n_startup)
    )


def make_tpe(task: SearchTask) -> OptunaSearcher:
    """Return a tree-structured Parzen estimator; explicit, as Optuna 5 changed its defaults."""
    n_startup = 2 + len(task.space)
    sampler = optuna.samplers.TPESampler(
        seed=task.seed, n_startup_trials=n_startup, multivariate=True, constant_liar=False
    )
    return OptunaSearcher(task, sampler)


def make_cmaes(task: SearchTask) -> OptunaSearcher:
    """Return a covariance matrix adaptation; its margin keeps whole numbers from freezing."""
    with quiet_optuna():
        sampler = optuna.samplers.CmaEsSampler(
            seed=task.seed, with_margin=True, warn_independent_sampling=False
        )
    return OptunaSearcher(task, sampler)


def make_random(task: SearchTask) -> OptunaSearcher:
    """Return a search that draws every point anew."""
    return OptunaSearcher(task, optuna.samplers.RandomSampler(seed=task.seed))
