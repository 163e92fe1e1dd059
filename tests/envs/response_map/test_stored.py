"""The response map on disk: it forecasts as before, and a damaged one is one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.look import FrameLook
from envs.response_map.model import MapModel
from envs.response_map.session_map import ResponseMap
from envs.response_map.stored import read_map, write_map
from wrappers.errors import InputError, Note
from wrappers.settings import Settings

SETS = tuple(
    Settings(min_snr=snr, threshold=threshold, min_peaks=10)
    for snr in (4.0, 5.0, 8.0)
    for threshold in (10.0, 50.0)
)
FRAMES = (3, 7, 12, 40, 41)


def look(sets: tuple[Settings, ...], seed: int) -> FrameLook:
    counts = np.random.default_rng(seed).integers(0, 60, (len(FRAMES), len(sets)))
    counts[-1] = 0
    weights = (0.5, 1.5, 1.0, 1.0, 0.0)
    return FrameLook(sets, FRAMES, counts.astype(np.uint16), {41: "it is gone"}, weights)


@pytest.fixture
def learnt() -> ResponseMap:
    """A map that has learnt all that one can learn."""
    found = ResponseMap(look(SETS, 1), 250_000.0, MapModel.shipped(), "crystfel")
    found.extend(look((Settings(min_snr=4.4, threshold=20.0, min_peaks=10),), 2))
    rng = np.random.default_rng(3)
    found.learn_lattices([7, 40], rng.integers(0, 40, (2, 7)), rng.integers(0, 9, (2, 7)))
    found.learn_outcomes(2, [3, 7, 40], [False, True, True])
    found.learn_outcomes(6, [7, 12], [True, False])
    return found


def test_a_map_that_is_read_forecasts_as_the_one_that_was_written(learnt, tmp_path) -> None:
    write_map(tmp_path / "map.npz", learnt)
    again = read_map(tmp_path / "map.npz")
    assert again.indexer == "crystfel"
    assert again.settings == learnt.settings and again.look.settings == SETS
    assert again.look.failures == {41: "it is gone"}
    before, after = learnt.forecast(seed=5), again.forecast(seed=5)
    assert np.allclose(before.rates, after.rates) and np.allclose(before.sd, after.sd)
    assert np.allclose(before.frames, after.frames) and np.allclose(before.hits, after.hits)
    for one, other in zip(learnt.learnt, again.learnt, strict=True):
        assert np.array_equal(one, other)


def test_a_map_of_another_model_is_read_and_that_is_said(learnt, tmp_path) -> None:
    path = tmp_path / "map.npz"
    shipped = learnt.model
    learnt.model = replace(shipped, farthest=2 * shipped.farthest)
    write_map(path, learnt)
    with pytest.warns(Note, match="another version of its model"):
        again = read_map(path)
    assert again.model is shipped and again.indexer == "crystfel"


def test_a_map_of_before_models_had_versions_is_read(learnt, tmp_path) -> None:
    path = tmp_path / "map.npz"
    write_map(path, learnt)
    arrays = dict(np.load(path))
    del arrays["model"]
    for caution, indexer in ((2.0, "crystfel"), (1.0, "fast")):
        np.savez(path, **{**arrays, "numbers": np.append(arrays["numbers"], caution)})
        with pytest.warns(Note, match="another version of its model"):
            assert read_map(path).indexer == indexer


def test_a_damaged_or_missing_map_is_one_sentence(learnt, tmp_path) -> None:
    path = tmp_path / "map.npz"
    with pytest.raises(InputError, match=r"map\.npz is not there"):
        read_map(path)
    write_map(path, learnt)
    good = dict(np.load(path))
    for name, value in {
        "counts": good["counts"][:, 1:],
        "frames": np.zeros_like(good["frames"]),
        "numbers": np.array([0.0, 1.0]),
        "model": np.frombuffer(b'{"indexer": "none", "version": ""}', np.uint8),
        "weights": np.full_like(good["weights"], np.nan),
        "settings": good["settings"][:-1],
        "unreadable": np.frombuffer(b"[1]", np.uint8),
        "outcome": good["outcome"].astype(float),
    }.items():
        np.savez(path, **{**good, name: value})
        with pytest.raises(InputError, match="damaged"):
            read_map(path)
    without = {name: values for name, values in good.items() if name != "own"}
    np.savez(path, **without)
    with pytest.raises(InputError, match="damaged"):
        read_map(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="damaged"):
        read_map(path)


def test_a_map_that_had_a_share_for_the_volume_is_read_as_of_a_usual_cell(learnt, tmp_path) -> None:
    path = tmp_path / "map.npz"
    write_map(path, learnt)
    arrays = dict(np.load(path))
    arrays["numbers"][1] = 0.5
    np.savez(path, **arrays)
    assert 1e4 < read_map(path).volume < 1e7
