"""The reduction core: which frames it keeps, what it writes, and that CrystFEL reads that."""

from __future__ import annotations

import os
import signal

import h5py
import numpy as np
import pytest

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import run_indexamajig
from wrappers.crystfel.indexer import index_own_peaks
from wrappers.crystfel.stream import Stream
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.cxi import CxiPeaks
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.reduction import reduce_run
from wrappers.settings import Settings

# Two panels on an axis of their own: the hits must come out in the slab layout.
GEOMETRY = """\
photon_energy = /energy eV
adu_per_photon = 10
clen = /encoder mm
coffset = 0.05
res = 10000
max_adu = 60000
data = /data
dim0 = %
dim2 = ss
dim3 = fs
mask = /mask
mask_good = 0x0
mask_bad = 0x1
flag_morethan = 50000
a/dim1 = 0
a/min_fs = 0
a/max_fs = 99
a/min_ss = 0
a/max_ss = 59
a/corner_x = -50
a/corner_y = 2
a/fs = x
a/ss = y
b/dim1 = 1
b/min_fs = 0
b/max_fs = 99
b/min_ss = 0
b/max_ss = 59
b/corner_x = -50
b/corner_y = -62
b/fs = x
b/ss = y
"""
SETTINGS = Settings(min_snr=5, threshold=100, min_pix_count=1, min_peaks=10, clen=0.131)
N_FRAMES = 12


@pytest.fixture
def run(tmp_path) -> Run:
    """Every third frame is a hit; the camera length is 130 mm on average and rises."""
    rng = np.random.default_rng(3)
    data = rng.poisson(20, (N_FRAMES, 2, 60, 100)).astype(np.int32)
    for frame in range(0, N_FRAMES, 3):
        for y, x in zip(*np.divmod(rng.choice(25 * 45, 20, replace=False), 45), strict=True):
            data[frame, :, 5 + 2 * y : 7 + 2 * y, 5 + 2 * x : 7 + 2 * x] += 900
    data[0, 0, 30, 30] = 55000
    mask = np.zeros((2, 60, 100), np.uint16)
    mask[1, 10:20, 50:] = 1
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["data"] = data
        file["mask"] = mask
        file["energy"] = np.linspace(9000, 9100, N_FRAMES)
        file["encoder"] = np.linspace(79, 81, N_FRAMES)
    (tmp_path / "run.geom").write_text(GEOMETRY)
    return Run.open(tmp_path / "run.h5", Geometry.read(tmp_path / "run.geom"))


@pytest.fixture
def finder(run) -> PeakFinder:
    return PeakFinder(run.geometry)


def test_hits_and_what_belongs_to_them(tmp_path, run, finder):
    counts = [len(finder.find(frame, SETTINGS)) for frame in run]
    hits = [i for i, count in enumerate(counts) if count >= 10]
    assert hits == [0, 3, 6, 9]
    steps = []
    done = reduce_run(
        run, finder, SETTINGS, tmp_path / "hits.cxi", progress=lambda *step: steps.append(step)
    )
    assert (done.n_frames, done.n_hits, done.unreadable) == (12, 4, ())
    assert steps[-1] == (12, 4)
    assert len(steps) == 12
    with h5py.File(done.hits) as file, CxiPeaks(done.hits, run.geometry) as peaks:
        images, masks = file["/entry_1/data_1/data"], file["/entry_1/data_1/mask"]
        assert images.shape == (4, 120, 100)
        assert images.chunks == (1, 120, 100)
        assert len(peaks) == 4
        for row, index in enumerate(hits):
            frame = run[index]
            np.testing.assert_array_equal(images[row], frame.data)
            np.testing.assert_array_equal(masks[row] == 0, frame.mask)
            found = finder.find(frame, SETTINGS)
            np.testing.assert_allclose(peaks[row].fs, found.fs, atol=1e-4)
            np.testing.assert_allclose(peaks[row].ss, found.ss, atol=1e-4)
            np.testing.assert_array_equal(peaks[row].panel, found.panel)
            assert peaks.source(row) == (frame.file, frame.event)
            assert peaks.photon_energy[row] == pytest.approx(frame.photon_energy)
            # The settings' clen is the run's median; each frame keeps its distance from it.
            assert peaks.camera_length[row] == pytest.approx(frame.camera_length + 0.001)
        attributes = dict(file["/entry_1/result_1"].attrs)
        assert attributes["min_snr"] == 5
        assert attributes["clen"] == 0.131


def test_the_hits_are_a_run(tmp_path, run, finder):
    done = reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi")
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert len(again) == done.n_hits
    other = PeakFinder(again.geometry)
    for row, index in enumerate((0, 3, 6, 9)):
        before, after = finder.find(run[index], SETTINGS), other.find(again[row], SETTINGS)
        np.testing.assert_array_equal(after.fs, before.fs)
        np.testing.assert_array_equal(after.intensity, before.intensity)
        q_before = run.geometry.scattering_vectors(before, 9000.0, 0.131)
        q_after = again.geometry.scattering_vectors(after, 9000.0, 0.131)
        np.testing.assert_allclose(q_after, q_before, atol=1e-9)


def test_processes_write_the_same_file(tmp_path, run, finder):
    one = reduce_run(run, finder, SETTINGS, tmp_path / "one.cxi")
    two = reduce_run(run, finder, SETTINGS, tmp_path / "two.cxi", jobs=2)
    assert one.geometry.read_text() == two.geometry.read_text()
    with h5py.File(one.hits) as left, h5py.File(two.hits) as right:
        names: list[str] = []
        left.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        assert len(names) >= 12
        for name in names:
            np.testing.assert_array_equal(left[name][()], right[name][()])


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_leaves_nothing(tmp_path, run, finder, jobs):
    def interrupt(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", jobs=jobs, progress=interrupt)
    assert set(tmp_path.iterdir()) == before


class Flaky(Run):
    """A run with damaged frames, or one whose reading kills the process."""

    damaged: tuple[int, ...] = ()
    deadly: int = -1

    def __getitem__(self, index):
        if index in self.damaged:
            raise InputError(f"frame {index} is damaged")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def flaky(run: Run, damaged: tuple[int, ...] = (), deadly: int = -1) -> Flaky:
    other = Flaky(run.geometry, [run.name(i) for i in range(len(run))])
    other.damaged, other.deadly = damaged, deadly
    return other


def test_damaged_frames_are_named_and_skipped(tmp_path, run, finder):
    done = reduce_run(flaky(run, damaged=(1, 3)), finder, SETTINGS, tmp_path / "hits.cxi")
    assert (done.n_frames, done.n_hits) == (10, 3)
    assert done.unreadable == ("frame 1 is damaged", "frame 3 is damaged")


def test_nothing_readable(tmp_path, run, finder):
    broken = flaky(run, damaged=tuple(range(N_FRAMES)))
    with pytest.raises(InputError, match="none of the 12 frames can be read: frame 0 is damaged"):
        reduce_run(broken, finder, SETTINGS, tmp_path / "hits.cxi")
    assert not (tmp_path / "hits.cxi").exists()


def test_a_killed_process(tmp_path, run, finder):
    with pytest.raises(ProgramError, match="was killed"):
        reduce_run(flaky(run, deadly=4), finder, SETTINGS, tmp_path / "hits.cxi", jobs=2)
    assert not (tmp_path / "hits.cxi").exists()


def test_no_hits(tmp_path, run, finder):
    done = reduce_run(run, finder, SETTINGS.replace(min_peaks=500), tmp_path / "hits.cxi")
    assert done.n_hits == 0
    with CxiPeaks(done.hits, run.geometry) as peaks:
        assert len(peaks) == 0


def test_the_name_of_the_geometry_is_taken(tmp_path, run, finder):
    with pytest.raises(InputError, match=r"give a name ending in \.cxi"):
        reduce_run(run, finder, SETTINGS, tmp_path / "hits.geom")


@pytest.mark.crystfel
def test_crystfel_reads_the_hits(tmp_path, shared_data, indexamajig):
    folder = shared_data / "simulated"
    settings = Settings(
        min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30, min_peaks=10
    )
    run = Run.open(folder / "jf1m_lyso_60.h5", Geometry.read(folder / "jf1m.geom"))
    done = reduce_run(run, PeakFinder(run.geometry), settings, tmp_path / "hits.cxi", jobs=2)
    assert done.n_hits == 48
    with h5py.File(done.hits) as file:
        n_peaks = file["/entry_1/result_1/nPeaks"][:].tolist()

    frames = [(str(done.hits), f"//{row}") for row in range(done.n_hits)]
    own = index_own_peaks(
        frames,
        done.geometry,
        Cell.read(folder / "lyso.cell"),
        settings,
        program=indexamajig,
        method="xgandalf",
        jobs=2,
    )
    assert [chunk.n_peaks for chunk in own] == n_peaks

    (tmp_path / "hits.lst").write_text(f"{done.hits}\n")
    files = f"-i hits.lst -o hits.stream -g {done.geometry} -p {folder}/lyso.cell"
    method = "--indexing=xgandalf --xgandalf-fast-execution --xgandalf-tolerance=0.05"
    command = f"{indexamajig} {files} --peaks=cxi --no-revalidate {method} -j 2"
    ended = run_indexamajig(command.split(), folder=tmp_path, timeout=300.0)
    assert ended.exit_code == 0
    chunks = sorted(Stream(tmp_path / "hits.stream"), key=lambda chunk: chunk.serial)
    assert [chunk.n_peaks for chunk in chunks] == n_peaks
    assert abs(sum(c.indexed for c in chunks) - sum(c.indexed for c in own)) <= 2
    assert 39 <= sum(chunk.indexed for chunk in chunks) <= 44
