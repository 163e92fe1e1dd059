import numpy as np
import pytest

from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from experiments.warm_start import portfolio, score_points
from tuner.search.points import sobol_points
from tuner.search.warm_start import WarmStart
from wrappers.errors import InputError


def test_a_portfolio_never_gets_worse_and_starts_with_the_best_single_point():
    pool = SimulatedPool.draw("validation", 4, seed=11)
    points = portfolio(pool, size=4, candidates=64)
    reached = score_points(pool, points)
    assert (np.diff(np.maximum.accumulate(reached, axis=1).mean(axis=0)) >= 0).all()
    every = score_points(pool, sobol_points(DEFAULT_TUNED, 64, 0))
    assert reached[:, 0].mean() == pytest.approx(every.mean(axis=0).max())


def test_damaged_warm_starts_are_refused(tmp_path):
    (tmp_path / "warm_start.json").write_text('{"points": [1]}')
    with pytest.raises(InputError, match=r"warm_start\.json is damaged"):
        WarmStart.load(tmp_path)
