"""Kernels compiled beforehand are those that a session would compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from tuner.cli import main; main()"]


@pytest.mark.slow
def test_after_warming_a_session_compiles_nothing_but_how_its_files_are_unpacked(tmp_path):
    run = simulate_run(demo_experiment(0), tmp_path / "run", 20)
    kernels = tmp_path / "kernels"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(kernels)}

    def compiled_by(*arguments: object) -> set[str]:
        before = {*kernels.rglob("*.nbc")}
        words = [*COMMAND, *map(str, arguments)]
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "compiling" not in done.stderr
        return {path.name.partition(".")[0] for path in {*kernels.rglob("*.nbc")} - before}

    assert len(compiled_by("doctor", "--warm")) >= 5
    inputs = (run.data, "-g", run.geometry)
    session = ("-p", run.cell, "--indexer", "fast", "--evaluations", 2, "-j", 1, "-o", "out")
    assert compiled_by("tune", *inputs, *session) <= {"unpacking"}
    assert compiled_by("peaks", *inputs, "-j", 1, "-o", "peaks.cxi") <= {"unpacking"}
