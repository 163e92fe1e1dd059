"""Sessions that are killed outright: nothing is lost, nothing stays, and the end is the same.

A few kills in every run of the tests; more with ``SFX_TUNER_KILLS=40 pytest`` on this file, which
is so many for each of six searchers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import RunPaths, simulate_run
from tuner.session.store import SessionStore

KILLS = int(os.environ.get("SFX_TUNER_KILLS", "3"))
"""For each searcher that is tried."""

OTHERS = ("gp", "cmaes", "random", "grid", "warm-tpe")
EVALUATIONS = 14
MARK = "SFX_TUNER_TEST_MARK"


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    experiment = demo_experiment(1)
    crystals = dataclasses.replace(experiment.crystals, hit_fraction=1.0)
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_run(dataclasses.replace(experiment, crystals=crystals), folder / "run", 8)


def start(paths: RunPaths, session: Path, searcher: str, jobs: int) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if (session / "session.json").exists() else []
    command = [
        *(sys.executable, "-c", "from tuner.cli import main; main()", "tune", str(paths.data)),
        *("-g", str(paths.geometry), "-p", str(paths.cell), "-o", str(session), "-j", str(jobs)),
        *(
            "--indexer",
            "fast",
            "--frames",
            "4",
            "--evaluations",
            str(EVALUATIONS),
            "--whole-budget",
            "--json",
        ),
        *("--searcher", searcher, *resume),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            MARK: str(session),
            "OMP_NUM_THREADS": "1",
        },
    )


def left(session: Path) -> list[psutil.Process]:
    """Return the processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(session):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def kill(process: subprocess.Popen[bytes], session: Path) -> None:
    """Kill a session as the out-of-memory killer does: its main process, and nothing else."""
    process.send_signal(signal.SIGKILL)
    # Whoever stays behind holds the pipe open, and this does not end.
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while (others := left(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert others == []


def wait_for(
    process: subprocess.Popen[bytes], session: Path, n_trials: int, seconds: float
) -> bool:
    """Wait for so many more trials, and so long after them; tell whether the session still runs."""
    log = session / "evaluations.jsonl"

    def n_done() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    target = n_done() + n_trials
    while n_done() < target and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    return process.poll() is None


def measured(session: Path) -> list[dict[str, Any]]:
    """Return what a session has measured, without what it cost."""
    return [
        {"stage": t.stage, "best": t.best, **t.evaluation.with_cost(0.0, 0.0).as_dict()}
        for t in SessionStore.open(session).trials
    ]


def finish(process: subprocess.Popen[bytes]) -> None:
    output, _ = process.communicate(timeout=600)
    # Nothing indexed is an outcome, too.
    assert process.returncode in (0, 2), output.decode()
    assert b"Traceback" not in output, output.decode()


@pytest.mark.parametrize(
    "searcher",
    ["tpe", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)],
)
def test_a_killed_session_ends_as_one_that_was_not(paths, tmp_path, searcher):
    whole = tmp_path / "whole"
    finish(start(paths, whole, searcher, 1))
    expected = measured(whole)
    assert len(expected) >= EVALUATIONS
    rng = random.Random(f"{searcher} {KILLS}")
    kills = 0
    for number in range(KILLS):
        session = tmp_path / f"cut{number}"
        for _ in range(rng.randint(1, 3)):
            process = start(paths, session, searcher, 1)
            if wait_for(process, session, rng.randint(0, 6), rng.uniform(0.0, 1.0)):
                kill(process, session)
                kills += 1
            else:
                process.communicate()
        finish(start(paths, session, searcher, 1))
        assert json.dumps(measured(session)) == json.dumps(expected)
        for name in ("recommended.toml", "trials.csv", "report.html"):
            assert (session / name).exists() == (whole / name).exists()
        hidden = [path.name for path in session.iterdir() if path.name.startswith(".")]
        assert hidden == [] and not (session / "owner.json").exists()
        if kills >= KILLS:
            break
    print(f"{searcher}: killed {kills} times, in {number + 1} sessions")
    assert kills > 0


def test_nothing_outlives_a_session_with_workers(paths, tmp_path):
    session = tmp_path / "session"
    process = start(paths, session, "random", 2)
    deadline = time.monotonic() + 120
    while len(left(session)) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(left(session)) >= 4, "the main process, the server of processes, two workers"
    kill(process, session)
