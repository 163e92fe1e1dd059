"""The page for Python users: its examples run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.searchers import SEARCHERS

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture
def run_here(tmp_path, monkeypatch):
    """A folder with the run that the page names."""
    simulate_run(demo_experiment(seed=0), tmp_path / "run", 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


def test_the_examples_run_one_after_the_other(run_here, capsys):
    names: dict[str, object] = {}
    try:
        for example in examples():
            exec(compile(example, str(PAGE), "exec"), names)
    finally:
        if "jitter" in SEARCHERS:
            SEARCHERS.forget("jitter")
    assert (run_here / "trials.png").stat().st_size > 1000
    assert (run_here / "hits.cxi").exists()
    assert len(names["session"].trials) >= 5
    assert set(names["mine"].trials["stage"]) >= {"start", "baseline", "search"}
    assert (run_here / "mine" / "recommended.toml").exists()
    assert "Settings(" in capsys.readouterr().out


def test_the_page_has_an_example_of_each_kind():
    text = "\n".join(examples())
    for name in ("find_peaks", "index(", "tune(", "Session.open", "apply(", "PPO", "SEARCHERS"):
        assert name in text, name
