from experiments.strata import KINDS, study


def test_strata_are_unbiased_cover_and_are_worth_ten_times_the_frames():
    """A hundred runs of the study's five hundred, at 1 % hits."""
    kind = next(kind for kind in KINDS if kind.name == "1 % hits")
    found = study(kind, 100, 200, lambda done: None)
    assert abs(found["error"]) < 3 * found["error_se"]
    assert abs(found["gain_error"]) < 3 * found["gain_error_se"]
    assert found["coverage_95"] >= 0.88  # three standard errors of 100 runs below 95 %
    assert found["worth"] > 10 * 200
    assert found["n_indexed"] > 5 * found["n_indexed_random"]
