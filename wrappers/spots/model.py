"""The ensemble that judges candidates, and how it is kept in files.

A model is a directory with ``spots.safetensors`` (the weights) and ``spots.json`` (what they are
for). Loading them runs no code that a file was made to carry, and a file that does not fit what
this version measures of a candidate is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from wrappers.algebra import ONE_THREAD
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.reading import read_bytes
from wrappers.schema import read_json, validated
from wrappers.spots.patches import FEATURES

__all__ = ["SHIPPED", "SpotModel"]

SHIPPED = Path(__file__).parent / "data"
"""Where the model that comes with the program is."""

FORMAT = 1
REMEDY = "take both files of the model from one place, or train anew (sfx-tuner train --spots)"
MOST_MEMBERS = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SpotModel:
    """Small networks, trained from different random starts, that are asked together.

    Attributes
    ----------
    mean, scale : float32 array (n_features,)
        What is taken from each feature, and by what the rest is divided.
    weights : sequence of float32 array (n_members, n_in, n_out)
        Of each layer of all members.
    biases : sequence of float32 array (n_members, n_out)
    provenance : mapping
        How it was trained: plain values.
    """

    mean: Floats
    scale: Floats
    weights: Sequence[Floats]
    biases: Sequence[Floats]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_members(self) -> int:
        """Number of networks."""
        return len(self.weights[0])

    def judge(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the probability that candidates are Bragg spots, and its uncertainty.

        Parameters
        ----------
        features : float32 array (n, n_features)

        Returns
        -------
        probability, uncertainty : float32 array (n,)
            Mean and standard deviation of what the members say.
        """
        members = self.members(features)
        return members.mean(axis=0), members.std(axis=0)

    def members(self, features: Floats) -> Floats:
        """Return what each member says (n_members, n) of candidates (n, n_features)."""
        first, biases = self._first_layers
        with ONE_THREAD:
            hidden = features @ first
            hidden += biases
            n_out = self.weights[0].shape[2]
            hidden = hidden.reshape(len(features), self.n_members, n_out).transpose(1, 0, 2)
            for weights, biases in zip(self.weights[1:], self.biases[1:], strict=True):
                np.maximum(hidden, 0, out=hidden)
                hidden = hidden @ weights
                hidden += biases[:, None]
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-hidden[..., 0])), np.float32)

    @cached_property
    def _first_layers(self) -> tuple[Floats, Floats]:
        """Return the members' first layers as one matrix, which takes mean and scale along.

        Most of the work is there.
        """
        n_members, n_in, n_out = self.weights[0].shape
        weights = self.weights[0].astype(np.float64) / self.scale[:, None]
        biases = self.biases[0] - self.mean @ weights
        together = weights.transpose(1, 0, 2).reshape(n_in, n_members * n_out)
        return together.astype(np.float32), biases.reshape(-1).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write ``spots.safetensors`` and ``spots.json``."""
        data = safetensors.numpy.save(self._tensors())
        described = {
            "format": FORMAT,
            "features": list(FEATURES),
            "layers": [list(weights.shape) for weights in self.weights],
            "sha256": hashlib.sha256(data).hexdigest(),
            "provenance": dict(self.provenance),
        }
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "spots.safetensors", data)
        write_whole(directory / "spots.json", json.dumps(described, indent=1) + "\n")

    def _tensors(self) -> dict[str, Floats]:
        tensors = {"mean": self.mean, "scale": self.scale}
        for number, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"weights_{number}": weights, f"biases_{number}": biases}
        return {name: np.ascontiguousarray(each, np.float32) for name, each in tensors.items()}

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> SpotModel:
        """Read a model.

        Raises
        ------
        InputError
            If a file is missing or damaged, or was made for other features.
        """
        path, weights_path = directory / "spots.json", directory / "spots.safetensors"
        if not path.is_file() or not weights_path.is_file():
            raise InputError(
                f"no spot model can be read from {directory}: it holds no {path.name} with "
                f"{weights_path.name}; `sfx-tuner train --spots` makes them"
            )
        described = read_json(path, dict[str, Any], "the spot model", REMEDY)
        data = read_bytes(weights_path, "the spot model's weights")
        for key, ours in {"format": FORMAT, "features": list(FEATURES)}.items():
            if described.get(key) != ours:
                raise InputError(
                    f"{path} was made by another version: its {key} differs from this one's; "
                    "take the matching version or train anew (sfx-tuner train --spots)"
                )
        made = {name: described[name] for name in _Made.__annotations__ if name in described}
        known = validated(made, _Made, str(path), REMEDY)
        if hashlib.sha256(data).hexdigest() != known.sha256:
            raise InputError(
                f"{weights_path} does not belong to {path}: its SHA-256 differs; take both files "
                "from one place"
            )
        try:
            return _rebuild(safetensors.numpy.load(data), known)
        except (safetensors.SafetensorError, ValueError, TypeError, LookupError) as error:
            raise InputError(
                f"{directory} holds a damaged spot model ({error}): {REMEDY}"
            ) from error


@dataclass(frozen=True)
class _Made:
    """What ``spots.json`` says of the weights beside what they are made for."""

    sha256: str
    layers: list[tuple[int, int, int]]
    provenance: dict[str, Any] = field(default_factory=dict)


def _rebuild(tensors: Mapping[str, NDArray[Any]], made: _Made) -> SpotModel:
    """Return the model that the tensors make; ValueError where they do not fit."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is not a finite float32 number")
    shapes = made.layers
    if not shapes or not 1 <= shapes[0][0] <= MOST_MEMBERS:
        raise ValueError(f"it has no layers, or not 1 to {MOST_MEMBERS} members")
    sizes = [len(FEATURES), *(shape[2] for shape in shapes)]
    follow = all(
        shape == (shapes[0][0], *ends)
        for shape, ends in zip(shapes, itertools.pairwise(sizes), strict=True)
    )
    if not follow or sizes[-1] != 1:
        raise ValueError("its layers do not follow on each other")
    expected: dict[str, tuple[int, ...]] = {"mean": (len(FEATURES),), "scale": (len(FEATURES),)}
    for number, shape in enumerate(shapes):
        expected |= {f"weights_{number}": shape, f"biases_{number}": (shape[0], shape[2])}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise ValueError("it holds other tensors than its spots.json tells of")
    if not (tensors["scale"] > 0).all():
        raise ValueError("its scale is not above 0")
    n = range(len(shapes))
    return SpotModel(
        tensors["mean"],
        tensors["scale"],
        [tensors[f"weights_{number}"] for number in n],
        [tensors[f"biases_{number}"] for number in n],
        made.provenance,
    )
