"""What was learnt of responses on simulated experiments: the prior of every session's map.

It is shipped as one safetensors file: numbers and a description, no code.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from envs.response_map.features import COUNT_FEATURES, DESCRIPTORS, LATTICE_FEATURES
from envs.response_map.regression import Prior
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["INDEXERS", "SHIPPED_MODEL", "MapModel", "Priors"]

SHIPPED_MODEL = Path(__file__).parents[1] / "data" / "response_map.safetensors"
"""The model that comes with the program."""

FORMAT = "2"

INDEXERS = ("fast", "crystfel")
"""Whose outcomes a model knows: the embedded indexer's, and CrystFEL's."""

Floats = NDArray[np.float64]

ONE_OF_ALL = 0.663
"""How far 99 % of the experiments are by one descriptor, in what it is by all: the square root of
chi-squared's quantiles with one and with `DESCRIPTORS` degrees of freedom."""


class Priors(NamedTuple):
    """How one indexer's responses are distributed over runs.

    Attributes
    ----------
    counts : Prior
        To counts alone; see `features.count_features`.
    lattices : Prior
        To a frame's lattice; see `features.lattice_features`.
    """

    counts: Prior
    lattices: Prior


@dataclass(frozen=True, eq=False)
class MapModel:
    """How responses to counts and lattices are distributed over runs.

    Attributes
    ----------
    priors : mapping of str to Priors
        For each of `INDEXERS`.
    typical : float array (DESCRIPTORS,)
        The mean of the training experiments' descriptors.
    precision : float array (DESCRIPTORS, DESCRIPTORS)
        The inverse of their covariance.
    farthest : float
        The distance (Mahalanobis) below which 99 % of the training experiments are.
    provenance : mapping
        How it was trained: plain values.
    """

    priors: Mapping[str, Priors]
    typical: Floats
    precision: Floats
    farthest: float
    provenance: Mapping[str, Any]

    def strangeness(self, descriptors: Floats) -> float:
        """Return how far a run is from the training experiments, in units of `farthest`.

        Parameters
        ----------
        descriptors : float array (DESCRIPTORS,)
            NaN for what is not known; the cell's size, the first, always is.
        """
        away = descriptors - self.typical
        if np.isfinite(away).all():
            return float(np.sqrt(away @ self.precision @ away)) / self.farthest
        sd = np.sqrt(np.linalg.inv(self.precision)[0, 0])
        return float(abs(away[0]) / sd) / (ONE_OF_ALL * self.farthest)

    @functools.cached_property
    def version(self) -> str:
        """What tells the model from others: of all its numbers."""
        digest = hashlib.sha256()
        for name, values in sorted(self._tensors().items()):
            digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()[:12]

    def _tensors(self) -> dict[str, Floats]:
        tensors = {"typical": self.typical, "precision": self.precision}
        tensors["farthest"] = np.array([self.farthest])
        for indexer, priors in self.priors.items():
            for kind, prior in priors._asdict().items():
                tensors |= {
                    f"{indexer}.{kind}.mean": prior.mean,
                    f"{indexer}.{kind}.covariance": prior.covariance,
                    f"{indexer}.{kind}.frame_sd": np.array([prior.frame_sd]),
                }
        return {name: np.ascontiguousarray(values, float) for name, values in tensors.items()}

    def save(self, path: Path) -> None:
        """Write the file."""
        described = {"format": FORMAT, "provenance": json.dumps(dict(self.provenance))}
        write_whole(path, safetensors.numpy.save(self._tensors(), described))

    @classmethod
    def load(cls, path: Path = SHIPPED_MODEL) -> MapModel:
        """Read a model.

        Raises
        ------
        InputError
            If the file is missing or damaged, or another version made it.
        """
        remedy = "take it from the program's own package, or fit it anew"
        try:
            with safe_open(path, "numpy") as file:
                described = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"the response map {path} cannot be read ({error}): {remedy}"
            ) from None
        shapes = {
            "typical": (DESCRIPTORS,),
            "precision": (DESCRIPTORS, DESCRIPTORS),
            "farthest": (1,),
        }
        for indexer in INDEXERS:
            shapes |= _prior_shapes(f"{indexer}.counts", COUNT_FEATURES)
            shapes |= _prior_shapes(f"{indexer}.lattices", LATTICE_FEATURES)
        if described.get("format") != FORMAT or {n: v.shape for n, v in found.items()} != shapes:
            raise InputError(f"the response map {path} was made by another version: {remedy}")
        if not all(np.isfinite(values).all() for values in found.values()):
            raise InputError(f"the response map {path} holds numbers that are none: {remedy}")
        return cls(
            {
                indexer: Priors(
                    _prior(found, f"{indexer}.counts"), _prior(found, f"{indexer}.lattices")
                )
                for indexer in INDEXERS
            },
            found["typical"],
            found["precision"],
            float(found["farthest"][0]),
            json.loads(described.get("provenance", "{}")),
        )

    @staticmethod
    @functools.cache
    def shipped() -> MapModel:
        """Return the model that comes with the program."""
        return MapModel.load()


def _prior_shapes(name: str, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.mean": (n,), f"{name}.covariance": (n, n), f"{name}.frame_sd": (1,)}


def _prior(found: Mapping[str, Floats], name: str) -> Prior:
    sd = float(found[f"{name}.frame_sd"][0])
    return Prior(found[f"{name}.mean"], found[f"{name}.covariance"], sd)
