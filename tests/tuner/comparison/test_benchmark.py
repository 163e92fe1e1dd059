import numpy as np
import pytest

from envs.response.simulated_pool import SimulatedPool
from tuner.comparison.benchmark import Benchmark, Family, compare_simulated, fingerprint
from tuner.comparison.results import undone
from wrappers.errors import ProgramError


def small(name: str = "validation", **changes) -> Benchmark:
    family = Family(seed=11, n_drawn=3, n_tasks=2, n_seeds=2)
    benchmark = Benchmark({name: family}, budget=6, n_frames=50, least_reachable=0.0)
    selected = benchmark.select(SimulatedPool.draw(name, 3, 11), family)
    frozen = Family(11, 3, 2, 2, fingerprint(selected))
    return Benchmark({name: frozen}, 6, 50, 0.0)


def test_the_benchmark_compares_on_the_same_frames(policy):
    methods = ["static", "portfolio", "ppo-only"]
    found = compare_simulated(small(), policy, methods, jobs=1)["validation"]
    for method in methods:
        assert found[method]["regret"].shape == (2, 2, 6)
        assert ((found[method]["regret"] >= 0) & (found[method]["regret"] <= 1)).all()
    # the portfolio's first point is the static one, on the same frames
    np.testing.assert_array_equal(
        found["static"]["regret"][:, :, 0], found["portfolio"]["regret"][:, :, 0]
    )


def test_an_interrupted_benchmark_goes_on_where_it_was(policy):
    methods = ["static", "random"]
    results = {}

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_simulated(small(), policy, methods, results=results, on_progress=interrupt)
    assert len(undone(results["validation"])) == 3
    results["validation"]["static"]["regret"][0, 0] = 0.125  # must not be done again
    told = []
    compare_simulated(small(), policy, methods, results=results, on_progress=told.append)
    assert told == [2, 3, 4]
    assert not undone(results["validation"])
    assert (results["validation"]["static"]["regret"][0, 0] == 0.125).all()


def test_instances_that_have_changed_are_refused():
    benchmark = small()
    changed = Benchmark({"validation": Family(12, 3, 2, 2, "0" * 16)}, 6, 50, 0.0)
    benchmark.draw("validation")
    with pytest.raises(ProgramError, match="frozen"):
        changed.draw("validation")


def test_the_frozen_benchmark_is_as_large_as_the_protocol_asks():
    benchmark = Benchmark.load()
    for family in ("test", "shifted"):
        assert benchmark.families[family].n_tasks >= 100
        assert benchmark.families[family].n_seeds >= 3
    assert benchmark.budget == 20


@pytest.mark.slow
def test_the_frozen_benchmarks_instances_are_those_that_are_drawn():
    benchmark = Benchmark.load()
    for family in benchmark.families:
        assert len(benchmark.draw(family)) == benchmark.families[family].n_tasks
