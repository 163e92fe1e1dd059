"""Simulated experiments with the spaces in which sessions would search them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS
from envs.evaluators.response import ResponseEvaluator
from envs.parameter_space import ParameterSpace, make_space
from envs.response.model import ResponseModel
from envs.simulation.families import draw_experiments
from wrappers.settings import Settings

__all__ = ["SimulatedPool", "spaces_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedPool:
    """Experiments of one family, ready to be searched.

    Attributes
    ----------
    model : ResponseModel
    spaces : sequence of ParameterSpace
        One an experiment, with every one of `POLICY_PARAMETERS` tuned.
    known_reachable : float array (P,), optional
        `reachable`, if it is known from before; working it out takes most of the time of a pool.
    """

    model: ResponseModel
    spaces: Sequence[ParameterSpace]
    known_reachable: Floats | None = None

    @cached_property
    def reachable(self) -> Floats:
        """The highest true rate (P,) that parameter sets in the space give without a mask.

        Sessions do not tune a mask for bad pixels unless told to.
        """
        if self.known_reachable is not None:
            return self.known_reachable
        return self.model.best(self.spaces, mask_hot_sigma=0)[0]

    def __len__(self) -> int:
        return len(self.spaces)

    @classmethod
    def draw(cls, family: str, n: int, seed: int) -> SimulatedPool:
        """Draw n experiments of a family (see `envs.simulation.families`)."""
        model = ResponseModel(draw_experiments(family, n, seed))
        return cls(model, spaces_of(model))

    def take(self, rows: NDArray[np.int64]) -> SimulatedPool:
        """Return a pool of some of the experiments."""
        return SimulatedPool(
            self.model.take(rows), [self.spaces[row] for row in rows], self.reachable[rows]
        )

    def reaching(self, least: float) -> SimulatedPool:
        """Return the experiments in which at least this rate is within reach."""
        return self.take(np.flatnonzero(self.reachable >= least))

    def space(self, row: int, tuned: Sequence[str]) -> ParameterSpace:
        """Return the space of one experiment with only some of the parameters tuned."""
        whole = self.spaces[row]
        return replace(whole, parameters=tuple(whole[name] for name in tuned))

    def evaluator(self, row: int, n_frames: int, draw: int) -> ResponseEvaluator:
        """Return the evaluator of one experiment on one sample of its frames."""
        return ResponseEvaluator(self.model.take([row]), n_frames=n_frames, draw=draw)

    def truth(self, row: int, tried: Sequence[Settings]) -> tuple[Floats, Floats]:
        """Return the true rates of parameter sets, and their camera lengths' relative errors."""
        model = self.model.take(np.full(len(tried), row))
        clen = np.array([np.nan if one.clen is None else one.clen for one in tried])
        values = {
            name: np.array([getattr(one, name) for one in tried], float)
            for name in POLICY_PARAMETERS
        }
        rates = model.evaluate(values | {"clen": clen}, n_frames=0).true_rate
        return rates, clen / model.true_clen - 1


def spaces_of(model: ResponseModel) -> list[ParameterSpace]:
    """Return the space of each experiment, made of what is known of it."""
    known = {name: column.tolist() for name, column in model.known.items()}
    return [
        make_space(
            POLICY_PARAMETERS,
            background=(known["median"][i], known["bright"][i]),
            camera_length=known["clen0"][i],
            pixel_size=known["pixel_size"][i],
            largest_radius=known["radius"][i],
            photon_energy=known["photon_energy"][i],
        )
        for i in range(len(model))
    ]
