"""Kernels are compiled by one process, which says so where it lasts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run

MAIN = "from tuner.cli.main import main; main()"


@pytest.mark.slow
def test_a_cold_cache_is_told_once_and_filled_by_one_process(tmp_path):
    """Workers that compiled each for itself took the cores for as long, without a word."""
    paths = simulate_run(demo_experiment(seed=1), tmp_path / "run", 6)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def peaks() -> str:
        return subprocess.run(
            [
                *(sys.executable, "-c", MAIN, "peaks", paths.data, "-g", paths.geometry),
                *("-o", tmp_path / "peaks.cxi", "-j", "2"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stderr

    def compiled() -> list[str]:
        return sorted(path.name for path in (tmp_path / "cache").rglob("*.nbc"))

    cold = peaks()
    assert cold.count("compiling the kernels") == 1
    kept = compiled()
    assert "compiling the kernels" not in peaks()
    assert compiled() == kept
