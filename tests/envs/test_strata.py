import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from envs.evaluation import Evaluation, FrameOutcome, wilson_interval
from envs.objective import USUAL_MERIT
from envs.strata import (
    POOR,
    allocate,
    draw,
    promise,
    share_standing_out,
    shares,
    strata_by_promise,
    weights,
)
from tuner.statistics import chance_of_less, paired_difference
from wrappers.errors import InputError
from wrappers.schema import read_json_text
from wrappers.settings import Settings

SCORES = st.lists(st.floats(-5, 200) | st.just(float("nan")), min_size=30, max_size=400)


def counts_of(n_blank: int, n_hits: int, seed: int = 0) -> np.ndarray:
    """Peaks with a strict, a usual and a noisy set: a hit has 30 of its own with each."""
    generator = np.random.default_rng(seed)
    own = np.repeat([0, 30], [n_blank, n_hits])
    floors = np.array([0.5, 4.0, 900.0])
    return generator.poisson(floors, (n_blank + n_hits, 3)) + own[:, None]


def test_hits_stand_out_and_blank_frames_do_not_however_noisy_a_set_is():
    counts = counts_of(990, 10)
    score = promise(counts)
    assert score[990:].min() > 9
    assert np.mean(score[:990] < 3) > 0.9
    assert np.mean(score[:990] < 6) > 0.995
    assert share_standing_out(counts, [True, True, False]) < POOR


def test_a_run_of_which_every_frame_is_a_hit_does_not_look_blank():
    generator = np.random.default_rng(1)
    peaks = generator.lognormal(3.5, 0.6, (500, 1)).astype(int)
    assert share_standing_out(np.hstack([peaks, peaks + 10]), [True, True]) > POOR


@given(SCORES, st.integers(1, 120), st.integers(0, 99))
def test_every_frame_has_one_stratum_and_no_frame_is_drawn_twice(scores, n, seed):
    strata = strata_by_promise(range(100, 100 + len(scores)), scores)
    assert sorted(frame for each in strata.frames for frame in each) == [
        *range(100, 100 + len(scores))
    ]
    sample, fresh = draw(strata, n, seed)
    assert not {*sample.frames} & {*fresh.frames}
    assert len({*sample.frames}) == len(sample.frames) <= n
    if n >= 8 * len(strata.frames):
        assert {*sample.strata} == {*range(len(strata.frames))}
    for drawn in (sample, fresh):
        for frame, stratum in zip(drawn.frames, drawn.strata, strict=True):
            assert frame in strata.frames[stratum]


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0.02, 0.5)), min_size=1, max_size=5),
)
def test_an_allocation_is_as_large_as_asked_or_available(n, strata):
    sizes, spreads = zip(*strata, strict=True)
    half = [(size + 1) // 2 for size in sizes]
    found = allocate(n, sizes, half, spreads)
    assert sum(found) == min(n, sum(half))
    assert all(0 <= each <= most for each, most in zip(found, half, strict=True))


def test_a_sample_of_a_poor_run_holds_half_of_the_promising_frames_and_the_blank_ones_have_a_say():
    score = np.repeat([0.0, 30.0], [3960, 40])
    sample, fresh = draw(strata_by_promise(range(4000), score), 200, seed=3)
    for drawn in (sample, fresh):
        assert np.bincount(drawn.strata).tolist() == [180, 20]
    assert draw(strata_by_promise(range(4000), score), 200, seed=3) == (sample, fresh)
    assert draw(strata_by_promise(range(4000), score), 200, seed=4)[0] != sample


@pytest.mark.parametrize("end", [25, 50, 100, 200])
def test_every_beginning_of_a_sample_is_a_stratified_sample(end):
    score = np.repeat([0.0, 4.0, 8.0, 30.0], [3000, 400, 300, 300])
    sample, _ = draw(strata_by_promise(range(4000), score), 200, seed=0)
    whole, part = np.bincount(sample.strata), np.bincount(sample.strata[:end], minlength=4)
    assert np.abs(part - whole * end / 200).max() <= 1
    assert part.min() >= 1


def evaluation(indexed, strata=None, sizes=(), hits=None, **changes):
    n = len(indexed)
    outcomes = tuple(
        FrameOutcome(
            i, 20, bool(hits[i] if hits is not None else indexed[i]), int(indexed[i]),
            stratum=0 if strata is None else int(strata[i]),
        )
        for i in range(n)
    )  # fmt: skip
    return Evaluation(Settings(), outcomes, stratum_sizes=tuple(sizes), **changes)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_one_stratum_gives_exactly_the_figures_of_a_random_sample(frames):
    first, second = np.array(frames).T
    n = len(frames)
    plain, weighted = (
        [evaluation(each, sizes=sizes, n_decoys=7, n_decoys_indexed=2) for each in (first, second)]
        for sizes in ((), (20 * n,))
    )
    for before, after in zip(plain, weighted, strict=True):
        assert after.rate == pytest.approx(before.rate, abs=1e-12)
        assert after.ci95 == pytest.approx(before.ci95, abs=1e-12)
        assert after.false_rate == pytest.approx(before.false_rate, nan_ok=True, abs=1e-12)
        assert USUAL_MERIT(after) == pytest.approx(USUAL_MERIT(before), abs=1e-12)
    before, after = paired_difference(*plain), paired_difference(*weighted)
    assert after.ci95 == pytest.approx(before.ci95, abs=1e-12)
    assert after.p_value == pytest.approx(before.p_value, abs=1e-12)


@given(st.lists(st.booleans(), min_size=12, max_size=200))
def test_strata_drawn_alike_leave_the_rate_as_it_was(indexed):
    strata = np.arange(len(indexed)) % 4
    sizes = 20 * np.bincount(strata)
    assert evaluation(indexed, strata, sizes).rate == pytest.approx(np.mean(indexed))


def test_a_rate_is_weighted_by_what_each_frame_stands_for():
    # 1 in 100 of the blank-looking 3,900 frames and half of the promising 100.
    indexed = [True] + [False] * 99 + [True] * 25 + [False] * 25
    found = evaluation(indexed, [0] * 100 + [1] * 50, (3900, 100))
    assert found.n_indexed == 26
    assert found.rate == pytest.approx((39 + 50) / 4000)
    assert found.false_rate != 0
    assert weights(found.strata, found.stratum_sizes).mean() == pytest.approx(1)


def test_a_stratum_of_which_nothing_was_drawn_goes_with_its_neighbour():
    assert weights([0, 0, 2], (10, 20, 30)).tolist() == pytest.approx([0.75, 0.75, 1.5])
    assert weights([1, 1], (10, 20)).tolist() == [1, 1]


def test_nothing_indexed_says_no_more_than_the_blank_frames_do():
    seen = shares([False] * 200, [0] * 160 + [1] * 40, (3960, 40))
    assert 140 < seen.n_effective < 210
    assert wilson_interval(0, seen.n_effective)[1] > 0.015


@given(st.integers(0, 40), st.integers(0, 40))
def test_equal_coins_are_mcnemars_exact_test(won, lost):
    first = evaluation([True] * won + [False] * lost + [False] * 9)
    second = evaluation([False] * won + [True] * lost + [False] * 9)
    less = binomtest(won, won + lost, alternative="less").pvalue if won + lost else 1.0
    assert chance_of_less(first, second) == pytest.approx(less)


def test_coins_count_for_what_their_frames_stand_for():
    # Nine promising frames are won, one blank-looking one lost that stands for far more.
    strata, sizes = [0] * 50 + [1] * 50, (4900, 100)
    first = [False] * 50 + [True] * 9 + [False] * 41
    second = [True] + [False] * 99
    a, b = (evaluation(each, strata, sizes) for each in (first, second))
    assert chance_of_less(a, b) == pytest.approx(0.5)
    assert paired_difference(a, b).difference < 0
    assert not paired_difference(a, b).clear


def test_a_stratum_that_cannot_be_is_a_damaged_record():
    good = evaluation([True, False], [0, 1], (10, 10)).as_dict()
    again = read_json_text(json.dumps(good), Evaluation, "x", "y")
    assert (again.rate, again.strata, again.stratum_sizes) == (0.5, [0, 1], (10, 10))
    for sizes in ([10], [10, 0]):
        with pytest.raises(InputError, match="strat"):
            read_json_text(json.dumps({**good, "stratum_sizes": sizes}), Evaluation, "x", "y")
