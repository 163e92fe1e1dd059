"""The settings' own masks in an evaluator: the peaks are those of masked frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.evaluators.live import LiveEvaluator
from envs.simulation.simulator import demo_experiment, simulate_run
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexing import Indexing
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings
from wrappers.workers.frame_pool import FramePool

BASE = Settings(min_snr=5, threshold=100, min_pix_count=1, min_peaks=5)
MASKED = [
    BASE,
    BASE.replace(mask_hot_sigma=5),
    BASE.replace(mask_hot_sigma=5, min_snr=6),
    BASE.replace(mask_hot_sigma=5, min_snr=4),
    BASE.replace(mask_noisy_sigma=3, mask_dead_sigma=3),
    BASE.replace(mask_edge=3),
    BASE,
]


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> tuple[Run, Cell]:
    paths = simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("masked") / "run", 12)
    run = Run.open(paths.data, Geometry.read(paths.geometry))
    return run.with_bad_pixels(find_bad_pixels(run)), Cell.read(paths.cell)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_peaks_are_those_of_masked_frames(known, jobs, memory):
    run, _ = known
    finder, mask = PeakFinder(run.geometry), SettingsMask(run.geometry, run.bad_pixels)
    with FramePool(run, None, jobs, memory) as pool:
        for settings in MASKED:
            found = pool.search(range(4), [settings])
            for index, peaks in found.items():
                (pattern,) = peaks.patterns
                frame = run[index]
                frame = replace(frame, mask=mask.on(frame.mask, settings))
                expected = finder.find(frame, settings)
                np.testing.assert_array_equal(pattern.peaks.fs, expected.fs)
                np.testing.assert_array_equal(pattern.peaks.intensity, expected.intensity)


class Nothing:
    """An indexer that never finds a lattice."""

    name, parallel = "nothing", True

    def index(self, patterns, done=None):
        return [Indexing()] * len(patterns)


def test_an_evaluator_tells_masks_apart(known):
    run, cell = known
    with LiveEvaluator(run, cell, Nothing(), range(4), max_decoys=0) as evaluator:
        counts = [
            sum(outcome.n_peaks for outcome in evaluator.evaluate(settings).outcomes)
            for settings in MASKED
        ]
    assert counts[1] < counts[0] - 40
    assert counts[0] == counts[-1]
    assert counts[4] != counts[0] != counts[5]
