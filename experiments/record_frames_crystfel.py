"""Records what CrystFEL makes of frames of the frozen benchmark: a smaller grid, fewer frames.

    python -m experiments.record_frames_crystfel [--experiments 6] [--frames 120] [--until HH:MM]

For experiments of `envs/data/frames`, the test and the shifted family in turn, in the order of
their numbers; a file an experiment beside theirs, `crystfel_FAMILY_NUMBER.npz`, which holds the
embedded indexer's answers for the same lists as well. Frames are rendered again, and their peaks
must be those that were recorded. Of frames without a crystal every sixth is indexed, as there; what
CrystFEL does not answer in time counts as not indexed.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import click
import numpy as np

from envs.evaluators.frame_record import RECORDS, FrameRecord, coded_seconds
from experiments.record_frames import Source, benchmark_draws, drawn_source, impute_costs
from experiments.record_looks import FEWEST_PEAKS
from wrappers.cell import Cell
from wrappers.crystfel.persistent import PersistentCrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.workers.processor_time import processor_seconds

N_VALUES = {"min_snr": 5, "threshold": 3, "min_pix_count": 2}
"""Values of the grid; the base's threshold is one of them."""

LONGEST = 20.0
"""Wall seconds for a list: plenty, or a busy machine would have a say."""


def smaller_grid(record: FrameRecord) -> list[int]:
    """Return which of a record's sets CrystFEL is asked for, the base and the defaults included."""
    least = record.settings[0].min_peaks
    likely = [n for n, each in enumerate(record.settings) if each.min_peaks == least]
    values = np.array([[getattr(record.settings[n], name) for name in N_VALUES] for n in likely])
    kept = np.ones(len(likely), bool)
    for column, name in zip(values.T, N_VALUES, strict=True):
        levels = np.unique(column)
        chosen = levels[np.linspace(0, len(levels) - 1, N_VALUES[name]).round().astype(int)]
        base = getattr(record.space.base, name)
        if name == "threshold":
            chosen[np.argmin(abs(np.log(chosen / base)))] = base
        kept &= np.isin(column, chosen)
    others = [n for n in range(len(record.settings)) if n not in likely]
    base = [n for n, each in enumerate(record.settings) if each == record.space.base]
    return sorted({*np.array(likely)[kept].tolist(), *base, *others})


def record_crystfel(source: Source, record: FrameRecord, n_frames: int) -> FrameRecord:
    """Render an experiment's first frames again, and have CrystFEL index the smaller grid's lists.

    Parameters
    ----------
    source : Source
    record : FrameRecord
        What the embedded indexer made of its frames.
    n_frames : int
    """
    columns = np.array(smaller_grid(record))
    settings = [record.settings[n] for n in columns.tolist()]
    rows = np.arange(n_frames)
    part = np.ix_(rows, columns)
    indexed, seconds = np.zeros((n_frames, len(columns)), bool), np.zeros((n_frames, len(columns)))
    with tempfile.TemporaryDirectory() as work:
        data, geometry_file, cell_file, crystals = source.files(Path(work), len(record.counts))
        geometry, cell = Geometry.read(geometry_file), Cell.read(cell_file)
        run = open_source(data, geometry)
        with PersistentCrystfelIndexer(geometry, cell, jobs=1, timeout=LONGEST) as indexer:
            for found in PeakBatch(NamedFinder(geometry), run).search(range(n_frames), settings):
                row = found.index
                placed = [
                    pattern.placed(each, run.nominal_clen)
                    for pattern, each in zip(found.patterns, settings, strict=True)
                ]
                sizes = np.array([len(each.peaks) for each in placed])
                if (sizes != record.counts[row, columns]).any():
                    raise click.ClickException("these are not the frames that were recorded")
                least = np.array([max(each.min_peaks, FEWEST_PEAKS) for each in settings])
                asked = (sizes >= least) & record.asked[row]
                lists: dict[bytes, list[int]] = {}
                for n in np.flatnonzero(asked).tolist():
                    lists.setdefault(placed[n].digest(), []).append(n)
                for alike in lists.values():
                    before = processor_seconds()
                    (answer,) = indexer.index([placed[alike[0]]])
                    indexed[row, alike] = answer.indexed
                    seconds[row, alike] = max(processor_seconds() - before, 0.01)
            name = indexer.name
    if crystals is not None:
        hits = record.counts[part] >= [max(each.min_peaks, FEWEST_PEAKS) for each in settings]
        impute_costs(seconds, hits, record.asked[rows], crystals[rows])
    return replace(
        record,
        about=replace(record.about, indexer=name),
        settings=tuple(settings),
        indexed=indexed,
        cost=coded_seconds(seconds),
        counts=record.counts[part],
        own=record.own[part],
        embedded=record.indexed[part],
        embedded_cost=record.cost[part],
        lattice=record.lattice[rows],
        asked=record.asked[rows],
        look_seconds=record.look_seconds[rows],
        fit=record.fit[rows],
        information=record.information[rows],
        spread=record.spread[rows],
    )


def _recorded(folder: Path) -> Iterator[tuple[Path, Source]]:
    """Yield the records and how their frames come about, the families in turn."""
    rows = []
    for family in ("test", "shifted"):
        draws = benchmark_draws(family)
        paths = sorted(folder.glob(f"{family}_[0-9][0-9][0-9].npz"))
        rows.append([(path, family, int(path.stem[-3:]), draws) for path in paths])
    for several in zip_longest(*rows):
        for path, family, number, draws in (each for each in several if each is not None):
            yield path, drawn_source(family, number, draws[number])


@click.command()
@click.option("--until", help="Begin no experiment after this time of day, HH:MM.")
@click.option("--experiments", "n_experiments", default=6, show_default=True)
@click.option("--frames", default=120, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=RECORDS, show_default=True)
def main(until: str | None, n_experiments: int, frames: int, folder: Path) -> None:
    """Record what is missing."""
    last = datetime.time.fromisoformat(until) if until else datetime.time.max
    for done, (path, source) in enumerate(_recorded(folder)):
        target = folder / f"crystfel_{path.name}"
        if done >= n_experiments:
            return
        if target.exists():
            continue
        if datetime.datetime.now().time() > last:
            click.echo(f"it is past {until}: the same command goes on with {target.name}")
            return
        began = time.perf_counter()
        found = record_crystfel(source, FrameRecord.read(path), frames)
        found.write(target)
        assert found.embedded is not None
        click.echo(
            f"{target.name} {source.kind}: {time.perf_counter() - began:.0f} s, "
            f"{len(found.settings)} sets, best rate {found.indexed.mean(axis=0).max():.2f} "
            f"(embedded {found.embedded.mean(axis=0).max():.2f}), {target.stat().st_size} bytes"
        )


if __name__ == "__main__":
    main()
