"""The reduction core: which frames it keeps, what it writes, and that CrystFEL reads that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.array_source import ArraySource
from tests.cxi_reader import CxiPeaks
from tests.geometries import geometry_text, panel_text
from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import run_indexamajig
from wrappers.crystfel.indexer import index_own_peaks
from wrappers.crystfel.stream import Chunk, Stream
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.run import Run
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.reduction import SettingsSet, reduce_run
from wrappers.reduction.parts import COLUMNS, HITS, read_part
from wrappers.settings import Settings

# Two panels on an axis of their own: the hits must come out in the slab layout.
GEOMETRY = geometry_text(
    panel_text("a", 100, 60, (-50, 2), dim1=0),
    panel_text("b", 100, 60, (-50, -62), dim1=1),
    photon_energy="/energy eV",
    adu_per_photon=10,
    clen="/encoder mm",
    coffset=0.05,
    max_adu=60000,
    dim1=None,
    dim2="ss",
    dim3="fs",
    mask="/mask",
    mask_good="0x0",
    mask_bad="0x1",
    flag_morethan=50000,
)
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
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert done.sets == (SettingsSet(SETTINGS),)
    assert not done.hits.with_name("hits.cxi.parts").exists()
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
        assert file["/sfx_tuner/frames/n_peaks"][:].tolist() == counts
        assert file["/sfx_tuner/hits/frame"][:].tolist() == hits


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


def contents(path: Path) -> dict[str, list]:
    """Return all that a file holds but for what tells one reduction from another."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        assert len(names) >= 20
        return {
            name: np.asarray(file[name][()]).tolist() for name in names if "summary" not in name
        }


class Interrupted(Exception):
    pass


def interrupt(done: int, _: int) -> None:
    if done >= 5:
        raise Interrupted


@pytest.mark.parametrize(("jobs", "virtual"), [(1, False), (1, True), (2, False)])
def test_resuming_loses_nothing_and_doubles_nothing(tmp_path, run, finder, jobs, virtual):
    whole = reduce_run(run, finder, SETTINGS, tmp_path / "whole.cxi", virtual=virtual)
    options = {"jobs": jobs, "virtual": virtual, "resume": True}
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", progress=interrupt, **options)
    assert not (tmp_path / "hits.cxi").exists()
    steps = []
    done = reduce_run(
        run,
        finder,
        SETTINGS,
        tmp_path / "hits.cxi",
        progress=lambda *step: steps.append(step),
        **options,
    )
    # Other processes may have been quick and done all the batches that were handed over.
    assert 4 <= done.n_resumed < 12 if jobs == 1 else done.n_resumed >= 4
    assert (done.n_frames, done.n_hits) == (12, 4)
    assert all(n > done.n_resumed for n, _ in steps)
    assert contents(done.hits) == contents(whole.hits)
    again = reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", progress=interrupt, **options)
    assert (again.n_frames, again.n_hits, again.n_resumed) == (12, 4, 12), "there is nothing to do"
    assert again.sets == done.sets


def test_without_resuming_it_begins_anew(tmp_path, run, finder):
    out = tmp_path / "hits.cxi"
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS.replace(min_peaks=1), out, progress=interrupt)
    done = reduce_run(run, finder, SETTINGS, out)
    assert (done.n_hits, done.n_resumed) == (4, 0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.h5", "run.geom", "hits.cxi", "hits.cxi.geom",
    }  # fmt: skip


def test_what_was_begun_otherwise_is_not_resumed(tmp_path, run, finder):
    out = tmp_path / "hits.cxi"
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS, out, progress=interrupt)
    with pytest.raises(InputError, match="begun with other data, geometry or settings"):
        reduce_run(run, finder, SETTINGS.replace(min_snr=6), out, resume=True)
    os.utime(tmp_path / "run.h5", (0, 0))
    with pytest.raises(InputError, match="begun with other data"):
        reduce_run(run, finder, SETTINGS, out, resume=True)


def test_a_damaged_part_is_done_again(tmp_path, run, finder):
    out = tmp_path / "hits.cxi"
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS, out, progress=interrupt)
    (tmp_path / "hits.cxi.parts" / "000000.cxi").write_bytes(b"half a file")
    assert reduce_run(run, finder, SETTINGS, out, resume=True).n_hits == 4


def test_a_part_with_numbers_that_cannot_be_is_none(tmp_path, run, finder):
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", progress=interrupt)
    path = tmp_path / "hits.cxi.parts" / "000000.cxi"
    assert read_part(path) is not None
    for name, value in [
        *(("frame", value) for value in (np.inf, -1, 2.5)),
        *(("n_peaks", value) for value in (np.nan, 1e300)),
        ("image", -2),
    ]:
        with h5py.File(path, "r+") as file:
            before = file[HITS][:]
            file[HITS][0, COLUMNS.index(name)] = value
        assert read_part(path) is None, (name, value)
        with h5py.File(path, "r+") as file:
            file[HITS][...] = before
    assert read_part(path) is not None


def test_a_part_of_an_older_version_is_done_again(tmp_path, run, finder):
    out = tmp_path / "hits.cxi"
    with pytest.raises(Interrupted):
        reduce_run(run, finder, SETTINGS, out, progress=interrupt)
    with h5py.File(tmp_path / "hits.cxi.parts" / "000000.cxi", "r+") as file:
        table = file[HITS][:]
        del file[HITS]
        for name, values in zip(COLUMNS, table.T, strict=True):
            file[f"{HITS}/{name}"] = values
    assert reduce_run(run, finder, SETTINGS, out, resume=True).n_hits == 4


def test_two_at_once_are_refused(tmp_path, run, finder):
    def second(*_: int) -> None:
        with pytest.raises(InputError, match="another process is writing"):
            reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", resume=True)

    reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", progress=second)


KILLED = """
import multiprocessing, os, signal
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.reduction import reduce_run
from wrappers.settings import Settings

class Slow(Run):
    def __getitem__(self, index):
        if index == 9:
            os.kill({kill}, signal.SIGKILL)
        return super().__getitem__(index)

if __name__ == "__main__":
    found = Run.open("run.h5", Geometry.read("run.geom"))
    run = Slow(found.geometry, [found.name(i) for i in range(len(found))])
    settings = Settings(min_snr=5, threshold=100, min_pix_count=1, min_peaks=10, clen=0.131)
    reduce_run(run, PeakFinder(run.geometry), settings, "hits.cxi", jobs={jobs})
"""


@pytest.mark.parametrize(
    ("jobs", "kill"), [(1, "os.getpid()"), (2, "multiprocessing.parent_process().pid")]
)
def test_resuming_after_a_kill(tmp_path, run, finder, jobs, kill):
    root = Path(__file__).parents[3]
    (tmp_path / "killed.py").write_text(KILLED.format(jobs=jobs, kill=kill))
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        [sys.executable, "killed.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=100,
    )
    assert ended.returncode == -signal.SIGKILL
    parts = tmp_path / "hits.cxi.parts"
    assert len(list(parts.glob("*.cxi"))) >= 1
    deadline = time.monotonic() + 30
    while not free(parts / "lock") and time.monotonic() < deadline:
        time.sleep(0.1)
    whole = reduce_run(run, finder, SETTINGS, tmp_path / "whole.cxi")
    done = reduce_run(run, finder, SETTINGS, tmp_path / "hits.cxi", resume=True)
    assert done.n_resumed >= 2
    assert contents(done.hits) == contents(whole.hits)
    assert not parts.exists()


def free(lock: Path) -> bool:
    import fcntl

    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_virtual_images_are_the_runs_own(tmp_path, run, finder):
    copied = reduce_run(run, finder, SETTINGS, tmp_path / "copied.cxi")
    virtual = reduce_run(run, finder, SETTINGS, tmp_path / "virtual.cxi", virtual=True)
    assert contents(virtual.hits) == contents(copied.hits)
    with h5py.File(virtual.hits) as file:
        images = file["/entry_1/data_1/data"]
        assert images.is_virtual
        assert {source.file_name for source in images.virtual_sources()} == {
            str(tmp_path / "run.h5")
        }
    again = Run.open(virtual.hits, Geometry.read(virtual.geometry))
    np.testing.assert_array_equal(again[1].data, run[3].data)
    np.testing.assert_array_equal(again[1].mask, run[3].mask)


@pytest.mark.parametrize("chunk", [(1, 2, 60, 100), (1, 1, 30, 100)])
def test_images_are_copied_as_the_run_stores_them(tmp_path, run, finder, chunk):
    packed = {"chunks": chunk, **hdf5plugin.Bitshuffle(cname="zstd")}
    plain = reduce_run(run, finder, SETTINGS, tmp_path / "plain.cxi")
    run.close()
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        data = file["data"][()]
        del file["data"]
        file.create_dataset("data", data=data, **packed)
    copied = reduce_run(run, finder, SETTINGS, tmp_path / "copied.cxi", jobs=2)
    assert contents(copied.hits) == contents(plain.hits)
    with h5py.File(copied.hits) as file, h5py.File(tmp_path / "run.h5") as source:
        images = file["/entry_1/data_1/data"]
        assert images.chunks == (1, chunk[1] * chunk[2], chunk[3])
        assert [each[0] for each in filters(images)] == [
            each[0] for each in filters(source["data"])
        ]
        for row, index in enumerate((0, 3, 6, 9)):
            here = images.id.read_direct_chunk((row, 60, 0) if chunk[1] == 1 else (row, 0, 0))
            there = source["data"].id.read_direct_chunk(
                (index, *([1, 0, 0] if chunk[1] == 1 else [0] * 3))
            )
            assert here == there


def filters(dataset: h5py.Dataset) -> list[tuple]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i) for i in range(plist.get_nfilters())]


def test_files_that_are_stored_in_different_ways(tmp_path, run, finder):
    with h5py.File(tmp_path / "run.h5") as source, h5py.File(tmp_path / "other.h5", "w") as file:
        for name in ("mask", "energy", "encoder"):
            file[name] = source[name][()]
        file.create_dataset("data", data=source["data"][()], chunks=(1, 1, 60, 100), compression=5)
    (tmp_path / "both.lst").write_text(f"{tmp_path}/other.h5\n{tmp_path}/run.h5\n")
    both = Run.open(tmp_path / "both.lst", run.geometry)
    done = reduce_run(both, finder, SETTINGS, tmp_path / "hits.cxi")
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert len(again) == 8
    for row, index in enumerate((0, 3, 6, 9) * 2):
        np.testing.assert_array_equal(again[row].data, run[index].data)


def test_a_new_set_is_taken_up_in_mid_run_and_recorded(tmp_path, run, finder):
    first = SettingsSet(SETTINGS, "first")
    second = SettingsSet(SETTINGS.replace(min_peaks=0, clen=0.132, shift_x=1e-4), "second")
    asked = []

    def current() -> SettingsSet:
        asked.append(None)
        return first if len(asked) <= 3 else second

    done = reduce_run(run, finder, current, tmp_path / "hits.cxi")
    assert done.sets == (first, second)
    with h5py.File(done.hits) as file:
        sets = [json.loads(text) for text in file["/sfx_tuner/sets"].asstr()[:]]
        of_frames = file["/sfx_tuner/frames/set"][:].tolist()
        hits, of_hits = file["/sfx_tuner/hits/frame"][:].tolist(), file["/sfx_tuner/hits/set"][:]
        clen = file["/LCLS/detector_1/EncoderValue"][:] / 1e3
        shift = file["/sfx_tuner/hits/shift_x"][:]
        assert "min_snr" not in file["/entry_1/result_1"].attrs
    assert [values["name"] for values in sets] == ["first", "second"]
    assert [values["settings"]["clen"] for values in sets] == [0.131, 0.132]
    assert of_frames == [0] * 6 + [1] * 6
    assert hits == [0, 3, 6, 7, 8, 9, 10, 11]
    assert of_hits.tolist() == [of_frames[frame] for frame in hits]
    change = [0.001 + 0.001 * number for number in of_hits]
    expected = [run[frame].camera_length + more for frame, more in zip(hits, change, strict=True)]
    np.testing.assert_allclose(clen, expected)
    np.testing.assert_allclose(shift, [1e-4 * number for number in of_hits])
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert again[0].shift_x == 0
    assert again[3].shift_x == pytest.approx(1e-4)


def test_bad_pixels_are_masked(tmp_path, run, finder):
    hot, noisy, dead = np.zeros((3, 120, 100), np.float16)
    hot[20:30, 20:30] = 9
    known = run.with_bad_pixels(BadPixelMap(hot, noisy, dead, 100))
    settings = SETTINGS.replace(mask_hot_sigma=5, mask_edge=1)
    done = reduce_run(known, finder, settings, tmp_path / "hits.cxi", jobs=2)
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert not again[0].mask[20:30, 20:30].any()
    assert not again[0].mask[59:61].any()
    inner = np.zeros((120, 100), bool)
    inner[1:59, 1:99] = inner[61:119, 1:99] = True
    inner[20:30, 20:30] = False
    np.testing.assert_array_equal(again[0].mask, run[0].mask & inner)
    masked = replace(run[0], mask=run[0].mask & inner)
    with CxiPeaks(done.hits, run.geometry) as peaks:
        assert len(peaks[0]) == len(finder.find(masked, settings))


def test_a_map_of_bad_pixels_is_made_where_one_is_needed(tmp_path, run, finder):
    shutil.copy(tmp_path / "run.h5", tmp_path / "hot.h5")
    with h5py.File(tmp_path / "hot.h5", "r+") as file:
        file["data"][:, 1, 40, 20] = 20000
    run = Run.open(tmp_path / "hot.h5", run.geometry)
    done = reduce_run(run, finder, SETTINGS.replace(mask_hot_sigma=5), tmp_path / "hits.cxi")
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert run[3].mask[100, 20] and not again[1].mask[100, 20]


def test_shifts_of_single_frames(tmp_path, run, finder):
    shutil.copy(tmp_path / "run.h5", tmp_path / "moved.h5")
    with h5py.File(tmp_path / "moved.h5", "r+") as file:
        file["shift"] = np.arange(12) * 1e-2
    text = "detector_shift_x = /shift mm\ndetector_shift_y = /shift mm\n" + GEOMETRY
    (tmp_path / "moved.geom").write_text(text)
    moved = Run.open(tmp_path / "moved.h5", Geometry.read(tmp_path / "moved.geom"))
    done = reduce_run(moved, finder, SETTINGS, tmp_path / "hits.cxi")
    again = Run.open(done.hits, Geometry.read(done.geometry))
    assert [again[row].shift_x for row in range(4)] == pytest.approx([0, 3e-5, 6e-5, 9e-5])


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


def index_hits(indexamajig: str, hits: Path, geometry: Path, cell: Path) -> list[Chunk]:
    """Index a file of hits with CrystFEL, from the peaks in it."""
    folder = hits.parent
    (folder / "hits.lst").write_text(f"{hits}\n")
    files = f"-i hits.lst -o hits.stream -g {geometry} -p {cell}"
    method = "--indexing=xgandalf --xgandalf-fast-execution --xgandalf-tolerance=0.05"
    command = f"{indexamajig} {files} --peaks=cxi --no-revalidate {method} -j 2"
    ended = run_indexamajig(command.split(), folder=folder, timeout=300.0)
    assert ended.exit_code == 0
    return sorted(Stream(folder / "hits.stream"), key=lambda chunk: chunk.serial)


LYSOZYME = Settings(
    min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30, min_peaks=10
)


@pytest.mark.crystfel
@pytest.mark.parametrize("virtual", [False, True])
def test_crystfel_reads_the_hits(tmp_path, shared_data, indexamajig, virtual):
    folder = shared_data / "simulated"
    run = Run.open(folder / "jf1m_lyso_60.h5", Geometry.read(folder / "jf1m.geom"))
    finder = PeakFinder(run.geometry)
    done = reduce_run(run, finder, LYSOZYME, tmp_path / "hits.cxi", jobs=2, virtual=virtual)
    assert done.n_hits == 48
    with h5py.File(done.hits) as file:
        n_peaks = file["/entry_1/result_1/nPeaks"][:].tolist()
        frames = file["/sfx_tuner/hits/frame"][:].tolist()

    own = index_own_peaks(
        [run.name(i) for i in range(len(run))],
        folder / "jf1m.geom",
        Cell.read(folder / "lyso.cell"),
        LYSOZYME,
        program=indexamajig,
        method="xgandalf",
        jobs=2,
    )
    assert [i for i, chunk in enumerate(own) if chunk.n_peaks >= 10] == frames
    chunks = index_hits(indexamajig, done.hits, done.geometry, folder / "lyso.cell")
    assert [chunk.n_peaks for chunk in chunks] == n_peaks
    assert [chunk.n_peaks for chunk in own if chunk.n_peaks >= 10] == n_peaks
    assert abs(sum(c.indexed for c in chunks) - sum(c.indexed for c in own)) <= 2
    assert 39 <= sum(chunk.indexed for chunk in chunks) <= 44


@pytest.mark.crystfel
def test_crystfel_moves_the_detector_for_each_hit(tmp_path, shared_data, indexamajig):
    folder = shared_data / "simulated"
    run = Run.open(folder / "jf1m_lyso_60.h5", Geometry.read(folder / "jf1m.geom"))
    run = run.select(range(16))
    right = SettingsSet(LYSOZYME, "right")
    wrong = SettingsSet(LYSOZYME.replace(shift_x=2e-3), "2 mm off")
    asked = iter([right] * 4 + [wrong] * 4)
    done = reduce_run(run, PeakFinder(run.geometry), lambda: next(asked), tmp_path / "hits.cxi")
    with h5py.File(done.hits) as file:
        of_hits = file["/sfx_tuner/hits/set"][:].tolist()
    chunks = index_hits(indexamajig, done.hits, done.geometry, folder / "lyso.cell")
    indexed = [[c.indexed for c, n in zip(chunks, of_hits, strict=True) if n == i] for i in (0, 1)]
    assert sum(indexed[0]) >= 4
    assert len(indexed[1]) >= 4 and not any(indexed[1])


def test_a_run_whose_name_is_not_in_utf_8(tmp_path, run, finder):
    folder = tmp_path / os.fsdecode(b"l\xe4t")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("a file system of UTF-8 only")
    for name in ("run.h5", "run.geom"):
        shutil.copy(tmp_path / name, folder / name)
    named = Run.open(folder / "run.h5", Geometry.read(folder / "run.geom"))
    assert reduce_run(named, finder, SETTINGS, folder / "hits.cxi").n_hits == 4
    with pytest.raises(InputError, match="not in UTF-8"):
        reduce_run(named, finder, SETTINGS, folder / "virtual.cxi", virtual=True)
    assert not (folder / "virtual.cxi.parts").exists()


def test_images_of_no_file_cannot_be_left_where_they_are(tmp_path, run, finder):
    source = ArraySource(run.geometry, [run[i] for i in range(2)])
    with pytest.raises(InputError, match="leave out --virtual"):
        reduce_run(source, finder, SETTINGS, tmp_path / "virtual.cxi", virtual=True)
    assert not (tmp_path / "virtual.cxi.parts").exists()
