"""The regression behind the response map."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from envs.response_map.regression import Outcomes, Prior, fit_prior, update

MEAN = np.array([0.5, 2.0, -1.0])
SPREAD = np.diag([0.3, 0.2, 0.1]) ** 2


def _run(rng: np.random.Generator, n_frames: int = 60, per_frame: int = 20) -> Outcomes:
    w = rng.multivariate_normal(MEAN, SPREAD)
    frame = np.repeat(np.arange(n_frames), per_frame)
    x = np.column_stack([np.ones(len(frame)), rng.normal(size=(len(frame), 2))])
    level = rng.normal(0, 0.8, n_frames)
    return Outcomes(x, rng.random(len(frame)) < expit(x @ w + level[frame]), frame, n_frames)


def test_a_prior_over_runs_is_found_again() -> None:
    rng = np.random.default_rng(1)
    prior = fit_prior([_run(rng) for _ in range(60)], rounds=15)
    assert np.abs(prior.mean - MEAN).max() < 0.25
    assert 0.6 < prior.frame_sd < 1.0


def test_without_outcomes_the_prior_stays() -> None:
    prior = Prior(MEAN, SPREAD, 0.8)
    nothing = Outcomes(np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0, np.intp), 5)
    left = update(prior, nothing)
    assert np.allclose(left.mean, MEAN)
    assert np.allclose(left.covariance, SPREAD)
    assert np.allclose(left.level_variance, 0.8**2)


def test_the_mode_is_where_no_small_step_is_likelier() -> None:
    rng = np.random.default_rng(2)
    prior, seen = Prior(MEAN, SPREAD, 0.8), _run(rng)
    found = update(prior, seen)

    def log_posterior(w: np.ndarray, u: np.ndarray) -> float:
        z = seen.x @ w + u[seen.frame]
        away = w - prior.mean
        likelihood = (seen.indexed * z - np.logaddexp(0, z)).sum()
        return likelihood - (away @ np.linalg.inv(SPREAD) @ away + u @ u / 0.8**2) / 2

    best = log_posterior(found.mean, found.level)
    for _ in range(50):
        w = found.mean + rng.normal(0, 0.02, 3)
        u = found.level + rng.normal(0, 0.02, seen.n_frames)
        assert log_posterior(w, u) <= best + 1e-6


def test_its_intervals_hold_the_truth() -> None:
    """Of coefficients drawn from the prior, 95 % lie in their intervals."""
    rng = np.random.default_rng(3)
    prior, inside = Prior(MEAN, SPREAD, 0.8), []
    for _ in range(100):
        w = rng.multivariate_normal(MEAN, SPREAD)
        frame = np.repeat(np.arange(40), 5)
        x = np.column_stack([np.ones(200), rng.normal(size=(200, 2))])
        z = x @ w + rng.normal(0, 0.8, 40)[frame]
        found = update(prior, Outcomes(x, rng.random(200) < expit(z), frame, 40))
        inside += (np.abs(found.mean - w) < 1.96 * np.sqrt(np.diag(found.covariance))).tolist()
    assert 0.91 < np.mean(inside) < 0.985


def test_draws_have_the_posterior_s_moments() -> None:
    rng = np.random.default_rng(4)
    found = update(Prior(MEAN, SPREAD, 0.8), _run(rng))
    weights, levels = found.draws(20_000, rng)
    assert np.allclose(weights.mean(axis=0), found.mean, atol=0.01)
    assert np.allclose(np.cov(weights.T), found.covariance, atol=0.005)
    through = np.einsum("fi,ij,fj->f", found.slope, found.covariance, found.slope)
    assert np.allclose(levels.var(axis=0), found.level_variance + through, rtol=0.1)
