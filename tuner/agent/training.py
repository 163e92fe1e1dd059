"""Training the agent: PPO on simulated experiments, checkpoints chosen on others.

Actors are trained from several random starts; together they are the committee. Then the selector
learns from sessions that the committee plays. Both are divided into checkpoint intervals. Each
interval begins from the weights of the one before, with random streams of its own, so a training
that was stopped and resumed is the one that never stopped. Only the families "train" and
"validation" are drawn here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from tuner.agent.actor_training import train_seed
from tuner.agent.policy import Policy
from tuner.agent.selector_training import train_selector
from tuner.agent.training_curves import Row, draw_curves, read_curve
from tuner.agent.training_setup import Training, begin_training, draw_pools, versions
from wrappers.files import write_whole
from wrappers.processes import end_with_parent

__all__ = ["Training", "train"]


def train(
    training: Training,
    directory: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    on_checkpoint: Callable[[str, Row], None] = lambda what, row: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Policy:
    """Train the actors and the selector; of each, take the checkpoint that does best on validation.

    Writes ``policy.json`` and ``policy.safetensors``, ``curves.csv`` and ``curves.png``, and
    for each seed and the selector their checkpoints.

    Parameters
    ----------
    training : Training
    directory : Path
        New or empty, unless `resume`.
    jobs : int
        Seeds that are trained at the same time, one process each.
    resume : bool
        Go on where the training in the directory was stopped.
    on_checkpoint : callable
        Called with what is trained, ``"seed 0"`` or ``"selector"``, and the row of its curve after
        each checkpoint interval.
    on_note : callable
        Called with what takes minutes and is no checkpoint interval, in words.

    Raises
    ------
    InputError
        If the directory holds another training, or one that is not to be resumed.
    """
    outputs = ("policy.json", "policy.safetensors", "curves.csv")
    begin_training(training, directory, resume, *outputs)
    draw_pools(training, directory)  # once, before every seed would
    seen: dict[int, int] = {}

    def tell() -> None:
        for seed in training.seeds:
            rows = read_curve(directory / f"seed_{seed}")
            for row in rows[seen.get(seed, 0) :]:
                on_checkpoint(f"seed {seed}", row)
            seen[seed] = len(rows)

    # Spawned, not forked: a forked PyTorch may hang on the threads of its parent.
    with ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent) as pool:
        futures = [
            pool.submit(train_seed, training, seed, directory / f"seed_{seed}", jobs)
            for seed in training.seeds
        ]
        while not all(future.done() for future in futures):
            tell()
            time.sleep(0.5)
        for future in as_completed(futures):
            future.result()
    tell()
    train_selector(training, directory, jobs, on_checkpoint, on_note)
    return _put_together(training, directory)


def _put_together(training: Training, directory: Path) -> Policy:
    """Write the committee with its selector, and how they came about."""
    curves = {f"seed {seed}": read_curve(directory / f"seed_{seed}") for seed in training.seeds}
    selected = read_curve(directory / "selector")
    row = min(selected, key=lambda row: row["score"])
    provenance = {
        "training": asdict(training),
        "validation": {name: row[name] for name in ("regret_5", "regret_10", "regret_20")},
        "validation_score": row["score"],
        "validation_score_of_actors": {
            name: min(row["score"] for row in rows) for name, rows in curves.items()
        },
        "versions": versions(),
    }
    policy = replace(Policy.load(directory / "selector" / "best"), provenance=provenance)
    policy.save(directory)
    frame = pd.concat(
        [
            pd.DataFrame(rows).assign(of=name)
            for name, rows in (curves | {"selector": selected}).items()
        ],
        ignore_index=True,
    )
    write_whole(directory / "curves.csv", frame.to_csv(index=False))
    draw_curves(curves, selected, directory / "curves.png")
    return policy
