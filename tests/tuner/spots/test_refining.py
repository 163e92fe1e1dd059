"""What a session's lattices say of candidates, held against the truth, and which model is kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import read_truth, simulate_run
from tuner.spots.examples import label
from tuner.spots.refining import PROBABILITIES, Refined, label_by_lattices
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.settings import Settings
from wrappers.spots.candidates import CandidateFinder
from wrappers.spots.learned_peaks import LearnedPeakFinder
from wrappers.spots.model import SpotModel

LEARNED = Settings(peak_finder="learned", min_pix_count=1)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Candidates of frames with what their lattices say of them, and what is true."""
    experiment = dataclasses.replace(demo_experiment(seed=1), clen_error=0.0)
    paths = simulate_run(experiment, tmp_path_factory.mktemp("refining") / "run", 10)
    geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
    finder, candidate_finder = LearnedPeakFinder(geometry), CandidateFinder(geometry)
    indexer = FastIndexer(geometry, cell)
    found = []
    with Run.open(paths.data, geometry) as run:
        for i, truth in enumerate(read_truth(paths.truth)):
            peaks = finder.find(run[i], LEARNED)
            pattern = Pattern(peaks, run.photon_energy(i), run.camera_length(i), *run.shift(i))
            if len(peaks) < 10:
                continue
            (answer,) = indexer.index([pattern])
            if not answer.indexed:
                continue
            candidates = candidate_finder.find(run[i])
            said = label_by_lattices(candidates, pattern, answer.lattices, geometry, cell)
            clear = truth.spots[:, 2] >= 3
            places = np.column_stack([candidates.peaks.fs, candidates.peaks.ss])
            found.append((said, *label(places, truth.spots[clear, :2], truth.spots[~clear, :2])))
    assert len(found) >= 4
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def test_hardly_a_true_spot_is_called_none(indexed):
    said, right, _ = indexed
    assert (said[right] == 0).mean() < 0.08
    assert (said == 0).sum() > 0.3 * len(said)  # and not because nothing is called so


def test_what_is_called_a_spot_is_one(indexed):
    said, right, unclear = indexed
    assert (right | unclear)[said == 1].mean() > 0.97
    assert (said[right] == 1).mean() > 0.3


def test_in_a_frame_with_another_crystal_nothing_is_none(tmp_path_factory):
    experiment = dataclasses.replace(demo_experiment(seed=1), clen_error=0.0)
    paths = simulate_run(experiment, tmp_path_factory.mktemp("two") / "run", 10)
    geometry, cell = Geometry.read(paths.geometry), Cell.read(paths.cell)
    finder, indexer = LearnedPeakFinder(geometry), FastIndexer(geometry, cell)
    with Run.open(paths.data, geometry) as run:
        for i in range(len(run)):
            peaks = finder.find(run[i], LEARNED)
            pattern = Pattern(peaks, run.photon_energy(i), run.camera_length(i), *run.shift(i))
            answer = indexer.index([pattern])[0]
            if not answer.indexed:
                continue
            candidates = CandidateFinder(geometry).find(run[i])
            alone = label_by_lattices(candidates, pattern, answer.lattices, geometry, cell)
            rng = np.random.default_rng(0)
            others = rng.random(len(alone)) < 0.5
            many = dataclasses.replace(candidates, score=np.where(others, 50, candidates.score))
            both = label_by_lattices(many, pattern, answer.lattices, geometry, cell)
            assert (alone == 0).any() and not (both == 0).any() and (both == 1).any()
            return
    raise AssertionError("no frame is indexed")


def refined(before, after, gain=1.0) -> Refined:
    n = len(PROBABILITIES)
    counts = tuple((a,) * n if isinstance(a, int) else a for a in (before, after))
    return Refined(SpotModel.load(), 10, 5, (0.3, 0.2), gain, 0.1, counts, counts)


@pytest.mark.parametrize(
    ("after", "gain", "kept"),
    [
        (20, 1.0, True),
        (20, 0.05, False),  # not by more than its error
        ((20, 19, 20), 1.0, False),  # fewer at the customary probability
        ((19, 20, 19), 1.0, True),
        (19, 1.0, False),
    ],
)
def test_a_model_that_indexes_fewer_frames_is_not_kept(after, gain, kept):
    assert refined(20, after, gain).kept is kept
    # The best of the one that was begun with counts, too.
    assert not refined((20, 19, 25), after, gain).kept
