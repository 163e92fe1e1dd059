import pytest

from tuner.comparison.tables import compare_tables


def test_on_recorded_tables_the_same_is_measured(policy):
    seen = []
    found = compare_tables(
        policy, ["static", "defaults"], budget=2, n_seeds=1,
        on_progress=lambda what, done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(n, len(seen)) for n in range(len(seen))]
    assert found["static"]["regret"].shape == (len(seen), 1, 2)
    assert (found["static"]["regret"] <= found["defaults"]["regret"]).mean() > 0.5
    compare_tables(policy, ["static", "defaults"], budget=2, n_seeds=1, results=found,
                   on_progress=lambda *told: pytest.fail("nothing was left to do"))  # fmt: skip
