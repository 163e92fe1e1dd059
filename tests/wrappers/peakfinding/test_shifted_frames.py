"""The rings and regions of a frame follow what the data says of the detector's shift."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.settings import Settings

N, SIDE = 4, 120
SHIFTS = np.array([0.0, 1.25e-3, -0.8e-3, 1.25e-3])
TOP = "clen = 0.1 m\nphoton_energy = 9000 eV\nadu_per_photon = 1\nres = 10000\ndata = /d\n"
PANEL = f"""\
dim0 = %
dim1 = ss
dim2 = fs
p/min_fs = 0
p/max_fs = {SIDE - 1}
p/min_ss = 0
p/max_ss = {SIDE - 1}
p/corner_x = -60
p/corner_y = -60
p/fs = x
p/ss = y
bad_beam/min_x = -6
bad_beam/max_x = 6
bad_beam/min_y = -200
bad_beam/max_y = 200
"""
PLAIN = Settings(min_snr=4, threshold=20, min_pix_count=1, max_pix_count=20, max_res=45)
GRID = [PLAIN.replace(min_snr=snr, threshold=t) for snr in (4, 5, 6) for t in (15, 25)]


@pytest.fixture
def files(tmp_path):
    """A run whose background falls with the true distance from the beam, with spots on it."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    frames = np.empty((N, SIDE, SIDE), np.int32)
    for frame, shift in zip(frames, SHIFTS, strict=True):
        radius = np.hypot(columns - 60 + shift * 10000, rows - 60)
        frame[:] = rng.poisson(200 * np.exp(-radius / 25) + 2)
        spots = rng.integers(5, SIDE - 5, (40, 2))
        frame[spots[:, 0], spots[:, 1]] += 60
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["d"], file["shift"] = frames, SHIFTS * 1e3
    return tmp_path


def run(folder, shift):
    path = folder / "run.geom"
    lines = "" if shift is None else f"detector_shift_x = {shift} mm\ndetector_shift_y = 0 m\n"
    path.write_text(TOP + lines + PANEL)
    return Run.open(folder / "run.h5", Geometry.read(path))


def found(peaks):
    return [*zip(peaks.fs, peaks.ss, peaks.intensity, strict=True)]


@pytest.mark.parametrize("finder", ["peakfinder8", "robust"])
def test_a_shift_in_the_data_is_the_same_shift_as_a_number(files, finder):
    moving = run(files, "/shift")
    kind = {"peak_finder": finder, "threshold": 15.0}
    by_header = NamedFinder(moving.geometry)
    lengths = []
    for i, shift in enumerate(SHIFTS):
        still = run(files, f"{shift * 1e3:.6f}")
        frame, same = moving[i], still[i]
        np.testing.assert_array_equal(frame.mask, same.mask)
        assert (~frame.mask).sum() == pytest.approx(11 * SIDE, abs=SIDE)
        settings = PLAIN.replace(**kind)
        peaks = by_header.find(frame, settings)
        assert found(peaks) == found(NamedFinder(still.geometry).find(same, settings))
        (prepared,) = by_header.of(frame, settings).prepare(frame).find_all([settings])
        assert found(prepared) == found(peaks)
        lengths.append(len(peaks))
    # Without the shift, the rings mix what is near the beam with what is far.
    unmoved = run(files, None)
    ignored = [len(NamedFinder(unmoved.geometry).find(unmoved[i], PLAIN)) for i in range(N)]
    assert ignored[0] == lengths[0] or finder == "robust"
    assert ignored[1:] != lengths[1:]


def test_so_has_a_batch_of_settings(files):
    moving = run(files, "/shift")
    batch = [
        *PeakBatch(NamedFinder(moving.geometry), moving, jobs=2).search(range(len(moving)), GRID)
    ]
    for i, shift in enumerate(SHIFTS):
        still = run(files, f"{shift * 1e3:.6f}")
        finder = NamedFinder(still.geometry)
        for settings, pattern in zip(GRID, batch[i].patterns, strict=True):
            assert found(pattern.peaks) == found(finder.find(still[i], settings))
            assert pattern.shift_x == pytest.approx(shift)


def test_so_has_the_map_of_bad_pixels(files):
    with h5py.File(files / "run.h5", "r+") as file:
        rng = np.random.default_rng(1)
        frames = rng.poisson(np.repeat(file["d"][1][None] + 1, 12, axis=0))
        del file["d"], file["shift"]
        file["d"], file["shift"] = frames, np.full(12, SHIFTS[1] * 1e3)
    by_header, by_number = run(files, "/shift"), run(files, f"{SHIFTS[1] * 1e3:.6f}")
    one, other = find_bad_pixels(by_header), find_bad_pixels(by_number)
    np.testing.assert_array_equal(one.hot, other.hot)


@pytest.mark.parametrize("value", [1e300, np.nan, np.inf, 5000.0])
def test_an_impossible_shift_is_refused(files, value):
    with h5py.File(files / "run.h5", "r+") as file:
        file["shift"][2] = value
    moving = run(files, "/shift")
    with pytest.raises(InputError, match=r"detector shift of .* //2 is"):
        moving[2]
