"""The peak finder against a plain reference, CrystFEL's own lists, and cfelpyutils."""

from __future__ import annotations

import gc
import math
import pickle
import subprocess
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrappers.crystfel.stream import Stream
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.prepared_frame import PreparedFrame
from wrappers.peaks import PeakList
from wrappers.settings import Settings

F32 = np.float32

HEADER = """
photon_energy = 9000
adu_per_photon = 1
clen = 0.1
res = 10000
data = /data
dim0 = %
dim1 = ss
dim2 = fs
max_adu = 60
"""


def panel_text(name, fs, ss, corner, fs_vector="x", ss_vector="y"):
    return (
        f"{name}/min_fs = {fs[0]}\n{name}/max_fs = {fs[1]}\n"
        f"{name}/min_ss = {ss[0]}\n{name}/max_ss = {ss[1]}\n"
        f"{name}/corner_x = {corner[0]}\n{name}/corner_y = {corner[1]}\n"
        f"{name}/fs = {fs_vector}\n{name}/ss = {ss_vector}\n"
    )


DETECTORS = {
    "one panel": panel_text("a", (0, 29), (0, 21), (-15.3, -4.6)),
    "stacked": panel_text("a", (0, 17), (0, 14), (-9.0, 2.0))
    + panel_text("b", (0, 17), (15, 29), (-9.0, -17.0)),
    # The second panel of the slab comes first, is turned, and there is a gap between the two.
    "side by side": panel_text("b", (20, 34), (0, 16), (-2.2, 12.7), "-y", "x")
    + panel_text("a", (0, 17), (0, 16), (-19.5, -3.1)),
    "tiny": panel_text("a", (0, 3), (0, 2), (-1.5, -1.5))
    + panel_text("b", (0, 3), (3, 3), (-1.5, 3.5)),
}


@dataclass(frozen=True)
class Detector:
    geometry: Geometry
    finder: PeakFinder


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    found = {}
    for name, panels in DETECTORS.items():
        path = tmp_path_factory.mktemp("geometry") / "x.geom"
        path.write_text(HEADER + panels)
        geometry = Geometry.read(path)
        found[name] = Detector(geometry, PeakFinder(geometry))
    return found


# --- the reference -------------------------------------------------------------------------


def reference_peaks(data, mask, geometry, chosen, max_n_peaks=2048):
    """Do what peakfinder8.md says, pixel by pixel; return rows like the fields of PeakList."""
    v = data.astype(F32)
    radius = geometry.radius_map()
    usable = mask & np.isfinite(v) & (radius > chosen.min_res)
    usable &= radius < (chosen.max_res or math.inf)
    mean, upper = reference_limits(v, radius, usable, chosen)
    peaks = []
    for index, panel in enumerate(geometry.panels):
        cut = [array[panel.rectangle] for array in (v, usable, mean, upper)]
        for peak in reference_panel(*cut, chosen):
            fs, ss = peak[0] + panel.slab_fs + 0.5, peak[1] + panel.slab_ss + 0.5
            peaks.append((fs, ss, *peak[2:4], index, *peak[4:]))
    return peaks[:max_n_peaks]


def reference_limits(v, radius, usable, chosen):
    """Return the mean and the upper limit at each pixel."""
    mean = np.zeros(v.shape, F32)
    upper = np.full(v.shape, np.inf, F32)
    rings = np.where(np.isfinite(radius), np.rint(radius), -1)
    for ring in np.unique(rings[rings >= 0]):
        values = v[usable & (rings == ring)]
        low, high = F32(-1e9), F32(1e9)
        for _ in range(5):
            inside = values[(values > low) & (values < high)].astype(float)
            if len(inside) == 0:
                middle, low, high = 0.0, F32(0), F32(np.inf)
                continue
            middle, sigma = spread(inside)
            low = F32(middle - chosen.min_snr * sigma)
            high = F32(max(middle + chosen.min_snr * sigma, chosen.threshold))
        mean[rings == ring] = middle
        upper[rings == ring] = high
    return mean, upper


def spread(values):
    """Return mean and standard deviation; the variance itself where it is negative."""
    mean = values.sum() / len(values)
    variance = (values**2).sum() / len(values) - mean * mean
    return mean, math.sqrt(variance) if variance >= 0 else variance


def reference_panel(v, usable, mean, upper, chosen):
    height, width = v.shape
    above = usable & (v > upper)
    taken = np.zeros(v.shape, bool)
    for ss in range(1, height - 1):
        for fs in range(1, width - 1):
            if not above[ss, fs] or taken[ss, fs]:
                continue
            region = [(ss, fs)]
            taken[ss, fs] = True
            for y, x in region:
                for j in range(max(y - 1, 0), min(y + 2, height)):
                    for i in range(max(x - 1, 0), min(x + 2, width)):
                        if above[j, i] and not taken[j, i]:
                            taken[j, i] = True
                            region.append((j, i))
            if not chosen.min_pix_count <= len(region) <= chosen.max_pix_count:
                continue
            weights = [abs(v[p] - mean[p]) for p in region]
            total, pairs = sum(weights, F32(0)), list(zip(weights, region, strict=True))
            centre = tuple(
                int(np.rint(sum((w * F32(p[a]) for w, p in pairs), F32(0)) / total)) for a in (0, 1)
            )
            background = reference_background(v, usable & (v < upper), centre, chosen)
            if len(background):
                local, sigma = spread(background)
                sigma = sigma if sigma >= 0 else 0.01
            else:
                local, sigma = float(mean[centre]), 0.01
            pixels = np.array([v[p] for p in region], float)
            intensity = pixels.sum() - len(pixels) * local
            highest = max(background, default=0)
            if sigma == 0 or intensity / sigma < chosen.min_snr or pixels.sum() == 0:
                continue
            if pixels.max() - local < max(highest, 0) - local:
                continue
            y, x = np.array(region).T @ pixels / pixels.sum()
            if -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5:
                snr = intensity / sigma
                yield x, y, intensity, snr, len(pixels), pixels.max() - local


def reference_background(v, allowed, centre, chosen):
    reach = 2 * chosen.local_bg_radius
    return np.array(
        [
            v[y, x]
            for y in range(centre[0] - reach, centre[0] + reach)
            for x in range(centre[1] - reach, centre[1] + reach)
            if 0 <= y < v.shape[0]
            and 0 <= x < v.shape[1]
            and (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= reach**2
            and allowed[y, x]
        ],
        float,
    )


# --- random frames ---------------------------------------------------------------------------


@st.composite
def frames(draw, shape):
    """Draw data and mask: small numbers, so that values tie with limits and one another."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["zero", "sparse", "two values", "poisson", "noise", "negative"]))
    data = {
        "zero": lambda: np.zeros(shape),
        "sparse": lambda: rng.poisson(0.1, shape),
        "two values": lambda: 2 * rng.integers(0, 2, shape),
        "poisson": lambda: rng.poisson(3, shape),
        "noise": lambda: np.rint(rng.normal(20, 4, shape)),
        "negative": lambda: np.rint(rng.normal(-30, 6, shape)),
    }[kind]().astype(float)
    for _ in range(draw(st.sampled_from([0, 3, 10, 25]))):
        ss, fs = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, 4, 2)
        data[ss : ss + height, fs : fs + width] += rng.integers(1, draw(st.sampled_from([9, 90])))
    dtype = draw(st.sampled_from(["i2", ">i2", "i4", "f4", "f8"]))
    if "f" in dtype:
        data /= 4  # sums of quarters are exact in double precision
        strange = rng.random(shape) < draw(st.sampled_from([0, 0.05]))
        data[strange] = rng.choice([np.nan, np.inf, -np.inf, 1e10, -1e10], strange.sum())
    else:
        data = np.clip(data, np.iinfo(dtype).min, np.iinfo(dtype).max)
    usable = draw(st.sampled_from([1.0, 0.9, 0.3, 0.0]))
    return data.astype(dtype), rng.random(shape) < usable


@st.composite
def peak_settings(draw):
    low = draw(st.integers(1, 4))
    return Settings(
        min_snr=draw(st.sampled_from([0.5, 1.0, 2.0, 2.0, 2.5, 3.0, 4.0, 6.0])),
        threshold=draw(st.sampled_from([-40, 0, 0, 1, 2, 5, 10, 25])),
        min_pix_count=low,
        max_pix_count=low + draw(st.sampled_from([0, 2, 5, 500])),
        local_bg_radius=draw(st.integers(1, 9)),
        min_res=draw(st.sampled_from([0, 1, 3, 5])),
        max_res=draw(st.sampled_from([0, 6, 9, 14])),
    )


def as_rows(peaks: PeakList):
    columns = (peaks.fs, peaks.ss, peaks.intensity, peaks.snr, peaks.panel, peaks.n_pixels)
    return np.array([*columns, peaks.max_value]).T.reshape(-1, 7)


def same(first: PeakList, second: PeakList) -> bool:
    return np.array_equal(as_rows(first), as_rows(second))


def frame(data, mask) -> Frame:
    return Frame(data, mask, 9000.0, 0.1, "x.h5", "//0")


fixed_detectors = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", DETECTORS)
@settings(fixed_detectors, max_examples=100)
@given(drawn=st.data())
def test_the_first_look_gives_the_list_of_the_reference(detectors, name, drawn):
    detector = detectors[name]
    data, mask = drawn.draw(frames(detector.geometry.slab_shape))
    chosen = drawn.draw(peak_settings())
    max_n_peaks = drawn.draw(st.sampled_from([2048, 2048, 3, 1, 0]))
    expected = reference_peaks(data, mask, detector.geometry, chosen, max_n_peaks)
    found = detector.finder.find(frame(data, mask), chosen, max_n_peaks)
    np.testing.assert_allclose(
        as_rows(found), np.array(expected, float).reshape(-1, 7), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", DETECTORS)
@settings(fixed_detectors, max_examples=100)
@given(drawn=st.data())
def test_a_prepared_frame_gives_the_lists_of_first_looks(detectors, name, drawn):
    detector = detectors[name]
    case = frame(*drawn.draw(frames(detector.geometry.slab_shape)))
    prepared = PreparedFrame(detector.finder, case, drawn.draw(st.sampled_from([1.5, 2.0, 3.0])))
    for chosen in drawn.draw(st.lists(peak_settings(), min_size=5, max_size=20)):
        for max_n_peaks in (2048, 2):
            found = detector.finder.find(case, chosen, max_n_peaks)
            assert same(prepared.find(chosen, max_n_peaks), found)


@pytest.mark.parametrize("name", DETECTORS)
@settings(fixed_detectors, max_examples=50)
@given(drawn=st.data())
def test_counts_are_the_lengths_of_first_looks_lists(detectors, name, drawn):
    detector = detectors[name]
    case = frame(*drawn.draw(frames(detector.geometry.slab_shape)))
    prepared = PreparedFrame(detector.finder, case, drawn.draw(st.sampled_from([1.5, 2.0, 3.0])))
    some = drawn.draw(st.lists(peak_settings(), min_size=1, max_size=6))
    sizes = drawn.draw(st.lists(st.integers(1, 4), max_size=4))
    chosen = [
        *some,
        *(
            each.replace(min_pix_count=size, max_pix_count=max(size, each.max_pix_count))
            for size in sizes
            for each in some
        ),
    ]
    for max_n_peaks in (2048, 2):
        expected = [len(detector.finder.find(case, each, max_n_peaks)) for each in chosen]
        assert prepared.count_all(chosen, max_n_peaks).tolist() == expected


# --- particular cases ------------------------------------------------------------------------


def noisy(shape, seed=0):
    return np.rint(np.random.default_rng(seed).normal(20, 3, shape)).astype(np.int16)


# A ring of n pixels has no value beyond √(n − 1) standard deviations, and these rings are small.
LOOSE = Settings(min_snr=2, threshold=60, min_pix_count=1, max_pix_count=20)


@pytest.fixture
def slab(detectors):
    detector = detectors["one panel"]
    return detector.finder, noisy(detector.geometry.slab_shape)


def test_an_all_masked_frame_has_no_peaks(slab):
    finder, data = slab
    data[10, 10] = 500
    assert len(finder.find(frame(data, np.zeros(data.shape, bool)), LOOSE)) == 0


def test_a_region_may_reach_the_rim_but_not_start_there(slab):
    finder, data = slab
    data[0, 10:12] = 500  # on the rim only
    data[0:2, 20] = 600  # reaches the rim
    peaks = finder.find(frame(data, np.ones(data.shape, bool)), LOOSE)
    assert peaks.fs == pytest.approx([20.5])
    assert peaks.ss == pytest.approx([1.0])
    assert peaks.n_pixels.tolist() == [2]


def test_a_region_does_not_cross_from_panel_to_panel(detectors):
    detector = detectors["stacked"]
    data = noisy(detector.geometry.slab_shape)
    data[13:17, 5] = 500  # panel a ends with row 14
    peaks = detector.finder.find(frame(data, np.ones(data.shape, bool)), LOOSE)
    assert peaks.panel.tolist() == [0, 1]
    assert peaks.n_pixels.tolist() == [2, 2]
    assert peaks.ss == pytest.approx([14.0, 16.0])


def test_the_first_panels_win_where_there_are_too_many_peaks(detectors):
    detector = detectors["side by side"]
    data = noisy(detector.geometry.slab_shape)
    data[4, [4, 10, 24, 30]] = 500
    mask = np.ones(data.shape, bool)
    assert detector.finder.find(frame(data, mask), LOOSE).fs == pytest.approx(
        [24.5, 30.5, 4.5, 10.5]
    )
    assert detector.finder.find(frame(data, mask), LOOSE, 3).fs == pytest.approx([24.5, 30.5, 4.5])


def test_saturated_peaks_are_kept_unless_told_otherwise_and_count(detectors):
    geometry = detectors["one panel"].geometry
    data = noisy(geometry.slab_shape)
    data[5, 5], data[10, 20] = 500, 75  # max_adu is 60, over the background of 20
    mask = np.ones(data.shape, bool)
    assert len(PeakFinder(geometry).find(frame(data, mask), LOOSE)) == 2
    strict = PeakFinder(geometry, use_saturated=False)
    assert strict.find(frame(data, mask), LOOSE).fs == pytest.approx([20.5])
    assert len(strict.find(frame(data, mask), LOOSE, max_n_peaks=1)) == 0


def test_a_frame_is_neither_changed_nor_needs_to_be_writable(slab):
    finder, data = slab
    data[10, 10] = 500
    mask = np.ones(data.shape, bool)
    expected = finder.find(frame(data.copy(), mask), LOOSE)
    data.flags.writeable = mask.flags.writeable = False
    assert same(finder.find(frame(data, mask), LOOSE), expected)
    assert same(PreparedFrame(finder, frame(data, mask)).find(LOOSE), expected)
    wide = np.zeros((data.shape[0], 2 * data.shape[1]), data.dtype)
    wide[:, ::2] = data
    assert same(finder.find(frame(wide[:, ::2], mask), LOOSE), expected)


def test_a_background_may_be_larger_than_the_panel(slab):
    finder, data = slab
    data[10, 10] = 500
    case = frame(data, np.ones(data.shape, bool))
    all_of_it, more = (LOOSE.replace(local_bg_radius=radius) for radius in (30, 10**9))
    expected = finder.find(case, all_of_it)
    assert len(expected) == 1
    assert same(finder.find(case, more), expected)
    assert same(PreparedFrame(finder, case).find(more), expected)


def test_short_integers_do_not_overflow_in_a_huge_background(tmp_path):
    side = 1300
    (tmp_path / "x.geom").write_text(
        HEADER + panel_text("a", (0, side - 1), (0, side - 1), (-side / 2, -side / 2))
    )
    finder = PeakFinder(Geometry.read(tmp_path / "x.geom"))
    data = np.rint(np.random.default_rng(0).normal(30_000, 3, (side, side))).astype(np.int16)
    data[650, 900:902] += 100
    mask = np.ones(data.shape, bool)
    chosen = Settings(min_snr=8, threshold=0, min_pix_count=2, local_bg_radius=600)
    found = finder.find(frame(data, mask), chosen)
    assert len(found) == 1 and found.intensity[0] == pytest.approx(200, abs=10)
    assert same(found, finder.find(frame(data.astype(np.int32), mask), chosen))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_values_too_large_to_be_summed_up_do_no_harm(detectors, dtype):
    detector = detectors["side by side"]
    data = noisy(detector.geometry.slab_shape).astype(dtype)
    data[4, [4, 24]] = 500
    data[10, 5:7] = data[1, 12:14] = 3.4e36
    case = frame(data, np.ones(data.shape, bool))
    for found in (
        detector.finder.find(case, LOOSE),
        PreparedFrame(detector.finder, case).find(LOOSE),
    ):
        assert {24.5, 4.5} <= {*found.fs}


@pytest.mark.parametrize("most", [0, -1, -(10**9)])
def test_no_peaks_may_be_asked_for(slab, most):
    finder, data = slab
    data[10, 10] = 500
    case = frame(data, np.ones(data.shape, bool))
    assert len(finder.find(case, LOOSE, most)) == 0
    assert len(PreparedFrame(finder, case).find(LOOSE, most)) == 0


def test_a_search_band_by_band_knows_regions_that_reach_into_the_next_band(tmp_path):
    """The first of 32 bands of four rows has bright pixels enough to end the search."""
    (tmp_path / "x.geom").write_text(HEADER + panel_text("a", (0, 199), (0, 127), (-100, -64)))
    finder = PeakFinder(Geometry.read(tmp_path / "x.geom"))
    data = np.random.default_rng(0).normal(20, 3, (128, 200))
    data = np.clip(np.rint(data), 10, 28).astype(np.int16)
    data[2:5, 60] = data[3, 30:33] = 100  # the latter begins a row later
    data[1:4:2, 110:199:2] = data[10:120:6, 20:180:6] = 100
    case = frame(data, np.ones(data.shape, bool))
    chosen = Settings(min_snr=4, threshold=50, min_pix_count=3, local_bg_radius=1)
    for most in (1, 2, 3):
        expected = finder.find(case, chosen, most)
        assert expected.fs[0] == 60.5
        assert same(PreparedFrame(finder, case).find(chosen, most), expected)


def test_threads_may_share_a_finder_and_processes_get_a_copy(slab):
    finder, data = slab
    data[10, 10] = 500
    case = frame(data, np.ones(data.shape, bool))
    expected = finder.find(case, LOOSE)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(finder.find(case, LOOSE))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(same(peaks, expected) for peaks in found)
    assert same(pickle.loads(pickle.dumps(finder)).find(case, LOOSE), expected)


# --- other programs --------------------------------------------------------------------------


def n_different(ours: PeakList, fs, ss, intensity):
    """Count the peaks of either list without a partner: 0.02 px and 0.1 % (and the rounding)."""
    left = set(range(len(ours)))
    lost = 0
    for x, y, i in zip(fs, ss, intensity, strict=True):
        near = (np.abs(ours.fs - x) < 0.02) & (np.abs(ours.ss - y) < 0.02)
        near &= np.abs(ours.intensity - i) < 0.006 + 1e-3 * abs(i)
        partners = left & set(np.flatnonzero(near).tolist())
        left -= set(list(partners)[:1])
        lost += not partners
    return max(lost, len(left))


@pytest.fixture(scope="module")
def simulated(shared_data):
    geometry = Geometry.read(shared_data / "simulated" / "jf1m.geom")
    return Run.open(shared_data / "simulated" / "jf1m_lyso_60.h5", geometry), PeakFinder(geometry)


def test_the_lists_of_indexamajig_are_reproduced(simulated, shared_data):
    run, finder = simulated
    n = different = 0
    with np.load(shared_data / "simulated" / "indexamajig_peaks.npz") as recorded:
        lists = {key: recorded[key] for key in recorded}
    for index in range(len(run)):
        image = run[index]
        for key, rows in lists.items():
            snr, threshold, n_pixels, radius = key.split("_")
            chosen = Settings(
                min_snr=float(snr),
                threshold=float(threshold),
                min_pix_count=int(n_pixels),
                max_pix_count=50,
                local_bg_radius=int(radius),
                min_res=30,
            )
            expected = rows[rows[:, 0] == index]
            different += n_different(finder.find(image, chosen), *expected.T[1:4])
            n += len(expected)
    assert n > 80000
    assert different < n / 10000


REAL = {
    "thermolysin_cspad_4": ("thermolysin_cspad.geom", (194, 185, 1, 64)),
    "thaumatin_p6m_crop1320_19": ("thaumatin_p6m_crop1320.geom", (1320, 1320, 1, 1)),
}
TRIED = (
    Settings(min_snr=5, threshold=400, min_pix_count=2, max_pix_count=50, min_res=30),
    Settings(min_snr=8, threshold=250, min_pix_count=2, local_bg_radius=5, min_res=30),
    Settings(min_snr=4, threshold=400, min_pix_count=1, max_pix_count=20, max_res=600),
)


@pytest.mark.parametrize("name", REAL)
def test_cfelpyutils_finds_the_same_peaks_in_real_frames(shared_data, name):
    # At thresholds within the noise of these frames, cfelpyutils itself differs from CrystFEL
    # by up to 4 %: there regions are large, and its older flood fill joins them differently.
    compiled = pytest.importorskip("cfelpyutils.peakfinding.peakfinder8").peakfinder_8
    geom, asics = REAL[name]
    geometry = Geometry.read(shared_data / "frames" / geom)
    run = Run.open(shared_data / "frames" / f"{name}.h5", geometry)
    finder = PeakFinder(geometry)
    radius = finder.layout.radius
    n = different = 0
    for chosen in TRIED:
        for index in range(len(run)):
            image = run[index]
            usable = image.mask & (radius > chosen.min_res)
            usable &= radius < (chosen.max_res or math.inf)
            theirs = compiled(
                2048,
                image.data.astype(np.float32),
                usable.astype(np.int8),
                radius,
                *asics,
                chosen.threshold,
                chosen.min_snr,
                chosen.min_pix_count,
                chosen.max_pix_count,
                chosen.local_bg_radius,
            )
            fs, ss, intensity = np.array(theirs[:3])
            different += n_different(finder.find(image, chosen), fs + 0.5, ss + 0.5, intensity)
            n += len(fs)
    assert n > 500
    assert different <= 0.005 * n


@pytest.mark.crystfel
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "chosen", [Settings(min_snr=4, threshold=10, max_pix_count=50, min_res=30), TRIED[1]]
)
def test_indexamajig_finds_the_same_peaks_in_real_frames(
    indexamajig, shared_data, name, chosen, tmp_path
):
    source = shared_data / "frames"
    geometry = Geometry.read(source / REAL[name][0])
    (tmp_path / "x.lst").write_text(f"{source / name}.h5\n")
    run_peakfinder8(indexamajig, source / REAL[name][0], tmp_path, chosen)
    compare_with_stream(Run.open(source / f"{name}.h5", geometry), geometry, tmp_path, chosen)


@pytest.mark.crystfel
@pytest.mark.parametrize("photons", [0.05, 0.5])
@pytest.mark.parametrize("min_snr,threshold", [(5, 0), (3, 3), (1, 10)])
def test_indexamajig_agrees_on_nearly_empty_frames(
    indexamajig, tmp_path, photons, min_snr, threshold
):
    """Rings of one value, backgrounds without noise, and ties are the rule in such frames."""
    rng = np.random.default_rng(1)
    images = rng.poisson(photons, (8, 60, 80)).astype(np.int16)
    for image in images:
        for ss, fs in zip(rng.integers(0, 58, 25), rng.integers(0, 78, 25), strict=True):
            height, width = rng.integers(1, 4, 2)
            image[ss : ss + height, fs : fs + width] += rng.integers(2, 80)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = images
    (tmp_path / "x.lst").write_text(f"{tmp_path / 'x.h5'}\n")
    (tmp_path / "x.geom").write_text(
        HEADER.replace("max_adu = 60", "")
        + panel_text("a", (0, 79), (0, 29), (-40.3, 5.2))
        + panel_text("b", (0, 79), (30, 59), (-41.7, -30.1))
    )
    chosen = Settings(min_snr=min_snr, threshold=threshold, min_pix_count=1, local_bg_radius=2)
    run_peakfinder8(indexamajig, tmp_path / "x.geom", tmp_path, chosen)
    geometry = Geometry.read(tmp_path / "x.geom")
    compare_with_stream(Run.open(tmp_path / "x.h5", geometry), geometry, tmp_path, chosen)


def run_peakfinder8(program: str, geometry: Path, folder: Path, chosen: Settings) -> None:
    options = {
        "i": folder / "x.lst",
        "g": geometry,
        "o": folder / "x.stream",
        "temp-dir": folder,
        "indexing": "none",
        "peaks": "peakfinder8",
        "min-snr": chosen.min_snr,
        "threshold": chosen.threshold,
        "min-pix-count": chosen.min_pix_count,
        "max-pix-count": chosen.max_pix_count,
        "local-bg-radius": chosen.local_bg_radius,
        "min-res": int(chosen.min_res),
        "max-res": int(chosen.max_res),
    }
    arguments = [f"--{k}={v}" if len(k) > 1 else f"-{k}{v}" for k, v in options.items()]
    subprocess.run(
        [program, *arguments, "--no-revalidate", "-j2"],
        check=True,
        capture_output=True,
        timeout=120,
        cwd=geometry.parent,
        env={"HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)},
    )


def compare_with_stream(run: Run, geometry: Geometry, folder: Path, chosen: Settings) -> None:
    finder = PeakFinder(geometry)
    chunks = {chunk.event: chunk for chunk in Stream(folder / "x.stream")}
    n = different = 0
    assert len(chunks) == len(run)
    for index in range(len(run)):
        expected = chunks[run.name(index)[1]].peaks
        found = finder.find(run[index], chosen)
        different += n_different(found, expected.fs, expected.ss, expected.intensity)
        n += len(expected)
    assert different <= n / 1000


def test_finders_of_one_geometry_share_its_layout_for_as_long_as_it_is_there(tmp_path):
    path = tmp_path / "x.geom"
    path.write_text(HEADER + DETECTORS["stacked"])
    geometry, other = Geometry.read(path), Geometry.read(path)
    layout = PeakFinder(geometry).layout
    assert PeakFinder(geometry).layout is layout
    assert PeakFinder(geometry, use_saturated=False).layout is not layout
    assert PeakFinder(other).layout is not layout
    gone = weakref.ref(layout)
    del geometry, layout
    gc.collect()
    assert gone() is None
