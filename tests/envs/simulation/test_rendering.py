"""Frames: where the spots are, how the noise behaves, what bad pixels do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from envs.simulation.experiment import (
    ODD_KINDS,
    SMALL_DETECTOR,
    BackgroundModel,
    BadPixels,
    Beam,
    Crystals,
    Detector,
    Experiment,
    Module,
    OddFrames,
    demo_experiment,
)
from envs.simulation.odd_frames import odd_kind
from envs.simulation.rendering import render_frame, static_mask
from wrappers.errors import InputError

NO_BACKGROUND = BackgroundModel(level=0.0)
NO_BAD_PIXELS = BadPixels(hot=0.0, noisy=0.0, dead=0.0)
ONE_STRONG_CRYSTAL = Crystals(
    hit_fraction=1.0, multi_fraction=0.0, photons=5e3, photons_spread=0.0, resolution=1.8
)
NO_CRYSTAL = Crystals(hit_fraction=0.0)
NOISELESS = dataclasses.replace(SMALL_DETECTOR, gain=1.0, read_noise=0.0)

# A single distant module and a background without features: every pixel expects the same.
EVEN = Experiment(
    detector=Detector((Module(-128.0, -128.0),), (256, 256), gain=1.0, read_noise=0.0),
    crystals=NO_CRYSTAL,
    background=BackgroundModel(
        jitter=0.0, drift=0.0, ring_spacing=1e4, ring_width=1e3, air=0.0, floor=0.0
    ),
    bad_pixels=NO_BAD_PIXELS,
    clen=50.0,
)


def even(level: float, **detector: float) -> Experiment:
    return dataclasses.replace(
        EVEN,
        background=dataclasses.replace(EVEN.background, level=level),
        detector=dataclasses.replace(EVEN.detector, **detector),
    )


def clean_frame(**changes) -> tuple[np.ndarray, np.ndarray]:
    """Photons and spots of a frame that holds nothing but Bragg photons."""
    experiment = Experiment(
        detector=NOISELESS,
        crystals=ONE_STRONG_CRYSTAL,
        background=NO_BACKGROUND,
        bad_pixels=NO_BAD_PIXELS,
        seed=4,
    )
    data, truth = render_frame(dataclasses.replace(experiment, **changes), 0)
    return data, truth.spots


ROTATED = dataclasses.replace(NOISELESS, modules=(Module(-250, 12, 3.0), Module(-262, -270, -2.0)))


@pytest.mark.parametrize("detector", [NOISELESS, ROTATED])
def test_spots_lie_where_the_truth_says_and_hold_its_photons(detector):
    data, spots = clean_frame(detector=detector)
    distance = np.linalg.norm(spots[:, None, :2] - spots[None, :, :2], axis=2)
    near = (distance > 0) & (distance < 12)
    disturbance = (near * spots[:, 2]).sum(axis=1)
    inside = (abs(spots[:, :2] - [256, 256]) < 248).all(axis=1) & (abs(spots[:, 1] - 256) > 8)
    chosen = spots[(spots[:, 2] > 200) & (disturbance < 0.02 * spots[:, 2]) & inside]
    assert len(chosen) > 10
    for fs, ss, photons in chosen:
        i, j = int(fs), int(ss)
        box = data[j - 6 : j + 7, i - 6 : i + 7].astype(float)
        total = box.sum()
        assert total == pytest.approx(photons, abs=5 * np.sqrt(photons) + 0.03 * photons)
        centre_fs = (box.sum(axis=0) @ np.arange(-6, 7)) / total + i + 0.5
        centre_ss = (box.sum(axis=1) @ np.arange(-6, 7)) / total + j + 0.5
        assert np.hypot(centre_fs - fs, centre_ss - ss) < 0.3


def test_all_bragg_photons_are_counted():
    data, spots = clean_frame()
    # Spots below a photon are not in the truth, and those on the edges lose a part.
    assert data.sum() == pytest.approx(spots[:, 2].sum(), rel=0.03)


def test_a_frame_depends_on_seed_and_index_only():
    experiment = Experiment(detector=SMALL_DETECTOR, seed=7)
    forwards = [render_frame(experiment, i)[0] for i in range(3)]
    backwards = [render_frame(experiment, i)[0] for i in (2, 1, 0)][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert not np.array_equal(forwards[0], forwards[1])
    other = render_frame(dataclasses.replace(experiment, seed=8), 0)[0]
    assert not np.array_equal(forwards[0], other)


@pytest.mark.parametrize("level", [0.05, 1.3, 11.9, 12.1, 60.0])
def test_background_photons_are_poisson(level):
    counts = np.concatenate([render_frame(even(level), i)[0].ravel() for i in range(4)])
    values = np.arange(counts.max() + 2)
    expected = stats.poisson.pmf(values, level) * counts.size
    observed = np.bincount(counts, minlength=values.size).astype(float)
    usable = expected > 10
    chi_sq = ((observed - expected)[usable] ** 2 / expected[usable]).sum()
    # The pixels' solid angles differ by some 1e-8 only: no allowance needed.
    assert stats.chi2.sf(chi_sq, usable.sum() - 1) > 1e-4


def test_gain_and_read_noise():
    level, gain, noise = 3.0, 40.0, 15.0
    data = render_frame(even(level, gain=gain, read_noise=noise), 0)[0].astype(float)
    variance = gain**2 * level + noise**2 + 1 / 12
    assert data.mean() == pytest.approx(gain * level, abs=5 * np.sqrt(variance / data.size))
    assert data.var() == pytest.approx(variance, rel=0.03)
    dark = render_frame(even(0.0, gain=gain, read_noise=noise), 0)[0].astype(float)
    assert abs(dark.mean()) < 5 * noise / np.sqrt(dark.size)
    assert dark.std() == pytest.approx(np.hypot(noise, 12**-0.5), rel=0.02)


def test_background_follows_its_model():
    experiment = dataclasses.replace(
        Experiment(detector=NOISELESS, crystals=NO_CRYSTAL, bad_pixels=NO_BAD_PIXELS),
        background=BackgroundModel(level=3.0, jitter=0.0, drift=0.0),
    )
    data = sum(render_frame(experiment, i)[0].astype(float) for i in range(10)) / 10
    y, x = np.mgrid[:512, :512] + 0.5
    y = np.where(y < 256, y + 5, y - 256 - 261) * 150e-6
    x = (x - 256) * 150e-6
    two_theta = np.arctan(np.hypot(x, y) / experiment.clen)
    spacing = 12398.4198 / 9300 / (2 * np.sin(two_theta / 2))
    ring = abs(spacing - 3.27) < 0.05
    halfway = abs(spacing - 4.8) < 0.1
    centre = spacing > 40
    assert data[ring].mean() == pytest.approx(3.0 * (1 + 0.11), rel=0.03)
    assert data[halfway].mean() < 0.4 * data[ring].mean()
    assert data[centre].mean() > 2 * data[ring].mean()
    # Polarised along x: less is scattered that way.
    along_x, along_y = ring & (abs(x) > 4 * abs(y)), ring & (abs(y) > 4 * abs(x))
    cos_sq = np.cos(two_theta[ring]).mean() ** 2
    assert data[along_x].mean() / data[along_y].mean() == pytest.approx(cos_sq, rel=0.04)


def test_levels_fluctuate_between_frames_and_drift_along_the_run():
    small = dataclasses.replace(NOISELESS, module_shape=(16, 16))
    experiment = Experiment(
        detector=small,
        crystals=NO_CRYSTAL,
        bad_pixels=NO_BAD_PIXELS,
        background=BackgroundModel(level=2.0, jitter=0.5, drift=0.0),
    )
    logs = np.log([render_frame(experiment, i)[1].background for i in range(300)])
    assert np.median(logs) == pytest.approx(np.log(2.0), abs=0.12)
    assert logs.std() == pytest.approx(0.5, rel=0.15)
    drifting = dataclasses.replace(
        experiment,
        background=BackgroundModel(level=2.0, jitter=0.0, drift=0.3, drift_period=100.0),
    )
    logs = np.log([render_frame(drifting, i)[1].background for i in range(200)])
    assert np.ptp(logs) == pytest.approx(0.6, rel=0.01)
    np.testing.assert_allclose(logs[:100], logs[100:], atol=1e-9)


def test_bad_pixels_stay_bad_and_the_mask_knows_its_share():
    bad = BadPixels(hot=1e-3, noisy=1e-3, dead=2e-3, masked=1.0)
    experiment = Experiment(detector=SMALL_DETECTOR, crystals=NO_CRYSTAL, bad_pixels=bad, seed=2)
    frames = np.array([render_frame(experiment, i)[0] for i in range(12)]).astype(float)
    mask = static_mask(experiment)
    assert mask.shape == SMALL_DETECTOR.shape
    inside = np.zeros_like(mask)
    inside[1:255, 1:511] = inside[257:511, 1:511] = True
    assert not mask[~inside].any()
    share = (~mask[inside]).mean()
    assert share == pytest.approx(4e-3, rel=0.05)
    dead = (frames == 0).all(axis=0)
    assert dead.sum() == pytest.approx(2e-3 * mask.size, abs=1)
    always_bright = np.median(frames, axis=0) > 300
    assert 20 < always_bright.sum() <= 1e-3 * mask.size
    assert not mask[dead | always_bright].any()

    unaware = dataclasses.replace(experiment, bad_pixels=dataclasses.replace(bad, masked=0.0))
    np.testing.assert_array_equal(static_mask(unaware), inside)


def test_values_are_clipped_and_counters_never_negative():
    crystals = dataclasses.replace(ONE_STRONG_CRYSTAL, photons=1e6)
    detector = dataclasses.replace(NOISELESS, saturation=500.0)
    data, _ = clean_frame(detector=detector, crystals=crystals)
    assert data.max() == 500
    noisy = BadPixels(hot=0.0, noisy=0.05, dead=0.0)
    counter = dataclasses.replace(EVEN, bad_pixels=noisy)
    counts = render_frame(counter, 0)[0]
    assert counts.min() == 0
    negative = render_frame(even(0.1, read_noise=2.0), 0)[0]
    assert negative.min() < 0
    assert negative.dtype == np.int16
    wide = dataclasses.replace(EVEN, detector=dataclasses.replace(EVEN.detector, dtype="int32"))
    assert render_frame(wide, 0)[0].dtype == np.int32


def test_kinds_of_frames():
    experiment = Experiment(detector=SMALL_DETECTOR, seed=3)
    truths = [render_frame(experiment, i)[1] for i in range(60)]
    kinds = {truth.kind for truth in truths}
    assert kinds == {"blank", "weak", "medium", "strong", "multi"}
    for truth in truths:
        assert (len(truth.reciprocal) == 0) == (truth.kind == "blank")
        assert (len(truth.reciprocal) > 1) == (truth.kind == "multi")
    blank = np.mean([truth.kind == "blank" for truth in truths])
    assert 0.08 < blank < 0.45  # a hit fraction of 0.75


def test_photon_energy_jitters():
    small = dataclasses.replace(NOISELESS, module_shape=(8, 8))
    experiment = Experiment(
        detector=small, crystals=NO_CRYSTAL, bad_pixels=NO_BAD_PIXELS, beam=Beam(12000.0, 0.002)
    )
    energies = np.array([render_frame(experiment, i)[1].photon_energy for i in range(200)])
    assert energies.mean() == pytest.approx(12000, abs=10)
    assert energies.std() == pytest.approx(24, rel=0.2)


@pytest.mark.parametrize("kind", ODD_KINDS)
def test_odd_frames_are_what_they_are_called(kind):
    odd = OddFrames(((kind, 1.0),), first=1)
    experiment = dataclasses.replace(demo_experiment(seed=3), odd=odd)
    ordinary, _ = render_frame(demo_experiment(seed=3), 0)
    same, truth = render_frame(experiment, 0)
    np.testing.assert_array_equal(same, ordinary)
    assert truth.kind not in ODD_KINDS
    data, truth = render_frame(experiment, 1)
    again, _ = render_frame(experiment, 1)
    np.testing.assert_array_equal(data, again)
    assert truth.kind == kind
    without, _ = render_frame(demo_experiment(seed=3), 1)
    if kind == "beam off":
        assert data.mean() < 0.1 * without.mean() and not len(truth.spots)
    elif kind == "detector fault":
        assert (data != without).mean() > 0.05
    elif kind == "salt":
        assert not len(truth.reciprocal)
    else:  # light is added, and nothing else is changed
        assert data.mean() > without.mean() * 1.005
        assert len(truth.reciprocal) == len(render_frame(demo_experiment(seed=3), 1)[1].reciprocal)


def test_odd_frames_are_as_frequent_as_is_asked():
    odd = OddFrames((("salt", 0.3), ("beam off", 0.2)), first=100)
    experiment = dataclasses.replace(demo_experiment(seed=3), odd=odd)
    kinds = [odd_kind(experiment, index) for index in range(1100)]
    assert set(kinds[:100]) == {""}
    assert kinds.count("salt") == pytest.approx(300, abs=50)
    assert kinds.count("beam off") == pytest.approx(200, abs=45)


@pytest.mark.parametrize(
    "shares", [(("rust", 0.1),), (("salt", -0.1),), (("salt", 0.6), ("beam off", 0.6))]
)
def test_impossible_odd_frames_are_refused(shares):
    with pytest.raises(InputError):
        OddFrames(shares)
