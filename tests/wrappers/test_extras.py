"""What is installed without the extras, and what is said where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from wrappers.errors import InputError
from wrappers.extras import EXTRAS, missing, require

ROOT = Path(__file__).parents[2]

WITHOUT_PYTORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "stable_baselines3", "greenlet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name in ("torch", "stable_baselines3", "greenlet") else found(name, package)
)
sys.meta_path.insert(0, Absent())
from tuner.cli.main import main
if __name__ == "__main__":
    main()
"""


def test_the_distribution_declares_every_extra():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = declared["optional-dependencies"]
    assert set(EXTRAS) <= set(optional)
    assert f"sfx-tuner[{','.join(sorted(EXTRAS))}]" in optional["all"]
    for name in ("torch", "stable-baselines3"):
        assert not any(each.startswith(name) for each in declared["dependencies"])


def test_what_is_missing_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing("train") == ["PyTorch", "stable-baselines3"]
    with pytest.raises(
        InputError, match=r"--cluster x needs Dask: pip install 'sfx-tuner\[cluster\]'"
    ):
        require("cluster", "--cluster x", "distributed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 16)


def without_pytorch(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTORCH, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("searcher", ["", "warm-tpe", "tpe"])
def test_a_session_needs_no_pytorch(run, tmp_path, searcher):
    tune = ("tune", run.data, "-g", run.geometry, "-p", run.cell, "--indexer", "fast", "-j", 1)
    done = without_pytorch(
        tmp_path,
        *(*tune, "--evaluations", 12, "--no-cell-check", "-o", "session"),
        *(("--searcher", searcher) if searcher else ()),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "session/recommended.toml").exists()
    assert (tmp_path / "session/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "-o", "training"), "sfx-tuner train needs PyTorch and stable-baselines3"),
        (
            ("tune", "--searcher", "gp"),
            "the gp searcher (--searcher map does without) needs PyTorch and greenlet",
        ),
    ],
)
def test_what_needs_pytorch_says_so(run, tmp_path, arguments, sentence):
    if arguments[0] == "tune":
        data = (run.data, "-g", run.geometry, "-p", run.cell, "-o", "session", "-j", 1)
        arguments = (*arguments, *data)
    done = without_pytorch(tmp_path, *arguments)
    assert done.returncode == 2
    assert f"sfx-tuner: {sentence}: pip install" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_doctor_names_what_is_missing(tmp_path):
    out = without_pytorch(tmp_path, "doctor").stdout
    assert "lacks PyTorch and greenlet: pip install 'sfx-tuner[gp]'" in out
