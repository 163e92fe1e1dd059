import pytest

from envs.parameter_space import DEFAULT_TUNED
from envs.response.simulated_pool import SimulatedPool
from tuner.comparison.methods import METHODS
from tuner.comparison.searching import run_method
from tuner.comparison.statistics import net_rate


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("validation", 4, seed=11)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_spends_its_budget_within_the_space(name, pool, kit):
    space = pool.space(0, DEFAULT_TUNED)
    evaluator = pool.evaluator(0, 40, draw=1)
    searched = run_method(name, evaluator, space, kit, budget=7, seed=0)
    assert len(searched.settings) == len(searched.picks) == len(searched.seconds) == 7
    if name not in ("agent", "agent_only"):
        worth = [net_rate(evaluator.evaluate(settings)) for settings in searched.settings]
        best = [max(worth[:n]) for n in range(1, 8)]
        assert [net_rate(evaluator.evaluate(told)) for told in searched.recommended()] == best
    if name != "defaults":
        for settings in searched.settings:
            assert space.settings(space.values(settings)) == settings


def test_the_camera_length_is_pinned_for_those_that_say_so(pool, kit):
    space = pool.space(1, DEFAULT_TUNED)
    tried = {
        name: run_method(name, pool.evaluator(1, 200, 0), space, kit, budget=12, seed=0).settings
        for name in ("agent", "warm_gp_pinned", "warm_gp")
    }
    for name in ("agent", "warm_gp_pinned"):
        error = tried[name][-1].clen / pool.model.true_clen[1] - 1
        assert abs(error) < 2e-3, name
    assert len({settings.clen for settings in tried["warm_gp"]}) > 6
