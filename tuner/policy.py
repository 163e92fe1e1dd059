"""The trained policy, and how it is kept in files.

A policy is a directory or package folder with ``policy.safetensors`` (the weights) and
``policy.json`` (what they are for). Loading them runs no code that a file was made to carry, and
a file that does not fit what this version observes and does is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from envs.observation import FACTS, FEATURES, MEMORY, OBSERVATION_SIZE, POLICY_PARAMETERS
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["SHIPPED", "Policy"]

SHIPPED = Path(__file__).parent / "data"
"""Where the policy that comes with the program is."""

FORMAT = 1

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron from observations to actions, tanh between its layers.

    Attributes
    ----------
    layers : tuple of (array (n_out, n_in), array (n_out,))
        Weights and biases, float32.
    typical : float32 array (OBSERVATION_SIZE,)
        The mean observation in training, which explanations compare with.
    provenance : mapping
        How it was trained: plain values.
    """

    layers: tuple[tuple[Weights, Weights], ...]
    typical: Weights
    provenance: Mapping[str, Any]

    def act(self, observations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the actions (B, d) in [-1, 1] for observations (B, OBSERVATION_SIZE).

        Equal observations give equal actions: nothing is drawn.
        """
        hidden = np.asarray(observations, np.float32)
        for number, (weights, biases) in enumerate(self.layers):
            hidden = hidden @ weights.T + biases
            if number < len(self.layers) - 1:
                hidden = np.tanh(hidden)
        return np.clip(hidden, -1, 1)

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json``."""
        tensors = {"typical": np.ascontiguousarray(self.typical, np.float32)}
        for number, (weights, biases) in enumerate(self.layers):
            tensors[f"weights_{number}"] = np.ascontiguousarray(weights, np.float32)
            tensors[f"biases_{number}"] = np.ascontiguousarray(biases, np.float32)
        data = safetensors.numpy.save(tensors)
        described = {
            "format": FORMAT,
            **_interface(),
            "layers": [list(weights.shape) for weights, _ in self.layers],
            "activation": "tanh",
            "sha256": hashlib.sha256(data).hexdigest(),
            "provenance": dict(self.provenance),
        }
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "policy.safetensors", data)
        write_whole(directory / "policy.json", json.dumps(described, indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> Policy:
        """Read a policy.

        Raises
        ------
        InputError
            If a file is missing or damaged, or was made for other observations or actions.
        """
        path, weights_path = directory / "policy.json", directory / "policy.safetensors"
        try:
            described = json.loads(path.read_text())
            data = weights_path.read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(
                f"no policy can be read from {directory}: {error}; `sfx-tuner train` makes one"
            ) from error
        if not isinstance(described, dict):
            raise InputError(f"{path} is not the description of a policy")
        for key, ours in {"format": FORMAT, "activation": "tanh", **_interface()}.items():
            if described.get(key) != ours:
                raise InputError(
                    f"{path} was made by another version: its {key} is {described.get(key)!r}, "
                    f"but this one needs {ours!r}; take the matching version or train anew"
                )
        if hashlib.sha256(data).hexdigest() != described.get("sha256"):
            raise InputError(
                f"{weights_path} does not belong to {path}: its SHA-256 differs; take both files "
                "from one place"
            )
        try:
            tensors = safetensors.numpy.load(data)
            shapes = [tuple(map(int, shape)) for shape in described["layers"]]
        except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{directory} holds a damaged policy: {error}") from error
        _check_shapes(directory, tensors, shapes)
        return cls(
            tuple((tensors[f"weights_{i}"], tensors[f"biases_{i}"]) for i in range(len(shapes))),
            tensors["typical"],
            dict(described.get("provenance") or {}),
        )


def _interface() -> dict[str, Any]:
    """Return what the weights are made for; the order of every list counts."""
    return {
        "actions": list(POLICY_PARAMETERS),
        "features": list(FEATURES),
        "facts": list(FACTS),
        "memory": MEMORY,
        "observation_size": OBSERVATION_SIZE,
    }


def _check_shapes(
    directory: Path, tensors: Mapping[str, NDArray[Any]], shapes: list[tuple[int, ...]]
) -> None:
    expected: dict[str, tuple[int, ...]] = {"typical": (OBSERVATION_SIZE,)}
    for number, shape in enumerate(shapes):
        expected[f"weights_{number}"] = shape
        expected[f"biases_{number}"] = shape[:1]
    chain = [OBSERVATION_SIZE, *(shape[0] for shape in shapes)]
    fits = (
        all(len(shape) == 2 for shape in shapes)
        and [shape[1] for shape in shapes] == chain[:-1]
        and chain[-1] == len(POLICY_PARAMETERS)
        and {name: tensor.shape for name, tensor in tensors.items()} == expected
        and all(tensor.dtype == np.float32 for tensor in tensors.values())
        and all(np.isfinite(tensor).all() for tensor in tensors.values())
    )
    if not fits:
        raise InputError(
            f"the weights in {directory} do not fit its policy.json: shapes or types differ, or "
            "numbers are not finite"
        )
