"""Pools that search with another peak finder than peakfinder8."""

from __future__ import annotations

import numpy as np
import pytest

from envs.frame_pool import FramePool
from envs.simulator import demo_experiment, simulate_run
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.settings import Settings

ASKED = [Settings(min_snr=snr, threshold=10, max_pix_count=50) for snr in (3, 2.5, 2.5, 2, 1.5)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    paths = simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", 4)
    return Run.open(paths.data, Geometry.read(paths.geometry))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_the_peaks_are_those_of_the_finder(run, jobs, memory):
    noise = np.ones(run.geometry.slab_shape, np.float32)
    noise[:, ::7] = 3
    robust = RobustPeakFinder(run.geometry, noise=noise)
    with FramePool(run, run.geometry, None, jobs, memory, robust) as pool:
        for settings in ASKED:
            for index, pattern in pool.search(range(len(run)), settings).items():
                expected = robust.find(run[index], settings)
                assert len(expected) > 0
                np.testing.assert_array_equal(pattern.peaks.fs, expected.fs)
                np.testing.assert_array_equal(pattern.peaks.snr, expected.snr)


def test_without_one_they_are_those_of_peakfinder8(run):
    settings = Settings(min_snr=4.5, threshold=30)
    with FramePool(run, run.geometry, None, jobs=1) as pool:
        found = pool.search([1], settings)[1].peaks
    expected = PeakFinder(run.geometry).find(run[1], settings)
    assert len(expected) > 0
    np.testing.assert_array_equal(found.fs, expected.fs)
