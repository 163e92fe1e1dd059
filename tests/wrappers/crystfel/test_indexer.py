"""CrystFEL as an indexer: faults of a stand-in, and the real program where there is one."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.geometries import ONE_PANEL
from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.crystfel.indexer import CrystfelIndexer, index_own_peaks
from wrappers.crystfel.persistent import PersistentCrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.indexing import Indexer, Indexing, Pattern
from wrappers.peaks import PeakList
from wrappers.settings import Settings

CELL = Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0, "tetragonal", "P", "c")

STAND_IN = Path(__file__).with_name("stand_in_indexamajig.py")


def peak_list(n: int) -> PeakList:
    where = np.linspace(10, 90, n)
    one = np.ones(n)
    return PeakList(where, where, one, one, np.zeros(n, np.int32), one.astype(np.int32), one)


def pattern(n: int, **changes: float) -> Pattern:
    values = {"photon_energy": 9300.0, "camera_length": 0.1, **changes}
    return Pattern(peak_list(n), **values)


PATTERNS = [pattern(n) for n in (20, 5, 30, 0, 12)]


class StandIn:
    """The folder with the stand-in, what it was asked, and the indexer that calls it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
        self.folder = folder
        self._monkeypatch, self._kind = monkeypatch, kind
        self._indexers: list[object] = []
        self.path = folder / "indexamajig"
        self.path.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        (folder / "one.geom").write_text(ONE_PANEL)
        self.geometry = Geometry.read(folder / "one.geom")
        monkeypatch.setenv("CALLS", str(folder / "calls"))

    def indexer(self, fault: str = "", version: str = "0.12.0", **options: object) -> Indexer:
        self._monkeypatch.setenv("FAULT", fault)
        self._monkeypatch.setenv("VERSION", version)
        # Programs are known by path and date, and a fault may change what they answer.
        os.utime(self.path, ns=(0, hash((fault, version)) % 10**18))
        indexer = self._kind(self.geometry, CELL, program=str(self.path), **options)
        self._indexers.append(indexer)
        return indexer

    def close(self) -> None:
        for indexer in self._indexers:
            if isinstance(indexer, PersistentCrystfelIndexer):
                indexer.close()

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def worker_is_gone(self) -> bool:
        worker = int((self.folder / "calls.worker").read_text())
        for _ in range(1500):
            try:
                state = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except FileNotFoundError:
                return True
            if state == "Z":
                return True
            time.sleep(0.02)
        return False


@pytest.fixture
def by_files(tmp_path, monkeypatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch, CrystfelIndexer)


@pytest.fixture
def persistent(tmp_path, monkeypatch) -> Iterator[StandIn]:
    pytest.importorskip("zmq")
    pytest.importorskip("msgpack")
    stand_in = StandIn(tmp_path, monkeypatch, PersistentCrystfelIndexer)
    yield stand_in
    stand_in.close()


@pytest.fixture(params=["by_files", "persistent"])
def stand_in(request) -> StandIn:
    return request.getfixturevalue(request.param)


def outline(answers: list[Indexing]) -> list[object]:
    """Number of lattices of each frame, or "failure"."""
    return ["failure" if answer.failure else len(answer.lattices) for answer in answers]


def test_a_program_that_stays_tells_of_every_frame(persistent):
    told: list[int] = []
    persistent.indexer().index(PATTERNS, told.append)
    # One of the five has no peaks and needs no answer.
    assert told[-1] == 5 and told == sorted(told) and set(told) <= {2, 3, 4, 5}


def test_a_program_with_files_tells_what_its_log_says(by_files):
    told: list[int] = []
    by_files.indexer("hang", timeout=6.0).index(PATTERNS, told.append)
    assert told and set(told) == {1 + 2}


def test_answers_come_in_order(stand_in):
    indexer = stand_in.indexer()
    answers = indexer.index(PATTERNS)
    assert indexer.name == "CrystFEL 0.12.0, xgandalf"
    assert outline(answers) == [1, 0, 1, 0, 1]
    np.testing.assert_allclose(
        answers[0].lattices[0].reciprocal, np.diag([1 / 79, 1 / 79, 1 / 38]), atol=1e-8
    )


def test_one_call_for_all_and_everything_explicit(stand_in):
    stand_in.indexer(jobs=3).index(PATTERNS)
    (call,) = stand_in.calls
    for option in (
        "--no-revalidate --no-image-data --no-mask-data",
        "--indexing=xgandalf",
        "--xgandalf-sampling-pitch=1",
        "--xgandalf-grad-desc-iterations=1",
        "--xgandalf-tolerance=0.05",
        "--tolerance=5,5,5,1.5",
        "--cell-parameters-only",
        "-j 3",
    ):
        assert option in call


def test_frames_without_peaks_are_not_sent(stand_in):
    assert outline(stand_in.indexer().index([pattern(0), pattern(0)])) == [0, 0]
    assert stand_in.indexer().index([]) == []
    assert stand_in.calls == []


SHIFTED = [pattern(20), pattern(20, shift_x=1e-4), pattern(5), pattern(20, shift_x=1e-4)]


def test_each_shift_has_its_own_geometry_file(by_files):
    assert outline(by_files.indexer().index(SHIFTED)) == [1, 1, 0, 1]
    assert len(by_files.calls) == 2


def test_a_program_that_stays_is_started_once(persistent):
    indexer = persistent.indexer()
    assert indexer.persistent
    assert outline(indexer.index(SHIFTED)) == [1, 1, 0, 1]
    assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert len(persistent.calls) == 1
    folder = Path(persistent.calls[0].split()[0])
    assert folder.exists()
    indexer.close()
    assert not folder.exists()
    assert persistent.worker_is_gone
    assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert len(persistent.calls) == 2


def test_a_program_that_stays_is_started_anew_before_it_fills_the_memory(persistent, monkeypatch):
    monkeypatch.setattr("wrappers.crystfel.persistent.FRAMES_PER_LIFE", 6)
    indexer = persistent.indexer(jobs=1)
    for _ in range(4):
        assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert len(persistent.calls) == 2


@pytest.mark.parametrize("fault", ["half a stream", "crash"])
def test_a_program_that_died_is_started_again(persistent, fault):
    answers = persistent.indexer(fault).index(PATTERNS)
    assert outline(answers) == [1, 0, "failure", 0, 1]
    assert "before this frame was done" in answers[2].failure
    assert len(persistent.calls) == 2


def test_a_program_without_zmq_is_served_by_files(persistent):
    indexer = persistent.indexer("no zmq")
    assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert not indexer.persistent
    assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert sum("--zmq-input" in call for call in persistent.calls) == 1


@pytest.mark.parametrize("version", ["0.9.1", "0.10.2", "0.11.1"])
def test_an_old_program_is_served_by_files(persistent, version):
    indexer = persistent.indexer(version=version)
    assert not indexer.persistent
    assert outline(indexer.index(PATTERNS)) == [1, 0, 1, 0, 1]


def test_before_0_10_peaks_come_with_blank_images(by_files):
    assert outline(by_files.indexer(version="0.9.1").index(PATTERNS)) == [1, 0, 1, 0, 1]
    (call,) = by_files.calls
    assert "--hdf5-peaks=/entry_1/result_1 --no-revalidate --integration=none" in call
    assert "--no-image-data" not in call


@pytest.mark.parametrize(
    ("version", "fault", "sentence"),
    [
        ("0.9.0", "", "too old: install 0.9.1 or later"),
        ("0.11.1", "no revalidate", "cannot be given peaks: it does not know --no-revalidate"),
    ],
)
def test_what_an_old_program_cannot_do(stand_in, version, fault, sentence):
    with pytest.raises(ProgramError, match=sentence):
        stand_in.indexer(fault, version)


@pytest.mark.parametrize(("version", "reason"), [("0.9.1", "geometry files with units")])
def test_own_peaks_of_an_old_program(by_files, version, reason):
    by_files.indexer(version=version)
    with pytest.raises(ProgramError, match=reason):
        index_own_peaks(
            [("a.h5", "//0")], by_files.geometry.path, CELL, Settings(), program=str(by_files.path)
        )


@pytest.mark.parametrize(
    ("fault", "expected", "reason"),
    [
        ("frames missing", [1, 0, "failure", 0, 1], "gave this frame up"),
        (
            "half a stream",
            ["failure", "failure", 1, 0, 1],
            "counts this frame as done, but it is not in its stream",
        ),
        ("crash", ["failure", "failure", 1, 0, 1], "killed by signal 11"),
    ],
)
def test_lost_frames_are_failures(by_files, fault, expected, reason):
    answers = by_files.indexer(fault).index(PATTERNS)
    assert outline(answers) == expected
    assert reason in next(answer.failure for answer in answers if answer.failure)


@pytest.mark.parametrize("fault", ["frames missing", "frame kills worker"])
def test_a_frame_that_does_not_come_back_is_a_failure(persistent, fault):
    patterns = PATTERNS[1:3] + PATTERNS[:2] if fault == "frame kills worker" else PATTERNS
    answers = persistent.indexer(fault).index(patterns)
    expected = [0, 1, "failure", 0] if fault == "frame kills worker" else [1, "failure", 1, 0, 1]
    assert outline(answers) == expected
    reason = "lost its worker with" if fault == "frame kills worker" else "gave up"
    assert f"{reason} this frame" in next(a.failure for a in answers if a.failure)
    assert len(persistent.calls) == 1


def test_an_indexer_can_be_sent_to_another_process(stand_in):
    indexer = stand_in.indexer()
    indexer.index(PATTERNS)
    copy = pickle.loads(pickle.dumps(indexer))
    assert outline(copy.index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert len(stand_in.calls) == 2
    getattr(copy, "close", lambda: None)()


def test_a_missing_final_line_loses_nothing(by_files):
    assert outline(by_files.indexer("no final line").index(PATTERNS)) == [1, 0, 1, 0, 1]


def test_a_hanging_program_is_ended_with_its_workers(stand_in):
    indexer = stand_in.indexer("hang", timeout=3.0)
    started = time.monotonic()
    answers = indexer.index(PATTERNS)
    assert time.monotonic() - started < 10
    done = {"failure", 0, 1}
    assert set(outline(answers)) == done and outline(answers)[3] == 0
    assert all("3 s" in answer.failure for answer in answers if answer.failure)
    assert stand_in.worker_is_gone


def test_workers_left_behind_are_ended(by_files):
    assert outline(by_files.indexer("workers left").index(PATTERNS)) == [1, 0, 1, 0, 1]
    assert by_files.worker_is_gone


def test_a_program_whose_workers_keep_dying_is_ended(stand_in):
    indexer = stand_in.indexer("restless", jobs=1)
    started = time.monotonic()
    with pytest.raises(ProgramError, match="ended because its workers kept dying and did none"):
        indexer.index(PATTERNS)
    assert time.monotonic() - started < 15


def test_nowhere_to_write(stand_in, monkeypatch):
    indexer = stand_in.indexer()
    monkeypatch.setattr("tempfile.tempdir", "/missing")
    with pytest.raises(ProgramError, match=r"cannot be written \(No such file.*TMPDIR"):
        indexer.index(PATTERNS)


def test_an_interrupt_ends_the_program(stand_in):
    def interrupt() -> None:
        for _ in range(500):
            if (stand_in.folder / "calls.worker").exists():
                break
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    indexer = stand_in.indexer("hang")
    user = threading.Thread(target=interrupt)
    # Where the tests run in the background of a script, the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        user.start()
        with pytest.raises(KeyboardInterrupt):
            indexer.index(PATTERNS)
    finally:
        signal.signal(signal.SIGINT, before)
    user.join()
    assert stand_in.worker_is_gone
    assert not Path(stand_in.calls[0].split()[0]).exists()


@pytest.mark.parametrize("end", ["kill", "terminate", "exit"])
@pytest.mark.parametrize("fault", ["", "hang"])
def test_nothing_outlives_us(stand_in, end, fault):
    indexer = stand_in.indexer(fault)
    if end == "exit" and fault == "hang":
        pytest.skip("nothing ends then")
    (stand_in.folder / "indexer").write_bytes(pickle.dumps((indexer, PATTERNS)))
    script = (
        "import pickle, sys, time\n"
        "indexer, patterns = pickle.load(open(sys.argv[1], 'rb'))\n"
        "indexer.index(patterns)\n"
        "sys.argv[2] == 'exit' or time.sleep(60)\n"
    )
    user = subprocess.Popen([sys.executable, "-c", script, str(stand_in.folder / "indexer"), end])
    while not (stand_in.folder / "calls.worker").exists():
        time.sleep(0.02)
    if end == "exit":
        assert user.wait(60) == 0
    else:
        time.sleep(0.3)
        getattr(user, end)()
        user.wait(60)
    assert stand_in.worker_is_gone
    folder = Path(stand_in.calls[0].split()[0])
    for _ in range(1500):
        if not folder.exists():
            break
        time.sleep(0.02)
    assert not folder.exists()


@pytest.mark.parametrize("fault", ["", "hang", "crash", "refuse"])
def test_the_temporary_folder_is_removed(stand_in, fault):
    try:
        stand_in.indexer(fault, timeout=2.0).index(PATTERNS)
    except ProgramError:
        assert fault == "refuse"
    stand_in.close()
    for call in stand_in.calls:
        assert not Path(call.split()[0]).exists()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("refuse", r"exit code 1 and did none of 4 frames: .*Couldn't understand the geometry$"),
        ("nothing", r"exit code 5 and did none of 4 frames: Couldn't read image: peaks\.cxi$"),
        ("crash at once", r"killed by signal 11 and did none of 4 frames: it wrote nothing$"),
    ],
)
def test_a_program_that_did_nothing_is_an_error(stand_in, fault, sentence):
    with pytest.raises(ProgramError, match=sentence):
        stand_in.indexer(fault).index(PATTERNS)


def test_a_frame_that_kills_the_worker_is_no_error(stand_in):
    answers = stand_in.indexer("frame kills worker").index([pattern(20)])
    assert outline(answers) == ["failure"]


@pytest.mark.parametrize("changes", [{"camera_length": -0.1}, {"photon_energy": float("nan")}])
def test_impossible_values_are_not_sent(stand_in, changes):
    with pytest.raises(InputError, match="must be above 0"):
        stand_in.indexer().index([pattern(20, **changes)])
    assert stand_in.calls == []


def test_finding_the_program(by_files, monkeypatch):
    by_files.indexer()
    monkeypatch.setenv("SFX_TUNER_INDEXAMAJIG", str(by_files.path))
    program = find_indexamajig()
    assert program.path == os.path.realpath(by_files.path)
    assert program.version == "0.12.0"
    assert program.indexers == ("xgandalf", "asdf", "taketwo")
    monkeypatch.setenv("PATH", str(by_files.folder))
    monkeypatch.delenv("SFX_TUNER_INDEXAMAJIG")
    assert find_indexamajig() == program
    monkeypatch.setenv("PATH", str(by_files.folder / "elsewhere"))
    assert find_indexamajig() is None
    with pytest.raises(ProgramError, match="indexamajig is not on the PATH"):
        CrystfelIndexer(by_files.geometry, CELL)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "is not a program that can be run"),
        ("#!/bin/sh\necho libcrystfel.so: not found; exit 127\n", "exit code 127 .*not found"),
        ("#!/bin/sh\necho hello\n", "is not CrystFEL's indexamajig.*hello"),
        ("#!/no/such/interpreter\n", "does not run"),
    ],
)
def test_a_broken_program(tmp_path, monkeypatch, script, sentence):
    path = tmp_path / "indexamajig"
    if script:
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("SFX_TUNER_INDEXAMAJIG", str(path))
    with pytest.raises(ProgramError, match=sentence):
        find_indexamajig()
