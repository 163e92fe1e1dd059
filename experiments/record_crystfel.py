"""Records what CrystFEL makes of frames whose looks are recorded, for the response map's model.

    python -m experiments.record_crystfel experiments/data/looks --experiments 44
    python -m experiments.record_crystfel experiments/data/looks --family test --frames 24 --sets 10

Of each recorded look with some lattices a few frames (the brightest and some others) are indexed
with some of the sets that the embedded indexer was asked for, from the strictest that has hits to
the loosest that is no flood: so there are two answers for the same peak list. The detector is where
it truly is: a session finds that first, and xgandalf forgives less than ± 2 %.
A file an experiment, ``FOLDER/crystfel/FAMILY_NUMBER.npz``; those that are there are left alone, so
that an interrupted recording goes on.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from envs.geometry_rule import GEOMETRY
from envs.response_map.features import bright_peaks, floor_of
from envs.response_map.session_map import FEWEST_PEAKS
from envs.simulation.families import FAMILIES, draw_experiments
from envs.simulation.simulator import simulate_run
from experiments.fit_response_map import Look, read_looks, sets_of
from experiments.record_looks import MOST_PIXELS, SEED, run_space
from wrappers.cell import Cell
from wrappers.crystfel.persistent import PersistentCrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch

BRIGHTEST = 0.75
"""Share of the frames that are the look's brightest; the others are drawn."""
FEWEST_HITS = 3
FEWEST_LATTICES = 5
"""Of the look's frames, for a run that tells something."""
MOST_PEAKS = 250
"""A frame, on the average: of longer lists CrystFEL indexes next to none, in seconds each."""
LONGEST = 1.0
"""Processor seconds a frame: of a noisy set some get no answer in time."""


def choose(
    look: Look, n_frames: int, n_sets: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which frames and which places of ``chosen`` are indexed; outcomes have no say."""
    counts, chosen = look["counts"], look["chosen"]
    floor = floor_of(counts, np.ones(len(counts)))
    order = np.argsort(-bright_peaks(counts, floor, sets_of(look)).sum(axis=1), kind="stable")
    brightest = int(BRIGHTEST * n_frames)
    others = rng.permutation(order[brightest:])[: n_frames - brightest]
    frames = np.sort(np.concatenate([order[:brightest], others]))
    hits = (counts[np.ix_(frames, chosen)] >= FEWEST_PEAKS).sum(axis=0)
    mean = counts[np.ix_(frames, chosen)].mean(axis=0)
    possible = np.flatnonzero((hits >= FEWEST_HITS) & (mean <= MOST_PEAKS))
    possible = possible[np.argsort(mean[possible])]
    spread = np.linspace(0, len(possible) - 1, min(n_sets, len(possible)))
    return frames, np.unique(possible[spread.round().astype(int)])


def observe(
    run: FrameSource,
    cell: Cell,
    look: Look,
    frames: NDArray[np.int64],
    places: NDArray[np.int64],
    geometry: Mapping[str, float],
) -> dict[str, NDArray[np.generic]]:
    """Return CrystFEL's answers.

    Returns
    -------
    dict of arrays
        ``frames`` (F,) and ``places`` (M,) of the look's ``chosen``; ``outcome`` (F, M), 1 where
        a frame was indexed, 0 where it was not, -1 where nothing was asked or answered;
        ``seconds`` (M,) that each set took.
    """
    columns = look["chosen"][places]
    base = run_space(run, len(look["counts"])).base
    sets = [
        base.replace(
            min_snr=each.min_snr,
            threshold=each.threshold,
            min_pix_count=each.min_pix_count,
            max_pix_count=max(base.max_pix_count, each.min_pix_count),
        )
        for each in (sets_of(look)[column] for column in columns)
    ]
    patterns = {
        found.index: found.patterns
        for found in PeakBatch(NamedFinder(run.geometry), run).search(frames.tolist(), sets)
    }
    outcome = np.full((len(frames), len(sets)), -1, np.int8)
    seconds = np.zeros(len(sets))
    with PersistentCrystfelIndexer(
        run.geometry, cell, jobs=1, timeout=LONGEST * len(frames)
    ) as indexer:
        for n, (settings, column) in enumerate(zip(sets, columns, strict=True)):
            true = settings.replace(**geometry)
            found = [patterns[frame][n].placed(true, run.nominal_clen) for frame in frames]
            if [len(each.peaks) for each in found] != look["counts"][frames, column].tolist():
                raise click.ClickException("these are not the frames that were looked at")
            rows = [row for row, each in enumerate(found) if len(each.peaks) >= FEWEST_PEAKS]
            began = time.perf_counter()
            for row, answer in zip(rows, indexer.index([found[row] for row in rows]), strict=True):
                if not answer.failure:
                    outcome[row, n] = answer.indexed
            seconds[n] = time.perf_counter() - began
    return {"frames": frames, "places": places, "outcome": outcome, "seconds": seconds}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--family", type=click.Choice(FAMILIES), default="train", show_default=True)
@click.option("--experiments", "n_experiments", default=40, show_default=True)
@click.option("--frames", default=11, show_default=True)
@click.option("--sets", default=5, show_default=True)
def main(folder: Path, family: str, n_experiments: int, frames: int, sets: int) -> None:
    """Record CrystFEL's answers for a family's looks."""
    (folder / "crystfel").mkdir(exist_ok=True)
    looks = read_looks(folder, family)
    draws = draw_experiments(family, len(looks), SEED, most_pixels=MOST_PIXELS)
    telling = [name for name, look in looks.items() if look["lattice"].sum() >= FEWEST_LATTICES]
    for name in telling[:n_experiments]:
        look = looks[name]
        path = folder / "crystfel" / f"{name}.npz"
        if path.exists():
            continue
        number = int(name.split("_")[1])
        rows, places = choose(look, frames, sets, np.random.default_rng([SEED, number]))
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            paths = simulate_run(draws[number].experiment, Path(work) / "run", len(look["counts"]))
            run = open_source(paths.data, Geometry.read(paths.geometry))
            true = {name: getattr(draws[number].experiment, name) for name in GEOMETRY}
            found = observe(run, Cell.read(paths.cell), look, rows, places, true)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **found)
        write_whole(path, buffer.getvalue())
        asked = np.asarray(found["outcome"], int) >= 0
        ours = look["indexed"][np.ix_(rows, places)]
        click.echo(
            f"{name} {time.perf_counter() - began:.0f} s (sets {found['seconds'].round(1)}); "
            f"{asked.sum()} answers, indexed {(found['outcome'] == 1).sum()}, by the embedded "
            f"indexer {(ours & asked).sum()}, alike {(ours == found['outcome'])[asked].mean():.2f}"
        )


if __name__ == "__main__":
    main()
