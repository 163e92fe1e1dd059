"""CrystFEL as an indexer: the real program, where there is one, on real and simulated frames."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wrappers.cell import Cell
from wrappers.crystfel.indexer import CrystfelIndexer, index_own_peaks
from wrappers.crystfel.persistent import PersistentCrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.run import Run
from wrappers.indexing import Indexing, Pattern
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

pytestmark = pytest.mark.crystfel

SETTINGS = Settings(
    min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30, min_peaks=10
)


def recorded_peaks(shared_data: Path) -> list[PeakList]:
    """CrystFEL's own peaks of jf1m_lyso_60, frame by frame."""
    table = np.load(shared_data / "simulated/indexamajig_peaks.npz")["4.25_30_2_3"].astype(float)
    lists = []
    for frame in range(60):
        _, fs, ss, intensity, panel = table[table[:, 0] == frame].T
        zero = np.zeros(len(fs))
        panel = panel.astype(np.int32)
        lists.append(PeakList(fs, ss, intensity, zero, panel, zero.astype(np.int32), zero))
    return lists


def indexed(answers: list[Indexing]) -> set[int]:
    assert not any(answer.failure for answer in answers)
    return {number for number, answer in enumerate(answers) if answer.indexed}


def edges(answers: list[Indexing]) -> np.ndarray:
    """Median length of a, b, c in Å."""
    real = [np.linalg.inv(x.reciprocal).T for answer in answers for x in answer.lattices]
    return np.median(np.linalg.norm(real, axis=2), axis=0)


@pytest.fixture(scope="module")
def lysozyme(shared_data) -> tuple[Geometry, Cell]:
    folder = shared_data / "simulated"
    return Geometry.read(folder / "jf1m.geom"), Cell.read(folder / "lyso.cell")


@pytest.mark.parametrize(("clen", "scale"), [(0.0800, 1.0), (0.0784, 0.98)])
def test_real_program_on_recorded_peaks(shared_data, indexamajig, lysozyme, clen, scale):
    geometry, cell = lysozyme
    peaks = [p if len(p) >= 10 else PeakList.empty() for p in recorded_peaks(shared_data)]
    indexer = CrystfelIndexer(geometry, cell, program=indexamajig, method="xgandalf", jobs=2)
    answers = indexer.index([Pattern(p, 9300.0, clen) for p in peaks])
    own = index_own_peaks(
        [(str(shared_data / "simulated/jf1m_lyso_60.h5"), f"//{i}") for i in range(60)],
        shared_data / "simulated/jf1m.geom",
        cell,
        SETTINGS,
        clen_change=clen - 0.08,
        program=indexamajig,
        method="xgandalf",
        jobs=2,
    )
    assert [chunk.n_peaks for chunk in own] == [len(p) for p in recorded_peaks(shared_data)]
    own_indexed = {number for number, chunk in enumerate(own) if chunk.indexed}
    assert 40 <= len(own_indexed) <= 43
    # The recorded positions have two decimals, which flips a frame or two at the limit.
    assert len(indexed(answers) ^ own_indexed) <= 2
    np.testing.assert_allclose(edges(answers), scale * np.array([79.0, 79.0, 38.0]), rtol=3e-3)


@pytest.mark.parametrize(
    ("name", "cell", "settings", "expected"),
    [
        ("simulated/jf1m", "simulated/lyso", SETTINGS, range(40, 45)),
        (
            "frames/thaumatin_p6m_crop1320",
            "cell/thaumatin",
            Settings(min_snr=5, threshold=20, min_peaks=10),
            range(15, 16),
        ),
        (
            "frames/thermolysin_cspad",
            "cell/thermolysin",
            Settings(min_snr=6, threshold=400, min_peaks=10),
            range(3, 5),
        ),
    ],
)
def test_our_peaks_and_its_own_index_the_same(
    shared_data, indexamajig, name, cell, settings, expected
):
    geometry_file = shared_data / f"{name}.geom"
    geometry, known = Geometry.read(geometry_file), Cell.read(shared_data / f"{cell}.cell")
    (data,) = (path for path in shared_data.glob(f"{name}*.h5") if "truth" not in path.name)
    run = Run.open(data, geometry)
    finder = PeakFinder(geometry)
    patterns, counts = [], []
    for frame in run:
        peaks = finder.find(frame, settings)
        counts.append(len(peaks))
        hit = peaks if len(peaks) >= settings.min_peaks else PeakList.empty()
        patterns.append(Pattern(hit, frame.photon_energy, frame.camera_length))
    options = {"program": indexamajig, "method": "xgandalf", "jobs": 2}
    answers = CrystfelIndexer(geometry, known, **options).index(patterns)
    frames = [run.name(i) for i in range(len(run))]
    own = index_own_peaks(frames, geometry_file, known, settings, **options)
    assert [chunk.n_peaks for chunk in own] == counts
    assert len(indexed(answers)) in expected
    # Positions in a CXI file are rounded to float32, which may flip a frame at the limit.
    assert len(indexed(answers) ^ {i for i, chunk in enumerate(own) if chunk.indexed}) <= 1


def test_real_program_refuses_a_method(indexamajig, lysozyme, shared_data):
    geometry, cell = lysozyme
    indexer = CrystfelIndexer(geometry, cell, program=indexamajig, method="nonsense")
    with pytest.raises(ProgramError, match=r"exit code 1 and did none of 1 frames: .*nonsense"):
        indexer.index([Pattern(recorded_peaks(shared_data)[1], 9300.0, 0.08)])


def test_real_program_out_of_time(indexamajig, lysozyme, shared_data):
    geometry, cell = lysozyme
    indexer = CrystfelIndexer(
        geometry, cell, program=indexamajig, method="xgandalf", jobs=1, timeout=6.0
    )
    peaks = recorded_peaks(shared_data) * 10
    answers = indexer.index([Pattern(p, 9300.0, 0.08) for p in peaks])
    failures = [answer.failure for answer in answers if answer.failure]
    assert 0 < len(failures) < len(answers)
    assert any(answer.indexed for answer in answers)
    assert all("time limit of 6 s" in failure for failure in failures)


def patterns_of(shared_data: Path, **place: float) -> list[Pattern]:
    return [
        Pattern(peaks, 9300.0, **{"camera_length": 0.08, **place})
        for peaks in recorded_peaks(shared_data)
        if len(peaks) >= 10
    ]


@pytest.fixture
def persistent(indexamajig, lysozyme) -> Iterator[PersistentCrystfelIndexer]:
    geometry, cell = lysozyme
    # A loaded machine may need longer than the usual limit.
    with PersistentCrystfelIndexer(
        geometry, cell, program=indexamajig, method="xgandalf", jobs=2, timeout=600.0
    ) as indexer:
        if not indexer.persistent:
            pytest.skip("this CrystFEL cannot stay")
        yield indexer


def test_a_program_that_stays_indexes_the_same(persistent, indexamajig, lysozyme, shared_data):
    by_files = CrystfelIndexer(
        *lysozyme, program=indexamajig, method="xgandalf", jobs=2, timeout=600.0
    )
    # One process, whatever the camera length and the shift.
    places = [{}, {"camera_length": 0.0784}, {"shift_x": 3e-5, "shift_y": -3e-5}]
    for place in places:
        patterns = patterns_of(shared_data, **place)
        stayed = indexed(persistent.index(patterns))
        assert len(stayed) > 30
        # xgandalf's answer depends a little on the frames that its process did before.
        assert len(stayed ^ indexed(by_files.index(patterns))) <= 1
    # Far away only a false lattice is ever found, so the place does reach the program.
    for place in ({"camera_length": 0.072}, {"shift_x": 1.5e-3}):
        assert len(indexed(persistent.index(patterns_of(shared_data, **place)))) <= 2


@pytest.mark.parametrize("victim", ["main", "worker"])
def test_a_program_that_stays_is_killed(persistent, shared_data, victim):
    patterns = patterns_of(shared_data)
    persistent.index(patterns[:1])
    main, *workers = crystfel_processes()
    killer = threading.Timer(0.7, os.kill, [main if victim == "main" else workers[0], 9])
    killer.start()
    answers = persistent.index(patterns)
    killer.join()
    failures = [answer.failure for answer in answers if answer.failure]
    # What its two workers had, and what waited in the pipes of the main process.
    assert len(failures) <= (6 if victim == "main" else 1)
    reason = "killed by signal 9 before" if victim == "main" else "lost its worker with this frame"
    assert all(reason in failure for failure in failures), failures
    assert sum(answer.indexed for answer in answers) > 30
    assert not indexed_failures(persistent.index(patterns[:5]))


def test_a_program_that_stays_hangs(indexamajig, lysozyme, shared_data):
    patterns = patterns_of(shared_data)[:12]
    options = {"program": indexamajig, "method": "xgandalf", "jobs": 1, "timeout": 8.0}
    with PersistentCrystfelIndexer(*lysozyme, **options) as indexer:
        assert not indexed_failures(indexer.index(patterns[:2]))
        for process in crystfel_processes():
            os.kill(process, signal.SIGSTOP)
        answers = indexer.index(patterns)
        assert all("8 s" in answer.failure for answer in answers)
        assert crystfel_processes() == []
        assert not indexed_failures(indexer.index(patterns[:2]))
    assert crystfel_processes() == []


def test_a_real_program_whose_disk_is_full(indexamajig, lysozyme, shared_data, monkeypatch):
    patterns = patterns_of(shared_data)
    indexer = CrystfelIndexer(*lysozyme, program=indexamajig, jobs=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        with pytest.raises(InputError, match=r"peaks\.cxi cannot be written \(File too large\)"):
            indexer.index(patterns * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def indexed_failures(answers: list[Indexing]) -> list[str]:
    return [answer.failure for answer in answers if answer.failure]


def crystfel_processes() -> list[int]:
    """Return the live processes of the programs that this one started, main ones first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "comm").read_text()
                parent = Path("/proc", fields[1], "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ours = os.getpid() in (int(fields[1]), int(parent[1]))
            if name.startswith("indexamajig") and ours and fields[0] != "Z":
                found.append((int(fields[1]) != os.getpid(), int(entry.name)))
    return [process for _, process in sorted(found)]
