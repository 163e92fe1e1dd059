"""A Gaussian mixture: fitted by scikit-learn, its number of parts by held-out likelihood."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from threadpoolctl import threadpool_limits

__all__ = ["MOST_PARTS", "Mixture"]

Floats = NDArray[np.float64]

STRANGE = 1e-5
N_STEPS = 10
MOST_PARTS = 12
FOLDS = 4
FLOOR = 0.15
"""Standard deviation that every part has along each feature at least: a feature that all frames
of a part share to the last bit would make the part infinitely likely."""
FRAMES_PER_PART = 6
"""A part is sought where there are so many frames for each."""
GAIN = 0.02
"""Of log-likelihood for each held-out frame that a further part must bring."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians and their shares.

    Attributes
    ----------
    weights : float64 array (n_parts,)
    means : float64 array (n_parts, n_features)
    covariances : float64 array (n_parts, n_features, n_features)
    """

    weights: Floats
    means: Floats
    covariances: Floats

    @classmethod
    def fit(cls, points: Floats, seed: int = 0, most: int = MOST_PARTS) -> Mixture:
        """Fit points (n, n_features); at least one is needed.

        The number of parts is the smallest from which on no further one makes held-out points more
        likely (`FOLDS` folds).
        """
        # Threads wait for each other longer than these small sums take, fifty times as long.
        with threadpool_limits(1):
            return cls._fitted(points, _n_parts(points, seed, most), seed)

    @classmethod
    def _fitted(cls, points: Floats, n_parts: int, seed: int) -> Mixture:
        if len(points) == 1:
            points = np.repeat(points, 2, axis=0)
        found = _scikit(points, n_parts, seed)
        return cls(found.weights_, found.means_, found.covariances_)

    def adapted(
        self, points: Floats, possible: NDArray[np.bool_], counts: Floats, strengths: Floats
    ) -> tuple[Mixture, Floats]:
        """Return the mixture with weights and means that follow points, and the points in each.

        Expectation and maximisation with a prior (maximum a posteriori); covariances stay.

        Parameters
        ----------
        points : float64 array (n, n_features)
            Those that are of no part count for none.
        possible : bool array (n, n_parts)
            Of which parts each point can be.
        counts, strengths : float64 array (n_parts,)
            Points that the present weights, and the present means, are worth.

        Returns
        -------
        mixture : Mixture
        n : float64 array (n_parts,)
            Points in each part, in shares of points.
        """
        mixture, n = self, np.zeros(len(counts))
        for _ in range(N_STEPS):
            shares = mixture.responsibilities(points, possible)
            shares[mixture.strange(points)] = 0.0
            n = shares.sum(axis=0)
            weights = (counts + n) / (counts.sum() + n.sum())
            means = (strengths[:, None] * self.means + shares.T @ points) / (strengths + n)[:, None]
            mixture = Mixture(weights, means, self.covariances)
        return mixture, n

    def responsibilities(self, points: Floats, possible: NDArray[np.bool_]) -> Floats:
        """Return the share of each point that is of each part that it can be of (n, n_parts)."""
        log = np.where(possible, self.log_densities(points), -np.inf)
        with np.errstate(invalid="ignore"):
            shares = np.exp(log - log.max(axis=1, keepdims=True))
            shares = np.where(possible, shares / shares.sum(axis=1, keepdims=True), 0.0)
        return np.asarray(shares)

    def strange(self, points: Floats) -> NDArray[np.bool_]:
        """Return which points are of no part: every part would have one as far off too rarely."""
        return np.asarray(self.distances(points).min(axis=1) > _most_distant(points.shape[1]))

    def log_densities(self, points: Floats) -> Floats:
        """Return log(weight times density) of each point under each part (n, n_parts)."""
        size = 0.5 * points.shape[1] * math.log(2 * math.pi)
        halves = np.log(np.diagonal(self._roots, axis1=1, axis2=2)).sum(axis=1)
        return np.asarray(np.log(self.weights) - size - halves - 0.5 * self.distances(points))

    def distances(self, points: Floats) -> Floats:
        """Return each point's squared Mahalanobis distance from each part (n, n_parts)."""
        off = points[None] - self.means[:, None]
        return np.asarray(((self._whitening @ off.swapaxes(1, 2)) ** 2).sum(axis=1).T)

    @cached_property
    def _roots(self) -> Floats:
        return np.asarray(np.linalg.cholesky(self.covariances), float)

    @cached_property
    def _whitening(self) -> Floats:
        return np.asarray(np.linalg.inv(self._roots), float)

    def parts(self, points: Floats) -> NDArray[np.intp]:
        """Return the likeliest part of each point (n,)."""
        return self.log_densities(points).argmax(axis=1)


@cache
def _most_distant(n_features: int) -> float:
    return float(chi2.isf(STRANGE, n_features))


def _n_parts(points: Floats, seed: int, most: int) -> int:
    order = np.random.default_rng(seed).permutation(len(points))
    best, chosen = -math.inf, 1
    for n_parts in range(1, min(most, max(len(points) // FRAMES_PER_PART, 1)) + 1):
        likelihood = _held_out(points[order], n_parts, seed)
        if likelihood > best + GAIN:
            best, chosen = likelihood, n_parts
        elif n_parts >= chosen + 3:
            break
    return chosen


def _scikit(points: Floats, n_parts: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning  # takes a second to import
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        n_parts, reg_covar=FLOOR**2, n_init=2, random_state=seed, max_iter=200, tol=1e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(points)


def _held_out(points: Floats, n_parts: int, seed: int) -> float:
    """Return the mean log-likelihood of held-out points."""
    folds = np.arange(len(points)) % min(FOLDS, len(points))
    total = 0.0
    for fold in np.unique(folds):
        rest = points[folds != fold]
        if len(rest) <= n_parts:
            return -math.inf
        total += float(_scikit(rest, n_parts, seed).score_samples(points[folds == fold]).sum())
    return total / len(points)
