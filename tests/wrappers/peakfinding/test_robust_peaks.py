"""The robust peak finder: what it withstands, what it finds, and what it must not do."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.settings import Settings

GEOMETRY = geometry_text(photon_energy=9000, adu_per_photon=10, clen=0.1, max_adu=3000)
PANELS = panel_text("a", 80, 40, (-40.3, 5.2)) + panel_text("b", 80, 40, (-41.7, -45.1), ss=40)
SHAPE = (80, 80)
USUAL = Settings(min_snr=2.5, threshold=0, min_pix_count=2, max_pix_count=30, local_bg_radius=3)


@pytest.fixture(scope="module")
def geometry(tmp_path_factory):
    path = tmp_path_factory.mktemp("geometry") / "x.geom"
    path.write_text(GEOMETRY + PANELS)
    return Geometry.read(path)


@pytest.fixture(scope="module")
def finder(geometry):
    return RobustPeakFinder(geometry)


def frame(data, mask=None) -> Frame:
    mask = np.ones(SHAPE, bool) if mask is None else mask
    return Frame(data, mask, 9000.0, 0.1, "x.h5", "//0")


def background(seed=0):
    rng = np.random.default_rng(seed)
    return 10 * rng.poisson(3, SHAPE) + rng.normal(0, 3, SHAPE)


SPOTS = [(10, 12), (20, 60), (33, 33), (50, 20), (61, 70), (72, 40)]


def with_spots(data, photons):
    profile = np.array([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    for ss, fs in SPOTS:
        data[ss - 1 : ss + 2, fs - 1 : fs + 2] += np.rint(10 * photons * profile)
    return data


def test_spots_are_found_where_they_are_and_little_else(finder):
    peaks = finder.find(frame(with_spots(background(), 60)), USUAL)
    found = {(int(ss), int(fs)) for ss, fs in zip(peaks.ss, peaks.fs, strict=True)}
    assert found == set(SPOTS)
    assert np.all(np.abs(peaks.fs % 1 - 0.5) < 0.5)
    assert peaks.intensity == pytest.approx(600, rel=0.4)
    assert peaks.panel.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_snr_is_that_of_the_formula(finder):
    data = np.tile([0.0, 20.0], (80, 40))  # mean 10, standard deviation 10 everywhere
    data[20, 60:64] = 160
    peaks = finder.find(frame(data), USUAL)
    assert len(peaks) == 1
    expected = math.sqrt(4) * 150 / (math.sqrt(10 * 150) + 10)
    assert peaks.snr == pytest.approx([expected], rel=0.05)
    assert peaks.intensity == pytest.approx([600], rel=0.01)
    assert (peaks.fs[0], peaks.ss[0]) == pytest.approx((62.0, 20.5))


def test_ring_statistics_withstand_outliers_where_plain_ones_do_not(finder):
    clean = background()
    dirty = clean.copy()
    dirty[np.random.default_rng(1).random(SHAPE) < 0.05] = 5000
    mean, sigma = finder.ring_statistics(frame(clean))
    shifted, widened = finder.ring_statistics(frame(dirty))
    wide = np.diff(finder.layout.start) > 50
    assert np.median(mean[wide]) == pytest.approx(30, abs=2)
    assert np.median(sigma[wide]) == pytest.approx(math.sqrt(300 + 9), rel=0.08)
    assert np.median(shifted[wide]) == pytest.approx(np.median(mean[wide]), rel=0.05)
    assert np.median(widened[wide]) == pytest.approx(np.median(sigma[wide]), rel=0.1)


def test_a_learnt_noise_map_silences_bad_pixels_but_not_their_neighbours(geometry, finder):
    rng = np.random.default_rng(5)
    hot, noisy = (np.array([[15, 15], [16, 55]]), np.array([[40, 41], [30, 30]]))

    def exposure(seed):
        data = background(seed)
        data[*hot] += rng.normal(600, 100, 2)
        data[*noisy] += rng.normal(0, 150, 2)
        return data

    non_hits = [frame(exposure(seed)) for seed in range(1, 21)]
    noise = finder.learn_noise(non_hits)
    assert np.all(noise[*hot] > 5) and np.all(noise[*noisy] > 3)
    assert np.mean(noise == 1) > 0.9
    knowing = RobustPeakFinder(geometry, noise=noise)
    data = with_spots(exposure(0), 150)
    single = USUAL.replace(min_pix_count=1, min_snr=4)
    found = {(int(ss), int(fs)) for ss, fs in _places(knowing.find(frame(data), single))}
    assert found == set(SPOTS)
    assert {(15, 16), (15, 55)} <= {
        (int(ss), int(fs)) for ss, fs in _places(finder.find(frame(data), single))
    }


def _places(peaks):
    return zip(peaks.ss, peaks.fs, strict=True)


def test_a_single_stray_peak_does_not_make_a_pixel_noisy(finder):
    frames = [frame(background(seed)) for seed in range(20)]
    frames[7].data[30, 30] = 2000
    assert finder.learn_noise(frames)[30, 30] < 2.5


def test_of_too_many_peaks_the_first_win(tmp_path):
    path = tmp_path / "x.geom"
    panel = "fs = x\na/ss = y\na/corner_x = -120.3\na/corner_y = -120.2\n"
    path.write_text(
        GEOMETRY + f"a/min_fs = 0\na/max_fs = 239\na/min_ss = 0\na/max_ss = 239\na/{panel}"
    )
    data = np.random.default_rng(0).normal(30, 3, (240, 240))
    data[1:-1:4, 1:-1:4] = 900
    mask = np.ones(data.shape, bool)
    peaks = RobustPeakFinder(Geometry.read(path)).find(
        frame(data, mask), USUAL.replace(min_snr=6, min_pix_count=1)
    )
    bright = np.flatnonzero(data == 900)
    found = (peaks.ss - 0.5) * 240 + (peaks.fs - 0.5)
    assert len(bright) > len(found) == 2048
    assert set(found) < set(bright) and np.all(np.diff(found) > 0)
    # Few are left out: at the corners, rings are too small to tell.
    assert np.count_nonzero(bright <= found[-1]) < 2048 + 100


def test_saturated_peaks_may_be_dropped(geometry, finder):
    data = with_spots(background(), 60)
    data[SPOTS[0]] = 9000
    assert len(finder.find(frame(data), USUAL)) == len(SPOTS)
    assert len(RobustPeakFinder(geometry, False).find(frame(data), USUAL)) == len(SPOTS) - 1


def test_a_geometry_must_say_what_a_photon_is(tmp_path):
    path = tmp_path / "x.geom"
    path.write_text(GEOMETRY.replace("adu_per_photon = 10\n", "") + PANELS)
    with pytest.raises(InputError, match="adu_per_photon"):
        RobustPeakFinder(Geometry.read(path)).find(frame(background()), USUAL)


def test_a_noise_map_must_fit(geometry):
    with pytest.raises(InputError, match="noise map"):
        RobustPeakFinder(geometry, noise=np.ones((3, 4), np.float32))


def test_processes_get_a_copy_with_its_noise_map(geometry):
    noise = np.full(SHAPE, 1.2, np.float32)
    finder, image = RobustPeakFinder(geometry, noise=noise), frame(with_spots(background(), 40))
    assert same(pickle.loads(pickle.dumps(finder)).find(image, USUAL), finder.find(image, USUAL))


def same(first, second):
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@st.composite
def images(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = {
        "zero": lambda: np.zeros(SHAPE),
        "one photon in a while": lambda: 10.0 * rng.poisson(0.05, SHAPE),
        "noise": lambda: rng.normal(-20, 8, SHAPE),
        "bright": lambda: 10.0 * rng.poisson(20, SHAPE),
    }[draw(st.sampled_from(["zero", "one photon in a while", "noise", "bright"]))]()
    for _ in range(draw(st.sampled_from([0, 5, 40]))):
        ss, fs = rng.integers(0, 79, 2)
        data[ss : ss + rng.integers(1, 4), fs : fs + rng.integers(1, 4)] += rng.integers(5, 900)
    dtype = draw(st.sampled_from(["i2", ">i2", "u2", "i4", "f4", "f8"]))
    if "f" in dtype:
        strange = rng.random(SHAPE) < draw(st.sampled_from([0, 0.05]))
        data[strange] = rng.choice([np.nan, np.inf, -np.inf, 1e10], strange.sum())
    elif "u" in dtype:
        data = np.maximum(data, 0)
    return data.astype(dtype), rng.random(SHAPE) < draw(st.sampled_from([1.0, 0.9, 0.05, 0.0]))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    image=images(),
    min_snr=st.sampled_from([1.0, 2.0, 2.5, 4.0]),
    threshold=st.sampled_from([-50.0, 0.0, 30.0]),
    pixels=st.integers(1, 3),
    radius=st.integers(1, 6),
    limits=st.sampled_from([(0, 0), (10, 30)]),
)
def test_whatever_the_frame_its_peaks_are_sound(
    finder, image, min_snr, threshold, pixels, radius, limits
):
    chosen = Settings("robust", min_snr, threshold, pixels, 30, radius, *limits)
    case = frame(*image)
    peaks = finder.find(case, chosen)
    assert same(finder.prepare(case, 2.0).find(chosen), peaks)
    assert np.all(peaks.snr >= min_snr) and np.all(np.isfinite(peaks.intensity))
    assert np.all((peaks.n_pixels >= pixels) & (peaks.n_pixels <= 30))
    assert np.all(peaks.max_value > 0) and np.all(peaks.intensity > 0)
    first_ss, last_ss, first_fs, last_fs = finder.layout.panels[peaks.panel].T
    assert np.all((first_ss <= peaks.ss) & (peaks.ss <= last_ss + 1))
    assert np.all((first_fs <= peaks.fs) & (peaks.fs <= last_fs + 1))


def test_both_finders_agree_on_strong_isolated_peaks(geometry, finder):
    data = np.rint(with_spots(background(), 300)).astype(np.int16)
    other = PeakFinder(geometry).find(frame(data), USUAL.replace(min_snr=5))
    peaks = finder.find(frame(data), USUAL.replace(min_snr=5))
    assert len(peaks) == len(other) == len(SPOTS)
    assert np.abs(peaks.fs - other.fs).max() < 0.3
    assert np.median(peaks.intensity / other.intensity) == pytest.approx(1, abs=0.1)


def test_a_background_may_be_larger_than_the_panel(finder):
    case = frame(np.rint(with_spots(background(), 300)).astype(np.int16))
    expected = finder.find(case, USUAL.replace(local_bg_radius=max(SHAPE)))
    assert len(expected) == len(SPOTS)
    assert same(finder.find(case, USUAL.replace(local_bg_radius=10**9)), expected)
