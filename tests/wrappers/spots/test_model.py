"""The files of a spot model: what goes in comes out, and anything else is refused in a sentence."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from wrappers.errors import InputError
from wrappers.spots.model import SHIPPED, SpotModel
from wrappers.spots.patches import FEATURES


def small_model(seed=0, members=3) -> SpotModel:
    rng = np.random.default_rng(seed)
    n = len(FEATURES)
    sizes = [(n, 6), (6, 1)]
    weights = [rng.normal(0, 0.1, (members, *size)).astype(np.float32) for size in sizes]
    biases = [rng.normal(0, 0.1, (members, size[1])).astype(np.float32) for size in sizes]
    mean, scale = rng.normal(size=n), rng.uniform(0.5, 2, n)
    note = {"made": "for a test"}
    return SpotModel(mean.astype(np.float32), scale.astype(np.float32), weights, biases, note)


@pytest.fixture
def saved(tmp_path):
    small_model().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(saved):
    model, again = small_model(), SpotModel.load(saved)
    features = np.random.default_rng(1).normal(size=(50, len(FEATURES))).astype(np.float32)
    for first, second in zip(model.judge(features), again.judge(features), strict=True):
        np.testing.assert_array_equal(first, second)
    assert again.provenance == {"made": "for a test"}


def test_the_mean_is_the_probability_and_the_spread_the_uncertainty():
    model = small_model()
    features = np.random.default_rng(1).normal(size=(20, len(FEATURES))).astype(np.float32)
    expected = []
    for member in range(model.n_members):
        hidden = (features - model.mean) / model.scale @ model.weights[0][member]
        hidden = np.maximum(hidden + model.biases[0][member], 0)
        logit = hidden @ model.weights[1][member] + model.biases[1][member]
        expected.append(1 / (1 + np.exp(-logit[:, 0])))
    probability, uncertainty = model.judge(features)
    np.testing.assert_allclose(probability, np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(uncertainty, np.std(expected, axis=0), atol=1e-5)
    assert [len(each) for each in model.judge(features[:0])] == [0, 0]


def test_the_shipped_model_is_small_and_says_how_it_was_made():
    model = SpotModel.load()
    assert model.provenance["family"] == "train"
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_000_000


def edited(path, **changes):
    described = json.loads((path / "spots.json").read_text())
    (path / "spots.json").write_text(json.dumps({**described, **changes}))


def replaced(path, change):
    """Replace the weights, with the JSON file's hash of them."""
    import hashlib

    tensors = change(safetensors.numpy.load((path / "spots.safetensors").read_bytes()))
    data = safetensors.numpy.save(tensors)
    (path / "spots.safetensors").write_bytes(data)
    edited(path, sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: (p / "spots.json").unlink(), "holds no spots.json with spots.safetensors"),
        (lambda p: (p / "spots.safetensors").unlink(), "`sfx-tuner train --spots` makes them"),
        (lambda p: (p / "spots.json").write_text("{"), "spots.json"),
        (lambda p: (p / "spots.json").write_text("[]"), "spots.json"),
        (lambda p: edited(p, format=99), "made by another version: its format"),
        (lambda p: edited(p, features=["nothing"]), "made by another version: its features"),
        (lambda p: edited(p, sha256="0" * 64), "its SHA-256 differs"),
        (lambda p: edited(p, sha256=3), "sha256"),
        (lambda p: edited(p, layers=[[1, 2]]), "layers"),
        (lambda p: edited(p, layers=[]), "damaged spot model"),
        (lambda p: edited(p, layers=[[3, 6, 6], [3, 6, 1]]), "do not follow on each other"),
        (lambda p: edited(p, layers=[[10**9, 152, 6], [10**9, 6, 1]]), "damaged spot model"),
        (lambda p: (p / "spots.safetensors").write_bytes(b"junk"), "its SHA-256 differs"),
        (
            lambda p: replaced(p, lambda t: t | {"mean": np.full(len(FEATURES), np.nan, "f4")}),
            "not a finite float32",
        ),
        (lambda p: replaced(p, lambda t: t | {"scale": 0 * t["scale"]}), "scale is not above 0"),
        (lambda p: replaced(p, lambda t: {"mean": t["mean"]}), "holds other tensors"),
        (lambda p: replaced(p, lambda t: t | {"more": t["mean"]}), "holds other tensors"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(saved, spoil, words):
    spoil(saved)
    with pytest.raises(InputError, match=words) as caught:
        SpotModel.load(saved)
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("name", ["spots.safetensors", "spots.json"])
def test_a_pickle_is_refused_unread(saved, name):
    data = pickle.dumps(Bomb())
    (saved / name).write_bytes(data)
    if name.endswith("tensors"):
        import hashlib

        edited(saved, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(InputError):
        SpotModel.load(saved)
