"""What the trials together say about the settings: a smooth response, and what matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from tuner.report.drawing import is_logarithmic
from tuner.session.trial import Trial
from wrappers.settings import Settings

__all__ = ["FEWEST_FOR_IMPORTANCE", "Axis", "Importance", "Response", "comparable", "importance"]

Floats = NDArray[np.float64]

FEWEST_FOR_IMPORTANCE = 15
"""Trials below which an importance would be noise."""

FEWEST_BEST = 5
"""Trials that PED-ANOVA compares with all others, at least: what Optuna recommends."""

RESAMPLES = 50

USUAL_AMPLITUDE, USUAL_LENGTH = 0.3, 0.5
"""Of a response: of the rate, and of a setting's measured range."""

LOG_BOUNDS = (-4.0, 3.0)
"""Of the log of its amplitude and lengths."""


@dataclass(frozen=True)
class Axis:
    """One setting as measured, laid over the unit interval.

    Attributes
    ----------
    name : str
    low, high : float
        Smallest and largest measured value.
    log : bool
    n_places : int
        In how many twentieths of the range something was measured.
    """

    name: str
    low: float
    high: float
    log: bool
    n_places: int

    @classmethod
    def of(cls, name: str, settings: Sequence[Settings]) -> Axis:
        """Return the axis of what was measured."""
        values = np.array([float(getattr(each, name) or 0.0) for each in settings])
        axis = cls(
            name, float(values.min()), float(values.max()), is_logarithmic(values), n_places=0
        )
        twentieths = {round(20 * axis.unit(value)) for value in values.tolist()}
        return replace(axis, n_places=len(twentieths))

    def unit(self, value: float) -> float:
        """Return a value's place; measured ones lie in [0, 1]."""
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, unit: Floats) -> Floats:
        """Return the values at places in [0, 1]."""
        if self.log:
            return np.asarray(self.low * (self.high / self.low) ** unit, np.float64)
        return self.low + unit * (self.high - self.low)


def comparable(trials: Sequence[Trial], tuned: Sequence[str]) -> list[Trial]:
    """Return the trials on the tuning sample that differ in nothing but the tuned settings."""
    measured = [t for t in trials if t.stage != "fresh" and t.evaluation.n_frames]
    if not measured:
        return []

    def others(trial: Trial) -> tuple[str | float | None, ...]:
        values = trial.evaluation.settings.as_dict()
        return tuple(value for name, value in values.items() if name not in tuned)

    # CrystFEL's defaults, the first trial, differ in more.
    usual = others(measured[-1])
    return [trial for trial in measured if others(trial) == usual]


class Response:
    """A Gaussian process through the rates of some evaluations (scikit-learn's).

    Matérn 5/2 kernel with a length for each setting; the noise of each rate is its own binomial
    variance. Amplitude and lengths are those of the highest posterior, with log-normal priors
    around 0.3 and around half the range: by the likelihood alone few trials would make a length
    as short or as long as it may be.

    Parameters
    ----------
    axes : sequence of Axis
    evaluations : sequence of Evaluation
    """

    def __init__(self, axes: Sequence[Axis], evaluations: Sequence[Evaluation]) -> None:
        # It takes a second to import.
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern

        self.axes = tuple(axes)
        points = np.array([self.place(each.settings) for each in evaluations])
        indexed, frames = np.array([each.equivalent for each in evaluations]).T
        smooth = (indexed + 0.5) / (frames + 1)
        rates = indexed / frames
        self._mean = float(np.average(rates, weights=frames))
        lengths = [USUAL_LENGTH] * len(self.axes)
        self._process = GaussianProcessRegressor(
            ConstantKernel(USUAL_AMPLITUDE**2, np.exp(2 * np.array(LOG_BOUNDS)))
            * Matern(lengths, np.exp(LOG_BOUNDS), nu=2.5),
            alpha=smooth * (1 - smooth) / (frames + 1) + 1e-8,
            optimizer=_highest_posterior,
        ).fit(points, rates - self._mean)

    def place(self, settings: Settings) -> Floats:
        """Return where settings lie in the cube of what was measured."""
        return np.array([a.unit(float(getattr(settings, a.name) or 0.0)) for a in self.axes])

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the rate at places (n, d), and how well it is known.

        Returns
        -------
        rate : float64 array (n,)
            Clipped to [0, 1].
        known : float64 array (n,)
            From 0, where no measurement is near, to 1.
        """
        rate, deviation = self._process.predict(points, return_std=True)
        amplitude = math.sqrt(self._process.kernel_.k1.constant_value)
        return np.clip(self._mean + rate, 0, 1), 1 - np.clip(deviation / amplitude, 0, 1)


def _highest_posterior(
    objective: Callable[..., tuple[float, Floats]], start: Floats, bounds: Floats
) -> tuple[Floats, float]:
    """Minimise the negative log likelihood and log prior: an optimiser for scikit-learn.

    What is varied are logs of the squared amplitude and of the lengths.
    """
    from scipy.optimize import minimize

    # In logs of the amplitude and lengths the priors are normal, one wide.
    scale = np.array([0.5, *[1.0] * (len(start) - 1)])
    middle = np.log([USUAL_AMPLITUDE, *[USUAL_LENGTH] * (len(start) - 1)])

    def cost(logs: Floats) -> tuple[float, Floats]:
        value, slope = objective(logs)
        off = scale * logs - middle
        return value + 0.5 * float(off @ off), slope + scale * off

    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, float(found.fun)


@dataclass(frozen=True)
class Importance:
    """How much a setting tells good trials from the rest.

    Attributes
    ----------
    name : str
    share : float
        Of all settings' importance.
    low, high : float
        Ends of the interval that holds it in 90 % of resampled lists of the trials.
    """

    name: str
    share: float
    low: float
    high: float


def importance(
    values: Sequence[Settings], merits: Sequence[float], names: Sequence[str], seed: int = 0
) -> list[Importance]:
    """Return the importance of settings by PED-ANOVA (Watanabe et al., IJCAI 2023), by size.

    It compares how the best trials and all trials are spread over each setting.

    Parameters
    ----------
    values : sequence of Settings
    merits : sequence of float
        What was to be maximised.
    names : sequence of str
        Settings that were varied.
    seed : int
        Of the resampling.
    """
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution

    from tuner.search.samplers import quiet_optuna

    axes = [Axis.of(name, values) for name in names]
    ranges: dict[str, BaseDistribution] = {axis.name: FloatDistribution(0.0, 1.0) for axis in axes}
    trials = [
        optuna.trial.create_trial(
            params={a.name: a.unit(float(getattr(each, a.name) or 0.0)) for a in axes},
            distributions=ranges,
            value=merit,
        )
        for each, merit in zip(values, merits, strict=True)
    ]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=max(0.1, FEWEST_BEST / len(trials))
    )

    def shares(some: list[optuna.trial.FrozenTrial]) -> list[float]:
        with quiet_optuna():
            study = optuna.create_study(direction="maximize")
        study.add_trials(some)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return [found.get(name, 0.0) for name in names]

    rng = np.random.default_rng(seed)
    resampled = np.array(
        [
            shares([trials[i] for i in rng.integers(len(trials), size=len(trials))])
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.nanquantile(resampled, (0.05, 0.95), axis=0)
    found = [
        Importance(name, share, float(a), float(b))
        for name, share, a, b in zip(names, shares(trials), low, high, strict=True)
    ]
    return sorted(found, key=lambda each: -each.share)
