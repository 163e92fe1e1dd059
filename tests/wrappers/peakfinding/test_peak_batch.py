"""Batches against single searches, with both finders."""

from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

GEOMETRY = geometry_text(
    panel_text("a", 40, 30, (-15.3, -4.6)), photon_energy=9000, adu_per_photon=2
)
SETTINGS = [
    Settings(min_snr=snr, threshold=threshold, min_pix_count=1, min_peaks=peaks)
    for snr, threshold, peaks in itertools.product((1.5, 2, 3, 4), (0, 30), (0, 10))
]


class Frames:
    """Six frames, of which one cannot be read; counts what is read."""

    def __init__(self) -> None:
        self.n_read = 0

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Frame:
        self.n_read += 1
        if index == 2:
            raise InputError("x.h5 is damaged: copy it again")
        data = np.random.default_rng(index).poisson(20, (30, 40)).astype(np.int16)
        data[5:7, 5 * index + 3] = 150
        return Frame(data, np.ones(data.shape, bool), 9000.0, 0.1, "x.h5", f"//{index}")


@pytest.fixture(scope="module", params=[PeakFinder, RobustPeakFinder])
def finder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("geometry") / "x.geom"
    path.write_text(GEOMETRY)
    return request.param(Geometry.read(path))


def same(first, second):
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("n_settings", [1, 3, len(SETTINGS)])
def test_a_batch_gives_what_single_searches_give(finder, jobs, n_settings):
    frames, settings = Frames(), SETTINGS[:n_settings]
    found = list(PeakBatch(finder, frames, jobs=jobs).search(range(len(frames)), settings))
    assert frames.n_read == len(frames)
    assert [each.index for each in found] == list(range(6))
    n_peaks = 0
    for each in found:
        if each.index == 2:
            assert each.patterns == () and each.failure == "x.h5 is damaged: copy it again"
            continue
        assert len(each.patterns) == n_settings and each.failure == ""
        for chosen, pattern in zip(settings, each.patterns, strict=True):
            assert same(pattern.peaks, finder.find(frames[each.index], chosen))
            n_peaks += len(pattern.peaks)
    assert n_peaks > 0


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("n_settings", [0, 1, 3, len(SETTINGS)])
def test_counts_are_the_lengths_of_the_lists(finder, jobs, n_settings):
    frames, settings = Frames(), SETTINGS[:n_settings]
    batch = PeakBatch(finder, frames, jobs=jobs)
    counted = list(batch.count(range(len(frames)), settings))
    assert frames.n_read == len(frames)
    for found, each in zip(batch.search(range(len(frames)), settings), counted, strict=True):
        assert each.index == found.index and each.failure == found.failure
        if each.index == 2:
            assert each.counts is None and each.failure == "x.h5 is damaged: copy it again"
            continue
        assert each.counts.dtype == np.uint16
        assert each.counts.tolist() == [len(pattern.peaks) for pattern in found.patterns]


def test_counting_keeps_no_frame_but_asks_those_that_are_kept(finder):
    frames = Frames()
    batch = PeakBatch(finder, frames, memory=1 << 30)
    for _ in range(2):
        list(batch.count([0, 1], SETTINGS))
    assert frames.n_read == 4
    list(batch.search([0], SETTINGS))
    list(batch.count([0, 1], SETTINGS))
    assert frames.n_read == 6


def test_masks_hold_for_counts_too(finder):
    masked = [each.replace(mask_edge=edge) for each in SETTINGS for edge in (0, 4, 0, 6)]
    batch = PeakBatch(finder, Frames(), memory=1 << 30, masked=without_edge)
    for asked in (masked[:2], masked, masked[1::4]):
        counted = [each.counts.tolist() for each in batch.count([0, 1, 3], asked)]
        for found, counts in zip(batch.search([0, 1, 3], asked), counted, strict=True):
            assert counts == [len(pattern.peaks) for pattern in found.patterns]


class Countless:
    """A finder of somebody else's, which finds more peaks than are counted."""

    def find(self, frame, settings):
        return PeakList(*[np.zeros(70_000)] * 7)

    def prepare(self, frame, min_snr=2.0):
        return self

    def find_all(self, settings):
        return [self.find(None, each) for each in settings]


@pytest.mark.parametrize("n_settings", [1, len(SETTINGS)])
def test_what_cannot_count_finds_and_more_than_fits_is_the_most(n_settings):
    (found,) = PeakBatch(Countless(), [Frames()[0]]).count([0], SETTINGS[:n_settings])
    assert found.counts.tolist() == [65_535] * n_settings


def test_a_pattern_says_where_the_detector_stood(finder):
    frame = dataclasses.replace(Frames()[0], shift_x=1e-3, shift_y=2e-3)
    (found,) = PeakBatch(finder, [frame]).search([0], SETTINGS[:1])
    (pattern,) = found.patterns
    assert (pattern.photon_energy, pattern.camera_length) == (9000.0, 0.1)
    assert (pattern.shift_x, pattern.shift_y) == (1e-3, 2e-3)


def test_settings_that_differ_in_other_things_than_peaks_share_a_list(finder):
    found = next(PeakBatch(finder, Frames()).search([0], SETTINGS[:2]))
    assert found.patterns[0] is found.patterns[1]


def test_no_more_frames_are_read_than_are_needed(finder):
    frames = Frames()
    results = PeakBatch(finder, frames, jobs=2).search(range(6), SETTINGS[:1])
    assert next(results).index == 0
    assert frames.n_read <= 3
    results.close()
    assert frames.n_read <= 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_frames_are_kept_as_far_as_there_is_room(finder, jobs):
    frames = Frames()
    size = 1.5 * frames[0].data.nbytes + frames[0].mask.nbytes
    frames.n_read = 0
    batch = PeakBatch(finder, frames, jobs=jobs, memory=2 * size)
    for _ in range(3):
        found = [each.index for each in batch.search([5, 4, 3], SETTINGS[:2])]
        assert found == [5, 4, 3]
    assert frames.n_read == 1 + 1 + 3


def test_a_frame_that_could_not_be_read_is_tried_again(finder):
    frames = Frames()
    batch = PeakBatch(finder, frames, memory=1 << 30)
    for _ in range(2):
        assert [bool(each.failure) for each in batch.search([1, 2], SETTINGS[:1])] == [False, True]
    assert frames.n_read == 3


def without_edge(mask, settings):
    """Mask so many pixels of the edge as the settings say."""
    width = int(settings.mask_edge)
    usable = np.zeros(mask.shape, bool)
    usable[width : len(mask) - width, width : mask.shape[1] - width] = True
    return mask & usable


@pytest.mark.parametrize("jobs", [1, 2])
def test_masks_of_settings_hold_for_their_lists_alone_whatever_was_asked_before(finder, jobs):
    masked = [each.replace(mask_edge=edge) for each in SETTINGS for edge in (0, 4, 0, 6)]
    frames = Frames()
    batch = PeakBatch(finder, frames, jobs=jobs, memory=1 << 30, masked=without_edge)
    for asked in (masked[:1], masked[:2], masked[4:6], masked, masked[1::4], masked[:1]):
        for each in batch.search([0, 1, 3], asked):
            for settings, pattern in zip(asked, each.patterns, strict=True):
                frame = frames[each.index]
                frame = dataclasses.replace(frame, mask=without_edge(frame.mask, settings))
                assert same(pattern.peaks, finder.find(frame, settings))


def test_threads_do_not_mix_up_frames_of_different_masks(finder):
    frames = [Frames()[0], Frames()[1]]
    for i in range(2):
        mask = np.random.default_rng(i).random(frames[i].mask.shape) < 0.5
        frames[i] = dataclasses.replace(frames[i], mask=mask)
    expected = list(PeakBatch(finder, frames).search(range(len(frames)), SETTINGS))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in PeakBatch(finder, frames * 300, jobs=4).search(
            range(300 * len(frames)), SETTINGS
        ):
            for one, other in zip(expected[each.index % 2].patterns, each.patterns, strict=True):
                assert same(one.peaks, other.peaks)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("shape", [(30, 41), (31, 40), (15, 40), (40, 30)])
def test_a_frame_of_another_detector_is_refused(finder, shape):
    data, mask = np.zeros(shape, np.int16), np.ones(shape, bool)
    usual = Frames()[0]
    for case in (
        dataclasses.replace(usual, data=data, mask=mask),
        dataclasses.replace(usual, data=data),
        dataclasses.replace(usual, mask=mask),
    ):
        with pytest.raises(InputError, match=r"x.h5 //0: .* pixels, but the geometry has"):
            finder.find(case, SETTINGS[0])
        with pytest.raises(InputError, match="the geometry has"):
            finder.prepare(case)


def test_an_empty_batch_is_one(finder):
    assert list(PeakBatch(finder, []).search([], SETTINGS)) == []
    assert [each.patterns for each in PeakBatch(finder, [Frames()[0]]).search([0], [])] == [()]
