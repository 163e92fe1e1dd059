import numpy as np
import pytest

from tuner.comparison.frames import compare_on_frames, run_figures
from tuner.comparison.statistics import net_rate


def test_on_frames_recommendations_are_scored_on_frames_that_no_method_saw(halves):
    tuning, scoring = halves
    methods = ["map-agent", "random"]
    scored = compare_on_frames(tuning, scoring, tuning.space, None, methods, budget=10)
    assert scored.reference == max(scored.rate[method].max() for method in methods)
    for method in methods:
        np.testing.assert_allclose(
            scored.regret[method], 1 - scored.rate[method] / scored.reference, atol=1e-12
        )
        endpoint = scored.endpoint[method]
        assert net_rate(endpoint) == scored.rate[method][9]
        again = scoring.evaluate(endpoint.settings)
        assert endpoint.outcomes == again.outcomes != tuning.evaluate(endpoint.settings).outcomes
    assert scored.n_tuning_frames == 30


def test_a_runs_figures_are_those_of_its_splits(splits):
    pair = splits[:2]
    found = run_figures(pair)
    for method in ("map-agent", "warm-gp", "defaults"):
        regrets = np.array([split.regret[method] for split in pair])
        for n in (5, 10, 12):
            assert found[method][f"regret_{n}"] == pytest.approx(regrets[:, n - 1].mean())
        assert found[method]["auc"] == pytest.approx(1 - regrets.mean())
    assert found["n_tasks"] == 1 and found["n_seeds"] == 2
    assert (found["evaluations"], found["paired_after"]) == (12, 10)
    references = np.mean([split.reference for split in pair])
    lead = found["map-agent"]["rate_10"] - found["defaults"]["rate_10"]
    told = found["paired"]["defaults"]
    assert told["rate_difference"] == pytest.approx(lead)
    assert told["difference"] == pytest.approx(lead / references, rel=0.1)
    low, high = found["defaults_minus_map-agent_10_ci95"]
    assert 0 < low < told["difference"] < high
    assert found["n_scoring_frames"] == 60
