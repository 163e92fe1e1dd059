import json

import numpy as np
import pytest
from click.testing import CliRunner

from envs.parameter_space import DEFAULT_TUNED
from envs.simulated_pool import SimulatedPool
from tuner.comparison import (
    Benchmark,
    Family,
    compare_simulated,
    fingerprint,
    net_rate,
    run_method,
)
from tuner.comparison_live import compare_on_frames
from tuner.comparison_methods import METHODS, Kit
from tuner.comparison_pictures import draw_pictures
from tuner.comparison_statistics import (
    bootstrap,
    compare_family,
    holm,
    interquartile_mean,
    probability_of_improvement,
)
from tuner.policy import Policy
from tuner.warm_start import WarmStart, portfolio, score_points
from wrappers.errors import InputError, ProgramError


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit(Policy.load(), WarmStart.load())


@pytest.fixture(scope="module")
def pool() -> SimulatedPool:
    return SimulatedPool.draw("validation", 4, seed=11)


# statistics


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([[100.0, 1, 2, 3], [4, 5, 6, -100]])) == 3.5


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """Tasks differ, and so do seeds within a task; the interval must allow for both."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.normal(0, 1, (30, 1)) + rng.normal(0, 0.5, (30, 3))
        low, high = bootstrap(values, resamples=200, seed=trial)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_holm_multiplies_by_what_is_left():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_ties_are_half_an_improvement():
    assert probability_of_improvement(np.array([0.0, 1, 2]), np.array([0.0, 2, 1])) == 0.5


def test_a_family_is_told_as_the_contract_says():
    rng = np.random.default_rng(1)
    worse = rng.uniform(0.1, 0.3, (40, 3, 20))
    regrets = {"agent": worse / 3, "warm_gp": worse, "random": worse + 0.2}
    found = compare_family(regrets)
    assert found["n_tasks"] == 40
    assert found["n_seeds"] == 3
    assert {"regret_5", "regret_10", "regret_20", "auc"} <= found["agent"].keys()
    low, high = found["warm_gp_minus_agent_10_ci95"]
    assert 0 < low < 2 / 3 * worse[:, :, 9].mean() < high
    assert found["paired"]["warm_gp"]["probability_of_improvement"] == 1
    assert found["paired"]["random"]["p_wilcoxon_holm"] < 1e-6


def test_two_that_do_the_same_do_not_differ():
    regrets = np.random.default_rng(2).uniform(0, 1, (20, 2, 20))
    found = compare_family({"agent": regrets, "warm_gp": regrets.copy()})
    assert found["warm_gp_minus_agent_10_ci95"] == [0, 0]
    assert found["paired"]["warm_gp"]["p_wilcoxon"] == 1


# methods


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_spends_its_budget_within_the_space(name, pool, kit):
    space = pool.space(0, DEFAULT_TUNED)
    evaluator = pool.evaluator(0, 40, draw=1)
    searched = run_method(name, evaluator, space, kit, budget=7, seed=0)
    assert len(searched.settings) == len(searched.merits) == len(searched.seconds) == 7
    best = searched.recommended()[-1]
    assert net_rate(evaluator.evaluate(best)) == max(searched.merits)
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


def test_a_portfolio_never_gets_worse_and_starts_with_the_best_single_point(pool):
    points = portfolio(pool, size=4, candidates=64)
    reached = score_points(pool, points)
    assert (np.diff(np.maximum.accumulate(reached, axis=1).mean(axis=0)) >= 0).all()
    from tuner.baselines import sobol_points

    every = score_points(pool, sobol_points(DEFAULT_TUNED, 64, 0))
    assert reached[:, 0].mean() == pytest.approx(every.mean(axis=0).max())


def test_damaged_warm_starts_are_refused(tmp_path):
    (tmp_path / "warm_start.json").write_text('{"points": [1]}')
    with pytest.raises(InputError, match="warm starts"):
        WarmStart.load(tmp_path)


# the benchmark


def small(name: str = "validation", **changes) -> Benchmark:
    family = Family(seed=11, n_drawn=3, n_tasks=2, n_seeds=2)
    benchmark = Benchmark({name: family}, budget=6, n_frames=50, least_reachable=0.0)
    selected = benchmark.select(SimulatedPool.draw(name, 3, 11), family)
    frozen = Family(11, 3, 2, 2, fingerprint(selected))
    return Benchmark({name: frozen}, 6, 50, 0.0)


def test_the_benchmark_compares_on_the_same_frames(kit):
    methods = ["static", "portfolio", "agent_only"]
    found = compare_simulated(small(), kit, methods, jobs=1)["validation"]
    for method in methods:
        assert found[method]["regret"].shape == (2, 2, 6)
        assert ((found[method]["regret"] >= 0) & (found[method]["regret"] <= 1)).all()
    # the portfolio's first point is the static one, on the same frames
    np.testing.assert_array_equal(
        found["static"]["regret"][:, :, 0], found["portfolio"]["regret"][:, :, 0]
    )


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


def test_the_command_gives_the_json_of_the_contract(tmp_path, monkeypatch):
    from tuner.cli.compare import command

    benchmark = small("test")
    monkeypatch.setattr("tuner.comparison.Benchmark.load", lambda: benchmark)
    options = ["--methods", "agent,warm_gp,random", "--json", "-j", "1", "-o", str(tmp_path / "c")]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout)["families"]["test"]
    assert found["n_tasks"] == 2
    assert 0 <= found["agent"]["regret_5"] <= 1
    assert json.loads((tmp_path / "c" / "comparison.json").read_text())["families"]["test"]


def test_an_unknown_method_is_refused_with_the_choice(tmp_path):
    from tuner.cli.compare import command

    result = CliRunner().invoke(command, ["--methods", "magic"])
    assert isinstance(result.exception, InputError)
    assert "choose from agent" in str(result.exception)


def test_draws_four_pictures(tmp_path):
    rng = np.random.default_rng(3)
    regrets = {name: rng.uniform(0, 1, (12, 2, 20)) for name in ("agent", "warm_gp", "random")}
    families = {"test": regrets, "shifted": regrets}
    figures = {name: compare_family(by_method) for name, by_method in families.items()}
    paths = draw_pictures(families, figures, tmp_path)
    assert [path.name for path in paths] == [
        "anytime.png", "profile.png", "paired.png", "forest.png",
    ]  # fmt: skip
    assert all(path.stat().st_size > 5000 for path in paths)


# on frames


def test_on_frames_recommendations_are_judged_on_frames_that_no_method_saw(
    make_landscape, space, kit
):
    tuning, scoring = make_landscape(frames=80), make_landscape(frames=80, first=1000)
    grid = [space.base, space.base.replace(threshold=40, min_snr=4.3, clen=0.08)]
    found = compare_on_frames(
        tuning, scoring, space, kit, ["agent", "random"], budget=10, grid=grid
    )
    judged = net_rate(scoring.evaluate(grid[1]))
    assert found["reference_rate"] >= judged
    assert found["grid_rate"] == judged
    for method in ("agent", "random"):
        assert 0 <= found[method]["regret_10"] <= found[method]["regret_5"] + 0.2
        assert found[method]["rate_10"] <= found["reference_rate"]
    assert found["paired"]["random"]["p_mcnemar_holm"] <= 1
    assert found["n_scoring_frames"] == 80
