"""Makes the model that comes with the program, from rendered frames of the train family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.spots.examples import TRAINED_ON, Examples, rendered_examples
from tuner.spots.networks import Schedule, fit, log_loss, new_model
from tuner.threads import single_threaded_algebra
from wrappers.spots.model import SpotModel

__all__ = ["SpotTraining", "train_spots"]

HELD_OUT = 8
"""Of so many experiments one is held out, to say how well the rest was learnt."""


@dataclass(frozen=True)
class SpotTraining:
    """What a model is trained with.

    Attributes
    ----------
    n_experiments, n_frames : int
        Rendered experiments, and frames of each.
    n_members : int
        Networks.
    hidden : tuple of int
        Widths of their inner layers.
    epochs : int
    seed : int
        Of frames and networks.
    """

    n_experiments: int = 160
    n_frames: int = 6
    n_members: int = 5
    hidden: tuple[int, ...] = (48, 24)
    epochs: int = 20
    seed: int = 0


def train_spots(
    training: SpotTraining,
    output: Path,
    *,
    on_note: Callable[[str], None] = lambda text: None,
    on_rendered: Callable[[int, int], None] = lambda done, total: None,
) -> SpotModel:
    """Train a model and write it.

    Parameters
    ----------
    training : SpotTraining
    output : Path
        Directory for ``spots.json`` and ``spots.safetensors``.
    on_note : callable
        Called with what is being done, in words.
    on_rendered : callable
        Called with the experiments that are rendered, and with all.
    """
    on_note("rendering frames of the train family")
    examples = rendered_examples(
        training.n_experiments, training.n_frames, training.seed, on_rendered
    )
    return fit_and_write(training, examples, output, on_note)


def fit_and_write(
    training: SpotTraining,
    examples: Examples,
    output: Path,
    on_note: Callable[[str], None] = lambda text: None,
) -> SpotModel:
    """Train a model on examples and write it; see `train_spots`."""
    single_threaded_algebra()
    held_out = examples.group % HELD_OUT == HELD_OUT - 1
    learnt, judged = examples.of(~held_out), examples.of(held_out)
    on_note(f"training on {len(learnt.label)} candidates, {int(learnt.label.sum())} of them spots")
    begun = new_model(learnt, training.n_members, training.hidden, training.seed)
    model = fit(
        begun,
        learnt,
        Schedule(training.epochs, 3e-3),
        training.seed,
        lambda epoch, loss: on_note(f"epoch {epoch}: loss {loss:.4f}"),
    )
    provenance: dict[str, Any] = {
        "family": TRAINED_ON,
        "training": {**dataclasses.asdict(training), "hidden": list(training.hidden)},
        "n_candidates": len(learnt.label),
        "n_spots": int(learnt.label.sum()),
    }
    if len(judged.label):
        probability, _ = model.judge(judged.features)
        loss = float(np.average(log_loss(probability, judged), weights=judged.weight))
        provenance |= {"held_out_loss": round(loss, 5), **_best_f1(probability, judged)}
    model = dataclasses.replace(model, provenance=provenance)
    model.save(output)
    return model


def _best_f1(probability: np.ndarray[Any, Any], examples: Examples) -> dict[str, float]:
    """Return the best F1 among candidates over all least probabilities, and where it is."""
    order = np.argsort(-probability)
    right = np.cumsum((examples.label * examples.weight)[order])
    found = np.cumsum(examples.weight[order])
    f1 = 2 * right / (found + right[-1])
    best = int(np.argmax(f1))
    return {
        "held_out_f1": round(float(f1[best]), 4),
        "held_out_min_probability": round(float(probability[order[best]]), 4),
    }
