"""Records the frozen benchmark on frames: rendered experiments, every frame with every set.

    python -m experiments.record_frames [--until HH:MM] [--shared ../shared/data]
    python -m experiments.record_frames --family train --folder DEVELOPMENT

Experiments of the test and the shifted family in turn, other ones than those that anything was
fitted to or judged by before. 300 frames each are rendered, searched with the sets of the free look
(240, the start of a session among them) and with CrystFEL's defaults, and all hits are indexed with
the embedded indexer. A file an experiment, `envs/data/frames/FAMILY_NUMBER.npz`; those that are
there are left alone, so that an interrupted recording goes on. They are for judging, never for
training.

Frames without a crystal, which the simulation knows, have no lattice to be found, and failing takes
the indexer longest: of them only every sixth is indexed, which tells what the others would have
cost and how often a lattice is found that is not there (the command says how often; `asked` in the
file says which frames were). The shared runs that are there, real ones and one of CrystFEL's
simulation, are recorded in the same way, all of their frames. With ``--family train`` it is
experiments of that family, to develop searchers with; they are for no comparison.

Experiments with crystals in fewer than a fifth of the frames are left out: sessions on such draw
their sample from a wider look, for which frames would have to be recorded that nobody indexes.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from envs.evaluators.frame_record import RECORDS, AboutRecord, FrameRecord, coded_seconds
from envs.evaluators.live import LiveEvaluator
from envs.look import look_design
from envs.parameter_space import ParameterSpace
from envs.simulation.families import Draw, draw_experiments
from envs.simulation.simulator import read_truth, simulate_run
from envs.strata import POOR
from experiments.record_looks import FEWEST_PEAKS, MOST_PIXELS, run_space
from experiments.shared_runs import SHARED_RUNS
from tuner.session.found_geometry import find_session_geometry
from tuner.session.initial_design import baseline
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexing, Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.geometry_refinement import fit_frame
from wrappers.lattices.own_peaks import FrameLattices
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.settings import Settings

__all__ = [
    "SEED",
    "Source",
    "benchmark_draws",
    "drawn_source",
    "impute_costs",
    "record_experiment",
    "record_source",
    "recorded_sets",
]

SEED = 5_000_011
SHARED = Path(__file__).parents[2] / "shared" / "data"
N_FRAMES = 300
N_EXPERIMENTS = {"test": 24, "shifted": 16}
N_DEVELOPMENT = 12
OF_BLANK = 6
"""Of so many frames without a crystal one is indexed."""

TIMED = 12
"""Frames of which the search with a single set is timed."""


def benchmark_draws(family: str) -> dict[int, Draw]:
    """Return the family's experiments by their number among those drawn."""
    n = N_EXPERIMENTS.get(family, N_DEVELOPMENT)
    draws = draw_experiments(family, 4 * n, SEED, most_pixels=MOST_PIXELS)
    enough = [
        number for number, draw in enumerate(draws) if draw.experiment.crystals.hit_fraction >= POOR
    ]
    return {number: draws[number] for number in enough[:n]}


def record_experiment(
    run: FrameSource,
    cell: Cell,
    space: ParameterSpace,
    about: AboutRecord,
    n_frames: int,
    crystals: NDArray[np.bool_] | None = None,
) -> FrameRecord:
    """Search and index the first frames of a run.

    Parameters
    ----------
    run : FrameSource
    cell : Cell
    space : ParameterSpace
        At the geometry that was found; its look's design is recorded.
    about : AboutRecord
    n_frames : int
    crystals : bool array (n_frames,), optional
        Which frames have a crystal, where that is known; of the others only some are indexed.
    """
    asked_frames = np.ones(n_frames, bool)
    if crystals is not None:
        asked_frames = crystals | (np.cumsum(~crystals) % OF_BLANK == 1)
    settings = recorded_sets(space)
    least = np.array([max(each.min_peaks, FEWEST_PEAKS) for each in settings])
    indexer = FastIndexer(run.geometry, cell)
    shape = n_frames, len(settings)
    counts, own = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    indexed, seconds = np.zeros(shape, bool), np.zeros(shape)
    look_seconds = np.zeros(n_frames, np.float32)
    fit, information = np.full((n_frames, 3), np.nan), np.full((n_frames, 3, 3), np.nan)
    spread = np.full((n_frames, 2), np.nan, np.float32)
    before = time.thread_time()
    for found in PeakBatch(NamedFinder(run.geometry), run).search(range(n_frames), settings):
        row = found.index
        look_seconds[row] = time.thread_time() - before
        lists = _Lists.of(run, found.patterns, settings)
        counts[row] = lists.sizes[lists.of_set]
        asked = (counts[row] >= least) & asked_frames[row]
        answers: dict[int, Indexing] = {}
        for number in dict.fromkeys(lists.of_set[asked].tolist()):
            started = time.thread_time()
            (answers[number],) = indexer.index([lists.patterns[number]])
            spent = max(time.thread_time() - started, 1e-6)
            there = asked & (lists.of_set == number)
            indexed[row, there], seconds[row, there] = answers[number].indexed, spent
        best = _best_lattice(row, lists, answers, run.geometry, cell)
        if best is not None:
            split, number = best
            own[row] = split[lists.of_set]
            told = fit_frame(
                lists.patterns[number], answers[number].lattices[0], run.geometry, cell
            )
            if told is not None:
                place = lists.patterns[number]
                tried = place.camera_length, place.shift_x, place.shift_y
                fit[row], information[row] = told.geometry - np.array(tried), told.information
                spread[row] = told.residual_px, told.scale_deviation
        before = time.thread_time()
    if crystals is not None:
        impute_costs(seconds, counts >= least, asked_frames, crystals)
    return FrameRecord(
        about=about,
        settings=tuple(settings),
        counts=counts,
        own=own,
        indexed=indexed,
        cost=coded_seconds(seconds),
        lattice=np.asarray(indexed.any(axis=1), bool),
        asked=asked_frames,
        look_seconds=look_seconds,
        fit=fit,
        information=information,
        spread=spread,
    )


def impute_costs(
    seconds: NDArray[np.float64],
    hits: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    crystals: NDArray[np.bool_],
) -> None:
    """Charge hits of frames that were not asked with what such hits of the same set took."""
    blank = asked & ~crystals
    n = hits[blank].sum(axis=0)
    mean = seconds[blank].sum(axis=0) / np.maximum(n, 1)
    overall = seconds[blank].sum() / max(n.sum(), 1)
    charged = np.where(n > 0, mean, overall)
    seconds[~asked] = np.where(hits[~asked], charged, 0.0)


def recorded_sets(space: ParameterSpace) -> list[Settings]:
    """Return the look's design and CrystFEL's defaults.

    Of the design's thresholds the one nearest to the base's is replaced by that: a session begins
    with its base, and its initial design is about it.
    """
    base, design = space.base, look_design(space)
    levels = np.array(sorted({each.threshold for each in design}))
    nearest = levels[np.argmin(abs(np.log(levels / base.threshold)))]
    sets = [
        each.replace(threshold=base.threshold) if each.threshold == nearest else each
        for each in design
    ]
    return [*dict.fromkeys([*sets, base, baseline(space)])]


class _Lists:
    """The different peak lists of one frame.

    Attributes
    ----------
    patterns : list of Pattern
    sizes : int array
        Of the peak lists.
    of_set : int array (S,)
        Which of them each parameter set finds.
    """

    def __init__(self, patterns: list[Pattern], of_set: list[int]) -> None:
        self.patterns, self.of_set = patterns, np.array(of_set)
        self.sizes = np.array([len(pattern.peaks) for pattern in patterns])

    @classmethod
    def of(cls, run: FrameSource, found: Sequence[Pattern], settings: Sequence[Settings]) -> _Lists:
        places: dict[bytes, int] = {}
        patterns: list[Pattern] = []
        of_set = []
        for pattern, each in zip(found, settings, strict=True):
            placed = pattern.placed(each, run.nominal_clen)
            key = placed.digest()
            if key not in places:
                places[key] = len(patterns)
                patterns.append(placed)
            of_set.append(places[key])
        return cls(patterns, of_set)


def _best_lattice(
    frame: int, lists: _Lists, answers: dict[int, Indexing], geometry: Geometry, cell: Cell
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int] | None:
    """Return the own peaks of each list by the lattice with most, and whose lattice that is."""
    best: tuple[int, int, FrameLattices] | None = None
    for number, answer in answers.items():
        if answer.indexed:
            pattern = lists.patterns[number]
            lattices = FrameLattices.of(frame, pattern, answer.lattices, cell)
            own = int(lattices.own(pattern, geometry).sum())
            if best is None or own > best[0]:
                best = own, number, lattices
    if best is None:
        return None
    split = [int(best[2].own(pattern, geometry).sum()) for pattern in lists.patterns]
    return np.array(split), best[1]


def _search_seconds(run: FrameSource, settings: Settings) -> float:
    """Return the processor time of a search with one set in a frame that is kept ready."""
    batch = PeakBatch(NamedFinder(run.geometry), run, memory=4 << 30)
    frames = range(min(TIMED, len(run)))
    loose = [settings.replace(min_snr=snr) for snr in (3.0, 3.5, 4.0, 4.5, 5.5)]
    for _ in batch.search(frames, loose):
        pass
    started = time.thread_time()
    for _ in batch.search(frames, [settings]):
        pass
    return (time.thread_time() - started) / len(frames)


def record_source(source: Source, path: Path, n_frames: int) -> str:
    """Render an experiment, record it in a file, and return a line that says how it went."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        data, geometry_file, cell_file, crystals = source.files(Path(work), n_frames)
        geometry, cell = Geometry.read(geometry_file), Cell.read(cell_file)
        run = open_source(data, geometry)
        n_frames = min(n_frames, len(run))
        given = run_space(run, n_frames)
        rendered = time.process_time()
        indexer = FastIndexer(geometry, cell)
        with LiveEvaluator(run, cell, indexer, range(n_frames), memory=0) as live:
            found = find_session_geometry(
                live, range(n_frames), geometry, cell, given, run.nominal_clen, kept=(), jobs=1
            )
        space = given.moved(**found.values)
        assert given.known is not None
        about = AboutRecord(
            source.family, source.seed, source.number, source.kind, given.known,
            dict(found.values), cell.primitive_volume,
            _search_seconds(run, space.base), indexer.name,
        )  # fmt: skip
        placed = time.process_time()
        record = record_experiment(run, cell, space, about, n_frames, crystals)
    record.write(path)
    rate = record.indexed.mean(axis=0)
    false = ""
    if crystals is not None:
        blank = record.asked & ~crystals
        n_lists = int((record.cost[blank] > 0).sum())
        false = f"{int(record.indexed[blank].sum())} of {n_lists} lists without a crystal indexed; "
    return (
        f"{path.name} {source.kind} CPU s: {rendered - started:.0f} rendered, "
        f"{placed - rendered:.0f} placed, {time.process_time() - placed:.0f} recorded "
        f"({record.look_seconds.sum():.0f} of it peaks); {false}{record.lattice.mean():.2f} with a "
        f"lattice, best rate {rate.max():.2f}, {path.stat().st_size} bytes"
    )


@dataclass(frozen=True)
class Source:
    """An experiment of the benchmark, and how its files come about."""

    family: str
    seed: int
    number: int
    kind: str
    files: Callable[[Path, int], tuple[Path, Path, Path, NDArray[np.bool_] | None]]
    """Data, geometry, cell, and which frames have a crystal, where that is known."""


def drawn_source(family: str, number: int, draw: Draw) -> Source:
    """Return an experiment of a family, as files to be rendered."""

    def files(work: Path, n_frames: int) -> tuple[Path, Path, Path, NDArray[np.bool_] | None]:
        paths = simulate_run(draw.experiment, work / "run", n_frames)
        crystals = np.array([len(truth.reciprocal) > 0 for truth in read_truth(paths.truth)])
        return paths.data, paths.geometry, paths.cell, crystals

    return Source(family, SEED, number, draw.kind, files)


def _shared(number: int, name: str, files: Sequence[Path]) -> Source:
    data, geometry, cell = files
    return Source("runs", 0, number, name, lambda work, n_frames: (data, geometry, cell, None))


def _sources(shared: Path, family: str | None) -> Iterator[Source]:
    """Yield the runs that are there, then the experiments, the families in turn; or one family."""
    for number, (name, files) in enumerate(SHARED_RUNS.items()):
        if family is None and (shared / files[0]).exists():
            yield _shared(number, name, [shared / file for file in files])
    rows = (
        [drawn_source(name, number, draw) for number, draw in benchmark_draws(name).items()]
        for name in ([family] if family else N_EXPERIMENTS)
    )
    for several in zip_longest(*rows):
        yield from (each for each in several if each is not None)


@click.command()
@click.option("--until", help="Begin no experiment after this time of day, HH:MM.")
@click.option("--folder", type=click.Path(path_type=Path), default=RECORDS, show_default=True)
@click.option("--shared", type=click.Path(path_type=Path), default=SHARED, show_default=True)
@click.option("--frames", default=N_FRAMES, show_default=True)
@click.option("--family", type=click.Choice(["train"]), help="To develop with instead.")
def main(until: str | None, folder: Path, shared: Path, frames: int, family: str | None) -> None:
    """Record what is missing."""
    if family and folder == RECORDS:
        raise click.UsageError(
            "the benchmark's folder is for no other experiments: name a --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    last = datetime.time.fromisoformat(until) if until else datetime.time.max
    for source in _sources(shared, family):
        path = folder / f"{source.family}_{source.number:03d}.npz"
        if path.exists():
            continue
        if datetime.datetime.now().time() > last:
            click.echo(f"it is past {until}: the same command goes on with {path.name}")
            return
        click.echo(record_source(source, path, frames))


if __name__ == "__main__":
    main()
