"""Tune the CrystFEL-simulated lysozyme run, and compare with a grid on the same frames.

The run is ``jf1m_lyso_60`` of the shared data: 60 frames simulated with CrystFEL's
pattern_sim, with the true orientations beside them. One session, CrystFEL's defaults, and a
5 × 3 × 5 grid over min_snr, min_pix_count and threshold are measured on the same frames with
the same indexer; every lattice is checked against the truth.

    python -m experiments.tune_against_grid ../shared/data/simulated [--indexer fast|crystfel]
"""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import DEFAULT_TUNED
from tuner.cli.options import print_json, progress_bar
from tuner.cli.session_display import trial_printer
from tuner.session.budget import Budget
from tuner.session.racing import Race
from tuner.session.request import Request
from tuner.statistics import paired_difference
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.indexers import INDEXERS, IndexerChoice, make_indexer
from wrappers.indexing import Lattice
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

MIN_SNR = (3.5, 4.5, 5.5, 6.5, 8.0)
MIN_PIX_COUNT = (1, 2, 3)
THRESHOLD = (10.0, 30.0, 80.0, 200.0, 800.0)
"""What a careful user would scan: the values are those of `crystfel.md`'s tables."""

LARGEST_MISORIENTATION = 2.0
"""Degrees; half-way between two lattices of this cell lies far beyond."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--indexer", type=click.Choice(INDEXERS.names()), default="fast")
@click.option("--evaluations", default=30, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, indexer: str, evaluations: int, seed: int, as_json: bool) -> None:
    """Print the comparison for the run in FOLDER."""
    jobs = len(os.sched_getaffinity(0))
    request = Request(
        data=folder / "jf1m_lyso_60.h5",
        geometry=folder / "jf1m.geom",
        cell=folder / "lyso.cell",
        searcher="gp",
        n_frames=None,
        seed=seed,
        indexer=IndexerChoice(indexer),
    )
    assert request.cell is not None
    geometry, cell = Geometry.read(request.geometry), Cell.read(request.cell)
    chosen = make_indexer(request.indexer, geometry, cell, jobs=jobs)
    with tempfile.TemporaryDirectory() as directory:
        recommendation = tune(
            request,
            Path(directory) / "session",
            budget=Budget(evaluations),
            jobs=jobs,
            on_trial=trial_printer(DEFAULT_TUNED),
        )
    if recommendation is None:
        raise SystemExit("nothing was indexed")
    run = open_source(request.data, geometry)
    points = [
        Settings(min_snr=snr, min_pix_count=pixels, threshold=threshold, max_pix_count=50)
        for snr, pixels, threshold in itertools.product(MIN_SNR, MIN_PIX_COUNT, THRESHOLD)
    ]
    truth = _truth(folder / "jf1m_lyso_60_truth.h5")
    frames = range(len(run))
    with (
        closing(chosen),
        LiveEvaluator(run, cell, chosen, frames, jobs=jobs, max_decoys=0) as evaluator,
    ):
        defaults = evaluator.evaluate(CRYSTFEL_DEFAULTS)
        recommended, _, answers = evaluator.inspect(recommendation.settings)
        best = defaults
        with progress_bar("grid", len(points)) as show:
            for number, point in enumerate(points):
                # A point that has lost after 25 frames is spared the rest.
                candidate = Race().run(evaluator, point, best)
                complete = candidate.n_frames == best.n_frames
                best = candidate if complete and candidate.rate > best.rate else best
                show(number + 1)
    wrong = [
        frame
        for frame, answer in answers.items()
        if answer.indexed and not any(_agrees(x, truth.get(frame)) for x in answer.lattices)
    ]
    result: dict[str, Any] = {
        "indexer": chosen.name,
        "recommended": _row(recommended, recommendation.provenance["evaluations"]),
        "recommended_wrong_lattices": len(wrong),
        "recommended_false_rate": recommendation.evidence["false_rate"],
        "defaults": _row(defaults, 1),
        "best_of_grid": _row(best, len(points)),
        "recommended_minus_defaults": _difference(recommended, defaults),
        "recommended_minus_best_of_grid": _difference(recommended, best),
        "crystal_frames": len(truth),
    }
    if as_json:
        print_json(result)
        return
    for name in ("defaults", "best_of_grid", "recommended"):
        row = result[name]
        low, high = row["ci95"]
        print(
            f"{name:13} {row['n_indexed']:3d} of {row['n_frames']} frames, {row['rate']:.1%} "
            f"[{low:.1%}, {high:.1%}], {row['n_evaluations']} evaluations, "
            f"min_snr {row['min_snr']:g} threshold {row['threshold']:g} "
            f"min_pix_count {row['min_pix_count']}"
        )
    for name in ("defaults", "best_of_grid"):
        row = result[f"recommended_minus_{name}"]
        low, high = row["ci95"]
        print(
            f"recommended - {name}: {row['difference']:+.1%} [{low:+.1%}, {high:+.1%}], "
            f"{row['gained']} frames gained, {row['lost']} lost, p = {row['p_value']:.2g}"
        )
    print(
        f"{result['recommended_wrong_lattices']} of {result['recommended']['n_indexed']} "
        f"indexed frames with a wrong orientation; {len(truth)} frames have a crystal"
    )


def _truth(path: Path) -> dict[int, NDArray[np.float64]]:
    """Return the true reciprocal bases (n, 3, 3), rows a*, b*, c* in 1/Å, by frame."""
    with h5py.File(path) as file:
        return {
            int(name): np.asarray(group["astar_bstar_cstar_invnm"], float) / 10
            for name, group in file["frame"].items()
            if "astar_bstar_cstar_invnm" in group
        }


def _agrees(lattice: Lattice, truth: NDArray[np.float64] | None) -> bool:
    """Whether a lattice is one of the true ones, up to a change of basis and a small angle."""
    if truth is None:
        return False
    for basis in truth:
        change = lattice.reciprocal @ np.linalg.inv(basis)
        whole = np.rint(change)
        if abs(round(np.linalg.det(whole))) != 1:
            continue
        # What is left of the change of basis is a rotation and a little strain.
        u, _, vt = np.linalg.svd(np.linalg.solve(whole @ basis, lattice.reciprocal))
        rotation = u @ vt
        cosine = np.clip((np.trace(rotation) * np.linalg.det(rotation) - 1) / 2, -1, 1)
        if np.degrees(np.arccos(cosine)) < LARGEST_MISORIENTATION:
            return True
    return False


def _row(evaluation: Evaluation, n_evaluations: int) -> dict[str, Any]:
    return {
        **evaluation.settings.as_dict(),
        "n_evaluations": n_evaluations,
        "n_indexed": evaluation.n_indexed,
        "n_frames": evaluation.n_frames,
        "rate": evaluation.rate,
        "ci95": list(evaluation.ci95),
    }


def _difference(first: Evaluation, second: Evaluation) -> dict[str, object]:
    difference = paired_difference(first, second)
    return {
        "gained": difference.gained,
        "lost": difference.lost,
        "difference": difference.difference,
        "ci95": list(difference.ci95),
        "p_value": difference.p_value,
    }


if __name__ == "__main__":
    main()
