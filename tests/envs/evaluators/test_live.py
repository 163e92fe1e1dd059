from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
import pytest

from envs.evaluators.live import LiveEvaluator
from envs.look import Looks, take_look, wide_frames
from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.frames.sampling import background_level, sample_frames
from wrappers.indexing import Done, Indexing, Pattern, unheard
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.settings import Settings

FRAMES = 14
GOOD = Settings(min_snr=4.5, threshold=30, max_pix_count=50, clen=0.08)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture
def parts(paths):
    geometry = Geometry.read(paths.geometry)
    return Run.open(paths.data, geometry), geometry, Cell.read(paths.cell)


class Counting:
    """The embedded indexer, counting what it is given."""

    parallel = True
    name = "counting"

    def __init__(self, geometry: Geometry, cell: Cell) -> None:
        self.inner, self.given = FastIndexer(geometry, cell), 0

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        self.given += len(patterns)
        return self.inner.index(patterns, done)


def test_an_evaluation_of_good_settings(parts):
    run, geometry, cell = parts
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(FRAMES)) as live:
        evaluation = live.evaluate(GOOD)
    assert 3 <= evaluation.n_indexed <= evaluation.n_hits < FRAMES
    assert evaluation.n_decoys == evaluation.n_hits
    clen, error = evaluation.refined["clen"]
    assert clen == pytest.approx(0.08, abs=max(5 * error, 8e-5))
    assert abs(evaluation.scale_deviation) < 0.003
    assert 0 < evaluation.residual < 2
    assert 0.3 < evaluation.explained <= 1
    frames, lengths, errors = zip(*evaluation.frame_clens, strict=True)
    assert set(frames) <= evaluation.indexed_frames and len(frames) == evaluation.n_indexed
    assert lengths == pytest.approx([0.08] * len(frames), rel=0.01) and min(errors) > 0


def test_processes_and_the_single_process_agree(parts):
    run, geometry, cell = parts
    results = []
    for jobs in (1, 2):
        indexer = FastIndexer(geometry, cell)
        with LiveEvaluator(run, cell, indexer, range(FRAMES), jobs=jobs) as live:
            results.append(live.evaluate(GOOD))
    assert results[0].outcomes == results[1].outcomes
    one, two = (result.refined for result in results)
    for name in one:  # to rounding: the processes have another number of threads
        assert one[name] == pytest.approx(two[name], rel=1e-4), name


def test_progress_counts_frames_and_decoys_one_by_one(parts):
    run, geometry, cell = parts
    told: list[tuple[int, int]] = []
    with LiveEvaluator(
        run,
        cell,
        FastIndexer(geometry, cell),
        range(FRAMES),
        progress=lambda done, total: told.append((done, total)),
    ) as live:
        first = live.evaluate(GOOD)
        total = FRAMES + first.n_decoys
        assert {each for _, each in told} == {total}
        done = [done for done, _ in told]
        assert set(done) == set(range(FRAMES - first.n_hits, total + 1))
        assert done == sorted(done)
        told.clear()
        live.evaluate(GOOD)
    assert set(told) == {(total, total)}


def test_what_was_indexed_is_not_indexed_again(parts):
    run, geometry, cell = parts
    indexer = Counting(geometry, cell)
    with LiveEvaluator(run, cell, indexer, range(FRAMES)) as live:
        first = live.evaluate(GOOD)
        given = indexer.given
        assert given == first.n_hits + first.n_decoys
        again = live.evaluate(GOOD)
        assert indexer.given == given
        assert again.outcomes == first.outcomes
        # Fewer hits of the same peaks: nothing new either.
        live.evaluate(GOOD.replace(min_peaks=GOOD.min_peaks + 5))
        assert indexer.given == given
        # Another camera length makes other patterns of the same peaks.
        live.evaluate(GOOD.replace(clen=0.0801))
        assert indexer.given == 2 * given


def test_many_settings_at_once_are_evaluated_as_one_by_one(parts, monkeypatch):
    monkeypatch.setattr("envs.evaluators.live.REMEMBERED", 4)  # two calls of the pool
    run, geometry, cell = parts
    tried = [
        GOOD.replace(min_snr=snr, clen=clen) for snr in (4.5, 6.0, 9.0) for clen in (0.08, 0.081)
    ]
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(FRAMES)) as live:
        one_by_one = [live.evaluate(settings) for settings in tried]
    indexer = Counting(geometry, cell)
    with LiveEvaluator(run, cell, indexer, range(FRAMES)) as live:
        together = live.evaluate_all(tried)
        first = next(together)
        assert indexer.given == first.n_hits + first.n_decoys  # as they are done
        together = [first, *together]
    assert [each.outcomes for each in together] == [each.outcomes for each in one_by_one]
    assert [each.settings for each in together] == tried
    assert len({each.n_hits for each in together}) > 1
    assert all(each.core_seconds > 0 for each in together)


def test_the_wrong_camera_length_shows_in_the_cells(parts):
    run, geometry, cell = parts
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(FRAMES)) as live:
        short = live.evaluate(GOOD.replace(clen=0.08 * 0.985))
    assert short.scale_deviation == pytest.approx(-0.015, abs=0.004)
    assert short.refined["clen"][0] == pytest.approx(0.08, rel=0.002)


def test_without_a_clen_the_geometrys_is_taken(parts):
    run, geometry, cell = parts
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(4)) as live:
        _, patterns, _ = live.inspect(GOOD.replace(clen=None))
    assert {p.camera_length for p in patterns.values()} == {geometry.camera_length()}


def test_the_first_frames_of_a_sample_are_measured_alike(parts):
    run, geometry, cell = parts
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(FRAMES)) as live:
        part, whole = live.evaluate(GOOD, 8), live.evaluate(GOOD)
    assert part.outcomes == whole.outcomes[:8]


def test_samples_are_reproducible_and_apart(parts):
    run, *_ = parts
    sample, others = sample_frames(run, 5, seed=3)
    assert sample == sample_frames(run, 5, seed=3)[0]
    assert len(set(sample) | set(others)) == 10
    everything, nothing = sample_frames(run, None, seed=3)
    assert (sorted(everything), nothing) == (list(range(FRAMES)), [])


def test_the_background_is_that_of_the_pixels(parts):
    run, *_ = parts
    median, bright = background_level(run, [0])
    frame = run[0]
    assert median == pytest.approx(np.median(frame.data[frame.mask]))
    assert bright > median


def test_a_run_that_cannot_be_read_is_told(paths, tmp_path):
    broken = tmp_path / "run.h5"
    broken.write_bytes(paths.data.read_bytes())
    (tmp_path / "mask.h5").write_bytes(paths.mask.read_bytes())
    (tmp_path / "run.geom").write_bytes(paths.geometry.read_bytes())
    with h5py.File(broken) as file:
        chunks = [file["entry/data/data"].id.get_chunk_info(i) for i in range(FRAMES)]
    with broken.open("r+b") as stream:
        for chunk in chunks:
            stream.seek(chunk.byte_offset)
            stream.write(b"\xff" * chunk.size)
    run = Run.open(broken, Geometry.read(tmp_path / "run.geom"))
    with pytest.raises(InputError, match=r"no frame of .*run\.h5 can be used"):
        background_level(run, range(FRAMES))


DESIGN = [GOOD.replace(min_snr=snr, min_pix_count=n) for snr in (4, 6, 8) for n in (1, 2, 3)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_look_counts_the_samples_peaks_once(parts, jobs, monkeypatch):
    run, geometry, cell = parts
    sample, told = [9, 2, 5], []
    indexer = FastIndexer(geometry, cell)
    with LiveEvaluator(
        run, cell, indexer, sample, jobs=jobs, progress=lambda *n: told.append(n)
    ) as live:
        assert isinstance(live, Looks)
        look = live.look(DESIGN)
        assert look.frames == (9, 2, 5) and told[-1] == (3, 3)
        for place, each in enumerate(DESIGN):
            _, patterns, _ = live.inspect(each)
            assert [len(patterns[i].peaks) for i in sample] == look.counts[:, place].tolist()
        monkeypatch.setattr(live, "count", None)
        assert live.look(tuple(DESIGN)) is look


def test_lattices_say_whose_the_peaks_of_other_sets_are(parts):
    run, geometry, cell = parts
    found = []
    indexers = FastIndexer(geometry, cell), Counting(geometry, cell)
    for indexer in indexers:
        with LiveEvaluator(run, cell, indexer, range(FRAMES), max_decoys=0) as live:
            evaluation = live.evaluate(GOOD)
            found.append(live.lattice_counts(GOOD, DESIGN))
            look = live.look(DESIGN)
            again = live.lattice_counts(GOOD, DESIGN, range(8))
    # The lattices are the embedded indexer's own, and its answers are not asked for twice.
    assert indexers[1].given == evaluation.n_hits
    frames, own, other = found[0]
    assert set(frames) == evaluation.indexed_frames
    assert own.shape == other.shape == (len(frames), len(DESIGN))
    assert (own + other == look.counts[list(frames)]).all()
    assert (own[:, 4] > 2 * other[:, 4]).all()
    for one, same in zip(found[0], found[1], strict=True):
        assert np.array_equal(one, same)
    n = sum(frame < 8 for frame in frames)
    assert 0 < n < len(frames)
    assert again.frames == frames[:n] and np.array_equal(again.own, own[:n])


def test_where_nothing_indexes_there_are_no_lattices(parts):
    run, geometry, cell = parts
    nothing = GOOD.replace(threshold=60_000)
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(4)) as live:
        frames, own, other = live.lattice_counts(nothing, DESIGN)
    assert frames == () and own.shape == other.shape == (0, len(DESIGN))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_look_that_was_interrupted_goes_on_where_it_was(parts, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("envs.look.FRAMES_AT_ONCE", 4)
    run, geometry, cell = parts
    frames, stored, done = wide_frames(len(run), [9, 2]), tmp_path / "look.npz", []

    def interrupt(n, total):
        done.append(n)
        if n == 8:
            raise KeyboardInterrupt

    def evaluator():
        return LiveEvaluator(run, cell, FastIndexer(geometry, cell), [9, 2], jobs=jobs)

    with evaluator() as live, pytest.raises(KeyboardInterrupt):
        take_look(live, frames, DESIGN, stored=stored, progress=interrupt)
    with evaluator() as live:
        whole = take_look(live, frames, DESIGN)
        counted = []
        count = live.count
        monkeypatch.setattr(
            live, "count", lambda some, sets: counted.extend(some) or count(some, sets)
        )
        resumed = take_look(live, frames, DESIGN, stored=stored)
    assert done == [0, 4, 8] and counted == frames[8:]
    assert resumed.frames == whole.frames == tuple(frames) and len(frames) == FRAMES
    assert np.array_equal(resumed.counts, whole.counts) and whole.counts.any()
