"""Answers on disk: never asked twice, bounded, shared, and never in the way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.geometries import ONE_PANEL
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, Note
from wrappers.indexing import Done, Indexing, Lattice, Pattern, unheard
from wrappers.indexing_cache import CachedIndexer
from wrappers.peaks import PeakList

GEOMETRY = ONE_PANEL
CELL = Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0, "tetragonal", "P", "c")


@dataclass
class Counting:
    """Finds as many lattices as there are peaks beyond ten; fails at 13 peaks."""

    name: str = "counting 1"
    parallel: bool = False
    asked: list[int] = field(default_factory=list)

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        self.asked += [len(pattern.peaks) for pattern in patterns]
        done(len(patterns))
        return [self.answer(pattern) for pattern in patterns]

    def answer(self, pattern: Pattern) -> Indexing:
        n = len(pattern.peaks)
        if n == 13:
            return Indexing(failure="unlucky")
        basis = np.arange(9.0).reshape(3, 3) + pattern.camera_length
        return Indexing(tuple(Lattice(basis + i) for i in range(max(0, n - 10))))


def pattern(n: int, **place: float) -> Pattern:
    one = np.ones(n)
    peaks = PeakList(
        one, np.arange(n) + 0.5, one, one, np.zeros(n, np.int32), one.astype(np.int32), one
    )
    return Pattern(peaks, **{"photon_energy": 9300.0, "camera_length": 0.1, **place})


def plain(answers: Sequence[Indexing]) -> list[object]:
    return [([x.reciprocal.tolist() for x in a.lattices], a.failure) for a in answers]


@pytest.fixture
def geometry(tmp_path) -> Geometry:
    (tmp_path / "one.geom").write_text(GEOMETRY)
    return Geometry.read(tmp_path / "one.geom")


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 14), st.sampled_from([0.1, 0.2])), max_size=8),
        max_size=5,
    )
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_answers_are_the_indexers_own_and_nothing_is_asked_twice(
    tmp_path_factory, geometry, batches
):
    folder = tmp_path_factory.mktemp("cache")
    asked = []
    for batch in batches:
        # Each batch by a new object, as in a resumed session.
        counting = Counting()
        cached = CachedIndexer(counting, folder, geometry, CELL)
        patterns = [pattern(n, camera_length=clen) for n, clen in batch]
        assert plain(cached.index(patterns)) == plain(Counting().index(patterns))
        counting_now = list(counting.asked)
        assert plain(cached.index(patterns)) == plain(Counting().index(patterns))
        again = counting.asked[len(counting_now) :]
        assert set(again) <= {13}, "only what failed is asked for twice"
        asked += [n for n in counting_now if n != 13]
    distinct = {item for batch in batches for item in batch if item[0] != 13}
    assert sorted(asked) == sorted(n for n, _ in distinct)


@pytest.mark.parametrize(
    "changes",
    [
        {"photon_energy": 9301.0},
        {"camera_length": 0.1000001},
        {"shift_x": 1e-9},
        {"shift_y": -1e-9},
    ],
)
def test_another_place_is_another_question(tmp_path, geometry, changes):
    counting = Counting()
    CachedIndexer(counting, tmp_path, geometry, CELL).index([pattern(12), pattern(12, **changes)])
    assert counting.asked == [12, 12]


@pytest.mark.parametrize("column", ["fs", "ss", "intensity", "panel"])
def test_other_peaks_are_another_question(tmp_path, geometry, column):
    counting = Counting()
    first = pattern(12)
    values = getattr(first.peaks, column).copy()
    values[3] += 1
    second = replace(first, peaks=replace(first.peaks, **{column: values}))
    CachedIndexer(counting, tmp_path, geometry, CELL).index([first, second])
    assert counting.asked == [12, 12]


def test_another_context_is_another_question(tmp_path, geometry):
    (tmp_path / "two.geom").write_text(GEOMETRY.replace("-50", "-51"))
    (tmp_path / "three.geom").write_text("; the same panels\n" + GEOMETRY)
    contexts = [
        (Counting(), geometry, CELL),
        (Counting("counting 2"), geometry, CELL),
        (Counting(), Geometry.read(tmp_path / "two.geom"), CELL),
        (Counting(), geometry, replace(CELL, a=79.1, b=79.1)),
    ]
    for _ in range(2):
        for counting, other, cell in contexts:
            CachedIndexer(counting, tmp_path, other, cell).index([pattern(12)])
    assert [counting.asked for counting, *_ in contexts] == [[12]] * 4
    same = Counting()
    CachedIndexer(same, tmp_path, Geometry.read(tmp_path / "three.geom"), CELL).index([pattern(12)])
    assert same.asked == []


def test_the_oldest_are_dropped(tmp_path, geometry):
    counting = Counting()
    cached = CachedIndexer(counting, tmp_path, geometry, CELL, max_bytes=200_000)
    for step in range(80):
        cached.index([pattern(16, camera_length=0.1 + step + i * 1e-3) for i in range(20)])
    assert (tmp_path / "indexed.sqlite").stat().st_size < 260_000
    n_asked = len(counting.asked)
    later = CachedIndexer(counting, tmp_path, geometry, CELL)
    later.index([pattern(16, camera_length=79.1)])
    assert len(counting.asked) == n_asked
    later.index([pattern(16, camera_length=0.1)])
    assert len(counting.asked) == n_asked + 1


@pytest.mark.parametrize("damage", [b"not a database" * 100, b"", None])
def test_a_damaged_file_costs_no_answers(tmp_path, geometry, damage):
    cached = CachedIndexer(Counting(), tmp_path, geometry, CELL)
    patterns = [pattern(n) for n in range(9, 15)]
    expected = plain(Counting().index(patterns))
    assert plain(cached.index(patterns)) == expected
    file = tmp_path / "indexed.sqlite"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\x55" * (len(whole) - 4096) if damage is None else damage)
    for _ in range(3):
        later = CachedIndexer(Counting(), tmp_path, geometry, CELL)
        assert plain(later.index(patterns)) == expected
    counting = Counting()
    CachedIndexer(counting, tmp_path, geometry, CELL).index(patterns)
    assert counting.asked == [13]


def test_a_locked_or_full_file_costs_no_answers(tmp_path, geometry, monkeypatch):
    monkeypatch.setattr("wrappers.indexing_cache.LOCK_SECONDS", 0.1)
    cached = CachedIndexer(Counting(), tmp_path, geometry, CELL)
    cached.index([pattern(12)])
    other = sqlite3.connect(tmp_path / "indexed.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert plain(cached.index([pattern(11)])) == plain(Counting().index([pattern(11)]))
    other.close()
    counting = Counting()
    later = CachedIndexer(counting, tmp_path, geometry, CELL)
    assert plain(later.index([pattern(12), pattern(11)])) == plain(
        Counting().index([pattern(12), pattern(11)])
    )
    assert counting.asked == [11], "what could not be kept is asked for again"


def test_a_folder_that_cannot_be_made(tmp_path, geometry):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the folder .*cache for indexed patterns cannot be made"):
        CachedIndexer(Counting(), tmp_path / "file" / "cache", geometry, CELL)


def index_many(cached: CachedIndexer, first: int, forever: bool) -> None:
    step = 0
    while forever or step < 30:
        places = [0.1 + (first + step * 7 + i) % 150 * 1e-3 for i in range(10)]
        patterns = [pattern(12, camera_length=place) for place in places]
        assert plain(cached.index(patterns)) == plain(Counting().index(patterns))
        step += 1


def test_several_processes_share_it_and_one_is_killed(tmp_path, geometry):
    cached = CachedIndexer(Counting(), tmp_path / "cache", geometry, CELL)
    context = multiprocessing.get_context("fork")
    copy = pickle.loads(pickle.dumps(cached))
    users = [context.Process(target=index_many, args=(copy, 40 * i, False)) for i in range(2)]
    victim = context.Process(target=index_many, args=(copy, 7, True))
    for process in (*users, victim):
        process.start()
    time.sleep(0.3)
    os.kill(victim.pid, signal.SIGKILL)
    for process in (*users, victim):
        process.join(60)
    assert [process.exitcode for process in users] == [0, 0]
    with sqlite3.connect(tmp_path / "cache" / "indexed.sqlite") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counting = Counting()
    CachedIndexer(counting, tmp_path / "cache", geometry, CELL).index(
        [pattern(12, camera_length=0.1 + i * 1e-3) for i in range(5)]
    )
    assert counting.asked == []


@pytest.mark.parametrize("blob", [b"x", b"\xff" * 72, b"\0" * 72, 3, "text"])
def test_answers_that_no_indexer_gave_are_dropped_with_a_note(tmp_path, geometry, blob):
    counting = Counting()
    CachedIndexer(counting, tmp_path, geometry, CELL).index([pattern(12)])
    with closing(sqlite3.connect(tmp_path / "indexed.sqlite")) as file, file:
        file.execute("UPDATE answers SET lattices = ?", [blob])
    with pytest.warns(Note, match=r"indexed\.sqlite are damaged .* dropped"):
        answers = CachedIndexer(counting, tmp_path, geometry, CELL).index([pattern(12)])
    assert plain(answers) == plain([counting.answer(pattern(12))])
    assert counting.asked == [12, 12]
