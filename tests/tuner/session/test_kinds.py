"""The kinds of a session's frames: told once, kept, and what the report makes of them."""

from __future__ import annotations

import numpy as np
import pytest

import tuner.session.kinds as session_kinds_module
from tests.wrappers.frame_kinds.conftest import experiment_with, render
from tuner.session.kinds import (
    TOLD_FILE,
    frames_without_anything,
    read_told,
    session_kinds,
)
from wrappers.errors import InputError, Note
from wrappers.frame_kinds import VETOED

SHARES = {"beam off": 0.25, "detector fault": 0.15, "salt": 0.15}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return render(experiment_with(SHARES), 60, tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    monkeypatch.setattr(session_kinds_module, "FEWEST", 60)
    monkeypatch.setattr(session_kinds_module, "FIRST_FRAMES", 30)


def test_the_kinds_of_a_session_are_kept(run, tmp_path):
    source, truth = run
    kinds = session_kinds(source, [0, 1, 2, 3], tmp_path, 1)
    assert kinds is not None
    told = read_told(tmp_path)
    assert told is not None and len(told.spread) == 30
    assert set(told.names) == {*told.spread, 0, 1, 2, 3}
    off = {frame for frame, name in told.names.items() if name == "beam off"}
    assert off == {frame for frame in told.names if truth[frame] == "beam off"}
    before = (tmp_path / TOLD_FILE).read_bytes()
    assert session_kinds(source, [5], tmp_path, 1) == kinds
    assert (tmp_path / TOLD_FILE).read_bytes() == before


def test_a_session_that_is_killed_between_the_files_makes_both(run, tmp_path, monkeypatch):
    def killed(*_) -> None:
        raise KeyboardInterrupt

    for name in ("wrappers.frame_kinds.FrameKinds.write", "tuner.session.kinds._write"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(name, killed)
            session_kinds(run[0], [0], tmp_path, 1)
    session_kinds(run[0], [0], tmp_path, 1)
    assert read_told(tmp_path) is not None


def test_frames_without_anything_are_those_of_three_kinds(run, tmp_path):
    source, truth = run
    kinds = session_kinds(source, [], tmp_path, 1)
    found = frames_without_anything(source, kinds, range(60), 1)
    assert {truth[frame] for frame in found} <= {*VETOED, "salt"}
    salt = {i for i, kind in enumerate(truth) if kind == "salt"}
    assert len(found & salt) > len(salt) / 2 > 0
    assert {i for i, kind in enumerate(truth) if kind == "beam off"} <= found
    assert frames_without_anything(source, None, range(60), 1) == set()


def test_too_few_frames_are_not_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(session_kinds_module, "FEWEST", 61)
    assert session_kinds(run[0], [0], tmp_path, 1) is None
    assert read_told(tmp_path) is None


def test_damaged_files_stop_no_session(run, tmp_path):
    session_kinds(run[0], [], tmp_path, 1)
    (tmp_path / "kinds.json").write_text("{}")
    with pytest.warns(Note, match="goes on without"):
        assert session_kinds(run[0], [], tmp_path, 1) is None
    np.savez(tmp_path / TOLD_FILE, frames=[1, 2], kinds=[0], spread=[1])
    with pytest.raises(InputError, match="without the kinds"):
        read_told(tmp_path)
