"""Pools search with the peak finder that the settings name."""

from __future__ import annotations

import numpy as np
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.settings import Settings
from wrappers.workers.frame_pool import FramePool

ROBUST = Settings(peak_finder="robust", min_snr=2.5, threshold=10, max_pix_count=50)
# What a session asks: the defaults first, then one finder's settings, out of its range too.
REFINED = [
    Settings(threshold=30),
    *(ROBUST.replace(min_snr=snr) for snr in (3, 2.5, 2.5, 2, 1.5)),
    Settings(threshold=30),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    paths = simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", 4)
    return Run.open(paths.data, Geometry.read(paths.geometry))


@pytest.fixture(scope="module")
def expected(run):
    """What the finders themselves find, settings by settings."""
    finders = {"peakfinder8": PeakFinder(run.geometry), "robust": RobustPeakFinder(run.geometry)}
    found = [[finders[s.peak_finder].find(run[i], s) for i in range(len(run))] for s in REFINED]
    assert all(sum(map(len, lists)) > 20 for lists in found)
    return found


def check(pool, run, expected):
    for settings, lists in zip(REFINED, expected, strict=True):
        found = pool.search(range(len(run)), [settings])
        for index, peaks in enumerate(lists):
            np.testing.assert_array_equal(found[index].patterns[0].peaks.fs, peaks.fs)
            np.testing.assert_array_equal(found[index].patterns[0].peaks.snr, peaks.snr)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_processes_find_what_the_finder_finds(run, expected, jobs, memory):
    with FramePool(run, None, jobs, memory) as pool:
        check(pool, run, expected)


def test_so_does_a_cluster(run, expected):
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install distributed")
    from wrappers.cell import Cell
    from wrappers.lattices.fast_indexer import FastIndexer
    from wrappers.workers.cluster_pool import ClusterPool

    cell = Cell.read(run.geometry.path.with_suffix(".cell"))
    indexer = FastIndexer(run.geometry, cell)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
        ClusterPool(client, run, indexer, memory=1 << 30) as pool,
    ):
        check(pool, run, expected)


def test_a_geometry_that_knows_no_photon_is_told_of(run):
    lines = run.geometry.path.read_text().splitlines(keepends=True)
    path = run.geometry.path.with_name("no_photon.geom")
    path.write_text("".join(line for line in lines if not line.startswith("adu_per_photon")))
    geometry = Geometry.read(path)
    unknown = Run.open(run.files[0], geometry)
    with (
        FramePool(unknown, None, jobs=2) as pool,
        pytest.raises(InputError, match=r"no_photon\.geom does not say how many ADU a photon is"),
    ):
        pool.search([0], [ROBUST])
