"""Small multilayer perceptrons in NumPy, and how they lie in a file of tensors.

They are trained with PyTorch but run without it: a session must not wait seconds for an import,
and a file of plain tensors carries no code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Layers", "read_layers", "run", "shapes", "write_layers"]

Floats = NDArray[np.float32]
Layers = tuple[tuple[Floats, Floats], ...]
"""Weights (n_out, n_in) and biases (n_out,) of each layer."""


def run(layers: Layers, inputs: NDArray[np.floating], activation: Callable[..., Any]) -> Floats:
    """Return the outputs (..., n_out) for inputs (..., n_in); the last layer is linear."""
    hidden = np.asarray(inputs, np.float32)
    for number, (weights, biases) in enumerate(layers):
        hidden = hidden @ weights.T + biases
        if number < len(layers) - 1:
            hidden = activation(hidden)
    return hidden


def shapes(layers: Layers) -> list[list[int]]:
    """Return the shape of every layer's weights."""
    return [list(weights.shape) for weights, _ in layers]


def write_layers(name: str, layers: Layers) -> dict[str, Floats]:
    """Return the tensors of a network, by names that begin with its own."""
    tensors = {}
    for number, (weights, biases) in enumerate(layers):
        tensors[f"{name}.weights_{number}"] = np.ascontiguousarray(weights, np.float32)
        tensors[f"{name}.biases_{number}"] = np.ascontiguousarray(biases, np.float32)
    return tensors


def read_layers(
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    shapes: Sequence[Sequence[int]],
    n_in: int,
    n_out: int,
) -> Layers:
    """Return the network of these shapes.

    Raises
    ------
    ValueError
        If tensors are missing, or do not make a network from n_in to n_out numbers.
    """
    layers = []
    for number, shape in enumerate(shapes):
        weights = tensors.get(f"{name}.weights_{number}")
        biases = tensors.get(f"{name}.biases_{number}")
        if weights is None or biases is None or len(shape) != 2:
            raise ValueError(f"no layer {number} of {name}")
        if weights.shape != tuple(shape) or biases.shape != tuple(shape[:1]):
            raise ValueError(f"layer {number} of {name} has another shape")
        layers.append((weights, biases))
    chain = [n_in, *(shape[0] for shape in shapes)]
    if chain[-1] != n_out or any(
        shape[1] != size for shape, (size, _) in zip(shapes, itertools.pairwise(chain), strict=True)
    ):
        raise ValueError(f"the layers of {name} do not follow on each other")
    return tuple(layers)
