"""Compiled kernels go when a module changes, and only then."""

from __future__ import annotations

import os

import pytest

from wrappers.peakfinding.stale_kernels import drop_stale_kernels


@pytest.fixture
def package(tmp_path):
    (tmp_path / "a.py").write_text("a = 1")
    (tmp_path / "b.py").write_text("b = 1")
    drop_stale_kernels(tmp_path)
    for name in ("b.f-1.py311.nbi", "b.f-1.py311.1.nbc", "b.pyc"):
        (tmp_path / "__pycache__" / name).write_text("compiled")
    return tmp_path


def kept(package):
    return sorted(path.name for path in (package / "__pycache__").glob("b.*"))


def test_kernels_stay_while_nothing_changes(package):
    drop_stale_kernels(package)
    assert len(kept(package)) == 3


@pytest.mark.parametrize("change", ["edit", "touch", "older", "add", "remove"])
def test_kernels_go_when_any_module_changes(package, change):
    if change == "edit":
        (package / "a.py").write_text("a = 22")
    elif change == "touch":
        os.utime(package / "a.py", (2e9, 2e9))
    elif change == "older":
        os.utime(package / "a.py", (1e9, 1e9))
    elif change == "add":
        (package / "c.py").write_text("")
    else:
        (package / "a.py").unlink()
    drop_stale_kernels(package)
    assert kept(package) == ["b.pyc"]


def test_a_place_that_cannot_be_written_is_left_alone(package):
    (package / "__pycache__" / "kernels.stamp").unlink()
    (package / "__pycache__" / "kernels.stamp").mkdir()
    drop_stale_kernels(package)
