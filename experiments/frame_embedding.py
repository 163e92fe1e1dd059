"""Whether a learned embedding of frames helps to tell their kinds: a β-VAE, and principal axes.

Frames are binned to 64 x 64 boxes and divided by what is usual in their run, so that background,
shadows and gaps drop out. A β-variational autoencoder (Higgins et al., ICLR 2017) learns to
draw them from a few numbers, on runs of the train family; its encoder's means join the features,
as do principal components instead, or neither. The mixture of the shipped kinds is fitted anew
each time, to the same train runs, and told on runs of another family.

    python -m experiments.frame_embedding [--family validation] [--runs 12] [--frames 60] [--json]

PyTorch trains the encoder; it is evaluated by NumPy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from experiments.fit_kinds import RUNS_FRAMES, parts_of_kinds
from experiments.frame_kinds import agreement
from experiments.kind_runs import KindRun, kind_runs
from tuner.cli.options import print_json, progress_bar
from wrappers.frame_kinds.features import COARSE, FEATURES, GRID, Reference, features
from wrappers.frame_kinds.kinds import FIRM, PRIOR, Part
from wrappers.frame_kinds.measures import BOXES, Measurer, Measures
from wrappers.frame_kinds.mixture import Mixture
from wrappers.frame_kinds.naming import UNNAMED, can_be, name_of

__all__ = ["binned_frame", "encode"]

Floats = NDArray[np.float64]

N_LATENT = 8
HIDDEN = 128
BETA = 2.0
EPOCHS = 40
CLIP = 2.5
"""Natural logarithm of a box's level over the usual one, at most."""
SPREAD = 1.0
"""Standard deviation that an axis of an embedding is given over the train frames, beside the
features' own, of which a difference of 1 is worth a word."""


@dataclass(frozen=True, eq=False)
class _Run:
    """A run's frames: features, binned, and what they are."""

    points: Floats
    binned: NDArray[np.float32]
    truth: list[str]


def binned_frame(measured: Measures, reference: Reference) -> Floats:
    """Return a frame of 64 x 64 boxes, flat: the logarithm of each level over the usual one."""
    usual = np.array(reference.boxes).reshape(GRID, GRID) * reference.level
    usual = usual.repeat(COARSE, axis=0).repeat(COARSE, axis=1)
    least = 0.1 * max(reference.level, 1e-3)
    with np.errstate(invalid="ignore"):
        ratio = np.log(np.maximum(measured.box_level + least, 1e-9) / (usual + least))
    known = np.isfinite(measured.box_level) & (usual > 0)
    return np.where(known, np.clip(ratio, -CLIP, CLIP), 0.0).reshape(BOXES * BOXES)


def _measured(run: KindRun, n: int) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        measurer = Measurer(run.geometry(Path(folder)))
    rows, truth = [], []
    for frame, kind, _ in run.frames(n):
        rows.append(measurer.measure(frame))
        truth.append(kind)
    reference = Reference.of(rows)
    return _Run(
        np.array([features(each, reference) for each in rows]),
        np.array([binned_frame(each, reference) for each in rows], np.float32),
        truth,
    )


def train_encoder(frames: NDArray[np.float32], seed: int = 0) -> list[NDArray[np.float32]]:
    """Return the weights of an encoder: matrix and offset of the hidden layer, and of the means."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    inputs = torch.from_numpy(frames)
    encoder = nn.Linear(frames.shape[1], HIDDEN)
    heads = nn.ModuleList([nn.Linear(HIDDEN, N_LATENT), nn.Linear(HIDDEN, N_LATENT)])
    decoder = nn.Sequential(
        nn.Linear(N_LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, frames.shape[1])
    )
    weights = [*encoder.parameters(), *heads.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(weights, 1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(64):
            shown = inputs[batch]
            hidden = torch.relu(encoder(shown))
            mean, log_variance = heads[0](hidden), heads[1](hidden).clamp(-8, 8)
            drawn = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            lost = ((decoder(drawn) - shown) ** 2).sum(dim=1).mean()
            surprise = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
            optimiser.zero_grad()
            (lost + BETA * surprise).backward()
            optimiser.step()
    kept = [*encoder.parameters(), *heads[0].parameters()]
    return [each.detach().numpy() for each in kept]


def encode(frames: NDArray[np.float32], weights: Sequence[NDArray[np.float32]]) -> Floats:
    """Return the embedding of binned frames (n, N_LATENT), by an encoder's weights."""
    first, offset, means, shift = weights
    hidden = np.maximum(frames @ first.T + offset, 0)
    return np.asarray(hidden @ means.T + shift, np.float64)


def _axes(frames: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], Floats]:
    """Return the function that gives the first principal components of frames."""
    middle = frames.mean(axis=0)
    _, _, axes = np.linalg.svd(frames - middle, full_matrices=False)
    return lambda shown: np.asarray((shown - middle) @ axes[:N_LATENT].T, np.float64)


def _told(points: Floats, parts: Sequence[Part]) -> list[str]:
    """Return the kinds of a run's frames as `FrameKinds.of_run` does, with any features."""
    prior = np.array([part.prior for part in parts])
    mixture = Mixture(
        prior / prior.sum(),
        np.array([part.mean for part in parts]),
        np.array([part.covariance for part in parts]),
    )
    own = points[:, : len(FEATURES)]
    possible = np.array(
        [[_can_be(part.name, point) for part in parts] for point in own.tolist()], bool
    )
    adapted, _ = mixture.adapted(points, possible, PRIOR * prior, np.full(len(parts), FIRM))
    kinds = [*dict.fromkeys(part.name for part in parts)]
    member = np.array([[part.name == name for name in kinds] for part in parts], float)
    chosen = (adapted.responsibilities(points, possible) @ member).argmax(axis=1)
    return [
        _name_of_odd(point) if odd else kinds[place]
        for point, place, odd in zip(points, chosen, adapted.strange(points), strict=True)
    ]


def _can_be(name: str, point: Sequence[float]) -> bool:
    """Whether a frame shows the signs of a kind; without features it may show any."""
    return len(point) < len(FEATURES) or can_be(name, point)


def _name_of_odd(point: Floats) -> str:
    """Return what a frame of no part is called by its features, which come first, if any do."""
    own = len(FEATURES)
    return name_of(point[:own].tolist()) if len(point) in (own, own + N_LATENT) else UNNAMED


@click.command()
@click.option("--family", default="validation", show_default=True)
@click.option("--runs", default=12, show_default=True)
@click.option("--frames", default=60, show_default=True, help="Of each run.")
@click.option("--json", "as_json", is_flag=True)
def main(family: str, runs: int, frames: int, as_json: bool) -> None:
    """Print the agreement with the truth with each embedding, and with none."""
    n_train, n_frames = RUNS_FRAMES
    drawn = [*kind_runs("train", n_train), *kind_runs(family, runs)]
    found = []
    with progress_bar("runs", len(drawn)) as show:
        for done, run in enumerate(drawn, start=1):
            found.append(_measured(run, n_frames if done <= n_train else frames))
            show(done)
    train, others = found[:n_train], found[n_train:]
    shown = np.concatenate([run.binned for run in train])
    weights = train_encoder(shown)
    embeddings: dict[str, Callable[[NDArray[np.float32]], Floats]] = {
        "none": lambda frames: np.empty((len(frames), 0)),
        "β-VAE": lambda frames: encode(frames, weights),
        "principal axes": _axes(shown),
    }
    rows = {}
    for name, embed in embeddings.items():
        scale = np.maximum(embed(shown).std(axis=0), 1e-9) / SPREAD
        with_it = [
            [
                replace(run, points=np.hstack([run.points, embed(run.binned) / scale]))
                for run in each
            ]
            for each in (train, others)
        ]
        rows[name] = _agreement(*with_it)
        if name != "none":
            alone = [
                [replace(run, points=embed(run.binned) / scale) for run in each]
                for each in (train, others)
            ]
            rows[f"{name} alone"] = _agreement(*alone)
    if as_json:
        print_json({"family": family, "n_runs": runs, "n_frames": frames, "embeddings": rows})
        return
    print("| embedding | homogeneity | completeness | adjusted Rand |\n|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['homogeneity']:.2f} | {row['completeness']:.2f} "
            f"| {row['adjusted_rand']:.3f} ± {row['adjusted_rand_se']:.3f} |"
        )


def _agreement(train: Sequence[_Run], others: Sequence[_Run]) -> dict[str, Any]:
    table = np.concatenate([run.points for run in train])
    called = np.array([kind for run in train for kind in run.truth])
    parts = parts_of_kinds(table, called)
    rows = [agreement(run.truth, _told(run.points, parts)) for run in others]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    error = np.std([row["adjusted_rand"] for row in rows], ddof=1) / np.sqrt(len(rows))
    return {**means, "adjusted_rand_se": float(error)}


if __name__ == "__main__":
    main()
