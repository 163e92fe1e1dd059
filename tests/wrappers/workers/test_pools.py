"""Processes that work on frames, and lose some of their number."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tests.wrappers.workers.deadly_run import DeadlyRun
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import ProgramError
from wrappers.frames.run import Run
from wrappers.indexing import Indexing, unheard
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.own_peaks import FrameLattices
from wrappers.settings import Settings
from wrappers.workers.frame_pool import FramePool
from wrappers.workers.pool import KILLED
from wrappers.workers.worker_processes import MOST_DEATHS

FRAMES = 10
DEADLY = 4
GOOD = Settings(min_snr=4.5, threshold=30, max_pix_count=50, clen=0.08)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", FRAMES)


@pytest.fixture(scope="module")
def parts(paths):
    geometry = Geometry.read(paths.geometry)
    return Run.open(paths.data, geometry), geometry, Cell.read(paths.cell)


@pytest.fixture(scope="module")
def expected(parts):
    """What one process says of all frames."""
    run, geometry, cell = parts
    with FramePool(run, FastIndexer(geometry, cell), jobs=1) as pool:
        found = pool.search(range(FRAMES), [GOOD])
        return summary(found), indexed(pool, found)


@pytest.fixture
def deadly_run(parts, tmp_path):
    return lambda deaths: DeadlyRun(parts[0], DEADLY, deaths, tmp_path)


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install distributed")
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture
def cluster(dask_client):
    """Have a cluster with workers: an earlier test may have killed one, which is started again."""
    dask_client.wait_for_workers(1, timeout=60)
    return dask_client


@pytest.fixture(params=["processes", "cluster"])
def make_pool(request, parts):
    """Make a pool of either kind for a run."""
    _, geometry, cell = parts
    indexer = FastIndexer(geometry, cell)
    pools = []

    def make(run):
        if request.param == "processes":
            pool = FramePool(run, indexer, jobs=3, memory=1 << 30)
        else:
            from wrappers.workers.cluster_pool import ClusterPool

            client = request.getfixturevalue("cluster")
            pool = ClusterPool(client, run, indexer, memory=1 << 30)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def summary(found) -> dict[int, int | str]:
    return {frame: what.failure or len(what.patterns[0].peaks) for frame, what in found.items()}


def indexed(pool, found) -> list[bool]:
    return [answer.indexed for answer in pool.index([what.patterns[0] for what in found.values()])]


def test_many_processes_say_what_one_says(make_pool, parts, expected):
    pool = make_pool(parts[0])
    before = pool.core_seconds()
    for _ in range(2):  # read and held
        found = pool.search(range(FRAMES), [GOOD])
        assert summary(found) == expected[0]
    assert indexed(pool, found) == expected[1]
    assert pool.core_seconds() > before


def counted(found) -> dict[int, list[int] | str]:
    return {frame: what.failure or what.counts.tolist() for frame, what in found.items()}


def test_many_processes_count_what_one_finds(make_pool, parts):
    run, geometry, cell = parts
    sets = [GOOD.replace(min_snr=snr, min_pix_count=n) for n in (1, 3, 2) for snr in (6, 4, 3.3)]
    with FramePool(run, FastIndexer(geometry, cell), jobs=1) as pool:
        expected = {
            frame: [len(pattern.peaks) for pattern in what.patterns]
            for frame, what in pool.search(range(FRAMES), sets).items()
        }
    pool = make_pool(run)
    assert counted(pool.count(range(FRAMES), sets)) == expected
    pool.search(range(0, FRAMES, 2), [GOOD])  # some are held
    assert counted(pool.count([*reversed(range(FRAMES))], sets)) == expected


def test_many_processes_split_what_one_splits(make_pool, parts):
    run, geometry, cell = parts
    sets = [GOOD.replace(min_snr=snr, threshold=t) for snr in (6, 4) for t in (20, 60)]
    with FramePool(run, FastIndexer(geometry, cell), jobs=1) as pool:
        found = pool.search(range(FRAMES), [GOOD])
        answers = pool.index([what.patterns[0] for what in found.values()])
        known = [
            FrameLattices.of(frame, what.patterns[0], answer.lattices, cell)
            for (frame, what), answer in zip(found.items(), answers, strict=True)
            if answer.indexed
        ]
        expected = {frame: each.peaks.tolist() for frame, each in pool.split(known, sets).items()}
        counts = counted(pool.count([*expected], sets))
    assert 0 < len(expected) < FRAMES
    for frame, split in expected.items():
        assert [sum(pair) for pair in split] == counts[frame]
        assert split[2][0] > split[2][1]  # most peaks are its own
    split = make_pool(run).split(known, sets)
    assert {frame: each.peaks.tolist() for frame, each in split.items()} == expected


class NoIndexer:
    """An indexer that finds nothing."""

    name, parallel = "none", False

    def index(self, patterns, done=unheard):
        return [Indexing() for _ in patterns]

    def close(self):
        pass


def test_another_indexer_may_be_asked_for(make_pool, parts, expected):
    pool = make_pool(parts[0])
    found = pool.search(range(FRAMES), [GOOD])
    patterns = [what.patterns[0] for what in found.values()]
    assert not any(each.indexed for each in pool.index(patterns, indexer=NoIndexer()))
    assert [each.indexed for each in pool.index(patterns)] == expected[1]


def test_a_frame_that_kills_again_and_again_has_no_counts(parts, deadly_run):
    with FramePool(deadly_run(2), None, jobs=2) as pool:
        found = counted(pool.count(range(FRAMES), [GOOD]))
    assert found.pop(DEADLY) == KILLED
    assert all(len(counts) == 1 for counts in found.values())


def test_a_frame_whose_worker_dies_once_is_done_by_another(make_pool, deadly_run, expected):
    assert summary(make_pool(deadly_run(1)).search(range(FRAMES), [GOOD])) == expected[0]


def test_a_frame_that_kills_again_and_again_is_the_only_one_lost(
    make_pool, deadly_run, expected, request
):
    # A pool of processes tries it twice, Dask a worker four times and then the frame alone.
    deaths = 2 if "processes" in request.node.name else 100
    found = summary(make_pool(deadly_run(deaths)).search(range(FRAMES), [GOOD]))
    assert found == {**expected[0], DEADLY: KILLED}


def test_workers_that_keep_dying_end_the_call(parts, deadly_run):
    _, geometry, cell = parts
    run = deadly_run(100)
    with (
        FramePool(run, FastIndexer(geometry, cell), jobs=2) as pool,
        pytest.raises(ProgramError, match="killed again and again"),
    ):
        for _ in range(MOST_DEATHS):
            pool.search([DEADLY, DEADLY, DEADLY], [GOOD])


def test_a_worker_killed_in_the_middle_of_its_work_costs_nothing(cluster, parts, expected):
    from wrappers.workers.cluster_pool import ClusterPool

    run, geometry, cell = parts
    with ClusterPool(cluster, run, FastIndexer(geometry, cell), 1 << 30) as pool:
        victim = next(iter(cluster.run(os.getpid).values()))
        killer = threading.Thread(target=kill_soon, args=(victim,))
        killer.start()
        for _ in range(40):
            assert summary(pool.search(range(FRAMES), [GOOD])) == expected[0]
        killer.join()
        assert not psutil.pid_exists(victim)


def kill_soon(process: int) -> None:
    time.sleep(0.05)
    os.kill(process, signal.SIGKILL)


def test_a_cluster_without_workers_says_so(parts, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install distributed")
    from wrappers.workers import cluster_pool
    from wrappers.workers.cluster_pool import ClusterPool

    monkeypatch.setattr(cluster_pool, "COME_BACK", 0.2)
    run, geometry, cell = parts
    with (
        distributed.LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
        ClusterPool(client, run, FastIndexer(geometry, cell), 0) as pool,
        pytest.raises(ProgramError, match="no workers left"),
    ):
        pool.search([0], [GOOD])
