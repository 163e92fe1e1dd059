"""The limit is of processor time; a program that takes none is ended, too."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from wrappers.crystfel.supervision import Supervised
from wrappers.crystfel.time_limit import TimeLimit

BURN = """
import time
while time.process_time() < {seconds}:
    pass
    {rest}
print("done", flush=True)
time.sleep(60)
"""


def outcome(
    folder: Path, seconds: float, rest: str, limit: float, jobs: int = 1
) -> tuple[bool, float]:
    """Return whether a program that takes so many seconds is cut, and after how much of them."""
    command = [sys.executable, "-c", BURN.format(seconds=seconds, rest=rest)]
    with Supervised(command, folder=folder, log=folder / "log") as program:
        time_limit = TimeLimit(limit, jobs)
        time_limit.watch(program)
        while not time_limit.check() and "done" not in (folder / "log").read_text():
            time.sleep(0.02)
        return time_limit.is_over, program.core_seconds()


def test_a_program_that_computes_is_cut_by_its_processor_time(tmp_path):
    cut, spent = outcome(tmp_path, 60.0, "", 1.0)
    assert cut and 0.9 < spent < 3


def test_each_process_has_its_limit(tmp_path):
    cut, spent = outcome(tmp_path, 60.0, "", 0.5, jobs=3)
    assert cut and 1.4 < spent < 4


@pytest.mark.slow
def test_time_that_others_take_does_not_count(tmp_path):
    # It gets a tenth of a processor, as on a busy machine: several times its limit in all.
    begun = time.monotonic()
    cut, _ = outcome(tmp_path, 0.4, "time.sleep(0.001)", 1.0)
    assert not cut
    assert time.monotonic() - begun > 0.4


@pytest.mark.parametrize("limit", [0.5, 1.0])
def test_a_program_that_does_nothing_is_ended(tmp_path, limit):
    begun = time.monotonic()
    cut, _ = outcome(tmp_path, 0.0, "time.sleep(60)", limit)
    assert not cut, "it was done at once"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with Supervised(command, folder=tmp_path, log=tmp_path / "log") as program:
        time_limit = TimeLimit(limit, 1)
        time_limit.watch(program)
        while not time_limit.check():
            time.sleep(0.02)
    assert time.monotonic() - begun < 20
