"""Processes that hold something, do tasks with it, and are replaced when they die."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.wrappers.workers.holder import Holder
from wrappers.errors import ProgramError
from wrappers.workers.worker_processes import AHEAD, Processes, kept_workers

N = 12
SQUARES = [i * i for i in range(N)]


@pytest.fixture
def start(tmp_path):
    def start(jobs: int, **deadly: int) -> Processes[Holder]:
        return Processes(functools.partial(Holder, tmp_path, **deadly), jobs)

    return start


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_and_a_process_makes_one_holder(start, tmp_path, jobs):
    with start(jobs) as processes:
        assert list(processes.stream(Holder.one, range(N))) == SQUARES
        shares = [list(range(i, N, jobs)) for i in range(jobs)]
        squares = [[i * i for i in share] for share in shares]
        assert processes.share(Holder.all, shares) == squares
    assert len(list(tmp_path.glob("made*"))) == jobs


@pytest.mark.parametrize("jobs", [1, 2])
def test_items_are_taken_when_a_process_is_soon_free(start, jobs):
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with start(jobs) as processes:
        results = processes.stream(Holder.one, items())
        assert [next(results) for _ in range(3)] == SQUARES[:3]
        results.close()
    assert len(taken) <= 3 + (AHEAD * jobs if jobs > 1 else 0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_goes_wrong_in_a_task_is_heard(start, jobs):
    with start(jobs) as processes, pytest.raises(ValueError, match="-1 is negative"):
        list(processes.stream(Holder.one, [1, -1, 2]))


def test_what_a_dying_process_was_at_is_done_again(start):
    with start(2, deadly=3, deaths=1) as processes:
        assert list(processes.stream(Holder.one, range(N))) == SQUARES


def test_an_item_that_kills_twice_ends_a_stream_and_is_left_out_of_a_share(start):
    with start(2, deadly=3, deaths=100) as processes:
        assert processes.share(Holder.all, [[0, 1, 2], [3, 4]]) == [[0, 1, 4], [None, 16]]
        with pytest.raises(ProgramError, match="killed twice"):
            list(processes.stream(Holder.one, range(N)))


PARENT = """
import functools, pathlib, time
from tests.wrappers.workers.holder import Holder
from wrappers.workers.worker_processes import Processes
if __name__ == "__main__":
    processes = Processes(functools.partial(Holder, pathlib.Path({folder!r})), 2)
    print(list(processes.stream(Holder.one, range(4))), flush=True)
    time.sleep(600)
"""


def test_no_process_outlives_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = [int(path.name.removeprefix("made")) for path in tmp_path.glob("made*")]
        assert len(workers) == 2
        assert all(map(psutil.pid_exists, workers))
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, workers))


def test_a_script_without_a_main_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from wrappers.workers.worker_processes import Processes\n"
        "with Processes(list, 2) as processes:\n"
        "    print(list(processes.stream(list.count, [1, 2])))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode and f"{script} is read again by each worker process" in done.stderr


def test_processes_that_are_done_are_the_next_ones_until_the_block_ends(tmp_path):
    """Each time with a new holder; one that has died, or is still at work, is not kept."""

    def used(name: str, jobs: int = 2) -> set[int]:
        folder = tmp_path / name
        folder.mkdir()
        with Processes(functools.partial(Holder, folder), jobs) as processes:
            assert list(processes.stream(Holder.one, range(N))) == SQUARES
        return {int(path.name.removeprefix("made")) for path in folder.glob("made*")}

    with kept_workers():
        first = used("first")
        with kept_workers():
            assert used("second") == first
        assert used("here", 1) == {os.getpid()}
        os.kill(min(first), signal.SIGKILL)
        third = used("third")
        assert third & first == {max(first)}
        with Processes(functools.partial(Holder, tmp_path), 2) as processes:
            answers = processes.stream(Holder.slow, range(4))
            next(answers)
        fourth = used("fourth")
        assert fourth != third
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, first | third | fourth)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(psutil.pid_exists, first | third | fourth))
    assert used("after").isdisjoint(fourth)
