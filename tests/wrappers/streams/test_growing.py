"""Files that another process is still writing: each frame once, as soon as it is there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, UnreadableError
from wrappers.frames.opening import open_source
from wrappers.frames.run import Run
from wrappers.streams import growing
from wrappers.streams.growing import GrowingFiles
from wrappers.streams.protocols import is_stream, parse_growing
from wrappers.streams.recording import record
from wrappers.streams.sources import open_arriving

N = 12
DATA = "/entry/data/data"
WRITER = """
import h5py, numpy as np, sys, time
place, kind = sys.argv[1:]
def image(i):
    return np.random.default_rng(i).poisson(20, (40, 60)).astype("u2")
def created(file, n=0):
    return file.create_dataset("/entry/data/data", (n, 40, 60), "u2", maxshape=(None, 40, 60),
                               chunks=(1, 40, 60))
if kind in ("swmr", "laid out"):
    with h5py.File(place, "w", libver="latest") as file:
        data = created(file, 12 if kind == "laid out" else 0)
        file.swmr_mode = True
        print("begun", flush=True)
        for i in range(12):
            if kind == "swmr":
                data.resize(i + 1, axis=0)
            data[i] = image(i)
            data.flush()
            time.sleep(0.05)
elif kind == "locked":
    with h5py.File(place, "w") as file:
        data = created(file, 12)
        print("begun", flush=True)
        for i in range(12):
            data[i] = image(i)
            file.flush()
            time.sleep(0.03)
else:
    from pathlib import Path
    print("begun", flush=True)
    for part in range(3):
        time.sleep(0.2)
        hidden = Path(place).parent / f"part{part}.tmp"
        with h5py.File(hidden, "w") as file:
            data = created(file, 4)
            for i in range(4):
                data[i] = image(4 * part + i)
        hidden.rename(Path(place).parent / f"part_{part + 1:06d}.h5")
"""


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).poisson(20, (40, 60)).astype("u2")


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(growing, "POLL", 0.05)


@pytest.fixture
def geometry(tmp_path) -> Geometry:
    panel = panel_text("a", 60, 40, (-30, -20))
    text = geometry_text(panel, data=DATA, dim0="%", dim1="ss", dim2="fs")
    (tmp_path / "small.geom").write_text(text)
    return Geometry.read(tmp_path / "small.geom")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def begun(place: Path, kind: str) -> subprocess.Popen[bytes]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place), kind], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
    return writer


def all_of(name: str, geometry: Geometry, tmp_path: Path, n: int = N, idle: float = 5.0):
    with open_arriving(name, geometry) as frames:
        found = record(frames, tmp_path / "frames.cxi", n, idle=idle)
        return found, frames


def check(found, order=range(N)) -> None:
    with Run.open(found.data, Geometry.read(found.geometry)) as run:
        assert len(run) == len(order)
        for frame, number in zip(run, order, strict=True):
            np.testing.assert_array_equal(frame.data, image(number))


@pytest.mark.parametrize("kind", ["swmr", "laid out", "locked"])
def test_frames_of_a_file_come_as_they_are_written(geometry, folder, tmp_path, kind):
    place = folder / "run.h5"
    writer = begun(place, kind)
    try:
        came: list[float] = []
        with open_arriving(f"growing+file://{place}", geometry) as frames:
            found = record(
                *(frames, tmp_path / "frames.cxi", N),
                idle=5.0,
                on_frame=lambda frame: came.append(time.monotonic()),
            )
            was_running = writer.poll() is None
            assert frames.counts.received == N and frames.counts.damaged == 0
    finally:
        writer.wait()
    check(found)
    if kind != "locked":  # that writer lets nobody read before it is done
        assert was_running or came[-1] - came[0] > 0.2
    with h5py.File(found.data) as file:
        names = file["/entry_1/result_1/sourceFile"].asstr()[()]
    assert set(names) == {str(place)}


def master_of_links(place: Path) -> None:
    with h5py.File(place, "w") as file:
        for part in range(1, 4):
            file[f"/entry/data/data_{part:06d}"] = h5py.ExternalLink(f"part_{part:06d}.h5", DATA)


def master_of_virtual_data(place: Path) -> None:
    layout = h5py.VirtualLayout((N, 40, 60), "u2")
    for part in range(3):
        layout[4 * part : 4 * part + 4] = h5py.VirtualSource(
            f"part_{part + 1:06d}.h5", DATA, (4, 40, 60)
        )
    with h5py.File(place, "w") as file:
        file.create_virtual_dataset(DATA, layout)


@pytest.mark.parametrize("make", [master_of_links, master_of_virtual_data])
def test_parts_of_a_master_may_be_late(geometry, folder, tmp_path, make):
    make(folder / "run_master.h5")
    writer = begun(folder / "x", "parts")
    try:
        found, frames = all_of(f"growing+file://{folder / 'run_master.h5'}", geometry, tmp_path)
    finally:
        writer.wait()
    check(found)
    assert frames.counts.damaged == 0


def test_a_folder_gives_the_frames_of_all_its_files(geometry, folder, tmp_path):
    (folder / "notes.txt").write_text("no frames")
    writer = begun(folder / "x", "parts")
    try:
        found, _ = all_of(f"growing+file://{folder}", geometry, tmp_path)
    finally:
        writer.wait()
    check(found)
    found, _ = all_of(f"growing+file://{folder}?pattern=part_*2.h5", geometry, tmp_path / "..", n=4)
    check(found, range(4, 8))
    # Whatever takes a run takes some frames of it.
    with open_source(f"growing+file://{folder}?frames=5", geometry) as run:
        assert len(run) == 5 and run[4].file == str(folder / "part_000002.h5")


def test_a_frame_that_stays_damaged_is_counted_in_the_end(geometry, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "GIVEN_UP", 0.3)
    with h5py.File(folder / "run.h5", "w") as file:
        data = file.create_dataset(DATA, (4, 40, 60), "u2", maxshape=(None, 40, 60))
        data[...] = [image(0), 0 * image(1), image(2), image(3)]  # the second was never written
    with GrowingFiles(f"growing+file://{folder / 'run.h5'}", geometry) as frames:
        later = threading.Thread(target=append, args=(folder / "run.h5", 4))
        later.start()
        found = record(frames, tmp_path / "frames.cxi", 4, idle=10.0)
        later.join()
        assert frames.counts.damaged == 1
        assert frames.unread.startswith("1 frame was not read of growing+file")
        assert "was never written" in frames.unread
        assert frames.notes[0].startswith("left out as damaged: ")
        assert "was never written" in frames.notes[0]
    check(found, [0, 2, 3, 4])


APPEND = """
import h5py, numpy as np, sys, time
time.sleep(0.5)
with h5py.File(sys.argv[1], "a") as file:
    data = file["/entry/data/data"]
    number = int(sys.argv[2])
    data.resize(number + 1, axis=0)
    data[number] = np.random.default_rng(number).poisson(20, (40, 60)).astype("u2")
"""


def append(place: Path, number: int) -> None:
    """Add a frame as a program does that opens the file for each: no reader may be in its way."""
    subprocess.run([sys.executable, "-c", APPEND, str(place), str(number)], check=True)


def test_a_writer_may_open_its_file_again_and_again(geometry, folder, tmp_path):
    with h5py.File(folder / "run.h5", "w") as file:
        data = file.create_dataset(DATA, (2, 40, 60), "u2", maxshape=(None, 40, 60))
        data[...] = [image(0), image(1)]
    with GrowingFiles(f"growing+file://{folder / 'run.h5'}", geometry) as frames:
        first = frames.next(5.0)
        assert first is not None and first() is not None  # the second is still to be read
        for number in (2, 3):
            append(folder / "run.h5", number)
        found = record(frames, tmp_path / "frames.cxi", 3, idle=5.0)
        assert frames.counts.damaged == 0
    check(found, [1, 2, 3])


def test_what_never_comes_is_one_sentence(geometry, folder, tmp_path):
    for name in (folder / "none.h5", folder, tmp_path / "no" / "folder"):
        with pytest.raises(UnreadableError, match="no frame came from growing"):
            all_of(f"growing+file://{name}", geometry, tmp_path, idle=0.3)
    with h5py.File(folder / "other.h5", "w") as file:
        file["/elsewhere"] = np.ones((2, 40, 60))
    with pytest.raises(UnreadableError, match="has no data set /entry/data/data"):
        all_of(f"growing+file://{folder / 'other.h5'}", geometry, tmp_path, idle=0.3)


def test_addresses():
    assert is_stream("growing+file:///data/run.h5") and not is_stream("file:///data/run.h5")
    address = parse_growing("growing+file:///data/raw?pattern=*_master.h5&frames=20")
    assert (address.path, address.pattern, address.n_frames) == (
        Path("/data/raw"),
        "*_master.h5",
        20,
    )
    for name, words in (
        ("growing+file://", "names no file"),
        ("growing+file:///x?frames=0", "no number of frames"),
        ("growing+file:///x?pattern=/abs*", "pattern=/abs\\* of .* leaves the folder"),
        ("growing+file:///x?pattern=a/../../b*", "leaves the folder"),
        ("growing+file:///x?colour=red", "growing\\+file has frames, pattern"),
    ):
        with pytest.raises(InputError, match=words):
            parse_growing(name)


def test_frames_behind_many_that_were_never_written_are_read(
    geometry, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(growing, "GIVEN_UP", 0.2)
    n, never = 75, range(10, 60)
    with h5py.File(folder / "run.h5", "w") as file:
        data = file.create_dataset(DATA, (n + 5, 40, 60), "u2")  # the last five never come either
        for i in set(range(n)) - set(never):
            data[i] = image(i)
    with GrowingFiles(f"growing+file://{folder / 'run.h5'}", geometry) as frames:
        found = record(frames, tmp_path / "frames.cxi", n, idle=1.0)
        assert frames.counts.damaged == len(never)
        assert frames.unread.startswith("55 frames were not read of growing+file://")
        assert "was never written" in frames.unread
    check(found, [*range(10), *range(60, n)])


def test_a_place_that_is_not_there_is_named(geometry, folder, tmp_path):
    for name, words in (
        (tmp_path / "nosuch", "nosuch: No such file"),
        (folder, "no file of .*raw is one of those"),
    ):
        with pytest.raises(UnreadableError, match=words):
            all_of(f"growing+file://{name}", geometry, tmp_path, idle=0.2)
