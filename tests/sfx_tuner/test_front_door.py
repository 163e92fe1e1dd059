"""The one name to import, and the command line's door to a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pandas as pd
import pytest

import sfx_tuner
from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.session.request import begun_with
from tuner.session.store import SessionStore
from wrappers.indexers import IndexerChoice

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", 16)


@pytest.fixture(scope="module")
def session(paths, tmp_path_factory):
    return sfx_tuner.tune(
        *(paths.data, paths.geometry, paths.cell, tmp_path_factory.mktemp("s") / "session"),
        **{"evaluations": 4, "frames": 8, "indexer": "fast", "searcher": "random"},
        fixed={"min_peaks": 8, "threshold": 50.0},
        bounds={"min_snr": (4, 6)},
    )


def test_everything_that_is_promised_is_there():
    for name in sfx_tuner.__all__:
        assert getattr(sfx_tuner, name) is not None
    assert set(sfx_tuner.__all__) == set(dir(sfx_tuner))
    with pytest.raises(AttributeError, match="no attribute 'tun'"):
        _ = sfx_tuner.tun
    assert (Path(sfx_tuner.__file__).parent / "py.typed").exists()


def test_importing_it_waits_for_nothing_heavy():
    code = (
        "import sys, sfx_tuner; "
        "heavy = {'numba', 'torch', 'optuna', 'pandas', 'scipy', 'h5py', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_environment_is_known_by_its_id_alone():
    env = gymnasium.make("sfx-tuner/Tuning-v1")
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert (first == again).all()


def test_a_session_keeps_what_is_set_and_stays_within_ranges(session):
    trials = session.trials
    assert isinstance(trials, pd.DataFrame) and len(trials) >= 4
    mine = trials[~trials["stage"].isin(["start", "baseline", "fresh"])]
    assert (mine["min_peaks"] == 8).all() and (mine["threshold"] == 50).all()
    assert mine["min_snr"].between(4, 6).all()
    assert session.config.tuned == ("min_snr", "min_pix_count", "clen")
    assert session.recommendation.settings.min_peaks == 8


def test_a_session_says_all_that_is_needed_to_go_on(session):
    request, budget = begun_with(SessionStore.open(session.directory).config)
    assert request.indexer == IndexerChoice("fast") and budget.evaluations == 4
    assert request.fixed == {"min_peaks": 8, "threshold": 50.0}
    assert request.bounds == {"min_snr": (4, 6)}
    assert session.resume(evaluations=5) is not None
    # The winner of five may be another, which is then measured on fresh frames, too.
    assert (~session.trials["stage"].isin(["confirm", "fresh"])).sum() == 5
