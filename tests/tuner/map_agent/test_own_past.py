"""A facility's own sessions: the model is refined where that predicts a left-out run better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from envs.evaluators.look_record import read_look_records
from envs.look import FrameLook
from envs.response_map.model import MapModel, Priors
from envs.response_map.regression import Prior
from envs.response_map.session_map import ResponseMap
from tuner.map_agent.own_past import refine, run_of
from wrappers.errors import InputError

LOOKS = Path(__file__).parents[3] / "experiments" / "data" / "looks"
FRAMES = range(40)
TRIED = (3, 60, 100, 170)


@pytest.fixture(scope="module")
def model() -> MapModel:
    return MapModel.shipped()


@pytest.fixture(scope="module")
def records() -> list:
    return [each for each in read_look_records(LOOKS, "train") if each.own.any(axis=1).sum() > 20]


def runs(records: list, truth: MapModel, seed: int, n: int) -> list:
    """Return what sessions would have measured on real looks, were the model true."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        record = records[number]
        look = FrameLook(record.settings, tuple(FRAMES), record.counts[FRAMES], {})
        known = ResponseMap(look, record.volume, truth)
        for column in TRIED:
            known.learn_outcomes(column, list(FRAMES), np.zeros(len(FRAMES), bool))
        seen = known.outcomes()[0]
        prior = truth.priors["fast"].counts
        drawn = rng.multivariate_normal(prior.mean, prior.covariance)
        levels = prior.frame_sd * rng.standard_normal(len(FRAMES))
        chance = expit(seen.x @ drawn + levels[seen.frame])
        seen = replace(seen, indexed=rng.random(len(chance)) < chance)
        found.append(replace(run_of(known, f"run {number}"), outcomes=(seen, known.outcomes()[1])))
    return found


def shifted(model: MapModel, by: float) -> MapModel:
    """Return a model by which runs are much alike, and index less whatever their peaks are."""

    def moved(prior: Prior) -> Prior:
        mean = prior.mean + by * (np.arange(len(prior.mean)) == 0)
        return replace(prior, mean=mean, covariance=0.05 * prior.covariance)

    return replace(
        model, priors={name: Priors(*map(moved, each)) for name, each in model.priors.items()}
    )


def test_what_no_simulation_knew_is_learnt_from_own_sessions(
    model: MapModel, records: list
) -> None:
    found = refine(runs(records, shifted(model, -4.0), 1, 6), model)
    assert found.model is not None and found.after > found.before + 0.02
    assert found.n_experiments == 6 and found.n_outcomes > 200
    assert found.model.provenance["refined"]["experiments"] == 6
    assert found.model.priors["crystfel"] is model.priors["crystfel"]
    assert found.model.version != model.version


def test_what_is_worse_on_left_out_runs_is_not_shipped(model: MapModel, records: list) -> None:
    found = refine(runs(records, model, 2, 3), model)
    assert found.model is None and found.after <= found.before


def test_sessions_of_one_run_are_one_experiment(model: MapModel, records: list) -> None:
    some = runs(records, model, 3, 3)
    with pytest.raises(InputError, match="are of 2 different runs, but it takes 3"):
        refine([some[0], some[1], replace(some[2], experiment="run 1")], model)
