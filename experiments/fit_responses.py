"""Fits the response model to rendered experiments, and scores it on others.

    python -m experiments.fit_responses --render   # renders, searches, indexes: an hour, two cores
    python -m experiments.fit_responses            # fits, tables, pictures, from what is recorded

The second takes half a minute and writes `envs/data/response_model.json` and the pictures of
`docs/simulation.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.evaluators.recording import observe_experiment
from envs.response.model import ResponseModel
from envs.simulation.families import Draw, draw_experiments
from experiments.response_fit import Recorded, fit
from experiments.response_pictures import draw_pictures
from experiments.response_report import compare, table
from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.indexing import Indexer
from wrappers.lattices.fast_indexer import FastIndexer

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "responses.npz"
FITTED = HERE.parent / "envs" / "data" / "response_model.json"
DOCS = HERE.parent / "docs"

SEED = 1_000_003  # of the recorded experiments; training draws others
MOST_PIXELS = 1.1e6
MOSTLY_CRYSTALS = 0.55
"""Least share of frames with a crystal: blank frames, of which there are always some, tell less."""


@dataclass(frozen=True)
class Group:
    """Experiments that are recorded in the same way.

    Attributes
    ----------
    family : str
    numbers : sequence of int
        Which experiments of the family.
    n_frames : int
    max_decoys : int
    chosen : sequence of int or None
        Which settings of the plan.
    crystfel : bool
        Indexed by CrystFEL rather than the embedded indexer.
    """

    family: str
    numbers: Sequence[int]
    n_frames: int = 40
    max_decoys: int = 10
    chosen: Sequence[int] | None = None
    crystfel: bool = False


GROUPS = {
    "train": Group("train", range(60)),
    "validation": Group("validation", range(24)),
    # Slow, so few: some of the box, along the threshold, floods, and the camera length.
    "crystfel": Group(
        "train",
        (1, 3, 6, 7, 12),
        n_frames=20,
        max_decoys=4,
        chosen=(1, 6, 11, 16, 32, 33, 39, 41, 45, 47, 51, 54, 55, 56, 59, 60, 61),
        crystfel=True,
    ),
}


def recorded_draws(group: Group) -> list[Draw]:
    """Return the experiments of a group: small detectors, crystals in many frames."""
    draws = draw_experiments(group.family, max(group.numbers) + 1, SEED, most_pixels=MOST_PIXELS)
    return [_as_rendered(draws[number], group) for number in group.numbers]


def _as_rendered(draw: Draw, group: Group) -> Draw:
    """Return an experiment as it is rendered, with what is known of its indexer."""
    crystals = draw.experiment.crystals
    more = dataclasses.replace(crystals, hit_fraction=max(crystals.hit_fraction, MOSTLY_CRYSTALS))
    return dataclasses.replace(
        draw,
        experiment=dataclasses.replace(draw.experiment, crystals=more),
        strictness=float(group.crystfel),
        clen_tolerance=0.028 if group.crystfel else 0.08,
    )


def _embedded(geometry: Geometry, cell: Cell) -> Indexer:
    return FastIndexer(geometry, cell)


def _crystfel(geometry: Geometry, cell: Cell) -> Indexer:
    # Imported when needed: it waits for an outside program.
    from wrappers.crystfel.persistent import PersistentCrystfelIndexer

    return PersistentCrystfelIndexer(geometry, cell, jobs=1)


def _record_one(name: str, place: int, folder: Path) -> Path:
    group = GROUPS[name]
    number = group.numbers[place]
    out = folder / f"{name}_{number:03d}.npz"
    if not out.exists():
        observed = observe_experiment(
            recorded_draws(group)[place],
            group.n_frames,
            seed=number,
            make_indexer=_crystfel if group.crystfel else _embedded,
            chosen=group.chosen,
            max_decoys=group.max_decoys,
        )
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **observed)
        write_whole(out, content.getvalue())
    return out


def record(folder: Path, jobs: int) -> None:
    """Render and evaluate what `folder` does not have yet, then write all of it as one file.

    Without CrystFEL what was recorded with it is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name, group in GROUPS.items() if find_indexamajig() or not group.crystfel]
    todo = [(name, place) for name in names for place in range(len(GROUPS[name].numbers))]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, os.nice, (10,)) as pool:
        futures = [pool.submit(_record_one, *one, folder) for one in todo]
        for done, future in enumerate(as_completed(futures), start=1):
            print(f"{done}/{len(todo)} {future.result().stem}", flush=True)
    columns: dict[str, NDArray[Any]] = {}
    if RECORDED.exists():
        with np.load(RECORDED) as file:
            columns = {key: file[key] for key in file.files}
    for name in names:
        paths = [folder / f"{name}_{number:03d}.npz" for number in GROUPS[name].numbers]
        rows = [dict(np.load(path)) for path in paths]
        columns |= {f"{name}/{key}": np.stack([row[key] for row in rows]) for key in rows[0]}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    RECORDED.parent.mkdir(exist_ok=True)
    write_whole(RECORDED, content.getvalue())


def load(name: str) -> Recorded:
    """Return a recorded group."""
    with np.load(RECORDED) as file:
        arrays = {
            key.removeprefix(f"{name}/"): file[key]
            for key in file.files
            if key.startswith(f"{name}/")
        }
    return Recorded(recorded_draws(GROUPS[name]), arrays, GROUPS[name].max_decoys)


def speed(batch: int = 256, n_frames: int = 100, rounds: int = 21) -> float:
    """Return evaluations a second of one core's time, batched, the median of some rounds."""
    model = ResponseModel(draw_experiments("train", 1000, SEED))
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(rounds):
        some = model.take(rng.integers(len(model), size=batch))
        settings = {
            "min_snr": rng.uniform(3, 9, batch),
            "threshold": some.known["bright"] * 10 ** rng.uniform(-1, 1.5, batch),
            "min_pix_count": rng.integers(1, 5, batch),
            "clen": some.known["clen0"],
        }
        started = time.process_time()
        some.evaluate(settings, n_frames)
        seconds.append(time.process_time() - started)
    return batch / float(np.median(seconds))


def main() -> None:
    """Record if asked to, then fit and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--render", action="store_true", help="record the experiments anew")
    parser.add_argument("--scratch", type=Path, default=Path("build/responses"))
    parser.add_argument("-j", "--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.render:
        record(arguments.scratch, arguments.jobs)
    coefficients = fit(load("train"), load("crystfel"))
    rounded = {
        name: float(f"{value:.4g}") if abs(value) > 1e-9 else 0.0
        for name, value in asdict(coefficients).items()
    }
    about = "fitted by experiments/fit_responses.py"
    write_whole(
        FITTED, (json.dumps({"about": about, "coefficients": rounded}, indent=1) + "\n").encode()
    )
    print(json.dumps(rounded, indent=1))
    for name in GROUPS:
        print(f"\n{name}: {len(GROUPS[name].numbers)} experiments\n")
        print(table(compare(load(name), coefficients)))
    print(f"\n{speed():.0f} evaluations a second on one core (256 at once, 100 frames)")
    held_out = load("validation")
    draw_pictures(held_out, compare(held_out, coefficients), DOCS)


if __name__ == "__main__":
    main()
