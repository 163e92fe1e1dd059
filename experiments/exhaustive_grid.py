"""An exhaustive grid over a session's box, measured on every frame of a run.

Most of it is left out once it has hopelessly lost, and what is measured is kept in files, so that
an interrupted computation goes on.
"""

from __future__ import annotations

import functools
import io
import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from envs.evaluation import Evaluation, FrameOutcome
from envs.parameter_space import ParameterSpace
from tuner.cli.options import progress_bar
from tuner.session.request import Request, search_space
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.frames.source import FrameSource
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

__all__ = ["Grid", "measure_grid", "open_run"]

POINTS = {"min_snr": 10, "threshold": 6, "min_pix_count": 4, "clen": 9}
FRAMES_AT_ONCE = 5
ROUND = 40
HOPELESS = 1e-3


@dataclass(frozen=True)
class Grid:
    """What the grid found, and what it costs whoever measures all of it.

    Attributes
    ----------
    best : Evaluation
        Of the best point, on all frames of the run.
    frame_evaluations : int
    core_seconds : float
    """

    best: Evaluation
    frame_evaluations: int
    core_seconds: float


def _points(space: ParameterSpace) -> list[Settings]:
    """Return the grid, camera lengths fastest."""
    axes = [
        dict.fromkeys(parameter.from_unit(u) for u in np.linspace(0, 1, POINTS[parameter.name]))
        for parameter in space.parameters
    ]
    return [
        space.settings(dict(zip(space.names, values, strict=True)))
        for values in itertools.product(*axes)
    ]


def measure_grid(name: str, request: Request, folder: Path, jobs: int) -> Grid:
    """Measure the grid on all frames of the run.

    After every `ROUND` frames the points are spared the rest that have lost against the
    leading one beyond any doubt (exact McNemar test at `HOPELESS`).

    Parameters
    ----------
    name : str
        Of the run; the files that are kept are called by it.
    request : Request
        Asks for the box: its own sample of the run decides the thresholds.
    folder : Path
    jobs : int
    """
    run, _, space = open_run(request)
    points = _points(space)
    alive = np.arange(len(points))
    indexed = np.zeros((0, len(alive)), bool)
    parts = folder / f"grid_{name}_{request.seed}"
    parts.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, context) as pool, progress_bar(name, len(run)) as show:
        for first in range(0, len(run), ROUND):
            starts = range(first, min(first + ROUND, len(run)), FRAMES_AT_ONCE)
            work = functools.partial(_index_part, request, parts, alive)
            found = []
            for part in pool.map(work, starts):
                found.append(part)
                show(len(indexed) + sum(map(len, found)))
            indexed = np.concatenate([indexed, *found])
            leader = indexed[:, np.argmax(indexed.sum(axis=0))][:, None]
            won, lost = (indexed & ~leader).sum(axis=0), (leader & ~indexed).sum(axis=0)
            keep = binom.cdf(won, won + lost, 0.5) >= HOPELESS
            alive, indexed = alive[keep], indexed[:, keep]
        shares = np.array_split(np.random.default_rng(request.seed).permutation(len(points)), jobs)
        seconds = sum(pool.map(functools.partial(_plain_seconds, request), shares))
    best = int(np.argmax(indexed.sum(axis=0)))
    outcomes = [FrameOutcome(i, 0, bool(n), int(n)) for i, n in enumerate(indexed[:, best])]
    return Grid(
        best=Evaluation(points[alive[best]], tuple(outcomes)),
        frame_evaluations=len(run) * len(points),
        core_seconds=seconds * len(run),
    )


def _index_part(
    request: Request, parts: Path, alive: NDArray[np.intp], start: int
) -> NDArray[np.bool_]:
    """Measure the points that are left on some frames, or look up what an earlier run found."""
    run, indexer, space = open_run(request)
    part = range(start, min(start + FRAMES_AT_ONCE, len(run)))
    kept = parts / f"{start}.npz"
    if kept.exists():
        with np.load(kept) as earlier:
            if np.isin(alive, earlier["points"]).all():
                found: NDArray[np.bool_] = earlier["indexed"]
                return found[:, np.searchsorted(earlier["points"], alive)]
    grid = _points(space)
    points = [grid[i] for i in alive]
    finder = PeakFinder(Geometry.read(request.geometry))
    indexed = np.zeros((len(part), len(points)), bool)
    for frame in PeakBatch(finder, run).search(part, points):
        known: dict[tuple[bytes, bytes, float | None], bool] = {}
        for number, (point, pattern) in enumerate(zip(points, frame.patterns, strict=True)):
            peaks = pattern.peaks
            if len(peaks) < point.min_peaks:
                continue
            key = (peaks.fs.tobytes(), peaks.ss.tobytes(), point.clen)
            if key not in known:
                known[key] = indexer.index([pattern.placed(point, run.nominal_clen)])[0].indexed
            indexed[frame.index - start, number] = known[key]
    with io.BytesIO() as buffer:
        np.savez(buffer, points=alive, indexed=indexed)
        write_whole(kept, buffer.getvalue())
    return indexed


def _plain_seconds(request: Request, numbers: NDArray[np.intp]) -> float:
    """Return the processor time of some points, each on one random frame, nothing prepared."""
    run, indexer, space = open_run(request)
    points = _points(space)
    finder = PeakFinder(Geometry.read(request.geometry))
    frames = np.random.default_rng([request.seed, *numbers[:1]]).integers(
        len(run), size=len(numbers)
    )

    batch = PeakBatch(finder, run)

    def evaluate(number: int, index: int) -> None:
        point = points[number]
        (frame,) = batch.search([index], [point])
        for pattern in frame.patterns:
            if len(pattern.peaks) >= point.min_peaks:
                indexer.index([pattern.placed(point, run.nominal_clen)])

    evaluate(0, 0)  # compiles
    started = time.process_time()
    for number, index in zip(numbers, frames.tolist(), strict=True):
        evaluate(number, index)
    return time.process_time() - started


Opened = tuple[FrameSource, FastIndexer, ParameterSpace]
_OPEN: dict[str, Opened] = {}
"""In each process, by what was requested: a request holds mappings, and has no hash."""


def open_run(request: Request) -> Opened:
    """Return the run of a request, the embedded indexer for it, and the box to search."""
    if (key := repr(request)) not in _OPEN:
        _OPEN[key] = _open(request)
    return _OPEN[key]


def _open(request: Request) -> Opened:
    assert request.cell is not None
    geometry = Geometry.read(request.geometry)
    run = open_source(request.data, geometry)
    indexer = FastIndexer(geometry, Cell.read(request.cell))
    sample, _ = sample_frames(run, request.n_frames, request.seed)
    return run, indexer, search_space(request, run, sample)
