"""The prepared frame against the first look; random small frames are in test_peakfinder8."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.prepared_frame import PreparedFrame
from wrappers.settings import Settings


def same(first, second):
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def simulated(shared_data):
    geometry = Geometry.read(shared_data / "simulated" / "jf1m.geom")
    return Run.open(shared_data / "simulated" / "jf1m_lyso_60.h5", geometry), PeakFinder(geometry)


@pytest.fixture(scope="module")
def real(shared_data):
    geometry = Geometry.read(shared_data / "frames" / "thermolysin_cspad.geom")
    path = shared_data / "frames" / "thermolysin_cspad_4.h5"
    return Run.open(path, geometry), PeakFinder(geometry)


GRID = [
    Settings(
        min_snr=min_snr,
        threshold=threshold,
        min_pix_count=1 + i % 3,
        max_pix_count=(4, 20, 200)[i % 3],
        local_bg_radius=1 + i % 7,
        min_res=(0, 30, 101)[i % 3],
        max_res=(0, 300, 499)[(i // 2) % 3],
    )
    for i, (min_snr, threshold) in enumerate(
        itertools.product([1.5, 2, 2.3, 3, 4.25, 5, 8], [-1000, 0, 30, 100, 400])
    )
]


@pytest.mark.parametrize("source,chosen", [("simulated", [0, 20, 41]), ("real", [0, 3])])
def test_any_settings_give_the_first_looks_peaks(source, chosen, request):
    run, finder = request.getfixturevalue(source)
    for index in chosen:
        frame = run[index]
        prepared = PreparedFrame(finder, frame)
        for settings in GRID:
            assert same(prepared.find(settings), finder.find(frame, settings)), settings
            assert same(prepared.find(settings, 50), finder.find(frame, settings, 50)), settings


# Equal limits one after another, some of them below what was prepared for.
SIMILAR = [
    Settings(
        min_snr=min_snr,
        threshold=20,
        min_pix_count=pixels,
        local_bg_radius=radius,
        min_res=min_res,
    )
    for min_snr, min_res, pixels, radius in itertools.product(
        (3, 1.8, 2.5), (0, 40), (1, 2, 3), (3, 8, 9)
    )
]


@pytest.mark.parametrize("use_saturated", [True, False])
@pytest.mark.parametrize("most", [7, 2048, 10**9])
def test_settings_asked_at_once_give_what_each_gives(simulated, use_saturated, most):
    run, _ = simulated
    geometry = run.geometry
    panels = tuple(dataclasses.replace(panel, max_adu=300.0) for panel in geometry.panels)
    finder = PeakFinder(dataclasses.replace(geometry, panels=panels), use_saturated)
    prepared = PreparedFrame(finder, run[30])
    found = prepared.find_all(SIMILAR, most)
    assert sum(len(peaks) for peaks in found) > 100 or most == 7
    for settings, peaks in zip(SIMILAR, found, strict=True):
        assert same(peaks, finder.find(run[30], settings, most)), settings
    assert prepared.find_all([]) == []


@pytest.mark.parametrize("use_saturated", [True, False])
@pytest.mark.parametrize("most", [7, 200, 2048, 10**9])
def test_counts_are_the_lists_lengths(simulated, use_saturated, most):
    run, _ = simulated
    panels = tuple(dataclasses.replace(panel, max_adu=300.0) for panel in run.geometry.panels)
    finder = PeakFinder(dataclasses.replace(run.geometry, panels=panels), use_saturated)
    prepared = PreparedFrame(finder, run[30])
    settings = [*SIMILAR, *GRID, *LOOSE, *SIMILAR[:3]]
    expected = [len(peaks) for peaks in prepared.find_all(settings, most)]
    assert prepared.count_all(settings, most).tolist() == expected
    assert max(expected) > 1000 or most < 2048
    assert prepared.count_all([]).tolist() == []


def test_floats_give_the_same_peaks_but_for_the_last_digit_of_a_limit(real):
    run, finder = real
    frame = run[1]
    gain = np.random.default_rng(0).normal(1, 0.05, frame.data.shape)
    frame = dataclasses.replace(frame, data=(frame.data * gain).astype(np.float32))
    prepared = PreparedFrame(finder, frame)
    assert all(same(prepared.find(settings), finder.find(frame, settings)) for settings in GRID)


def test_from_its_min_snr_on_no_first_look_is_taken(simulated, monkeypatch):
    run, finder = simulated
    frame = run[20]
    prepared = PreparedFrame(finder, frame)
    expected = [finder.find(frame, settings) for settings in GRID]
    monkeypatch.setattr(PeakFinder, "find", None)
    for settings, peaks in zip(GRID, expected, strict=True):
        if settings.min_snr >= 2:
            assert same(prepared.find(settings), peaks)


LOOSE = [
    Settings(min_snr=min_snr, threshold=0, min_pix_count=pixels, local_bg_radius=2 + pixels)
    for min_snr, pixels in itertools.product([2, 2.6, 3.1], [1, 2, 3])
]


@pytest.mark.parametrize("source", ["simulated", "real"])
def test_a_search_that_ends_early_gives_the_first_peaks_all_the_same(source, request):
    run, finder = request.getfixturevalue(source)
    prepared = PreparedFrame(finder, run[1])
    for settings in LOOSE:
        peaks = finder.find(run[1], settings, 10**9)
        assert len(peaks) > 50
        for most in (0, 1, 10, 300, len(peaks) - 1, len(peaks), 10**9):
            found = prepared.find(settings, most)
            for field in dataclasses.fields(peaks):
                expected = getattr(peaks, field.name)[:most]
                assert np.array_equal(getattr(found, field.name), expected), (settings, most)


@pytest.mark.parametrize("min_snr,fraction", [(2.0, 0.4), (3.0, 0.1)])
def test_a_prepared_frame_is_small(simulated, min_snr, fraction):
    run, finder = simulated
    frame = run[30]
    assert PreparedFrame(finder, frame, min_snr).nbytes < fraction * frame.data.nbytes


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_a_thousand_prepared_frames_fit_into_two_gigabytes(simulated, dtype):
    run, finder = simulated
    frame = dataclasses.replace(run[30], data=run[30].data.astype(dtype))
    assert frame.data.size >= 1 << 20
    assert 1000 * PreparedFrame(finder, frame).nbytes < 1.2e9


def test_frames_of_one_mask_share_its_bits(simulated):
    run, finder = simulated
    first, second = (finder.pixels.unusable(run[i].mask.ravel()) for i in (0, 1))
    assert first is second and first.nbytes < run[0].data.nbytes / 15
    assert finder.pixels.unusable(~run[0].mask.ravel()) is not first
