"""Logistic regression with a prior on its coefficients and a level of its own for each frame.

An outcome's log-odds are ``x · w + u[frame]``. The coefficients w of a run come from a normal
distribution over runs, the levels u of its frames from one around 0. What a run's outcomes say of
both is found by Laplace's approximation: the mode, and the curvature there. The distribution over
runs is fitted to many of them by expectation maximisation (Laird & Ware 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Outcomes", "Posterior", "Prior", "fit_prior", "update"]

Floats = NDArray[np.float64]

_NEWTON_STEPS = 40
_CONVERGED = 1e-6

_WIDE = 3.0
"""Standard deviation of the coefficients where nothing is known of them."""


@dataclass(frozen=True, eq=False)
class Prior:
    """How coefficients are distributed over runs.

    Attributes
    ----------
    mean : float array (p,)
    covariance : float array (p, p)
    frame_sd : float
        Standard deviation of the frames' levels.
    """

    mean: Floats
    covariance: Floats
    frame_sd: float

    def widened(self, factor: float) -> Prior:
        """Return the prior with standard deviations so many times as large."""
        return Prior(self.mean, self.covariance * factor**2, self.frame_sd)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What was seen in one run.

    Attributes
    ----------
    x : float array (n, p)
    indexed : bool array (n,)
    frame : int array (n,)
        Which of the `n_frames` frames.
    n_frames : int
    """

    x: Floats
    indexed: NDArray[np.bool_]
    frame: NDArray[np.intp]
    n_frames: int


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of a run's coefficients and of its frames' levels.

    Attributes
    ----------
    mean : float array (p,)
    covariance : float array (p, p)
        Of the coefficients, whatever the levels are.
    level : float array (F,)
        The levels where the coefficients are at their mean.
    level_variance : float array (F,)
        Theirs where the coefficients are known.
    slope : float array (F, p)
        How much the levels change with the coefficients.
    """

    mean: Floats
    covariance: Floats
    level: Floats
    level_variance: Floats
    slope: Floats

    def draws(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return coefficients (n, p) and levels (n, F) drawn from the posterior."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        away = rng.standard_normal((n, len(self.mean))) @ root.T
        noise = rng.standard_normal((n, len(self.level))) * np.sqrt(self.level_variance)
        return self.mean + away, self.level + away @ self.slope.T + noise


def update(prior: Prior, seen: Outcomes) -> Posterior:
    """Return what outcomes leave of a prior."""
    precision: Floats = np.asarray(np.linalg.inv(prior.covariance), float)
    frame_precision = 1 / prior.frame_sd**2
    w, u = prior.mean.copy(), np.zeros(seen.n_frames)
    x, y, frame = seen.x, seen.indexed.astype(float), seen.frame

    def loss(w: Floats, u: Floats) -> float:
        z = x @ w + u[frame]
        away = w - prior.mean
        penalty = away @ precision @ away + frame_precision * u @ u
        return float((np.logaddexp(0, z) - y * z).sum() + penalty / 2)

    now = loss(w, u)
    for _ in range(_NEWTON_STEPS):
        p: Floats = expit(x @ w + u[frame])
        cross, own, curvature = _blocks(seen, p, frame_precision, precision)
        gradient_w = x.T @ (y - p) - precision @ (w - prior.mean)
        gradient_u = np.bincount(frame, y - p, seen.n_frames) - frame_precision * u
        step_w = np.linalg.solve(curvature, gradient_w - cross.T @ (gradient_u / own))
        step_u = (gradient_u - cross @ step_w) / own
        size = 1.0
        while (then := loss(w + size * step_w, u + size * step_u)) > now and size > 1e-4:
            size /= 2
        w, u = w + size * step_w, u + size * step_u
        if now - then < _CONVERGED:
            break
        now = then
    p = expit(x @ w + u[frame])
    cross, own, curvature = _blocks(seen, p, frame_precision, precision)
    return Posterior(
        w, np.asarray(np.linalg.inv(curvature), float), u, 1 / own, -cross / own[:, None]
    )


def _blocks(
    seen: Outcomes, p: Floats, frame_precision: float, precision: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the curvature's blocks: levels by coefficients, levels, coefficients after levels."""
    weight = p * (1 - p)
    weighted = seen.x * weight[:, None]
    own = np.bincount(seen.frame, weight, seen.n_frames) + frame_precision
    cross = np.zeros((seen.n_frames, seen.x.shape[1]))
    np.add.at(cross, seen.frame, weighted)
    curvature = seen.x.T @ weighted + precision - cross.T @ (cross / own[:, None])
    return cross, np.asarray(own, float), curvature


def fit_prior(
    runs: Sequence[Outcomes],
    *,
    start: Prior | None = None,
    weight: float = 0.0,
    rounds: int = 20,
) -> Prior:
    """Return the distribution over runs that fits them.

    Parameters
    ----------
    runs : sequence of Outcomes
    start : Prior, optional
        Where to begin. What the runs say nothing of stays as it is there.
    weight : float
        How many runs the start counts as.
    rounds : int
        Of expectation and maximisation.
    """
    n_features = runs[0].x.shape[1]
    nothing = Prior(np.zeros(n_features), np.eye(n_features) * _WIDE**2, frame_sd=1.0)
    prior = before = nothing if start is None else start
    share = len(runs) / (len(runs) + weight)
    for _ in range(rounds):
        found = [update(prior, run) for run in runs]
        mean = share * np.mean([each.mean for each in found], axis=0) + (1 - share) * before.mean
        spread = [each.covariance + np.outer(each.mean - mean, each.mean - mean) for each in found]
        earlier = before.covariance + np.outer(before.mean - mean, before.mean - mean)
        levels = np.concatenate([_second_moment(each) for each in found]).mean()
        prior = Prior(
            mean,
            share * np.mean(spread, axis=0) + (1 - share) * earlier + np.eye(n_features) * 1e-4,
            float(np.sqrt(share * levels + (1 - share) * before.frame_sd**2)),
        )
    return prior


def _second_moment(found: Posterior) -> Floats:
    through = np.einsum("fi,ij,fj->f", found.slope, found.covariance, found.slope)
    return found.level**2 + found.level_variance + through
