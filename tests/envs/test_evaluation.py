import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from envs.evaluation import Evaluation, FrameOutcome, wilson_interval
from wrappers.schema import read_json_text
from wrappers.settings import Settings


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counts):
    k, n = counts
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def evaluation(**changes: object) -> Evaluation:
    outcomes = (
        FrameOutcome(3, 40, True, 2),
        FrameOutcome(5, 30, True, 0),
        FrameOutcome(8, 2, False, 0),
        FrameOutcome(9, 0, False, 0, "frame 9 cannot be read"),
    )
    return Evaluation(Settings(), outcomes, **changes)  # type: ignore[arg-type]


def test_the_rate_counts_frames_not_lattices_and_unreadable_frames_too():
    assert evaluation().rate == 1 / 4
    assert evaluation().n_hits == 2
    assert evaluation().n_failed == 1
    assert evaluation().indexed_frames == {3}


def test_the_false_rate_scales_the_decoys_up_to_all_hits():
    assert evaluation(n_decoys=20, n_decoys_indexed=3).false_rate == pytest.approx(0.15 * 2 / 4)
    assert math.isnan(evaluation().false_rate)


def test_an_evaluation_survives_json():
    before = evaluation(n_decoys=4, residual=1.25, refined={"clen": (0.08, 1e-5)})
    after = read_json_text(json.dumps(before.as_dict()), Evaluation, "x", "y")
    assert after.outcomes == before.outcomes
    assert after.settings == before.settings
    assert (after.residual, after.refined) == (1.25, {"clen": (0.08, 1e-5)})
    assert math.isnan(after.scale_deviation)


def test_frames_without_an_answer_widen_the_interval_upwards():
    def outcomes(failed: int) -> tuple[FrameOutcome, ...]:
        return tuple(
            FrameOutcome(i, 20, True, int(i < 40), "out of time" if i >= 100 - failed else "")
            for i in range(100)
        )

    whole, partly = (Evaluation(Settings(), outcomes(failed)) for failed in (0, 30))
    assert partly.rate == whole.rate
    assert partly.ci95[0] == whole.ci95[0]
    assert partly.ci95[1] == wilson_interval(70, 100)[1]
