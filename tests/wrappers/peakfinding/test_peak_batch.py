"""Batches against single searches, with both finders."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Frame
from wrappers.peakfinding.peak_batch import find_all, search_frames
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.settings import Settings

GEOMETRY = """
photon_energy = 9000
adu_per_photon = 2
clen = 0.1
res = 10000
data = /data
dim0 = %
dim1 = ss
dim2 = fs
a/min_fs = 0
a/max_fs = 39
a/min_ss = 0
a/max_ss = 29
a/corner_x = -15.3
a/corner_y = -4.6
a/fs = x
a/ss = y
"""
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
    found = find_all(finder, frames, settings, jobs)
    assert frames.n_read == len(frames)
    assert [each.index for each in found] == list(range(6))
    n_peaks = 0
    for each in found:
        if each.index == 2:
            assert each.lists == () and each.failure == "x.h5 is damaged: copy it again"
            continue
        assert len(each.lists) == n_settings and each.failure == ""
        for chosen, peaks in zip(settings, each.lists, strict=True):
            assert same(peaks, finder.find(frames[each.index], chosen))
            n_peaks += len(peaks)
    assert n_peaks > 0


def test_settings_that_differ_in_other_things_than_peaks_share_a_list(finder):
    found = find_all(finder, Frames(), SETTINGS[:2])
    assert found[0].lists[0] is found[0].lists[1]


def test_max_n_peaks_holds_for_each_list(finder):
    for each in find_all(finder, Frames(), SETTINGS, max_n_peaks=1):
        assert all(len(peaks) <= 1 for peaks in each.lists)


def test_no_more_frames_are_read_than_are_needed(finder):
    frames = Frames()
    results = search_frames(finder, frames, SETTINGS[:1], jobs=2)
    assert next(results).index == 0
    assert frames.n_read <= 3
    results.close()
    assert frames.n_read <= 3


def test_an_empty_batch_is_one(finder):
    assert find_all(finder, [], SETTINGS) == []
    assert [each.lists for each in find_all(finder, [Frames()[0]], [])] == [()]
