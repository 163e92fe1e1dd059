"""The training of the ensemble, with PyTorch: all members at once, as batched matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tuner.spots.examples import Examples
from wrappers.spots.model import SpotModel
from wrappers.spots.patches import BLOCKS, FEATURES, PATCH

__all__ = ["Schedule", "fit", "log_loss", "new_model"]

BATCH = 2048
DECAY = 1e-4


@dataclass(frozen=True)
class Schedule:
    """How long and how fast is trained.

    Attributes
    ----------
    epochs : int
    rate : float
        Of Adam's steps at the start; it falls to nothing along a cosine.
    pull : float
        How strongly the weights are held to those that they begin with.
    """

    epochs: int
    rate: float
    pull: float = 0.0


def new_model(examples: Examples, n_members: int, hidden: Sequence[int], seed: int) -> SpotModel:
    """Return untrained networks, and the scale of the features of some examples."""
    rng = np.random.default_rng(seed)
    sizes = [len(FEATURES), *hidden, 1]
    weights, biases = [], []
    for n_in, n_out in itertools.pairwise(sizes):
        drawn = rng.standard_normal((n_members, n_in, n_out)) * np.sqrt(2 / n_in)
        weights.append(drawn.astype(np.float32))
        biases.append(np.zeros((n_members, n_out), np.float32))
    mean = np.average(examples.features, axis=0, weights=examples.weight)
    square = np.average((examples.features - mean) ** 2, axis=0, weights=examples.weight)
    scale = np.maximum(np.sqrt(square), 0.05)
    return SpotModel(mean.astype(np.float32), scale.astype(np.float32), weights, biases)


def fit(
    model: SpotModel,
    examples: Examples,
    schedule: Schedule,
    seed: int,
    progress: Callable[[int, float], None] = lambda epoch, loss: None,
) -> SpotModel:
    """Return the model trained on examples; equal seeds give equal weights on one machine.

    Each member sees the examples turned, mirrored and in an order of its own.

    Parameters
    ----------
    model : SpotModel
        What is begun with.
    examples : Examples
    schedule : Schedule
    seed : int
    progress : callable
        Called after each epoch with its number and mean loss.
    """
    torch.manual_seed(seed)
    turned = _turned_features()
    layers = [
        torch.tensor(each, requires_grad=True)
        for pair in zip(model.weights, model.biases, strict=True)
        for each in pair
    ]
    begun = [each.detach().clone() for each in layers]
    mean, scale = torch.tensor(model.mean), torch.tensor(model.scale)
    features = torch.tensor(examples.features)
    target, weight = torch.tensor(examples.label), torch.tensor(examples.weight)
    n, n_members = len(features), model.n_members
    optimizer = torch.optim.AdamW(layers, lr=schedule.rate, weight_decay=DECAY)
    steps = max(1, -(-n // BATCH)) * schedule.epochs
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.rate, total_steps=steps, pct_start=0.1
    )
    for epoch in range(schedule.epochs):
        orders = torch.stack([torch.randperm(n) for _ in range(n_members)])
        total = 0.0
        for first in range(0, n, BATCH):
            chosen = orders[:, first : first + BATCH]
            turn = turned[torch.randint(len(turned), (n_members,))]
            inputs = torch.stack([features[c][:, t] for c, t in zip(chosen, turn, strict=True)])
            logits = _logits(layers, (inputs - mean) / scale)
            each = functional.binary_cross_entropy_with_logits(
                logits, target[chosen], weight[chosen], reduction="sum"
            )
            loss = each / weight[chosen].sum()
            if schedule.pull:
                held = sum(((a - b) ** 2).sum() for a, b in zip(layers, begun, strict=True))
                loss = loss + schedule.pull * held
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            plan.step()
            total += float(each.detach())
        progress(epoch + 1, total / (n_members * float(weight.sum())))
    trained = [each.detach().numpy() for each in layers]
    return SpotModel(model.mean, model.scale, trained[::2], trained[1::2], model.provenance)


def log_loss(probability: NDArray[np.floating], examples: Examples) -> NDArray[np.float64]:
    """Return the loss of each example, by the mean of what the members say of it."""
    p = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
    loss: NDArray[np.float64] = -np.where(examples.label > 0.5, np.log(p), np.log1p(-p))
    return loss


def _logits(layers: Sequence[Tensor], hidden: Tensor) -> Tensor:
    last = len(layers) // 2 - 1
    for number in range(last + 1):
        hidden = torch.baddbmm(layers[2 * number + 1][:, None], hidden, layers[2 * number])
        if number < last:
            hidden = functional.relu(hidden)
    return hidden[..., 0]


def _turned_features() -> Tensor:
    """Return where the features are (8, n) when the patches are turned and mirrored."""
    orders = []
    n_pixels, n_blocks = PATCH * PATCH, BLOCKS * BLOCKS
    pixels = np.arange(n_pixels).reshape(PATCH, PATCH)
    blocks = n_pixels + np.arange(n_blocks).reshape(BLOCKS, BLOCKS)
    rest = np.arange(n_pixels + n_blocks, len(FEATURES))
    for quarter in range(4):
        for mirrored in (False, True):
            parts = [np.rot90(each.T if mirrored else each, quarter) for each in (pixels, blocks)]
            orders.append(np.concatenate([*(part.ravel() for part in parts), rest]))
    return torch.tensor(np.array(orders))
