import pytest

from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from tuner.comparison.searching import run_method
from tuner.searchers import SEARCHERS
from tuner.session.budget import Budget
from tuner.session.loop import run_session
from tuner.session.store import MemoryLog


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("validation", 4, seed=11)


@pytest.mark.parametrize("name", [name for name in SEARCHERS if not SEARCHERS.get(name).looks])
def test_every_method_is_the_session_that_a_user_gets(name, pool):
    space = pool.space(0, DEFAULT_TUNED)
    searched = run_method(name, pool.evaluator(0, 40, draw=1), space, budget=7, seed=0)
    assert len(searched.recommended) == len(searched.seconds) == 7
    assert len(searched.trials) == {"defaults": 1, "static": 2}.get(name, 7)
    log = MemoryLog()
    outcome = run_session(
        log, pool.evaluator(0, 40, draw=1), space, searcher=name, seed=0, budget=Budget(7)
    )
    tried = [(t.evaluation.settings, t.evaluation.n_indexed, t.best) for t in searched.trials]
    again = [(t.evaluation.settings, t.evaluation.n_indexed, t.best) for t in log.trials]
    assert again[: len(tried)] == tried
    if outcome is not None:
        assert outcome.best.settings == searched.recommended[-1]


def test_the_camera_length_is_fixed_from_the_lattices_whatever_the_method(pool):
    space = pool.space(1, DEFAULT_TUNED)
    for name in ("warm-gp", "portfolio", "gp", "random"):
        searched = run_method(name, pool.evaluator(1, 200, 0), space, budget=12, seed=0)
        assert abs(searched.recommended[-1].clen / pool.model.true_clen[1] - 1) < 2e-3, name
