"""The response map on a run whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from envs.look import FrameLook, look_design
from envs.response_map.features import BLANK, floor_of
from envs.response_map.model import SHIPPED_MODEL, MapModel
from envs.response_map.session_map import Forecast, ResponseMap
from envs.simulation.families import FAMILIES
from experiments.fit_response_map import fit_model, read_looks
from experiments.response_map import LOOKS, follow, indexed_by_crystfel, recorded
from wrappers.errors import InputError
from wrappers.settings import Settings


@pytest.fixture(scope="module")
def model() -> MapModel:
    return MapModel.shipped()


def test_it_predicts_experiments_that_no_fit_saw(model: MapModel) -> None:
    """Before anything is indexed it ranks; after one evaluation it chooses within two points."""
    runs = [recorded(look) for look in read_looks(LOOKS, "test").values()][:6]
    predicted = [follow(run, model) for run in runs]

    def mean(n: int, what: str) -> float:
        return float(np.mean([each[n].figures()[what] for each in predicted]))

    assert mean(0, "rank_correlation") > 0.85
    assert mean(1, "rmse") < 0.03
    assert mean(3, "regret") < 0.02
    assert mean(1, "coverage_95") > 0.9


def test_what_crystfel_makes_of_noisy_lists_it_has_learnt_from_crystfel(model: MapModel) -> None:
    """Of experiments that no fit saw; the embedded indexer's priors expect too much there."""
    error: dict[str, list[float]] = {"fast": [], "crystfel": []}
    for run in indexed_by_crystfel(LOOKS, "test").values():
        for indexer, found in error.items():
            found.append(follow(replace(run, indexer=indexer), model)[0].figures()["rmse"])
    assert len(error["crystfel"]) >= 4
    assert np.mean(error["crystfel"]) < 0.8 * np.mean(error["fast"])


def test_the_model_was_fitted_to_the_train_family_alone(model: MapModel) -> None:
    assert model.provenance["family"] == "train" == FAMILIES[0]
    names = {path.stem.rsplit("_", 1)[0] for path in LOOKS.glob("*.npz")}
    assert names == {"train", "test", "shifted"}
    crystfel = read_looks(LOOKS / "crystfel", "train")
    assert model.provenance["crystfel_experiments"] == len(crystfel)
    train = read_looks(LOOKS, "train")
    assert model.provenance["experiments"] == sum(look["indexed"].any() for look in train.values())
    others = {**read_looks(LOOKS, "test"), **read_looks(LOOKS, "shifted")}
    for name, look in others.items():
        same = [t for t, other in train.items() if np.array_equal(other["counts"], look["counts"])]
        assert not same, f"{name} is {same}"


@pytest.mark.slow
def test_the_shipped_model_is_what_the_recorded_looks_give(model: MapModel) -> None:
    again = fit_model(read_looks(LOOKS, "train"), read_looks(LOOKS / "crystfel", "train"))
    for indexer, priors in model.priors.items():
        found = again.priors[indexer]
        assert np.allclose(found.counts.mean, priors.counts.mean, atol=1e-6)
        assert np.allclose(found.lattices.covariance, priors.lattices.covariance, atol=1e-6)


def _look(counts: np.ndarray) -> FrameLook:
    sets = tuple(
        Settings(min_snr=snr, threshold=10.0, min_pix_count=pixels)
        for snr in (3.0, 4.9, 8.0)
        for pixels in (1, 2)
    )
    return FrameLook(sets, tuple(range(10, 10 + len(counts))), counts.astype(np.uint16), {})


def test_what_was_measured_takes_the_place_of_what_was_predicted(model: MapModel) -> None:
    rng = np.random.default_rng(1)
    response = ResponseMap(_look(rng.integers(0, 90, (30, 6))), 2e5, model)
    indexed = rng.random(30) < 0.5
    indexed &= response.look.counts[:, 2] >= 10
    response.learn_outcomes(2, range(10, 40), indexed)
    forecast = response.forecast()
    assert forecast.mean[2] == pytest.approx(indexed.mean())
    assert forecast.sd[2] == pytest.approx(0, abs=1e-9)
    assert (forecast.sd[[0, 1, 3, 4, 5]] > 0).all()


def test_a_frame_that_is_no_hit_is_not_indexed(model: MapModel) -> None:
    counts = np.full((20, 6), 200)
    counts[:5] = 9
    forecast = ResponseMap(_look(counts), 2e5, model).forecast()
    assert (forecast.frames[:5] == 0).all()
    assert forecast.hits == pytest.approx(0.75)


def test_frames_weigh_what_they_stand_for(model: MapModel) -> None:
    counts = np.full((20, 6), 200)
    counts[:10] = 0
    look = _look(counts)
    model = replace(model, farthest=1e9)  # or how far the run is from others would have a say
    even = ResponseMap(look, 2e5, model).forecast()
    weighted = replace(look, weights=(9.0,) * 10 + (1.0,) * 10)
    heavy = ResponseMap(weighted, 2e5, model).forecast()
    assert heavy.hits == pytest.approx(0.1)
    assert heavy.mean == pytest.approx(even.mean / 5)


def test_a_floor_is_that_of_the_run_and_not_of_the_sample() -> None:
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 50, (40, 7))
    alike = np.full(40, 2.5)
    assert floor_of(counts, alike) == pytest.approx(np.quantile(counts, BLANK, axis=0))
    crystals = np.full((3, 7), 400)
    drawn = np.vstack([crystals, counts[:2]])  # most of what was drawn has crystals
    stands_for = np.array([1.0, 1.0, 1.0, 50.0, 50.0])
    assert (floor_of(drawn, stands_for) <= counts[:2].max(axis=0)).all()


def test_what_is_drawn_for_a_set_does_not_depend_on_which_others_are_asked_for(
    model: MapModel,
) -> None:
    rng = np.random.default_rng(5)
    response = ResponseMap(_look(rng.integers(0, 90, (30, 6))), 2e5, model)
    response.learn_outcomes(1, range(10, 40), rng.random(30) < 0.5)
    whole, last = response.forecast(seed=3), response.forecast(seed=3, first=4)
    assert last.rates == pytest.approx(whole.rates[:, 4:])
    assert whole.joined(last).rates == pytest.approx(np.hstack([whole.rates, last.rates]))
    mean, sd = response.expected(5, range(10, 40), seed=3)
    assert (mean, sd) == pytest.approx((whole.mean[5], whole.sd[5]))


def test_sets_that_are_forgotten_are_found_no_more(model: MapModel) -> None:
    designed = [Settings(min_snr=snr, threshold=20) for snr in (4.0, 5.0)]
    more = [Settings(min_snr=snr, threshold=20) for snr in (6.0, 7.0)]

    def look(settings: list[Settings]) -> FrameLook:
        counts = np.full((3, len(settings)), 20, np.uint16)
        return FrameLook(tuple(settings), (0, 1, 2), counts, {})

    response = ResponseMap(look(designed), 1e5, model)
    for settings in more:
        response.extend(look([settings]))
        assert response.column(settings) == 2
        response.forget(2)
        assert response.column(settings) is None
    assert [response.column(each) for each in designed] == [0, 1]


def test_a_set_that_may_be_a_flood_of_noise_is_not_liked() -> None:
    sure, unsure = np.full((50, 1), 0.2), np.linspace(0, 0.8, 50)[:, None]
    forecast = Forecast(np.hstack([sure, unsure]), np.ones(2), np.zeros(2), np.zeros((1, 2)))
    assert np.argmax(forecast.merits(0.2).mean(axis=0)) == 1
    assert np.argmax(forecast.cautious_merits(0.2)) == 0


def test_a_run_unlike_all_others_gets_wide_intervals(model: MapModel) -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 120, (40, 6))
    usual = ResponseMap(_look(counts), 2e5, model)
    strange = ResponseMap(_look(counts), 2e11, model)
    assert strange.far
    assert strange.strangeness > usual.strangeness
    spread = {}
    for usual.strangeness in (0.5, 1.5):
        spread[usual.strangeness] = usual.forecast().rates.std(axis=0)[4]
    assert spread[1.5] > spread[0.5]


def test_a_box_with_fewer_settings_does_not_make_a_run_unlike_others(model: MapModel) -> None:
    """Its loosest sets are stricter than those of the usual box, whatever the run is."""
    record = FrameRecord.read(RECORDS / "test_003.npz")
    evaluator = RecordedEvaluator(record, range(100))
    design = look_design(evaluator.space)
    assert not ResponseMap.begun(evaluator.look(design), evaluator, model).far
    for tuned in ("min_snr", "threshold", "min_pix_count"):
        others = {"min_snr", "threshold", "min_pix_count"} - {tuned}
        one = [s for s in design if all(getattr(s, o) == getattr(design[0], o) for o in others)]
        assert len(one) > 2
        known = ResponseMap.begun(evaluator.look(one), evaluator, model)
        assert not known.far
        assert ResponseMap(known.look, 1e11, model).far, "its cell is seen in any box"


def test_a_look_with_unreadable_frames_leaves_them_out(model: MapModel) -> None:
    counts = np.full((20, 6), 60)
    counts[0] = 0
    look = replace(_look(counts), failures={10: "damaged"})
    assert ResponseMap(look, 2e5, model).forecast().hits == pytest.approx(1.0)


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    path.write_bytes(SHIPPED_MODEL.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read"):
        MapModel.load(path)
    path.write_bytes(safetensors.numpy.save({"typical": np.zeros(3)}, {"format": "2"}))
    with pytest.raises(InputError, match="another version"):
        MapModel.load(path)


def test_a_model_is_read_as_it_was_written(tmp_path: Path, model: MapModel) -> None:
    model.save(tmp_path / "map.safetensors")
    again = MapModel.load(tmp_path / "map.safetensors")
    for indexer, priors in model.priors.items():
        assert np.array_equal(again.priors[indexer].counts.covariance, priors.counts.covariance)
    assert again.version == model.version
    assert json.dumps(again.provenance) == json.dumps(model.provenance)
