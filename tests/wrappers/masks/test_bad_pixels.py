"""Bad pixels are found among good ones, whatever else the frames show."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.masks.bad_pixel_map import KINDS, BadPixelMap
from wrappers.masks.bad_pixels import find_bad_pixels, spread_frames
from wrappers.settings import Settings

SIZE = 96
GEOMETRY = geometry_text(
    panel_text("a", SIZE, SIZE, (-48, 4)),
    panel_text("b", SIZE, SIZE, (-48, -100), ss=SIZE),
    mask="/mask",
    mask_good="0x0",
    mask_bad="0x1",
)
SHAPE = (2 * SIZE, SIZE)
SIGMAS = Settings(mask_hot_sigma=5, mask_noisy_sigma=5, mask_dead_sigma=5)


def planted(seed: int = 1, each: int = 12) -> dict[str, np.ndarray]:
    """Choose bad pixels (flat) away from the panels' rims and from each other."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(SHAPE, bool)
    inside[4:92:3, 4:92:3] = inside[100:188:3, 4:92:3] = True
    chosen = rng.permutation(np.flatnonzero(inside))[: 3 * each]
    return dict(zip(KINDS, np.split(chosen, 3), strict=True))


def frames(n: int = 60, photons: float = 3.0, gain: float = 10.0, seed: int = 2) -> np.ndarray:
    """Return frames of a background that falls off and varies from frame to frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    falling = np.exp(-np.hypot(x - 48, np.minimum(abs(y - 48), abs(y - 144))) / 120)
    level = photons * rng.uniform(0.4, 2.0, n)
    data = gain * rng.poisson(level[:, None, None] * falling) + rng.normal(0, 1, (n, *SHAPE))
    return np.rint(data)


def spoil(data: np.ndarray, bad: dict[str, np.ndarray], seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    flat = data.reshape(len(data), -1)
    flat[:, bad["hot"]] += rng.integers(60, 300, len(bad["hot"]))
    flat[:, bad["noisy"]] += rng.normal(0, 40, (len(data), len(bad["noisy"]))).round()
    flat[:, bad["dead"]] = 0


@pytest.fixture
def make_run(tmp_path):
    def make(data: np.ndarray, mask: np.ndarray | None = None) -> Run:
        with h5py.File(tmp_path / "run.h5", "w") as file:
            file["data"] = data
            file["mask"] = np.zeros(SHAPE, np.uint8) if mask is None else mask
        (tmp_path / "run.geom").write_text(GEOMETRY)
        return Run.open(tmp_path / "run.h5", Geometry.read(tmp_path / "run.geom"))

    return make


def found(bad_pixels: BadPixelMap, settings: Settings = SIGMAS) -> dict[str, np.ndarray]:
    return {kind: np.flatnonzero(bad_pixels.beyond(kind, settings)) for kind in KINDS}


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_planted_pixels_are_found_by_kind_and_no_others(make_run, dtype):
    data, bad = frames(), planted()
    spoil(data, bad)
    result = found(find_bad_pixels(make_run(data.astype(dtype))))
    for kind in KINDS:
        assert set(bad[kind]) <= set(result[kind]), kind
    everything = np.unique(np.concatenate(list(result.values())))
    assert len(set(everything) - set(np.concatenate(list(bad.values())))) <= 2
    assert not set(result["dead"]) & set(bad["hot"]), "a hot pixel at the limit is not dead"


def test_a_higher_threshold_masks_fewer(make_run):
    data, bad = frames(), planted()
    spoil(data, bad)
    bad_pixels = find_bad_pixels(make_run(data.astype(np.int16)))
    counts = [
        bad_pixels.beyond("noisy", SIGMAS.replace(mask_noisy_sigma=s)).sum() for s in (3, 5, 8, 30)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    assert not bad_pixels.beyond("noisy", SIGMAS.replace(mask_noisy_sigma=0)).any()


def test_bragg_spots_make_no_bad_pixels(make_run):
    data = frames(100)
    rng = np.random.default_rng(5)
    for frame in data[::2]:
        for y, x in zip(rng.integers(1, 190, 60), rng.integers(1, 94, 60), strict=True):
            frame[y - 1 : y + 2, x - 1 : x + 2] += rng.integers(50, 3000)
    result = found(find_bad_pixels(make_run(data.astype(np.int16))))
    assert sum(map(len, result.values())) <= 2


def test_what_varies_slowly_over_a_panel_is_not_bad(make_run):
    data = frames()
    x = np.arange(SIZE)
    data *= 1 + 0.5 * (x - 48) / 48  # as strongly polarised as can be
    data[:, SIZE:] += 7  # a panel's own offset
    result = found(find_bad_pixels(make_run(data.astype(np.float32))))
    assert sum(map(len, result.values())) <= 3


def test_nearly_empty_frames_of_a_photon_counter(make_run):
    data = np.random.default_rng(6).poisson(0.01, (50, *SHAPE)).astype(np.uint32)
    data[:, 20, 20] = 1000
    data[::2, 30, 30] = 3
    result = found(find_bad_pixels(make_run(data)))
    assert set(result["hot"]) == {20 * SIZE + 20, 30 * SIZE + 30}
    assert len(result["dead"]) == 0


def test_an_unresponsive_pixel_of_usual_level_and_spread(make_run):
    data = frames(100, photons=20)
    flat = data.reshape(100, -1)
    levels = flat.mean(axis=1)
    pixel = 30 * SIZE + 30
    # Shuffled so that bright frames are dark there and the other way round.
    flat[np.argsort(levels), pixel] = np.sort(flat[:, pixel])[::-1]
    result = find_bad_pixels(make_run(data.astype(np.int16)))
    assert result.dead.reshape(-1)[pixel] > 5


def test_masked_pixels_are_left_alone_and_do_not_disturb(make_run):
    data, bad = frames(), planted()
    spoil(data, bad)
    mask = np.zeros(SHAPE, np.uint8)
    mask.reshape(-1)[bad["hot"]] = 1
    mask[:, :40] = 1
    bad_pixels = find_bad_pixels(make_run(data.astype(np.int16), mask))
    for kind in KINDS:
        assert not getattr(bad_pixels, kind)[mask != 0].any()
    noisy = [pixel for pixel in bad["noisy"] if mask.flat[pixel] == 0]
    assert noisy and set(noisy) <= set(found(bad_pixels)["noisy"])


def test_frames_with_the_most_bright_pixels_are_left_out(make_run):
    data = frames(150)
    data[::3, 40:60, 40:60] = 5000  # a third of the frames show the same strange spot
    bad_pixels = find_bad_pixels(make_run(data.astype(np.int16)))
    assert bad_pixels.n_frames == 100
    assert len(found(bad_pixels)["hot"]) <= 1


def test_chosen_frames_only(make_run):
    data = frames(40)
    data[20:] = 0
    steps: list[int] = []
    bad_pixels = find_bad_pixels(make_run(data.astype(np.int16)), range(20), progress=steps.append)
    assert bad_pixels.n_frames == 20
    assert steps == list(range(1, 41))
    assert spread_frames(1000, 5) == [0, 250, 500, 749, 999]
    assert spread_frames(3) == [0, 1, 2]


def test_too_few_frames(make_run):
    with pytest.raises(InputError, match=r"9 frames of .* too few to tell bad pixels"):
        find_bad_pixels(make_run(frames(9).astype(np.int16)))


def test_a_saved_map_comes_back(make_run, tmp_path):
    data, bad = frames(20), planted()
    spoil(data, bad)
    run = make_run(data.astype(np.int16))
    before = find_bad_pixels(run)
    before.save(tmp_path / "map.h5")
    after = BadPixelMap.load(tmp_path / "map.h5", run.geometry)
    assert after.n_frames == 20
    for kind in KINDS:
        np.testing.assert_array_equal(getattr(after, kind), getattr(before, kind))


def test_what_is_no_map_of_this_detector(make_run, tmp_path):
    geometry = make_run(frames(1)).geometry
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["mask"] = np.zeros(SHAPE, np.uint8)
    with pytest.raises(InputError, match="holds no map of bad pixels"):
        BadPixelMap.load(tmp_path / "plain.h5", geometry)
    (tmp_path / "text.h5").write_text("mask")
    with pytest.raises(InputError, match="cannot be read"):
        BadPixelMap.load(tmp_path / "text.h5", geometry)
    small = np.zeros((5, 5), np.float16)
    BadPixelMap(small, small, small, 10).save(tmp_path / "small.h5")
    with pytest.raises(InputError, match=r"\(5, 5\) pixels, but .* has \(192, 96\)"):
        BadPixelMap.load(tmp_path / "small.h5", geometry)


def test_planted_pixels_of_the_simulated_run(shared_data):
    folder = shared_data / "simulated"
    run = Run.open(folder / "jf1m_lyso_60.h5", Geometry.read(folder / "jf1m.geom"))
    with h5py.File(folder / "jf1m_lyso_60_truth.h5") as file:
        bad = np.concatenate([file[f"unmasked_{kind}"][:] for kind in KINDS])
    result = np.unique(np.concatenate(list(found(find_bad_pixels(run)).values())))
    assert len(bad) == 490
    assert len(set(result) & set(bad)) >= 0.95 * 490
    assert len(set(result) - set(bad)) <= 1e-4 * run.static_mask(0).sum()
