"""Records what looks at rendered experiments show, and what the embedded indexer makes of them.

    python -m experiments.record_looks FOLDER [--family train] [--experiments 60] [--sets 40]

A file an experiment, `FAMILY_NUMBER.npz`; those that are there are left alone, so that an
interrupted recording goes on. `experiments.fit_response_map` fits the response map to the train
family's; the others are for judging.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from envs.look import look_design
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace, make_space
from envs.simulation.families import FAMILIES, draw_experiments
from envs.simulation.simulator import simulate_run
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import background_level
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.own_peaks import FrameLattices
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch

__all__ = ["observe_look"]

SEED = 3_000_017
MOST_PIXELS = 1.1e6
FEWEST_PEAKS = 5
"""Shorter lists are never indexed, whatever min_peaks is."""


def observe_look(
    run: FrameSource,
    cell: Cell,
    indexer: Indexer,
    space: ParameterSpace,
    chosen: NDArray[np.int64],
    n_frames: int,
) -> dict[str, NDArray[np.generic]]:
    """Return the counts of a look, and the indexer's answers for some of its sets.

    Returns
    -------
    dict of arrays
        ``counts`` (F, S) of the design; ``split`` (F, S, 2) own and other peaks by the frame's
        lattice, 0 where it has none; ``lattice`` (F,) whether it has; ``chosen`` (M,) places in
        the design; ``indexed`` (F, M); ``volume`` of the primitive cell in Å³; ``min_peaks``.
    """
    design = look_design(space)
    batch = PeakBatch(NamedFinder(run.geometry), run)
    counts = np.zeros((n_frames, len(design)), np.uint16)
    split = np.zeros((n_frames, len(design), 2), np.uint16)
    indexed = np.zeros((n_frames, len(chosen)), bool)
    for found in batch.search(range(n_frames), design):
        row = found.index
        patterns = [
            pattern.placed(settings, run.nominal_clen)
            for pattern, settings in zip(found.patterns, design, strict=True)
        ]
        counts[row] = [len(pattern.peaks) for pattern in patterns]
        asked = [n for n, place in enumerate(chosen) if counts[row, place] >= FEWEST_PEAKS]
        answers = indexer.index([patterns[chosen[n]] for n in asked])
        most, best = 0, None
        for n, answer in zip(asked, answers, strict=True):
            indexed[row, n] = answer.indexed
            if answer.indexed:
                pattern = patterns[chosen[n]]
                lattices = FrameLattices.of(row, pattern, answer.lattices, cell)
                own = int(lattices.own(pattern, run.geometry).sum())
                if best is None or own > most:
                    most, best = own, lattices
        if best is not None:
            split[row, :, 0] = [best.own(pattern, run.geometry).sum() for pattern in patterns]
            split[row, :, 1] = counts[row] - split[row, :, 0]
    return {
        "counts": counts,
        "split": split,
        "lattice": np.asarray(indexed.any(axis=1), bool),
        "chosen": chosen,
        "indexed": indexed,
        "volume": np.array(cell.primitive_volume),
        "min_peaks": np.array(space.base.min_peaks),
        "settings": np.array([[s.min_snr, s.threshold, s.min_pix_count] for s in design]),
    }


def run_space(run: FrameSource, n_frames: int) -> ParameterSpace:
    """Return the box of a session that tunes the usual settings on the first frames of a run."""
    radii = run.geometry.radius_map()
    return make_space(
        DEFAULT_TUNED,
        background=background_level(run, range(n_frames)),
        camera_length=run.nominal_clen,
        pixel_size=1 / run.geometry.panels[0].res,
        largest_radius=float(np.nanmax(radii)),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--family", type=click.Choice(FAMILIES), default="train")
@click.option("--experiments", "n_experiments", default=60)
@click.option("--frames", default=60)
@click.option("--sets", default=40)
def main(folder: Path, family: str, n_experiments: int, frames: int, sets: int) -> None:
    """Record looks at experiments of a family."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = draw_experiments(family, n_experiments, SEED, most_pixels=MOST_PIXELS)
    for number, draw in enumerate(draws):
        path = folder / f"{family}_{number:03d}.npz"
        if path.exists():
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            paths = simulate_run(draw.experiment, Path(work) / "run", frames)
            geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
            run = open_source(paths.data, geometry)
            space = run_space(run, frames)
            n_design = len(look_design(space))
            rng = np.random.default_rng([SEED, number])
            chosen = np.sort(rng.permutation(n_design)[:sets])
            rendered = time.perf_counter()
            found = observe_look(run, cell, FastIndexer(geometry, cell), space, chosen, frames)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **found)
        write_whole(path, buffer.getvalue())
        click.echo(
            f"{path.name} {draw.kind} {rendered - started:.0f} s rendered, "
            f"{time.perf_counter() - rendered:.0f} s; {found['lattice'].sum()} with a lattice, "
            f"best rate {found['indexed'].mean(axis=0).max():.2f}, {path.stat().st_size} bytes"
        )


if __name__ == "__main__":
    main()
