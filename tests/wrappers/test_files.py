"""Files appear whole or not at all, under nobody's link, and nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wrappers.files
from wrappers.errors import InputError
from wrappers.files import (
    Unfinished,
    append_line,
    temporary_folder,
    unfinished_folder,
    write_whole,
)
from wrappers.processes import ProcessMark, this_process


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "x.toml"
    write_whole(target, "a\n")
    write_whole(target, b"b\n")
    assert target.read_text() == "b\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("somebody's")
    (tmp_path / "x").symlink_to("other")
    write_whole(tmp_path / "x", "ours")
    assert (tmp_path / "other").read_text() == "somebody's"
    assert not (tmp_path / "x").is_symlink()


def test_the_hidden_name_cannot_be_guessed(tmp_path):
    first, second = Unfinished(tmp_path / "x"), Unfinished(tmp_path / "x")
    for each in (first, second):
        os.close(each.descriptor)
    assert first.path != second.path and len(first.path.name) > 32
    with pytest.raises(FileExistsError):
        monkey = wrappers.files._hidden_name
        try:
            wrappers.files._hidden_name = lambda target: first.path
            Unfinished(tmp_path / "x")
        finally:
            wrappers.files._hidden_name = monkey


def test_a_long_name_has_a_hidden_one(tmp_path):
    target = tmp_path / ("ü" * 120)
    write_whole(target, "x")
    assert target.read_text() == "x"


LEAVE = """
import os, sys
from pathlib import Path
from wrappers.files import Unfinished, unfinished_folder
part = Unfinished(Path(sys.argv[1]) / "hits.cxi")
os.write(part.descriptor, b"x" * 1000)
(unfinished_folder(Path(sys.argv[1]) / "run") / "run.h5").write_text("half")
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert other.stdout is not None
    other.stdout.readline()
    (tmp_path / ".mine.part").write_text("the user's")
    wrappers.files._sweep.cache_clear()
    write_whole(tmp_path / "a", "a")
    assert len(list(tmp_path.glob(".*.part"))) == 3, "its writer is at work"
    other.send_signal(signal.SIGKILL)
    other.wait()
    wrappers.files._sweep.cache_clear()
    write_whole(tmp_path / "b", "b")
    assert [path.name for path in tmp_path.glob(".*.part")] == [".mine.part"]


def test_what_another_machine_left_is_swept_after_a_day(tmp_path):
    path = tmp_path / f".x.{'0' * 12}-1-1-{'0' * 16}.part"
    path.write_text("half")
    for age, there in ((3600, True), (2 * 86400, False)):
        os.utime(path, (time.time() - age,) * 2)
        wrappers.files._sweep.cache_clear()
        write_whole(tmp_path / "a", "a")
        assert path.exists() == there


def test_a_process_and_a_later_one_of_its_number():
    this = this_process()
    assert this.is_gone() is False
    assert ProcessMark(this.host, this.machine, this.pid, this.started - 1).is_gone() is True
    assert ProcessMark(this.host, "0" * 12, this.pid, this.started).is_gone() is None


@pytest.fixture
def small_disk():
    """Files cannot grow beyond 4 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_leaves_the_old_file(tmp_path, small_disk):
    write_whole(tmp_path / "x", "old")
    with pytest.raises(InputError, match="x cannot be written"):
        write_whole(tmp_path / "x", b"n" * 5000)
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_whole_lines(tmp_path, small_disk):
    append_line(tmp_path / "x", "a" * 4000)
    with pytest.raises(InputError, match="x cannot be written"):
        append_line(tmp_path / "x", "b" * 1000)
    append_line(tmp_path / "x", "c")
    assert (tmp_path / "x").read_text() == "a" * 4000 + "\nc\n"


def test_lines_are_not_written_through_a_link(tmp_path):
    (tmp_path / "other").write_text("somebody's\n")
    (tmp_path / "x").symlink_to("other")
    with pytest.raises(InputError):
        append_line(tmp_path / "x", "ours")
    assert (tmp_path / "other").read_text() == "somebody's\n"


LEAVE_FOLDER = """
import sys
from wrappers.files import temporary_folder
with temporary_folder() as folder:
    (folder / "frames.lst").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_temporary_folder_of_a_killed_process_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(wrappers.files.tempfile, "tempdir", str(tmp_path))
    other = subprocess.Popen(
        [sys.executable, "-c", LEAVE_FOLDER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert other.stdout is not None
    left = Path(other.stdout.readline().strip())
    assert left.stat().st_mode & 0o777 == 0o700
    other.kill()
    other.wait()
    assert left.exists()
    wrappers.files._sweep.cache_clear()
    with temporary_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_folder_is_beside_its_target(tmp_path):
    folder = unfinished_folder(tmp_path / "a" / "run")
    assert folder.is_dir() and folder.parent == tmp_path / "a" and folder.name.startswith(".run.")
