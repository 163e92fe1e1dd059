"""Frames of a block that are indexed while others are searched, against an evaluation of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.live import LiveEvaluator
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.closed_loop.events import Pairs
from tuner.closed_loop.measuring import differ_in_place, measured_frames
from tuner.closed_loop.sampled import BlockSample
from tuner.session.config import SessionConfig
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.reduction.placed import place
from wrappers.settings import Settings
from wrappers.streams.reducing import FrameSearch

NOW = Settings(min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50, min_peaks=10)
BEFORE = NOW.replace(threshold=120.0)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sampled") / "run", 24)


@pytest.fixture(scope="module")
def run(simulated):
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        yield run


@pytest.fixture(scope="module")
def cell(simulated):
    return Cell.read(simulated.cell)


class Whole(FastIndexer):
    """An indexer that is given many patterns at once."""

    parallel = True


def sampled(run, cell, *, change=0.0, kind=FastIndexer, jobs=1, other=None, **how):
    search = FrameSearch(run.geometry)

    def found(frame, settings=NOW):
        return place(*search(frame, settings), settings, change)

    how = {"share": 1.0, "most": 1000, **how}
    indexer = kind(run.geometry, cell)
    beside = None if other is None else lambda frame: found(frame, other)
    with BlockSample(indexer, run.geometry, cell, jobs=jobs, seed=1, other=beside, **how) as sample:
        for frame in run:
            sample.add(replace(found(frame), beside=sample.beside(frame)))
        return sample.result()


def indexed(run, cell, settings) -> set[int]:
    with (
        closing(FastIndexer(run.geometry, cell)) as indexer,
        LiveEvaluator(run, cell, indexer, range(len(run)), max_decoys=0) as evaluator,
    ):
        return {each.frame for each in evaluator.evaluate(settings).outcomes if each.indexed}


@pytest.mark.parametrize(("jobs", "kind"), [(1, FastIndexer), (3, FastIndexer), (2, Whole)])
def test_the_frames_that_index_are_those_of_an_evaluation(run, cell, jobs, kind):
    now, before = indexed(run, cell, NOW), indexed(run, cell, BEFORE)
    found = sampled(run, cell, jobs=jobs, kind=kind)
    assert (found.n, found.n_indexed, found.pairs) == (24, len(now), Pairs())
    assert found.n_placed > len(now) / 2
    assert now != before
    found = sampled(run, cell, jobs=jobs, kind=kind, other=BEFORE)
    assert (found.n, found.n_indexed) == (24, len(now))
    assert found.pairs == Pairs(24, len(now - before), len(before - now), len(before & now))


def test_a_detector_that_is_elsewhere_is_seen(run, cell):
    # The demonstration's geometry is 1.5 % too short.
    right = 0.015 * run.nominal_clen / 0.985
    here = sampled(run, cell, change=right)
    assert here.n_elsewhere <= 0.1 * here.n_placed
    for change in (right + 0.02 * run.nominal_clen, right - 0.01 * run.nominal_clen):
        there = sampled(run, cell, change=change)
        assert there.n_placed >= 5 and there.n_elsewhere >= 0.9 * there.n_placed


def test_some_frames_are_drawn(run, cell):
    assert 4 <= sampled(run, cell, share=0.5).n <= 20
    assert sampled(run, cell, most=7).n == 7


def test_sets_that_put_the_detector_to_other_places(run):
    clen = run.nominal_clen
    for change, is_elsewhere in (
        ({}, False),
        ({"clen": clen}, False),
        ({"clen": 1.002 * clen}, False),
        ({"clen": 1.01 * clen}, True),
        ({"shift_x": 1 / run.geometry.panels[0].res}, False),
        ({"shift_y": -2 / run.geometry.panels[0].res}, True),
    ):
        assert differ_in_place(NOW, NOW.replace(**change), run) is is_elsewhere


@pytest.mark.crystfel
def test_crystfel_indexes_in_a_thread_block_after_block(run, cell, indexamajig):
    """Its processes outlive the thread that a block's frames are handed over by."""
    search = FrameSearch(run.geometry)
    choice = IndexerChoice("crystfel").settled()
    with closing(make_indexer(choice, run.geometry, cell, jobs=2)) as indexer:
        found = []
        for block in range(2):
            with BlockSample(
                indexer, run.geometry, cell, share=1.0, most=100, jobs=2, seed=block
            ) as sample:
                for frame in run:
                    sample.add(place(*search(frame, NOW), NOW, 0.0))
                found.append(sample.result())
    assert found[0].n_indexed > 5 and found[0] == found[1]


def test_what_a_session_has_measured_is_not_measured_again(tmp_path):
    store = SessionStore.create(tmp_path / "session", SessionConfig())

    def measured(settings, stage, indexed, frames=range(4)):
        outcomes = tuple(FrameOutcome(i, 20, True, int(i in indexed)) for i in frames)
        store.add(Trial(len(store.trials), stage, Evaluation(settings, outcomes)))

    measured(BEFORE, "start", {0, 1})
    measured(NOW, "search", {0}, range(2))
    measured(NOW, "search", {0, 2, 3})
    measured(NOW.replace(min_peaks=3), "search", {0, 1, 2, 3})
    measured(BEFORE, "fresh", {5}, range(4, 8))
    measured(NOW, "fresh", {5, 6}, range(4, 7))
    frames, (before, now) = measured_frames(tmp_path / "session", [BEFORE, NOW])
    assert (frames, before, now) == ({*range(7)}, {0, 1, 5}, {0, 2, 3, 5, 6})
    assert measured_frames(tmp_path / "session", [BEFORE, Settings()])[0] == set()
