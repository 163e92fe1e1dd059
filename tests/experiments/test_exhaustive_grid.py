"""The grid against which tuning is held: each process opens a run once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from envs.simulation.experiment import demo_experiment
from envs.simulation.simulator import simulate_run
from experiments.exhaustive_grid import open_run
from tuner.session.request import Request


def test_a_run_is_opened_once_for_equal_requests(tmp_path: Path) -> None:
    paths = simulate_run(demo_experiment(), tmp_path / "run", 4)
    request = Request(paths.data, paths.geometry, paths.cell, fixed={"min_peaks": 12.0})
    opened = open_run(request)
    assert open_run(replace(request)) is opened
    assert opened[2].base.min_peaks == 12
    assert open_run(replace(request, fixed={}))[2].base.min_peaks == 10
