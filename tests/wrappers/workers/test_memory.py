"""Processes and kept frames within the memory that a command may take."""

from __future__ import annotations

import psutil
import pytest

from tests.array_source import ArraySource
from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.workers import memory
from wrappers.workers.memory import share_out, usual_memory

GB = 10**9


@pytest.fixture
def source(tmp_path):
    def make(side: int) -> ArraySource:
        (tmp_path / "x.geom").write_text(geometry_text(panel_text("a", side, side, (0, 0))))
        return ArraySource(Geometry.read(tmp_path / "x.geom"), [])

    return make


def test_there_are_no_more_processes_than_frames(source):
    assert share_out(1000 * GB, 48, 4, source(100))[0] == 4
    assert share_out(1000 * GB, 48, 100, source(100))[0] == 48


@pytest.mark.parametrize("n_pools", [1, 2])
@pytest.mark.parametrize("gigabytes", [0.1, 1, 2, 6, 60])
@pytest.mark.parametrize("side", [100, 1000, 4000])
def test_what_is_shared_out_is_what_there_is(source, side, gigabytes, n_pools):
    each = memory.PROCESS + memory.PIXEL * side**2
    processes, room = share_out(int(gigabytes * GB), 48, 1000, source(side), n_pools)
    assert 1 <= processes <= 48 and room >= 0
    taken = each * (1 if processes == 1 else 1 + n_pools * processes) + n_pools * room
    # One process there must be.
    assert taken <= gigabytes * GB or (processes == 1 and room == 0)


def test_the_usual_is_a_quarter_of_what_there_is_or_is_allowed(tmp_path, monkeypatch):
    machine = psutil.virtual_memory().total
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert usual_memory() == machine // 4
    (tmp_path / "memory").mkdir()
    for path in (tmp_path / "memory.max", tmp_path / "memory" / "memory.limit_in_bytes"):
        path.write_text("max\n")
        assert usual_memory() == machine // 4
    for path in (tmp_path / "memory.max", tmp_path / "memory" / "memory.limit_in_bytes"):
        path.write_text(f"{GB}\n")
    assert usual_memory() == GB // 4
