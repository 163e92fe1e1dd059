"""Recorded frames: what is recorded is what a session measures, and nobody learns from it."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from envs.evaluators.frame_record import (
    RECORDS,
    AboutRecord,
    FrameRecord,
    coded_seconds,
    decoded_seconds,
)
from envs.evaluators.live import LiveEvaluator
from envs.evaluators.recorded import RecordedEvaluator
from envs.look import look_design
from envs.simulation.experiment import SMALL_DETECTOR, Crystals, Experiment
from envs.simulation.families import draw_experiments, family_of
from envs.simulation.simulator import simulate_run
from experiments import fit_responses, map_against_gp, record_looks, record_tables
from experiments.record_frames import (
    N_EXPERIMENTS,
    SEED,
    benchmark_draws,
    impute_costs,
    record_experiment,
    recorded_sets,
)
from experiments.record_frames_crystfel import N_VALUES, smaller_grid
from experiments.record_looks import MOST_PIXELS, run_space
from experiments.shared_runs import SHARED_RUNS
from tuner.comparison import frames_benchmark
from tuner.comparison.frames_benchmark import compare_frames, frames_figures, frames_tasks
from tuner.session.initial_design import baseline
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.lattices.fast_indexer import FastIndexer

N_FRAMES = 12
ROOT = Path(__file__).parents[2]

EXPERIMENT = Experiment(
    detector=SMALL_DETECTOR,
    crystals=Crystals(hit_fraction=0.8, photons=300.0),
    clen_error=-0.004,
    seed=6,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A live evaluator, its box, and the record of the same frames."""
    paths = simulate_run(EXPERIMENT, tmp_path_factory.mktemp("frames") / "run", N_FRAMES)
    geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
    run = Run.open(paths.data, geometry)
    space = run_space(run, N_FRAMES)
    volume = cell.primitive_volume
    about = AboutRecord("test", 1, 0, "small", space.known, {}, volume, 1e-3, "fast")
    record = record_experiment(run, cell, space, about, N_FRAMES)
    with LiveEvaluator(run, cell, FastIndexer(geometry, cell), range(N_FRAMES)) as live:
        yield live, space, record


def chosen_sets(space):
    design = recorded_sets(space)
    return [design[0], design[75], design[130], design[-40], baseline(space), space.base]


def test_a_record_answers_as_the_frames_themselves_do(recorded):
    live, space, record = recorded
    evaluator = RecordedEvaluator(record, range(N_FRAMES))
    some = 0
    for settings in chosen_sets(space):
        measured, answered = live.evaluate(settings), evaluator.evaluate(settings)
        assert answered.settings == settings
        assert answered.outcomes == measured.outcomes
        some += measured.n_indexed
        if measured.n_indexed >= 5:
            assert answered.refined["clen"][0] == pytest.approx(
                measured.refined["clen"][0], abs=4 * measured.refined["clen"][1]
            )
            assert answered.explained == pytest.approx(measured.explained, abs=0.1)
    assert some > 20  # there is something to see at all
    design = recorded_sets(space)
    assert (evaluator.look(design).counts == live.look(design).counts).all()


def test_lattices_split_the_peaks_of_every_set_as_on_frames(recorded):
    live, space, record = recorded
    evaluator = RecordedEvaluator(record, range(N_FRAMES))
    design = recorded_sets(space)
    measured = design[75]
    there, here = live.lattice_counts(measured, design), evaluator.lattice_counts(measured, design)
    assert here.frames == there.frames and len(here.frames) >= 4
    # The frame's best lattice is kept, where a session has the one of the set that it measured.
    total = there.own.astype(int) + there.other
    assert (here.own.astype(int) + here.other == total).all()
    assert np.abs(here.own.astype(int) - there.own).mean() < 0.05 * there.own.mean() + 1


def test_of_frames_without_a_crystal_some_are_indexed_and_the_others_charged_alike(recorded):
    _, _, record = recorded
    hits = record.counts >= 10
    crystals = ~np.isin(np.arange(N_FRAMES), (1, 4, 7))
    seconds = np.where(hits, 0.01 * (1 + np.arange(N_FRAMES))[:, None], 0.0)
    asked = crystals | (np.arange(N_FRAMES) == 4)
    before = seconds[asked].copy()
    impute_costs(seconds, hits, asked, crystals)
    assert (seconds[asked] == before).all()
    assert seconds[[1, 7]][hits[[1, 7]]] == pytest.approx(0.05)
    assert (seconds[~hits] == 0).all()


def test_the_box_has_the_recorded_values_alone_and_all_else_is_answered_by_the_nearest(recorded):
    _, _, record = recorded
    evaluator = RecordedEvaluator(record, range(N_FRAMES))
    space = evaluator.space
    rng = np.random.default_rng(0)
    for point in rng.random((40, len(space))):
        settings = space.decode(point)
        there = record.settings[evaluator.nearest(settings)]
        for name in ("min_snr", "threshold", "min_pix_count"):
            assert getattr(settings, name) == getattr(there, name)
        assert space.settings(space.values(settings)) == settings
    assert space["clen"].low < settings.clen < space["clen"].high
    # The look of a session is what was recorded, and so is its start.
    assert {*look_design(space)} | {baseline(space)} == {*record.settings}
    assert space.base in record.settings
    between = space.base.replace(min_snr=space["min_snr"].values[2] + 0.01)
    assert record.settings[evaluator.nearest(between)].min_snr == space["min_snr"].values[2]


def test_a_list_is_paid_for_once(recorded):
    _, space, record = recorded
    evaluator = RecordedEvaluator(record, range(N_FRAMES))
    settings = chosen_sets(space)[1]
    part, whole = evaluator.evaluate(settings, 5), evaluator.evaluate(settings)
    assert part.n_frames == 5 and part.core_seconds > 0 and whole.core_seconds > 0
    assert evaluator.evaluate(settings).core_seconds == 0
    alone = RecordedEvaluator(record, range(N_FRAMES)).evaluate(settings)
    assert alone.core_seconds == pytest.approx(part.core_seconds + whole.core_seconds)


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_refused(recorded, tmp_path):
    _, _, record = recorded
    path = tmp_path / "test_000.npz"
    record.write(path)
    again = FrameRecord.read(path)
    for field in dataclasses.fields(record):
        one, other = getattr(record, field.name), getattr(again, field.name)
        if field.name == "about":
            assert repr(one) == repr(other)  # a photon energy that nobody told is NaN
        elif field.name in ("settings", "embedded", "embedded_cost"):
            assert one == other  # it is the embedded indexer's own record
        else:
            assert one.dtype == other.dtype
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    assert again.space.parameters == record.space.parameters
    dataclasses.replace(record, own=record.own[:, :-1]).write(path)
    with pytest.raises(InputError, match="own is another array"):
        FrameRecord.read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is damaged"):
        FrameRecord.read(path)


def test_processor_times_are_kept_to_five_per_cent():
    seconds = np.array([0.0, 3e-4, 0.02, 1.7])
    found = decoded_seconds(coded_seconds(seconds))
    assert found == pytest.approx(seconds, rel=0.026)


def test_the_benchmark_finds_what_a_grid_finds_and_goes_on_where_it_was(
    recorded, tmp_path, monkeypatch
):
    _, _, record = recorded
    record.write(tmp_path / "test_000.npz")
    tasks = frames_tasks(tmp_path)
    assert [task.family for task in tasks] == ["frames_test"]
    methods = ["map", "random", "defaults"]
    results = compare_frames(tasks, None, methods, n_seeds=1)
    family = frames_figures(results, 1)["frames_test"]
    assert (family["n_tasks"], family["n_seeds"]) == (1, 1)
    for method in methods:
        regrets = [family[method][f"regret_{n}"] for n in (1, 2, 3, 5, 10)]
        assert all(0 <= each <= 1.2 for each in regrets)
    # All begin with CrystFEL's defaults, and only those that search get anywhere.
    assert family["map"]["regret_1"] == family["defaults"]["regret_10"]
    assert family["map"]["regret_5"] <= family["defaults"]["regret_10"] - 0.1
    ends = {method: family[method]["regret_10_by_task"][0] for method in methods}
    for method in methods:
        assert family[method]["most_behind_10"] == ends[method] - min(ends.values())
    frames = results["frames_test"]["random"]["frames"]
    assert (np.diff(frames, axis=2) >= 0).all() and frames[..., 0] == pytest.approx(1)
    assert frames.max() <= frames_benchmark.FULL + 1
    for arrays in results["frames_test"].values():
        arrays["regret"][0, 1] = math.nan
    seen = []
    compare_frames(tasks, None, methods, n_seeds=1, results=results,
                   on_progress=seen.append)  # fmt: skip
    assert seen == [2]
    assert frames_figures(results, 1)["frames_test"]["map"]["regret_3"] == family["map"]["regret_3"]


# Another indexer's answers


def of_another(record):
    """A record as of an indexer that finds less, and takes a second for each hit."""
    less = record.indexed & (np.arange(N_FRAMES) % 2 == 0)[:, None]
    return dataclasses.replace(
        record,
        about=dataclasses.replace(record.about, indexer="CrystFEL"),
        indexed=less,
        cost=coded_seconds(np.where(record.counts >= 10, 1.0, 0.0)),
        embedded=record.indexed,
        embedded_cost=record.cost,
    )


def test_a_record_of_another_indexer_has_the_lattices_of_the_embedded_one(recorded, tmp_path):
    _, space, record = recorded
    path = tmp_path / "crystfel_test_000.npz"
    of_another(record).write(path)
    found = FrameRecord.read(path)
    for name in ("indexed", "embedded", "embedded_cost", "cost"):
        np.testing.assert_array_equal(getattr(found, name), getattr(of_another(record), name))
    own, other = (RecordedEvaluator(each, range(N_FRAMES)) for each in (record, found))
    assert own.embedded and not other.embedded
    measured = recorded_sets(space)[75]
    design = recorded_sets(space)[:80]
    ours, theirs = (each.lattice_counts(measured, design) for each in (own, other))
    assert ours.frames == theirs.frames and len(ours.frames) >= 4
    evaluations = [each.evaluate(measured) for each in (own, other)]
    assert evaluations[1].n_indexed < evaluations[0].n_indexed
    # Its own lists, and the embedded indexer's for their lattices.
    hits = evaluations[1].n_hits
    assert hits < evaluations[1].core_seconds < 1.1 * hits + 0.5
    assert [task.family for task in frames_tasks(tmp_path)] == ["frames_crystfel"]
    arrays = dict(np.load(path))
    del arrays["embedded"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="is damaged"):
        FrameRecord.read(path)


def test_crystfel_is_asked_for_a_smaller_grid_around_the_same_start(recorded):
    _, space, record = recorded
    sets = [record.settings[n] for n in smaller_grid(record)]
    assert 24 <= len(sets) <= 40
    assert space.base in sets and baseline(space) in sets
    for name, most in N_VALUES.items():
        values = {getattr(each, name) for each in sets if each != baseline(space)}
        assert most <= len(values) <= most + 2, name


# The split


def test_no_experiment_of_the_benchmark_is_used_for_training_fit_or_elsewhere():
    drawn = {
        family: {draw.experiment.seed for draw in benchmark_draws(family).values()}
        for family in N_EXPERIMENTS
    }
    for family, seeds in drawn.items():
        assert len(seeds) == N_EXPERIMENTS[family]
        assert all(
            family_of(dataclasses.replace(EXPERIMENT, seed=seed)) == family for seed in seeds
        )
        others = {
            0, 1, 2, fit_responses.SEED, record_tables.SEED, record_looks.SEED, map_against_gp.SEED,
        }  # fmt: skip
        assert SEED not in others
        for other in others:
            for draw in draw_experiments(family, 70, other, most_pixels=MOST_PIXELS):
                assert draw.experiment.seed not in seeds


def test_every_file_of_the_benchmark_is_of_the_experiment_that_it_says():
    for task in frames_tasks():
        record = FrameRecord.read(task.path)
        about = record.about
        assert task.path.stem.removeprefix("crystfel_") == f"{about.family}_{about.number:03d}"
        if record.embedded is not None:
            assert task.family == "frames_crystfel" and "CrystFEL" in about.indexer
            continue
        assert len(record.settings) >= 200
        if about.family == "runs":
            assert about.kind == list(SHARED_RUNS)[about.number]
            continue
        assert about.seed == SEED
        assert benchmark_draws(about.family)[about.number].kind == about.kind
        assert len(record.counts) == 300
    assert sum(path.stat().st_size for path in RECORDS.glob("*")) < 30e6


def test_nothing_that_learns_reads_the_benchmark():
    named = re.compile(r"frame_record|record_frames|data/frames|frames_benchm")
    allowed = {
        "envs/evaluators/recorded.py",
        "experiments/own_past.py",  # records of its own
        "experiments/record_frames.py",
        "experiments/record_frames_crystfel.py",
        "tuner/cli/compare.py",
        "tuner/cli/compare_frames.py",
        "tuner/comparison/__init__.py",
        "tuner/comparison/frames_benchmark.py",
        "tuner/comparison/frames_pictures.py",
        "tuner/comparison/frames_retired.py",
        "tuner/comparison/frames_together.py",
        "tuner/comparison/frames_words.py",
    }
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("wrappers", "envs", "tuner", "sfx_tuner", "experiments")
        for path in (ROOT / package).rglob("*.py")
        if named.search(path.read_text())
    }
    assert found == allowed
