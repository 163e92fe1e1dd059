"""When the indexed frames' lattices fix the geometry, so that a search no longer varies it.

The indexing rate is flat over ± 2 % of the camera length, so it cannot place it; the lattices can.
The rule: an evaluation knows a geometry parameter when enough of its frames are indexed, the
refined value's standard error is small, and the value is not at the edge of its range: beyond that
nobody has looked. Of those that know it, the one with the highest merit
(the first of equals) fixes it. Plain functions of numbers or arrays, so that a session on frames
and thousands of simulated ones at once follow the same rule; `GeometryLock` is the session's form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.evaluation import Evaluation
from envs.parameter_space import ParameterSpace
from wrappers.settings import Settings

__all__ = [
    "EDGE",
    "FEWEST_INDEXED",
    "GEOMETRY",
    "MISLEADING",
    "SHIFTS",
    "WELL_KNOWN",
    "WORTH_MEASURING",
    "GeometryLock",
    "at_edge",
    "knows_geometry",
    "near_geometry",
    "updated_lock",
]

SHIFTS = ("shift_x", "shift_y")
GEOMETRY = ("clen", *SHIFTS)
"""Settings that the indexed frames' lattices tell better than the rate, which is flat there."""

FEWEST_INDEXED = 3
"""Indexed frames below which their lattices do not count for the geometry."""

WELL_KNOWN = 6
"""In resolutions of the parameter: a standard error that ends the search for it."""

MISLEADING = 30
"""In resolutions of a geometry parameter: a rate measured this far off says little about the peak
settings."""

WORTH_MEASURING = 6
"""In resolutions of the parameter: a correction that is measured at once."""

WORTH_JOINING = 10
"""In resolutions of the parameter, half a pixel: an error of a detector shift that is not tuned
from which on the lattices fix it all the same."""
JOINING_SIGMAS = 5.0
"""And in its standard errors."""


EDGE = 0.01
"""Of a range: a value so near to its end is at its edge."""


def at_edge(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> Any:
    """Whether values are at the edge of their ranges, beyond it, or NaN."""
    value, low, high = np.asarray(value), np.asarray(low), np.asarray(high)
    margin = EDGE * (high - low)
    return ~((low + margin < value) & (value < high - margin))


def knows_geometry(
    n_indexed: ArrayLike,
    refined: ArrayLike,
    standard_error: ArrayLike,
    resolution: ArrayLike,
    span: tuple[ArrayLike, ArrayLike],
) -> Any:
    """Whether an evaluation's lattices place a geometry parameter well enough to end its search.

    Parameters
    ----------
    n_indexed : array_like of int
    refined, standard_error, resolution : array_like of float
        In the parameter's unit; a NaN knows nothing.
    span : (array_like, array_like) of float
        The range in which the parameter is sought.
    """
    enough = np.asarray(n_indexed) >= FEWEST_INDEXED
    sure = np.asarray(standard_error) < WELL_KNOWN * np.asarray(resolution)
    return enough & sure & ~at_edge(refined, *span)


def updated_lock(
    fixed: ArrayLike, fixed_by: ArrayLike, refined: ArrayLike, knows: ArrayLike, merit: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a parameter is fixed at, and the merit that fixed it, after one more evaluation.

    Parameters
    ----------
    fixed, fixed_by : array_like of float
        Before: NaN and -inf where it is not fixed.
    refined : array_like of float
        The evaluation's refined value.
    knows : array_like of bool
        See `knows_geometry`.
    merit : array_like of float
        The evaluation's.
    """
    better = np.asarray(knows) & (np.asarray(merit) > np.asarray(fixed_by))
    return np.where(better, refined, fixed), np.where(better, merit, fixed_by)


def near_geometry(
    settings: Settings, fixed: Mapping[str, float], space: ParameterSpace, resolutions: float
) -> bool:
    """Whether a parameter set's geometry is within so many resolutions of the fixed one."""
    return all(
        abs(getattr(settings, name) - value) <= resolutions * space[name].resolution
        for name, value in fixed.items()
    )


class GeometryLock:
    """The geometry that the lattices of a session's evaluations fix so far.

    Parameters
    ----------
    space : ParameterSpace
        What it tunes is fixed, and what may join where the lattices clearly ask for it.
    """

    def __init__(self, space: ParameterSpace) -> None:
        self._space = space
        self._joining = [parameter.name for parameter in space.joining]
        names = (*space.names, *self._joining)
        self._fixed = {name: (np.nan, -np.inf) for name in GEOMETRY if name in names}
        self._most_frames = 0

    def observe(self, evaluation: Evaluation, merit: float) -> None:
        """Take in one more evaluation.

        What is fixed does not change for an evaluation on fewer frames, whose merit may be luck.
        """
        joins = self._joins(evaluation)
        part = evaluation.n_frames < self._most_frames
        self._most_frames = max(self._most_frames, evaluation.n_frames)
        for name, before in self._fixed.items():
            if (name in self._joining and not joins) or (part and not np.isnan(before[0])):
                continue
            parameter = self._space[name]
            value, error = evaluation.refined.get(name, (np.nan, np.nan))
            knows = knows_geometry(
                evaluation.n_indexed,
                value,
                error,
                parameter.resolution,
                (parameter.low, parameter.high),
            )
            refined = parameter.clip(value) if knows else np.nan
            fixed, by = updated_lock(*before, refined, knows, merit)
            self._fixed[name] = float(fixed), float(by)

    def _joins(self, evaluation: Evaluation) -> bool:
        """Whether the lattices put elsewhere what is not tuned."""
        steps, sigmas = [], []
        for name in self._joining:
            value, error = evaluation.refined.get(name, (np.nan, np.nan))
            off = value - getattr(self._space.base, name)
            steps.append(off / self._space[name].resolution)
            sigmas.append(off / error if error > 0 else np.nan)
        # NaN, which compares as false, where nothing is known.
        return bool(np.hypot.reduce([0.0, *steps]) > WORTH_JOINING) and bool(
            np.max(np.abs(sigmas)) > JOINING_SIGMAS
        )

    @property
    def fixed(self) -> dict[str, float]:
        """By name, in metres, what is fixed from the lattices."""
        return {name: value for name, (value, _) in self._fixed.items() if not np.isnan(value)}

    def recommended(self, winner: Evaluation) -> dict[str, float]:
        """Return the geometry that a parameter set is recommended with, where not its own.

        It is what is fixed; where nothing is, and next to no frame was indexed, the base's, which
        is the geometry file's: one or two lattices may be chance.
        """
        kept = {}
        if winner.n_indexed < FEWEST_INDEXED:
            kept = {name: float(getattr(self._space.base, name)) for name in self._fixed}
        return {**kept, **self.fixed}
