import numpy as np
import pytest

from tuner.comparison.frames import compare_on_frames, run_figures
from tuner.comparison.statistics import compare_family, net_rate


def test_on_frames_recommendations_are_scored_on_frames_that_no_method_saw(
    make_landscape, space, policy
):
    tuning, scoring = make_landscape(frames=80), make_landscape(frames=80, first=1000)
    grid = [space.base, space.base.replace(threshold=40, min_snr=4.3, clen=0.08)]
    scored = compare_on_frames(
        tuning, scoring, space, policy, ["ppo", "random"], budget=10, grid=grid
    )
    best = net_rate(scoring.evaluate(grid[1]))
    assert scored.reference >= scored.grid == best
    for method in ("ppo", "random"):
        assert (scored.rate[method] <= scored.reference).all()
        np.testing.assert_allclose(
            scored.regret[method], 1 - scored.rate[method] / scored.reference, atol=1e-12
        )
        assert net_rate(scored.endpoint[method]) == scored.rate[method][9]
        assert {o.frame for o in scored.endpoint[method].outcomes} == set(range(1000, 1080))
    assert scored.n_tuning_frames == 80


def test_a_runs_figures_have_the_keys_of_a_familys_with_the_same_meaning(
    make_landscape, space, policy
):
    parts = [make_landscape(frames=40), make_landscape(frames=40, first=1000)]
    methods = ["ppo", "warm-gp", "defaults"]
    splits = [
        compare_on_frames(*pair, space, policy, methods, budget=12, seed=seed)
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
    low, high = found["defaults_minus_ppo_10_ci95"]
    assert 0 < low < pair["difference"] < high
    assert found["n_scoring_frames"] == 80
    assert "grid_rate" not in found
