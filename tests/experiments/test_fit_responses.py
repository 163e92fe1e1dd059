"""The shipped coefficients are those of the recorded experiments, and foretell others."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from envs.response.coefficients import Coefficients
from envs.simulation.families import family_of
from experiments.fit_responses import GROUPS, load, recorded_draws
from experiments.response_fit import fit
from experiments.response_report import choice, compare, table


def test_what_is_fitted_to_and_what_is_held_out_are_different_families() -> None:
    for name in ("train", "crystfel"):
        draws = recorded_draws(GROUPS[name])
        assert {family_of(draw.experiment) for draw in draws} == {"train"}
    held_out = recorded_draws(GROUPS["validation"])
    assert {family_of(draw.experiment) for draw in held_out} == {"validation"}


def test_the_model_foretells_held_out_experiments() -> None:
    found = compare(load("validation"), Coefficients.load())
    for name, least in (("hits / frames", 0.95), ("indexed / frames", 0.85), ("explained", 0.9)):
        x, y = found[name].pairs
        assert np.corrcoef(x, y)[0, 1] ** 2 > least, name
    made = choice(found["indexed / frames"])
    assert made.rank > 0.85
    assert made.lost_median < 0.03
    assert "| indexed / frames |" in table(found)


@pytest.mark.slow
def test_the_fit_gives_the_shipped_coefficients() -> None:
    fitted = asdict(fit(load("train"), load("crystfel")))
    for name, shipped in asdict(Coefficients.load()).items():
        assert fitted[name] == pytest.approx(shipped, rel=0.02, abs=2e-3), name
