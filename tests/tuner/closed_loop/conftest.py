from __future__ import annotations

import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> RunPaths:
    """Return a run of 30 small frames."""
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("loop") / "run", 30)
