"""Rendered experiments, searched and indexed for real with many parameter sets.

What is recorded is what the response model is fitted to, and tested on, with experiments that the
fit never saw. Each experiment is rendered into a folder that is deleted afterwards; only counts
are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import qmc

from envs.box import POLICY_PARAMETERS
from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import make_space
from envs.simulation.families import Draw
from envs.simulation.rendering import FrameTruth
from envs.simulation.simulator import read_truth, simulate_run
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import background_level
from wrappers.indexing import Indexer, Indexing, Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.settings import Settings

__all__ = [
    "DIAGNOSTICS",
    "INDEXED",
    "N_SOBOL",
    "RIGHT",
    "STATES",
    "Scan",
    "observe_experiment",
    "plan",
    "scan_of",
]

Floats = NDArray[np.float64]

HIT, INDEXED, RIGHT = STATES = (1, 2, 4)
"""Bits of a frame's state: it was a hit, was indexed, by a true lattice."""

DIAGNOSTICS = (
    "explained", "residual", "scale_deviation", "refined_clen", "refined_clen_se", "core_seconds",
)  # fmt: skip
NEAR = 2.0  # pixels between a found peak and its true spot, at most
SAME_LATTICE = 0.15  # largest deviation from whole numbers of one lattice in terms of another

CLEN_SCAN = (-0.07, -0.05, -0.04, -0.03, -0.02, -0.01, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07)
N_SOBOL = 32
THRESHOLD_SCAN = (0, 0.15, 0.45, 0.6, 0.8)
N_SETTINGS = 64
"""Settings of a `plan`."""


def plan(draw: Draw, background: tuple[float, float], seed: int) -> list[Settings]:
    """Return the parameter sets to measure: over the box, along threshold and clen, and bad ones.

    Parameters
    ----------
    draw : Draw
    background : (float, float)
        Median and 99.9th percentile of the pixels, ADU.
    seed : int
        Of the Sobol points.
    """
    clen = draw.experiment.clen
    space = make_space(
        ("min_snr", "threshold", "min_pix_count"),
        background=background,
        camera_length=clen,
        pixel_size=draw.experiment.detector.pixel_size,
        largest_radius=1000,
    )
    base, threshold = space.base, space["threshold"]
    chosen = [
        space.decode(point).replace(mask_hot_sigma=8.0 * (i % 2))
        for i, point in enumerate(qmc.Sobol(3, rng=seed).random(N_SOBOL))
    ]
    middle = base.replace(min_snr=4.5, threshold=threshold.from_unit(0.3))
    chosen += [middle.replace(threshold=threshold.from_unit(u)) for u in THRESHOLD_SCAN]
    for snr, unit, pixels in ((3, 0, 1), (3, 0, 2), (4, 0.3, 1), (3.5, 0, 1), (3.5, 0.1, 3)):
        low = base.replace(min_snr=snr, threshold=threshold.from_unit(unit), min_pix_count=pixels)
        chosen += [low, low.replace(mask_hot_sigma=8.0)]
    bare = base.replace(min_snr=5, threshold=threshold.from_unit(0.3), min_pix_count=1)
    chosen += [bare.replace(mask_hot_sigma=sigma) for sigma in (0.0, 4.0, 16.0, 30.0)]
    chosen += [middle]
    chosen += [middle.replace(clen=clen * (1 + offset)) for offset in CLEN_SCAN]
    return chosen


@dataclass(frozen=True)
class Scan:
    """Settings of the plan that differ in one thing.

    Attributes
    ----------
    name : str
        The setting that is scanned.
    places : tuple of int
        Where they stand in the plan.
    """

    name: str
    places: tuple[int, ...]


def scan_of(name: str) -> Scan:
    """Return the plan's scan of ``threshold`` or of ``clen``, around the same settings."""
    first = {"threshold": N_SOBOL, "clen": N_SETTINGS - len(CLEN_SCAN)}[name]
    n = {"threshold": len(THRESHOLD_SCAN), "clen": len(CLEN_SCAN)}[name]
    middle = N_SETTINGS - len(CLEN_SCAN) - 1
    return Scan(name, (*range(first, first + n), middle))


def observe_experiment(
    draw: Draw,
    n_frames: int,
    *,
    seed: int,
    make_indexer: Callable[[Geometry, Cell], Indexer] = FastIndexer,
    chosen: Sequence[int] | None = None,
    max_decoys: int = 10,
) -> dict[str, NDArray[np.generic]]:
    """Render an experiment, evaluate `plan`'s settings on its frames, and return all counts.

    Parameters
    ----------
    draw : Draw
    n_frames : int
    seed : int
        Of the plan.
    make_indexer : callable
    chosen : sequence of int, optional
        Which settings of the plan; all by default.
    max_decoys : int
        Hits of an evaluation whose scrambled lists are indexed, too.

    Returns
    -------
    dict of arrays
        ``settings`` (S, 5) of `POLICY_PARAMETERS`; ``n_peaks`` and ``n_true``, those near a true
        spot, ``state`` (`STATES`), each (S, N); ``n_decoys_indexed`` (S,);
        ``diagnostics`` (S, 6) of `DIAGNOSTICS`;
        ``crystals`` (N,), ``level`` (N,) and ``photons`` (N,) of the brightest crystal;
        ``background`` (2,); ``masked`` (3,) shares of pixels masked at mask_hot_sigma 4, 8, 30.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate_run(draw.experiment, Path(folder) / "run", n_frames)
        geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
        run = open_source(paths.data, geometry)
        truths = read_truth(paths.truth)
        bad = find_bad_pixels(run)
        run = run.with_bad_pixels(bad)
        background = background_level(run, range(n_frames))
        settings = plan(draw, background, seed)
        if chosen is not None:
            settings = [settings[i] for i in chosen]
        evaluator = LiveEvaluator(
            run, cell, make_indexer(geometry, cell), range(n_frames),
            max_decoys=max_decoys, memory=4 << 30,
        )  # fmt: skip
        with evaluator:
            rows = [_counts(*inspected, truths) for inspected in evaluator.inspect_all(settings)]
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return columns | {
        "settings": np.array([[getattr(s, name) for name in POLICY_PARAMETERS] for s in settings]),
        "crystals": np.array([len(t.reciprocal) for t in truths], np.uint8),
        "level": np.array([t.background for t in truths], np.float32),
        "photons": np.array([t.photons.max(initial=0) for t in truths], np.float32),
        "background": np.array(background),
        "masked": np.array([(bad.hot > sigma).mean() for sigma in (4, 8, 30)], np.float32),
    }


def _counts(
    evaluation: Evaluation,
    patterns: dict[int, Pattern],
    answers: dict[int, Indexing],
    truths: list[FrameTruth],
) -> dict[str, NDArray[np.generic]]:
    n = len(truths)
    n_true, state = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
    for frame, pattern in patterns.items():
        peaks = pattern.peaks
        spots = truths[frame].spots
        if len(peaks) and len(spots):
            found = np.column_stack([peaks.fs, peaks.ss])
            distance, _ = cKDTree(spots[:, :2]).query(found, distance_upper_bound=NEAR)
            n_true[frame] = np.isfinite(distance).sum()
    for frame, answer in answers.items():
        state[frame] |= HIT
        if answer.indexed:
            state[frame] |= INDEXED
            if _is_right(answer, truths[frame]):
                state[frame] |= RIGHT
    values = evaluation.as_dict()
    refined = evaluation.refined.get("clen", (np.nan, np.nan))
    values |= {"refined_clen": refined[0], "refined_clen_se": refined[1]}
    return {
        "n_peaks": np.array([outcome.n_peaks for outcome in evaluation.outcomes], np.uint16),
        "n_true": n_true,
        "state": state,
        "n_decoys_indexed": np.array(evaluation.n_decoys_indexed, np.uint8),
        "diagnostics": np.array([values[name] for name in DIAGNOSTICS], np.float64),
    }


def _is_right(answer: Indexing, truth: FrameTruth) -> bool:
    """Whether a lattice is one of the frame's, in whichever setting."""
    for lattice in answer.lattices:
        for true in truth.reciprocal:
            turned = lattice.reciprocal @ np.linalg.inv(true)
            off = np.abs(turned - np.rint(turned)).max()
            if off < SAME_LATTICE and abs(abs(np.linalg.det(np.rint(turned))) - 1) < 1e-6:
                return True
    return False
