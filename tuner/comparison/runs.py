"""Where the comparison on frames finds its frames: a user's run, rendered and shared ones."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import ParameterSpace
from envs.simulation.families import draw_experiments
from envs.simulation.simulator import simulate_run
from tuner.comparison.frames import Progress, Scored, compare_on_frames, run_figures
from tuner.comparison.results import Results
from tuner.comparison.store import ComparisonStore
from tuner.search.contract import AnyPolicy
from tuner.session.request import Request, search_space
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.address import Address
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.settings import Settings

__all__ = ["SHARED_RUNS", "compare_everything", "compare_run", "exhaustive_grid"]

SHARED_RUNS = {
    "crystfel_simulated": (
        "simulated/jf1m_lyso_60.h5",
        "simulated/jf1m.geom",
        "simulated/lyso.cell",
    ),
    "thaumatin": (
        "frames/thaumatin_p6m_crop1320_19.h5",
        "frames/thaumatin_p6m_crop1320.geom",
        "cell/thaumatin.cell",
    ),
    "thermolysin": (
        "frames/thermolysin_cspad_4.h5",
        "frames/thermolysin_cspad.geom",
        "cell/thermolysin.cell",
    ),
}
"""Data, geometry and cell of real runs and of a CrystFEL-simulated one, in the shared data."""

GRID = {"min_snr": (3.5, 4.5, 5.5, 6.5, 8.0), "min_pix_count": (1, 2, 3)}
GRID_THRESHOLDS = 5

RENDERED = 2
"""Experiments of the test family that are rendered, and how many frames of each."""

RENDERED_FRAMES = 200
RENDERED_SEED = 7
MOST_PIXELS = 1.1e6

DECOYS = 25
"""Of an evaluation; as many as a session with CrystFEL takes."""


def compare_run(
    data: Address,
    geometry: Path,
    cell: Path,
    indexer: IndexerChoice,
    policy: AnyPolicy,
    methods: Sequence[str],
    *,
    n_frames: int = 200,
    budget: int = 20,
    splits: int = 2,
    seed: int = 0,
    jobs: int = 1,
    with_grid: bool = False,
    store: ComparisonStore | None = None,
    name: str = "run",
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
    with_grid : bool
        Measure an exhaustive grid on the scoring frames too, for the reference.
    store : ComparisonStore, optional
        Where every evaluation is kept, under `name`.
    name : str
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
                    evaluators.append(store.recorded(live, f"{name}_{pair + part}"))
                for split in range(pair, min(pair + 2, splits)):
                    tuning, scoring = evaluators if split == pair else evaluators[::-1]
                    space = search_space(Request(data, geometry, cell), run, parts[split - pair])
                    told = partial(_named, on_progress, f"{name}, split {split + 1} of {splits}")
                    scored.append(
                        compare_on_frames(
                            tuning, scoring, space, policy, methods,
                            budget=budget, seed=seed + split,
                            grid=exhaustive_grid(space) if with_grid else (), on_progress=told,
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


def compare_everything(
    shared: Path,
    indexer: IndexerChoice,
    policy: AnyPolicy,
    methods: Sequence[str],
    *,
    jobs: int = 1,
    store: ComparisonStore | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Results]]:
    """Compare on rendered runs and every shared run that is there, against a grid, by name."""
    figures, results = {}, {}
    with _rendered_runs(on_progress) as rendered:
        on_disk = {name: tuple(shared / file for file in row) for name, row in SHARED_RUNS.items()}
        for name, (data, geometry, cell) in {**rendered, **on_disk}.items():
            if data.exists():
                figures[name], results[name] = compare_run(
                    data, geometry, cell, indexer, policy, methods,
                    jobs=jobs, with_grid=True, store=store, name=name, on_progress=on_progress,
                )  # fmt: skip
            if name in rendered:
                figures[name]["data"] = "rendered"
    return figures, results


@contextmanager
def _rendered_runs(on_progress: Progress) -> Iterator[dict[str, tuple[Path, ...]]]:
    """Render experiments of the test family; yield data, geometry and cell of each by name."""
    draws = draw_experiments("test", RENDERED, RENDERED_SEED, most_pixels=MOST_PIXELS)
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, tuple[Path, ...]] = {}
        for number, draw in enumerate(draws):
            name = f"rendered_{number}_{draw.kind}"
            paths = simulate_run(
                draw.experiment, Path(folder) / name, RENDERED_FRAMES,
                progress=partial(on_progress, f"{name}, frames rendered"),
            )  # fmt: skip
            runs[name] = (paths.data, paths.geometry, paths.cell)
        yield runs


def _named(on_progress: Progress, name: str, what: str, done: int, total: int) -> None:
    on_progress(f"{name}, {what}", done, total)


def exhaustive_grid(space: ParameterSpace) -> list[Settings]:
    """Return what a careful user would scan, at the geometry's own camera length."""
    units = np.linspace(0.05, 0.75, GRID_THRESHOLDS)
    thresholds = [space["threshold"].from_unit(float(unit)) for unit in units]
    return [
        space.base.replace(min_snr=snr, min_pix_count=pixels, threshold=threshold)
        for snr, pixels, threshold in itertools.product(*GRID.values(), thresholds)
    ]
