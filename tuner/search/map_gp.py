"""A Gaussian process that begins with the response map: its mean and its errors are the prior.

The map is asked before any outcome; what evaluations measure then moves the rates around them
(Matérn 5/2), as much as the map's own errors there allow. So the search goes by what was measured
in the box, where the map goes by what became of each frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from envs.evaluation import Evaluation
from envs.response_map.session import MapSession
from envs.response_map.session_map import DRAWS, Forecast
from tuner.search.contract import SearchTask
from tuner.search.map_searcher import MapSearcher

__all__ = ["GpSession", "make_map_gp"]

LENGTHS = (0.1, 0.2, 0.4, 0.8)
"""Of the process, in the unit cube; the likeliest is taken."""

LEAST_ERROR = 0.02
"""Of a rate that the map expects: nowhere is it taken to know better."""

LEAST_VARIANCE = 1e-8
"""Of a measured rate, so that sets that find the same peaks can be solved for."""

Floats = NDArray[np.float64]


class GpSession(MapSession):
    """A map of which a Gaussian process takes the place, once something was measured."""

    def expect(self, tried: Mapping[int, Evaluation], before: Forecast | None = None) -> Forecast:
        """Return what is to be expected of all the map's sets."""
        self.map.forget_outcomes()
        prior = self.map.forecast(self.seed)
        error = np.maximum(prior.rates.std(axis=0), LEAST_ERROR)
        points = self.points()
        distances = cdist(points, points)
        mean, covariance = prior.mean, _covariance(distances, error, LENGTHS[-1])
        if tried:
            columns = np.array([*tried], int)
            away = np.array([each.rate for each in tried.values()]) - mean[columns]
            noise = np.diag([self._noise(each) for each in tried.values()])

            def likelihood(length: float) -> float:
                near = distances[np.ix_(columns, columns)]
                return _likelihood(_covariance(near, error[columns], length) + noise, away)

            covariance = _covariance(distances, error, max(LENGTHS, key=likelihood))
            factor = cho_factor(covariance[np.ix_(columns, columns)] + noise)
            gain = cho_solve(factor, covariance[columns]).T
            mean, covariance = mean + gain @ away, covariance - gain @ covariance[columns]
        values, vectors = np.linalg.eigh(covariance)
        drawn = np.random.default_rng(self.seed).standard_normal((DRAWS, len(mean)))
        rates = mean + drawn @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        return replace(prior, rates=np.clip(rates, 0.0, prior.hits))

    def _noise(self, evaluation: Evaluation) -> float:
        """Return the variance of a rate on the map's frames: of a part of them, it is one."""
        n = evaluation.n_frames
        rate = (evaluation.n_indexed + 0.5) / (n + 1)
        return (1 - n / len(self.map.look.frames)) * rate * (1 - rate) / n + LEAST_VARIANCE


def _covariance(distances: Floats, error: Floats, length: float) -> Floats:
    """Return Matérn's covariance with smoothness 5/2 and the errors as standard deviations."""
    d = np.sqrt(5) * distances / length
    return np.asarray(error[:, None] * error * (1 + d + d**2 / 3) * np.exp(-d))


def _likelihood(covariance: Floats, away: Floats) -> float:
    """Return the logarithm of the marginal likelihood, up to a constant."""
    factor = cho_factor(covariance)
    determinant = 2 * np.log(np.diag(factor[0])).sum()
    return float(-(away @ cho_solve(factor, away) + determinant) / 2)


def make_map_gp(task: SearchTask) -> MapSearcher:
    """Return the Gaussian process that begins with the map."""
    return MapSearcher(task, GpSession)
