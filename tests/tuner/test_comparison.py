from dataclasses import replace

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.parameter_space import DEFAULT_TUNED
from envs.simulated_pool import SimulatedPool
from tuner.comparison import (
    Benchmark,
    Family,
    compare_simulated,
    fingerprint,
    run_method,
    undone,
)
from tuner.comparison_live import compare_on_frames, run_figures
from tuner.comparison_methods import METHODS, Kit
from tuner.comparison_pictures import draw_pictures, draw_run_pictures
from tuner.comparison_statistics import (
    bootstrap,
    compare_family,
    holm,
    interquartile_mean,
    net_rate,
    paired_by_frame,
    probability_of_improvement,
)
from tuner.comparison_tables import compare_tables
from tuner.policy import Policy
from tuner.statistics import paired_difference
from tuner.warm_start import WarmStart, portfolio, score_points
from wrappers.errors import InputError, ProgramError
from wrappers.settings import Settings


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


def test_figures_of_a_short_budget_say_after_how_many_evaluations_they_are():
    rng = np.random.default_rng(4)
    regrets = {name: rng.uniform(0, 1, (8, 2, 6)) for name in ("agent", "warm_gp")}
    found = compare_family(regrets)
    assert found["evaluations"] == found["paired_after"] == 6
    assert found["agent"]["regret_6"] == pytest.approx(regrets["agent"][:, :, 5].mean())
    assert "regret_10" not in found["agent"]
    assert found["agent"]["auc"] == pytest.approx(1 - regrets["agent"].mean())
    low, high = found["warm_gp_minus_agent_6_ci95"]
    assert low < (regrets["warm_gp"] - regrets["agent"])[:, :, 5].mean() < high


def outcome(indexed: np.ndarray, first: int = 0) -> Evaluation:
    outcomes = (FrameOutcome(first + i, 20, True, int(x)) for i, x in enumerate(indexed))
    return Evaluation(Settings(), tuple(outcomes))


def test_halves_that_change_places_count_like_one_sample_of_all_frames():
    ours, theirs = (np.random.default_rng(seed).random(60) < 0.6 for seed in (0, 1))
    whole = paired_difference(outcome(ours), outcome(theirs))
    halves = [
        [outcome(indexed[:30]), outcome(indexed[30:], first=30)] for indexed in (ours, theirs)
    ]
    found = paired_by_frame(*halves, references=[0.8, 0.8])
    assert found["rate_difference"] == pytest.approx(whole.difference)
    assert found["rate_ci95"] == pytest.approx(whole.ci95)
    assert found["ci95"] == pytest.approx([end / 0.8 for end in whole.ci95])
    assert found["difference"] == pytest.approx(whole.difference / 0.8)
    assert (found["gained"], found["lost"]) == (whole.gained, whole.lost)
    assert found["p_sign"] == pytest.approx(whole.p_value)


def test_judging_the_same_frames_again_does_not_narrow_the_interval():
    ours, theirs = (outcome(np.random.default_rng(seed).random(40) < 0.6) for seed in (0, 1))
    once = paired_by_frame([ours], [theirs], [1.0])
    often = paired_by_frame([ours] * 5, [theirs] * 5, [1.0] * 5)
    for what, value in once.items():
        assert often[what] == pytest.approx(value)


def test_where_nothing_is_indexed_the_difference_may_be_anything():
    nothing = outcome(np.zeros(10))
    found = paired_by_frame([nothing], [nothing], [0.0])
    assert found["difference"] == 0
    assert found["ci95"] == [-1, 1]


def test_what_chance_indexes_does_not_count_in_a_difference():
    honest = outcome(np.arange(40) < 20)
    lucky = replace(outcome(np.arange(40) < 30), n_decoys=20, n_decoys_indexed=5)
    assert paired_by_frame([honest], [lucky], [1.0])["rate_difference"] == pytest.approx(0)


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


def test_an_interrupted_benchmark_goes_on_where_it_was(kit):
    methods = ["static", "random"]
    results = {}

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_simulated(small(), kit, methods, results=results, on_progress=interrupt)
    assert len(undone(results["validation"])) == 3
    results["validation"]["static"]["regret"][0, 0] = 0.125  # must not be done again
    told = []
    compare_simulated(small(), kit, methods, results=results, on_progress=told.append)
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


def test_pictures_of_runs_are_those_that_make_sense(tmp_path, make_landscape, space, kit):
    def drawn(folder, n_splits):
        splits = [
            compare_on_frames(
                make_landscape(frames=20), make_landscape(frames=20, first=100 + split),
                space, kit, ["agent", "warm_gp"], budget=3, seed=split,
            )
            for split in range(n_splits)
        ]  # fmt: skip
        arrays = {
            method: {
                "rate": np.array([[split.rate[method] for split in splits]]),
                "regret": np.array([[split.regret[method] for split in splits]]),
            }
            for method in ("agent", "warm_gp")
        }
        folder.mkdir()
        paths = draw_run_pictures({"run": arrays}, {"run": run_figures(splits)}, folder)
        assert all(path.stat().st_size > 5000 for path in paths)
        return [path.name for path in paths]

    assert drawn(tmp_path / "two", 2) == ["run_anytime.png", "run_forest.png"]
    assert drawn(tmp_path / "three", 3) == [
        "run_anytime.png", "run_forest.png", "run_paired.png",
    ]  # fmt: skip


# on frames


def test_on_frames_recommendations_are_judged_on_frames_that_no_method_saw(
    make_landscape, space, kit
):
    tuning, scoring = make_landscape(frames=80), make_landscape(frames=80, first=1000)
    grid = [space.base, space.base.replace(threshold=40, min_snr=4.3, clen=0.08)]
    judged = compare_on_frames(
        tuning, scoring, space, kit, ["agent", "random"], budget=10, grid=grid
    )
    best = net_rate(scoring.evaluate(grid[1]))
    assert judged.reference >= judged.grid == best
    for method in ("agent", "random"):
        assert (judged.rate[method] <= judged.reference).all()
        np.testing.assert_allclose(
            judged.regret[method], 1 - judged.rate[method] / judged.reference, atol=1e-12
        )
        assert net_rate(judged.endpoint[method]) == judged.rate[method][9]
        assert {o.frame for o in judged.endpoint[method].outcomes} == set(range(1000, 1080))
    assert judged.n_tuning_frames == 80


def test_a_runs_figures_have_the_keys_of_a_familys_with_the_same_meaning(
    make_landscape, space, kit
):
    parts = [make_landscape(frames=40), make_landscape(frames=40, first=1000)]
    methods = ["agent", "warm_gp", "defaults"]
    splits = [
        compare_on_frames(*pair, space, kit, methods, budget=12, seed=seed)
        for seed, pair in enumerate((parts, parts[::-1]))
    ]
    found = run_figures(splits)
    arrays = {m: np.array([[split.regret[m] for split in splits]]) for m in methods}
    family = compare_family(arrays)
    for method in methods:
        for key in ("regret_5", "regret_10", "regret_12", "auc"):
            assert found[method][key] == family[method][key]
    for key in ("n_tasks", "n_seeds", "evaluations", "paired_after"):
        assert found[key] == family[key]
    pair = found["paired"]["defaults"]
    assert pair["difference"] == pytest.approx(family["paired"]["defaults"]["difference"])
    low, high = found["defaults_minus_agent_10_ci95"]
    assert 0 < low < pair["difference"] < high
    assert found["n_scoring_frames"] == 80
    assert "grid_rate" not in found


def test_on_recorded_tables_the_same_is_measured(kit):
    seen = []
    found = compare_tables(
        kit, ["static", "defaults"], budget=2, n_seeds=1,
        on_progress=lambda what, done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(n, len(seen)) for n in range(len(seen))]
    assert found["static"]["regret"].shape == (len(seen), 1, 2)
    assert (found["static"]["regret"] <= found["defaults"]["regret"]).mean() > 0.5
    compare_tables(kit, ["static", "defaults"], budget=2, n_seeds=1, results=found,
                   on_progress=lambda *told: pytest.fail("nothing was left to do"))  # fmt: skip
