"""The learned peak finder: what it finds, what it leaves out, and what its settings do."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from tests.wrappers.spots.test_model import small_model
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import MAX_N_PEAKS
from wrappers.settings import Settings
from wrappers.spots.candidates import LOOSE
from wrappers.spots.image import LEVELS
from wrappers.spots.learned_peaks import LearnedPeakFinder

PANELS = panel_text("a", 300, 150, (-150.3, 5.2)) + panel_text(
    "b", 300, 150, (-151.7, -155.1), ss=150
)
SHAPE = (300, 300)
LEARNED = Settings(peak_finder="learned", min_pix_count=1)


@pytest.fixture(scope="module")
def geometry(tmp_path_factory):
    path = tmp_path_factory.mktemp("geometry") / "x.geom"
    path.write_text(geometry_text(PANELS, photon_energy=9000, adu_per_photon=10, clen=0.1))
    return Geometry.read(path)


@pytest.fixture(scope="module")
def finder(geometry):
    return LearnedPeakFinder(geometry)


def frame(data, mask=None) -> Frame:
    mask = np.ones(data.shape, bool) if mask is None else mask
    return Frame(data, mask, 9000.0, 0.1, "x.h5", "//0")


SPOTS = [
    (ss + 0.3 * (fs % 3), fs + 0.2 * (ss % 4))
    for ss in (30, 80, 200, 260)
    for fs in range(25, 290, 40)
]


def crystal(seed=0, photons=60):
    """A frame of 10 ADU a photon with spots, on a background of two photons a pixel."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, SHAPE)
    for ss, fs in SPOTS:
        places = rng.normal((ss, fs), 0.6, (rng.poisson(photons), 2)).astype(int)
        np.add.at(counts, tuple(places.T), 1)
    return (10 * counts).astype(np.int32)


def near(peaks, places, within=1.5):
    found = np.column_stack([peaks.ss, peaks.fs])
    apart = np.hypot(*(found[:, None] - np.array(places)[None]).T)
    return (apart <= within).any(axis=1), (apart <= within).any(axis=0)


def test_spots_are_found_and_hardly_anything_else(finder):
    peaks = finder.find(frame(crystal()), LEARNED)
    seen, right = near(peaks, SPOTS)
    assert seen.mean() > 0.95 and right.mean() > 0.9
    assert peaks.panel.tolist() == sorted(peaks.panel.tolist())
    assert np.median(peaks.intensity) == pytest.approx(600, rel=0.25)


def test_a_blank_frame_and_hot_pixels_have_next_to_none(finder):
    rng = np.random.default_rng(1)
    data = (10 * rng.poisson(2, SHAPE)).astype(np.int32)
    assert len(finder.find(frame(data), LEARNED)) <= 2
    hot = tuple(rng.integers(5, 145, (2, 40)))
    data[hot] = 3000
    assert len(finder.find(frame(data), LEARNED)) <= 8
    usual = Settings(min_snr=5, threshold=100, min_pix_count=1)
    assert len(PeakFinder(finder._geometry).find(frame(data), usual)) >= 35


def test_the_least_probability_chooses_among_the_judged(finder):
    ready = finder.prepare(frame(crystal(photons=32)))
    sets = [LEARNED.replace(min_probability=p) for p in (0.02, 0.2, 0.5, 0.8, 1.0)]
    lists = ready.find_all(sets)
    sizes = [len(each) for each in lists]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[2] > sizes[-1]
    assert ready.count_all(sets).tolist() == sizes
    for chosen, peaks in zip(sets, lists, strict=True):
        again = finder.find(frame(crystal(photons=32)), chosen)
        for field in dataclasses.fields(peaks):
            np.testing.assert_array_equal(getattr(peaks, field.name), getattr(again, field.name))
    assert (ready.uncertainty >= 0).all() and ready.uncertainty.max() > 0


def test_pixels_and_distances_choose_too(finder, geometry):
    ready = finder.prepare(frame(crystal()))
    assert ready.find(LEARNED.replace(min_pix_count=4)).n_pixels.min() >= 4
    assert ready.find(LEARNED.replace(max_pix_count=6)).n_pixels.max() <= 6
    peaks = ready.find(LEARNED.replace(min_res=60, max_res=120))
    radius = geometry.radius_map()[peaks.ss.astype(int), peaks.fs.astype(int)]
    assert len(peaks) and (radius > 58).all() and (radius < 122).all()


def test_what_means_nothing_to_the_finder_is_not_asked():
    usual = Settings(peak_finder="learned")
    other = Settings(peak_finder="learned", min_snr=9, threshold=3, local_bg_radius=7)
    assert usual == other and usual.peak_key == other.peak_key
    assert "min_snr" not in usual.as_dict() and usual.as_dict()["min_probability"] == 0.5
    plain = Settings(min_probability=0.9)
    assert plain == Settings() and "min_probability" not in plain.as_dict()
    assert usual.replace(min_probability=0.7).peak_key != usual.peak_key
    assert Settings.from_dict(usual.as_dict()) == usual
    with pytest.raises(InputError, match=r"min_probability is 1\.5, but must lie between 0 and 1"):
        Settings(peak_finder="learned", min_probability=1.5)


def test_masked_pixels_give_no_peak(finder):
    data, mask = crystal(), np.ones(SHAPE, bool)
    mask[:100] = False
    peaks = finder.find(frame(data, mask), LEARNED)
    assert len(peaks) and peaks.ss.min() > 99
    assert len(finder.find(frame(data, np.zeros(SHAPE, bool)), LEARNED)) == 0


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64, ">i4"])
def test_every_type_of_pixels_gives_the_same(finder, dtype):
    data = crystal()
    peaks = finder.find(frame(data.astype(dtype)), LEARNED)
    expected = finder.find(frame(data), LEARNED)
    np.testing.assert_allclose(peaks.fs, expected.fs, atol=1e-4)


def test_odd_values_are_no_peaks_and_crash_nothing(finder):
    data = crystal().astype(np.float32)
    data[::7, ::11], data[::13, ::5], data[5, 5] = np.nan, np.inf, -np.inf
    peaks = finder.find(frame(data), LEARNED.replace(min_probability=0))
    assert np.isfinite(peaks.fs).all() and np.isfinite(peaks.intensity).all()
    for flat in (np.zeros(SHAPE, np.int16), np.full(SHAPE, np.nan, np.float32)):
        assert len(finder.find(frame(flat), LEARNED)) == 0


def test_no_more_than_crystfels_limit(geometry):
    model = small_model()
    biased = dataclasses.replace(model, biases=[model.biases[0], model.biases[1] + 9])
    ready = LearnedPeakFinder(geometry, biased).prepare(frame(crystal()))
    n = 3 * MAX_N_PEAKS
    many = dataclasses.replace(
        ready.peaks, **{f.name: np.ones(n) for f in dataclasses.fields(ready.peaks)}
    )
    ready.peaks, ready.radius = many, np.ones(n)
    ready.probability = np.linspace(0, 1, n)
    found = ready.find(LEARNED.replace(min_probability=0))
    assert len(found) == MAX_N_PEAKS


def test_candidates_are_loose():
    assert LOOSE.min_pix_count == 1 and min(LEVELS) < 3 and max(LEVELS) <= 4


def test_a_finder_can_be_pickled(finder):
    again = pickle.loads(pickle.dumps(finder))
    assert len(again.find(frame(crystal()), LEARNED)) == len(finder.find(frame(crystal()), LEARNED))


def test_a_model_of_ones_own_is_named_with_the_finder(geometry, tmp_path, monkeypatch):
    small_model().save(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    mine = Settings(peak_finder="learned:mine", min_probability=0.0, min_pix_count=1)
    assert mine.peak_finder == f"learned:{tmp_path / 'mine'}"
    assert mine.peak_key != LEARNED.peak_key and "min_snr" not in mine.as_dict()
    named = NamedFinder(geometry)
    for chosen in (mine, LEARNED):
        expected = LearnedPeakFinder(geometry, small_model() if chosen is mine else None).find(
            frame(crystal()), chosen
        )
        np.testing.assert_array_equal(named.find(frame(crystal()), chosen).fs, expected.fs)
    with pytest.raises(InputError, match=r"no spot model can be read from .*nowhere"):
        named.find(frame(crystal()), LEARNED.replace(peak_finder="learned:nowhere"))


@pytest.mark.parametrize("name", ["learned:", "robust:x", "peakfinder8:x", "nobody:x"])
def test_only_the_learned_finder_takes_a_model(name):
    with pytest.raises(InputError, match=r"as in learned:refined|there is no peak finder 'nobody'"):
        PEAK_FINDERS.name_of(name)
