"""What masking bad pixels gains on the CrystFEL-simulated lysozyme run.

The run is ``jf1m_lyso_60`` of the shared data, whose geometry does not mask 490 hot, noisy and
dead pixels. On the same 60 frames, with the embedded indexer: a table of rates with and without a
mask, and sessions that tune the mask thresholds against sessions that do not, over several seeds.
With ``--pairs`` each of those pixels has infected its neighbour: bad pixels that come in pairs.

    python -m experiments.mask_gain ../shared/data/simulated [--pairs]
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import DEFAULT_TUNED
from tuner.cli.options import print_json, progress_bar
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.statistics import paired_difference
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.masks.bad_pixel_map import KINDS
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.settings import Settings

MIN_SNR = (8.0, 6.0, 5.0, 4.5, 4.0, 3.5)
MIN_PIX_COUNT = (1, 2, 3)
BASE = Settings(threshold=30, max_pix_count=50)
MASKED = {"mask_hot_sigma": 5.0, "mask_noisy_sigma": 5.0, "mask_dead_sigma": 5.0}
MASK_TUNED = (*DEFAULT_TUNED, "mask_hot_sigma", "mask_noisy_sigma", "mask_dead_sigma")


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--evaluations", default=30, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("-j", "--jobs", default=2, show_default=True)
@click.option("--pairs", is_flag=True, help="Make each planted bad pixel a pair.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, evaluations: int, seeds: int, jobs: int, pairs: bool, as_json: bool) -> None:
    """Print the comparison for the run in FOLDER."""
    with tempfile.TemporaryDirectory() as directory:
        data, geometry_file = folder / "jf1m_lyso_60.h5", folder / "jf1m.geom"
        if pairs:
            data, geometry_file = _with_pairs(folder, Path(directory))
        table, sessions = _measure(
            data, geometry_file, folder / "lyso.cell", evaluations, seeds, jobs
        )
    if as_json:
        print_json({"table": table, "evaluations": evaluations, "sessions": sessions})
        return
    print("indexed of 60 frames (hits), without and with a mask of 5 σ, threshold 30 ADU")
    for row in table:
        print(
            f"  min_snr {row['min_snr']:3g}  min_pix_count {row['min_pix_count']}  "
            f"{_counts(row['without'])}  {_counts(row['with'])}  "
            f"{row['gained']} gained, {row['lost']} lost"
        )
    print(f"sessions of {evaluations} evaluations, without and with mask thresholds in the search")
    for row in sessions:
        print(
            f"  seed {row['seed']}  {_counts(row['without'])}  {_counts(row['with'])}  "
            f"{row['gained']} gained, {row['lost']} lost"
        )
        for name in ("without", "with"):
            values = {
                k: v for k, v in row[name]["settings"].items() if k in MASK_TUNED and k != "clen"
            }
            print(f"    {name:8}" + " ".join(f"{k} {v:g}" for k, v in values.items()))


def _with_pairs(folder: Path, work: Path) -> tuple[Path, Path]:
    """Write the run with each planted pixel's values in its neighbour, too."""
    with h5py.File(folder / "jf1m_lyso_60_truth.h5") as file:
        bad = np.concatenate([file[f"unmasked_{kind}"][:] for kind in KINDS])
    bad = bad[bad % 1024 < 1023]
    with h5py.File(folder / "jf1m_lyso_60.h5") as source, h5py.File(work / "run.h5", "w") as file:
        file["/entry/mask"] = source["/entry/mask"][()]
        frames = source["/entry/data/data"][()]
        flat = frames.reshape(len(frames), -1)
        flat[:, bad + 1] = flat[:, bad]
        file.create_dataset("/entry/data/data", data=frames, chunks=(1, *frames.shape[1:]))
    text = (folder / "jf1m.geom").read_text().replace("jf1m_lyso_60.h5", str(work / "run.h5"))
    (work / "run.geom").write_text(text)
    return work / "run.h5", work / "run.geom"


def _measure(
    data: Path, geometry_file: Path, cell_file: Path, evaluations: int, seeds: int, jobs: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the table, and those of the sessions."""
    geometry, cell = Geometry.read(geometry_file), Cell.read(cell_file)
    run = Run.open(data, geometry)
    run = run.with_bad_pixels(find_bad_pixels(run))
    choice = IndexerChoice("fast")
    indexer = make_indexer(choice, geometry, cell, jobs=jobs)
    sessions = []
    with (
        closing(indexer),
        LiveEvaluator(run, cell, indexer, range(len(run)), jobs=jobs) as evaluator,
    ):
        points = list(itertools.product(MIN_SNR, MIN_PIX_COUNT))
        with progress_bar("table", len(points)) as show:
            table = []
            for done, (snr, pixels) in enumerate(points, start=1):
                settings = BASE.replace(min_snr=snr, min_pix_count=pixels)
                pair = [evaluator.evaluate(settings.replace(**mask)) for mask in ({}, MASKED)]
                table.append({"min_snr": snr, "min_pix_count": pixels, **_compared(*pair)})
                show(done)
        with progress_bar("sessions", 2 * seeds) as show:
            for seed in range(seeds):
                found = []
                for tuned in (DEFAULT_TUNED, MASK_TUNED):
                    request = Request(
                        data=data,
                        geometry=geometry_file,
                        cell=cell_file,
                        searcher="gp",
                        n_frames=None,
                        tuned=tuned,
                        seed=seed,
                        indexer=choice,
                    )
                    with tempfile.TemporaryDirectory() as directory:
                        recommendation = tune(
                            request,
                            Path(directory) / "session",
                            budget=Budget(evaluations),
                            jobs=jobs,
                        )
                    assert recommendation is not None
                    # On a map of the same frames, for either.
                    found.append(evaluator.evaluate(recommendation.settings))
                    show(len(found) + 2 * seed)
                sessions.append({"seed": seed, **_compared(*found)})
    return table, sessions


def _compared(without: Evaluation, masked: Evaluation) -> dict[str, Any]:
    difference = paired_difference(masked, without)
    return {
        "without": _row(without),
        "with": _row(masked),
        "gained": difference.gained,
        "lost": difference.lost,
        "p_value": difference.p_value,
    }


def _row(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "settings": evaluation.settings.as_dict(),
        "n_hits": evaluation.n_hits,
        "n_indexed": evaluation.n_indexed,
        "false_rate": evaluation.false_rate,
        "core_seconds": evaluation.core_seconds,
    }


def _counts(row: dict[str, Any]) -> str:
    return f"{row['n_indexed']:3d} ({row['n_hits']:2d}, false {row['false_rate']:4.1%})"


if __name__ == "__main__":
    main()
