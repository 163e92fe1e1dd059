"""The cost of what was started, whatever became of it."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from wrappers.crystfel.supervision import Supervised
from wrappers.workers.processor_time import processor_seconds

BURN = """
import os, sys, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
if os.fork() == 0:
    burn(0.5)
    print("burnt", flush=True)
    time.sleep(60)
burn(0.2)
time.sleep(60)
"""


def burnt(folder: Path, started: float) -> float:
    """Start a program whose worker takes half a second, kill both, and return what is counted."""
    log = folder / "log"
    with Supervised([sys.executable, "-c", BURN], folder=folder, log=log):
        while "burnt" not in log.read_text() and time.monotonic() < started + 60:
            time.sleep(0.02)
    return processor_seconds()


def test_the_time_of_a_killed_programs_workers_is_kept(tmp_path):
    readings = [processor_seconds()]
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        readings.append(burnt(tmp_path / str(number), time.monotonic()))
    costs = [after - before for before, after in itertools.pairwise(readings)]
    assert all(0.6 < cost < 5 for cost in costs), costs


def test_it_never_falls():
    readings = [processor_seconds() for _ in range(50)]
    assert readings == sorted(readings)
