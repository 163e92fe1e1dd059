"""The mean of what several frames say of the geometry, and how well it is known.

Frames differ by more than their own fits can tell: crystals' cells are not of one size, the beam
wanders. A mean that trusted the fits alone would rest on the few strongest frames, whose fits know
the camera length a hundred times better than the crystal's size is known. So the scatter between
frames is estimated and added to each one's covariance (a random-effects model: Mandel & Paule,
Anal. Chem. 42 (1970) 1194).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import t

__all__ = ["pool"]

Floats = NDArray[np.float64]

_HUBER = 2.0
_ROUNDS = 10
_EXPECTED = 0.9205
"""Mean square of a standard normal number that is cut at ± `_HUBER`."""
_ONE_SIGMA = 0.8413
"""Of a normal distribution, the part below one standard deviation."""


def pool(values: Floats, information: Floats) -> tuple[Floats, Floats]:
    """Return the robust weighted mean of frames' estimates and its covariance.

    Huber's weights act on each frame's distance from the mean, in its own standard errors and the
    scatter between frames together. The covariance is the sandwich estimate, never below what
    the model says; Student's factor makes ± one standard error cover 68 % where frames are few.
    One frame alone says nothing of the scatter.

    Parameters
    ----------
    values : float64 array (n, m)
    information : float64 array (n, m, m)
        Inverses of their covariances.

    Returns
    -------
    mean : float64 array (m,)
    covariance : float64 array (m, m)
    """
    n, m = values.shape
    covariance = np.linalg.inv(information)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    extra = [_scatter(values[:, c], variances[:, c]) for c in range(m)]
    information = np.linalg.inv(covariance + np.diag(extra))
    weight = np.ones(n)
    for _ in range(_ROUNDS):
        total = np.einsum("i,ijk->jk", weight, information)
        mean = np.linalg.solve(total, np.einsum("i,ijk,ik->j", weight, information, values))
        off = values - mean
        distance = np.sqrt(np.einsum("ij,ijk,ik->i", off, information, off) / m)
        weight = _weight(distance)
    formal = np.linalg.inv(total)
    if n == 1:
        return mean, formal
    pull = weight[:, None] * np.einsum("ijk,ik->ij", information, off)
    sandwich = formal @ (pull.T @ pull) @ formal * (n / (n - 1)) * t.ppf(_ONE_SIGMA, n - 1) ** 2
    widen = np.sqrt(np.maximum(np.diag(formal) / np.maximum(np.diag(sandwich), 1e-300), 1.0))
    return mean, sandwich * np.outer(widen, widen)


def _scatter(values: Floats, variances: Floats) -> float:
    """Return the variance between frames (n,) that explains what their own ones do not."""

    def unexplained(extra: float) -> float:
        precision = 1.0 / (variances + extra)
        weight = np.ones(len(values))
        for _ in range(_ROUNDS):
            mean = np.average(values, weights=weight * precision)
            distance = np.abs(values - mean) * np.sqrt(precision)
            weight = _weight(distance)
        cut = np.minimum(distance, _HUBER)
        return float(cut @ cut) - _EXPECTED * (len(values) - 1)

    if len(values) == 1 or unexplained(0.0) <= 0.0:
        return 0.0
    # With a variance of the whole range squared, no more than a quarter of each is unexplained.
    return float(brentq(unexplained, 0.0, np.ptp(values) ** 2))


def _weight(distance: Floats) -> Floats:
    return np.minimum(1.0, _HUBER / np.maximum(distance, 1e-12))
