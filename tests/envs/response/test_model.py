"""The response model: paired, reproducible, and failing where real peak finding fails."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm, poisson

from envs.evaluation import Evaluator
from envs.evaluators.response import ResponseEvaluator
from envs.response.coefficients import Coefficients
from envs.response.columns import FRAME_COEFFICIENTS, LIMIT_COEFFICIENTS
from envs.response.limits import MOST_IN_A_PEAK, _tail, mixture_quantiles
from envs.response.model import ResponseModel
from envs.response.simulated_pool import spaces_of
from envs.simulation.families import draw_experiments
from wrappers.settings import Settings

N = 60


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    return ResponseModel(draw_experiments("test", N, seed=11))


def settings_of(model, *, snr=5.0, place=0.3, pixels=2, offset=0.0, mask=8.0):
    """Return settings at a place of the threshold's range and an error of the camera length."""
    known = model.known
    low = np.maximum(np.maximum(known["median"], known["bright"] / 20), 1e-3)
    high = np.maximum(30 * known["bright"], 10 * low)
    return {
        "min_snr": np.full(len(model), snr),
        "threshold": low * (high / low) ** place,
        "min_pix_count": np.full(len(model), pixels),
        "clen": model.true_clen * (1 + offset),
        "mask_hot_sigma": np.full(len(model), mask),
    }


def test_counts_add_up(model) -> None:
    responses = model.evaluate(settings_of(model), np.full(N, 80))
    assert (responses.n_frames == 80).all()
    assert (responses.n_indexed <= responses.n_hits).all() and (responses.n_hits <= 80).all()
    assert (responses.n_decoys == np.minimum(responses.n_hits, 50)).all()
    assert (responses.n_decoys_indexed <= responses.n_decoys).all()
    assert (np.isnan(responses.median_peaks) == (responses.n_hits == 0)).all()
    assert np.isnan(responses.explained[responses.n_indexed == 0]).all()
    assert (responses.median_peaks[responses.n_hits > 0] >= 10).all()
    assert (responses.seconds > 0).all()


def test_equal_questions_get_equal_answers(model) -> None:
    again = ResponseModel(draw_experiments("test", N, seed=11))
    one, other = (m.evaluate(settings_of(m, snr=4)) for m in (model, again))
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


def test_an_experiment_answers_the_same_alone_or_in_a_batch(model) -> None:
    rows = np.array([7, 3, 3])
    batch, part = model.evaluate(settings_of(model)), model.take(rows)
    responses = part.evaluate(settings_of(part))
    for name, values in vars(responses).items():
        np.testing.assert_array_equal(values, getattr(batch, name)[rows], err_msg=name)
    np.testing.assert_array_equal(part.known["bright"], model.known["bright"][rows])


def test_settings_see_the_same_frames(model) -> None:
    """Frames are common: nearly equal settings differ in few of them, other samples in many."""
    base = model.outcomes(settings_of(model, place=0.30), 100)[1][..., 2]
    close = model.outcomes(settings_of(model, place=0.31), 100)[1][..., 2]
    other = model.outcomes(settings_of(model, place=0.30), 100, draws=1)[1][..., 2]
    assert (base != close).mean() < 0.2 * (base != other).mean()


def test_fewer_frames_are_the_first_of_more(model) -> None:
    few = model.outcomes(settings_of(model), 30)[1]
    more = model.outcomes(settings_of(model), 90)[1]
    np.testing.assert_array_equal(few, more[:, :30])


def test_rates_approach_the_true_rate(model) -> None:
    responses = model.evaluate(settings_of(model), 4000)
    # what chance indexes is not part of the true rate
    assert np.abs(responses.n_indexed / 4000 - responses.true_rate).max() < 0.06
    assert np.abs(responses.n_hits / 4000 - responses.true_hit_rate).max() < 0.06
    assert abs(np.mean(responses.n_indexed / 4000 - responses.true_rate)) < 0.01


def test_low_limits_flood(model) -> None:
    """Noise passes for peaks: frames become hits that are not indexed, and cost time."""
    good, low = (
        model.evaluate(settings_of(model, **kind))
        for kind in ({}, {"snr": 3, "place": 0, "pixels": 1})
    )
    assert np.mean(low.true_hit_rate > 0.95) > 0.8
    assert np.median(low.median_peaks) > 5 * np.nanmedian(good.median_peaks)
    not_indexed = (low.n_hits - low.n_indexed) - (good.n_hits - good.n_indexed)
    assert np.median(not_indexed) > 20
    assert np.median(low.seconds / good.seconds) > 1.5


def test_a_strict_indexer_finds_nothing_in_floods_and_pays_for_it() -> None:
    draws = draw_experiments("test", N, seed=11)
    strict, lenient = (
        ResponseModel([dataclasses.replace(d, strictness=s, clen_tolerance=0.08) for d in draws])
        for s in (1.0, 0.0)
    )
    flood = {"snr": 3, "place": 0, "pixels": 1}
    one, other = (m.evaluate(settings_of(m, **flood)) for m in (strict, lenient))
    assert one.true_rate.sum() < 0.3 * other.true_rate.sum()
    clean = strict.evaluate(settings_of(strict))
    assert np.median(one.seconds / np.maximum(clean.seconds, 1e-9)) > 5
    assert clean.true_rate.sum() > 3 * one.true_rate.sum()


def test_high_thresholds_find_nothing(model) -> None:
    rates = [model.evaluate(settings_of(model, place=p)).true_hit_rate for p in (0.3, 0.6, 0.8, 1)]
    for before, after in pairwise(rates):
        assert (after <= before + 1e-9).all()
    assert np.median(rates[-1]) < 0.1 * np.median(rates[0])


@pytest.mark.parametrize("place", [0.0, 0.3])
def test_more_pixels_and_more_snr_mean_fewer_peaks(model, place) -> None:
    for kind in ("pixels", "snr"):
        hits = [
            model.evaluate(settings_of(model, place=place, **{kind: value})).true_hit_rate
            for value in ((1, 2, 3, 4) if kind == "pixels" else (4, 5.5, 7, 9))
        ]
        for before, after in pairwise(hits):
            assert (after <= before + 1e-9).all()


def test_masking_hot_pixels_removes_their_peaks() -> None:
    draws = draw_experiments("test", N, seed=12)
    bad = dataclasses.replace(draws[0].experiment.bad_pixels, hot=2e-4, masked=0.0)
    draws = [
        dataclasses.replace(d, experiment=dataclasses.replace(d.experiment, bad_pixels=bad))
        for d in draws
    ]
    model = ResponseModel(draws)
    blank = {"snr": 7, "place": 0.45, "pixels": 1}
    bare, masked = (
        model.evaluate(settings_of(model, mask=mask, **blank)).true_hit_rate for mask in (0.0, 8.0)
    )
    assert (masked <= bare + 1e-9).all()
    assert np.median(bare) > 0.9 and np.median(masked) < 0.7


def test_the_rate_is_flat_in_clen_and_falls_beyond_the_tolerance() -> None:
    draws = [dataclasses.replace(d, clen_tolerance=0.03) for d in draw_experiments("test", N, 13)]
    model = ResponseModel(draws)
    middle, near, edge, far = (
        model.evaluate(settings_of(model, offset=x)).true_rate.sum() for x in (0, 0.015, 0.03, 0.05)
    )
    assert near > 0.98 * middle
    assert edge == pytest.approx(0.5 * middle, rel=0.01)
    assert far < 0.1 * middle


def test_lattices_tell_the_camera_length(model) -> None:
    settings = settings_of(model, offset=-0.01)
    responses = model.evaluate(settings, 200)
    enough = responses.n_indexed >= 10
    assert enough.sum() > 20
    assert np.median(responses.scale_deviation[enough]) == pytest.approx(-0.01, abs=0.002)
    off = responses.refined_clen[enough] / model.true_clen[enough] - 1
    assert np.median(np.abs(off)) < 1e-3
    errors = off * model.true_clen[enough] / responses.refined_clen_se[enough]
    assert 0.4 < np.median(np.abs(errors)) / norm.ppf(0.75) < 2.5


def test_best_is_not_beaten_by_chance_settings(model) -> None:
    rates, settings = model.best(spaces_of(model))
    at_best = model.evaluate(settings, 0).true_rate
    np.testing.assert_allclose(at_best, rates)
    rng = np.random.default_rng(0)
    for _ in range(60):
        tried = settings_of(model, snr=rng.uniform(3, 9), place=rng.uniform(),
                            pixels=rng.integers(1, 5))  # fmt: skip
        assert (model.evaluate(tried, 0).true_rate <= rates + 0.03).all()


def test_hidden_state_is_not_among_what_is_known(model) -> None:
    assert set(model.known) == {
        "photon_energy", "median", "bright", "clen0", "kind", "pixel_size", "radius", "n_pixels",
    }  # fmt: skip
    off = model.known["clen0"] / model.true_clen - 1
    assert np.abs(off).max() < 0.03 and np.ptp(off) > 0.03


def test_an_evaluator_says_what_the_model_says(model) -> None:
    known = model.known
    for row in (0, 5, 9):
        one = model.take([row])
        evaluator: Evaluator = ResponseEvaluator(one, n_frames=70, draw=2)
        settings = Settings(
            min_snr=4.5, threshold=float(max(known["bright"][row], 0.1)), min_pix_count=2,
            clen=float(known["clen0"][row]), mask_hot_sigma=8,
        )  # fmt: skip
        evaluation = evaluator.evaluate(settings)
        batch = one.evaluate(
            {name: getattr(settings, name) for name in
             ("min_snr", "threshold", "min_pix_count", "clen", "mask_hot_sigma")}, 70, 2,
        )  # fmt: skip
        for name in ("n_frames", "n_hits", "n_indexed", "n_decoys", "n_decoys_indexed"):
            assert getattr(evaluation, name) == getattr(batch, name)[0]
        for name in ("explained", "residual", "scale_deviation"):
            np.testing.assert_equal(getattr(evaluation, name), getattr(batch, name)[0])
        peaks = [outcome.n_peaks for outcome in evaluation.outcomes if outcome.hit]
        if peaks:
            assert np.median(peaks) == batch.median_peaks[0]
        assert evaluator.truth(settings) == batch.true_rate[0]
        part = evaluator.evaluate(settings, 20)
        assert part.outcomes == evaluation.outcomes[:20]


def test_an_evaluator_is_of_one_experiment(model) -> None:
    with pytest.raises(ValueError, match="one experiment"):
        ResponseEvaluator(model)


def test_pixels_exceed_limits_as_often_as_they_do() -> None:
    """Against the distribution itself: Poisson photons, with or without Gaussian noise."""
    for b in (0.01, 0.3, 2.0, 20.0, 150.0):
        for limit in (0.5, 1.2, b + 3 * math.sqrt(b), b + 6 * math.sqrt(b)):
            assert _tail(b, 0.0, limit) == pytest.approx(poisson.sf(limit, b), rel=0.1, abs=1e-12)
            for noise in (0.1, 0.5, 3.0):
                n = np.arange(poisson.isf(1e-16, b) + 5)
                exact = poisson.pmf(n, b) @ norm.sf((limit - n) / noise)
                assert _tail(b, noise, limit) == pytest.approx(exact, rel=0.1, abs=1e-12)


def test_quantiles_of_a_mixture() -> None:
    found = mixture_quantiles(np.array([100.0]), 2.0, np.array([5.0]), np.array([0.5, 1e-3]))
    assert found[0] == pytest.approx(100, abs=1)
    assert found[1] == pytest.approx(100 + 3.09 * math.sqrt(104), abs=2.5)


def test_every_coefficient_has_its_place() -> None:
    names = {field.name for field in dataclasses.fields(Coefficients)}
    assert names == set(LIMIT_COEFFICIENTS) | set(FRAME_COEFFICIENTS)
    assert all(math.isfinite(value) for value in dataclasses.asdict(Coefficients.load()).values())


def test_the_kernel_has_the_base_settings_built_in(model) -> None:
    for space in spaces_of(model):
        assert space.base.max_pix_count == MOST_IN_A_PEAK
