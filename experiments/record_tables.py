"""Records some rendered experiments of the test family on a grid over the search box.

    python -m experiments.record_tables      # records what is missing, about an hour on one core

What it writes, `envs/data/tables/*.npz`, lets any searcher be tried on real responses of frames
at no cost (`envs.evaluators.table`). They are for judging, never for training.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from envs.evaluators.live import LiveEvaluator
from envs.evaluators.table import TABLES, TableEvaluator, record_table
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace, make_space
from envs.response.model import ResponseModel
from envs.simulation.families import Draw, draw_experiments
from envs.simulation.simulator import simulate_run
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.frames.sampling import background_level
from wrappers.lattices.fast_indexer import FastIndexer

SEED = 2_000_003
MOST_PIXELS = 1.1e6
N_FRAMES = 100
MAX_DECOYS = 20
MIN_SNR = (3.0, 3.7, 4.5, 5.5, 7.0, 9.0)
N_THRESHOLDS = 9
CLEN_OFFSETS = (-0.035, 0.0, 0.035)
LEAST_CRYSTALS = 0.2
"""Share of frames with a crystal below which so few frames tell nothing."""


def chosen_draws() -> dict[str, Draw]:
    """Return, by name, the first experiment of each kind of detector with enough crystals."""
    found: dict[str, Draw] = {}
    for draw in draw_experiments("test", 60, SEED, most_pixels=MOST_PIXELS):
        if draw.experiment.crystals.hit_fraction >= LEAST_CRYSTALS:
            found.setdefault(draw.kind.lower(), draw)
    return dict(sorted(found.items()))


def grid_of(space: ParameterSpace) -> dict[str, list[float]]:
    """Return the values to record; few camera lengths do, as the rate is flat in between."""
    threshold, clen = space["threshold"], space.base.clen or 0.0
    return {
        "min_snr": list(MIN_SNR),
        "threshold": [threshold.from_unit(u) for u in np.linspace(0, 1, N_THRESHOLDS)],
        "min_pix_count": [1.0, 2.0, 3.0, 4.0],
        "clen": [clen * (1 + offset) for offset in CLEN_OFFSETS],
    }


def _record_one(name: str) -> Path:
    draw = chosen_draws()[name]
    path = TABLES / f"{name}.npz"
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate_run(draw.experiment, Path(folder) / "run", N_FRAMES)
        geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
        run = Run.open(paths.data, geometry)
        frames = range(N_FRAMES)
        radii = geometry.radius_map()
        space = make_space(
            DEFAULT_TUNED,
            background=background_level(run, frames),
            camera_length=run.nominal_clen,
            pixel_size=draw.experiment.detector.pixel_size,
            largest_radius=float(radii[np.isfinite(radii)].max()),
            photon_energy=draw.experiment.beam.photon_energy,
        )
        indexer = FastIndexer(geometry, cell)
        with LiveEvaluator(
            run, cell, indexer, frames, max_decoys=MAX_DECOYS, memory=4 << 30
        ) as evaluator:
            record_table(evaluator.evaluate_all, space, grid_of(space), path)
    return path


def verdict(name: str, draw: Draw) -> str:
    """Return how the response model, told only the description, does on a recorded table."""
    table = TableEvaluator(TABLES / f"{name}.npz")
    points = list(itertools.product(*table.grid.values()))
    plain = dataclasses.replace(
        draw, strictness=0.0, clen_tolerance=0.08, random_effects=(0.0,) * len(draw.random_effects)
    )
    model = ResponseModel([plain]).take(np.zeros(len(points), int))
    told = model.evaluate(dict(zip(table.grid, np.array(points).T, strict=True)), 0)
    measured = [
        table.evaluate(table.base.replace(**dict(zip(table.grid, point, strict=True))))
        for point in points
    ]
    rates = np.array([evaluation.rate for evaluation in measured])
    unindexed = np.array([e.n_hits - e.n_indexed for e in measured]) / table.n_frames
    merits = rates - UNINDEXED_HIT_PENALTY * unindexed
    predicted = told.true_merit(UNINDEXED_HIT_PENALTY)
    cells = [draw.kind]
    for values, by_model in ((rates, told.true_rate), (merits, predicted)):
        rank = spearmanr(values, by_model).statistic
        cells += [f"{values.max():.2f}", f"{values[np.argmax(by_model)]:.2f}", f"{rank:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Record what is missing, then say how well the response model would have chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    TABLES.mkdir(parents=True, exist_ok=True)
    todo = [name for name in chosen_draws() if not (TABLES / f"{name}.npz").exists()]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), os.nice, (10,)) as pool:
        for future in as_completed([pool.submit(_record_one, name) for name in todo]):
            print(future.result(), flush=True)
    print("| detector | best rate | at the model's best | rank | best merit | at it | rank |")
    print("|---|---|---|---|---|---|---|")
    for name, draw in chosen_draws().items():
        print(verdict(name, draw))


if __name__ == "__main__":
    main()
