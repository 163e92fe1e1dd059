"""The comparison on a user's run: how its frames are divided and opened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluators.live import LiveEvaluator
from tuner.comparison.frames import Progress, Scored, compare_on_frames, run_figures
from tuner.comparison.results import Results
from tuner.comparison.store import ComparisonStore
from tuner.map_agent.policy import MapPolicy
from tuner.session.request import Request, search_space
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.address import Address
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.indexers import IndexerChoice, make_indexer

__all__ = ["compare_run"]

DECOYS = 25
"""Of an evaluation; as many as a session with CrystFEL takes."""


def compare_run(
    data: Address,
    geometry: Path,
    cell: Path,
    indexer: IndexerChoice,
    policy: MapPolicy | None,
    methods: Sequence[str],
    *,
    n_frames: int = 200,
    budget: int = 20,
    splits: int = 2,
    seed: int = 0,
    jobs: int = 1,
    store: ComparisonStore | None = None,
    on_progress: Progress = lambda what, done, total: None,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], Results]:
    """Compare the methods on a run: search on some frames, score on others.

    Parameters
    ----------
    data, geometry, cell : Path
    indexer : IndexerChoice
    policy, methods
        See `tuner.comparison.frames.compare_on_frames`.
    n_frames : int
        Size of each part; at most half of the run.
    budget, seed, jobs : int
    splits : int
        In every second one the parts of the one before change places.
    store : ComparisonStore, optional
        Where every evaluation is kept.
    on_progress : callable
    on_frames : callable
        Called within an evaluation, see `envs.evaluators.live.LiveEvaluator`.

    Returns
    -------
    dict
        What `run_figures` tells, ``data`` and ``indexer``.
    Results
        ``"rate"``, ``"regret"`` and ``"seconds"`` by method, arrays (1, splits, budget).

    Raises
    ------
    InputError
        If a file cannot be used, or the run has a single frame.
    """
    read, unit = Geometry.read(geometry), Cell.read(cell)
    run = open_source(data, read)
    if len(run) < 2:
        raise InputError(
            f"{data} has one frame, but a comparison needs some to search and some to score"
        )
    store = store or ComparisonStore(None)
    scored: list[Scored] = []
    with ExitStack() as stack:
        chosen = stack.enter_context(closing(make_indexer(indexer, read, unit, jobs=jobs)))
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        for pair in range(0, splits, 2):
            parts = sample_frames(run, min(n_frames, len(run) // 2), seed + pair // 2)
            with ExitStack() as opened:
                evaluators = []
                for part, frames in enumerate(parts):
                    live = LiveEvaluator(
                        run, unit, chosen, frames, jobs=jobs, max_decoys=DECOYS,
                        cache=cache, progress=on_frames,
                    )  # fmt: skip
                    opened.enter_context(live)
                    evaluators.append(store.recorded(live, f"run_{pair + part}"))
                for split in range(pair, min(pair + 2, splits)):
                    tuning, scoring = evaluators if split == pair else evaluators[::-1]
                    space = search_space(Request(data, geometry, cell), run, parts[split - pair])
                    told = partial(_named, on_progress, f"split {split + 1} of {splits}")
                    scored.append(
                        compare_on_frames(
                            tuning, scoring, space, policy, methods,
                            budget=budget, seed=seed + split, on_progress=told,
                        )
                    )  # fmt: skip
    results = {
        method: {
            "rate": np.array([[split.rate[method] for split in scored]]),
            "regret": np.array([[split.regret[method] for split in scored]]),
            "seconds": np.array([[split.seconds[method] for split in scored]]),
        }
        for method in methods
    }
    return {**run_figures(scored), "data": str(data), "indexer": chosen.name}, results


def _named(on_progress: Progress, name: str, what: str, done: int, total: int) -> None:
    on_progress(f"{name}, {what}", done, total)
