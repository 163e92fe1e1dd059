"""One writer at a time, on any file system; what a killed one left is taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuner.session.ownership import OWNER, owned
from wrappers.errors import InputError
from wrappers.processes import this_process

HOLD = """
import sys
from pathlib import Path
from tuner.session.ownership import owned
with owned(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "mine\n"
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_another_process_waits_until_the_first_has_ended(tmp_path, how):
    other = holder(tmp_path / "session")
    refused = pytest.raises(InputError, match=rf"another sfx-tuner \(process {other.pid} on")
    with refused, owned(tmp_path / "session"):
        pass
    other.send_signal(how)
    other.wait()
    with owned(tmp_path / "session"):
        assert json.loads((tmp_path / "session" / OWNER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "session").exists() or not list((tmp_path / "session").iterdir())


def test_a_process_of_another_machine_is_not_judged(tmp_path):
    mark = {**this_process().as_dict(), "machine": "0" * 12, "host": "exfl099"}
    (tmp_path / OWNER).write_text(json.dumps(mark))
    with pytest.raises(InputError, match=f"on exfl099.*remove {tmp_path / OWNER}"), owned(tmp_path):
        pass
    (tmp_path / OWNER).unlink()
    with owned(tmp_path):
        pass


def test_a_damaged_file_is_said(tmp_path):
    (tmp_path / OWNER).write_text("{")
    with pytest.raises(InputError, match="remove it if nobody does"), owned(tmp_path):
        pass


def test_nothing_is_left_of_a_session_that_was_refused(tmp_path):
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with owned(tmp_path / "new"):
        (tmp_path / "new" / "session.json").write_text("{}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["session.json"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_find_it_stale_one_gets_it(tmp_path, monkeypatch, links):
    if not links:

        def no_links(*names: object) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", no_links)
    stale = {**this_process().as_dict(), "started": 1}

    def take(number: int) -> int:
        try:
            with owned(tmp_path):
                taken.append(number)
                deadline = time.monotonic() + 20
                while len(refused) < 7 and len(taken) == 1 and time.monotonic() < deadline:
                    time.sleep(0.001)
                return 1
        except InputError:
            refused.append(number)
            return 0

    taken: list[int] = []
    refused: list[int] = []
    (tmp_path / OWNER).write_text(json.dumps(stale))
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(8))) == 1
    assert len(taken) == 1 and len(refused) == 7
    assert list(tmp_path.iterdir()) == []


def test_the_mark_of_who_came_after_is_left_to_them(tmp_path):
    other = json.dumps({"host": "elsewhere", "machine": "0" * 12, "pid": 7, "started": 9})
    with owned(tmp_path):
        (tmp_path / OWNER).write_text(other)
    assert (tmp_path / OWNER).read_text() == other
    with pytest.raises(InputError, match="elsewhere"), owned(tmp_path):
        pass
