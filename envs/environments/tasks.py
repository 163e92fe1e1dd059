"""What an episode of the environment tunes: a simulated experiment, or a run of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.evaluation import Evaluator
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import CLEN_RANGE, DEFAULT_TUNED, ParameterSpace, make_space
from envs.response.simulated_pool import SimulatedPool
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import background_level, sample_frames
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer
from wrappers.masks.bad_pixels import with_needed_map
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import Settings

__all__ = ["Task", "run_space", "run_task", "simulated_task"]


@dataclass(frozen=True)
class Task:
    """What is tuned.

    Attributes
    ----------
    evaluator : Evaluator
        What turns a parameter set into an evaluation, on one sample of frames.
    space : ParameterSpace
        The tuned parameters, made by `make_space`.
    truth : callable, optional
        Parameter set to its true indexing rate; only a simulator has it.
    close : callable
        Ends what the evaluator holds.
    """

    evaluator: Evaluator
    space: ParameterSpace
    truth: Callable[[Settings], float] | None = None
    close: Callable[[], None] = lambda: None


def simulated_task(
    seed: int, *, family: str = "train", tuned: Sequence[str] = DEFAULT_TUNED, n_frames: int = 200
) -> Task:
    """Draw a simulated experiment and a sample of its frames.

    Parameters
    ----------
    seed : int
        Equal seeds draw equal tasks.
    family : str
        Of `envs.simulation.families`.
    tuned : sequence of str
    n_frames : int
    """
    pool = SimulatedPool.draw(family, 1, seed)
    evaluator = pool.evaluator(0, n_frames, draw=0)
    return Task(evaluator, pool.space(0, tuned), evaluator.truth)


def run_task(
    run: Path | str,
    geometry: Path | str,
    cell: Path | str,
    *,
    indexer: Indexer | None = None,
    tuned: Sequence[str] = DEFAULT_TUNED,
    n_frames: int | None = 200,
    sample_seed: int = 0,
    jobs: int = 1,
) -> Task:
    """Open a run, as a session does.

    Parameters
    ----------
    run, geometry, cell : path
        Files of frames, the detector's geometry and the unit cell.
    indexer : Indexer, optional
        The embedded one by default.
    tuned : sequence of str
    n_frames : int or None
        Size of the sample; None takes every frame.
    sample_seed : int
        Of the choice of frames.
    jobs : int
        Worker processes.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    from wrappers.lattices.fast_indexer import FastIndexer  # waits for Numba

    panels, known_cell = Geometry.read(Path(geometry)), Cell.read(Path(cell))
    frames = open_source(run, panels)
    sample, _ = sample_frames(frames, n_frames, sample_seed)
    space = run_space(frames, sample, tuned)
    frames = with_needed_map(frames, space.base, sample)
    evaluator = LiveEvaluator(
        frames, known_cell, indexer or FastIndexer(panels, known_cell), sample, jobs=jobs
    )
    return Task(evaluator, space, close=evaluator.close)


def run_space(
    run: FrameSource,
    sample: Sequence[int],
    tuned: Sequence[str],
    *,
    clen_range: float = CLEN_RANGE,
    peak_finder: str = Settings.peak_finder,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> ParameterSpace:
    """Return the box in which a run is searched, made from a sample of its frames.

    Parameters
    ----------
    run : FrameSource
    sample : sequence of int
    tuned : sequence of str
    clen_range : float
    peak_finder : str
    fixed, bounds : mapping, optional
        See `make_space`.
    """
    radii = run.geometry.moved(*run.shift(sample[0])).radius_map()
    energy = run.photon_energy(sample[0])
    return make_space(
        tuned,
        background=background_level(run, sample),
        camera_length=run.nominal_clen,
        pixel_size=1 / run.geometry.panels[0].res,
        largest_radius=float(radii[np.isfinite(radii)].max()),
        photon_energy=energy,
        clen_range=clen_range,
        peak_finder=peak_finder,
        photon=PEAK_FINDERS.get(peak_finder).photon(run.geometry, energy),
        fixed=fixed,
        bounds=bounds,
    )
