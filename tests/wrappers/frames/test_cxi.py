"""CXI files: what goes in comes out, CrystFEL's half pixel, and nothing half written."""

from __future__ import annotations

import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cxi_reader import CxiPeaks
from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.cxi import CxiWriter
from wrappers.peaks import PeakList

GEOMETRY = geometry_text(
    panel_text("left", 40, 80, (-40, -40)), panel_text("right", 40, 80, (0, -40), fs=40)
)


@pytest.fixture(scope="module")
def geometry(tmp_path_factory) -> Geometry:
    path = tmp_path_factory.mktemp("geometry") / "two.geom"
    path.write_text(GEOMETRY)
    return Geometry.read(path)


def peak_list(n: int, seed: int = 0) -> PeakList:
    rng = np.random.default_rng(seed)
    fs, ss = rng.uniform(0.5, 79.5, (2, n)).astype(np.float32).astype(float)
    intensity, snr, value = rng.exponential(100, (3, n)).astype(np.float32).astype(float)
    panel = (fs >= 40).astype(np.int32)
    return PeakList(fs, ss, intensity, snr, panel, rng.integers(1, 30, n, np.int32), value)


def assert_equal(left: PeakList, right: PeakList) -> None:
    for name in ("fs", "ss"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), atol=1e-5)
    for name in ("intensity", "snr", "panel", "n_pixels", "max_value"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@given(counts=st.lists(st.integers(0, 90), max_size=150))
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, geometry, counts):
    path = tmp_path_factory.mktemp("cxi") / "peaks.cxi"
    lists = [peak_list(n, seed) for seed, n in enumerate(counts)]
    with CxiWriter(path, sources=True) as writer:
        for i, peaks in enumerate(lists):
            writer.append(peaks, 9000.0 + i, 0.08 + 1e-4 * i, source=("run.h5", f"//{i}"))
        assert len(writer) == len(lists)
    with CxiPeaks(path, geometry) as found:
        assert len(found) == len(lists)
        np.testing.assert_allclose(found.photon_energy, 9000.0 + np.arange(len(lists)))
        np.testing.assert_allclose(found.camera_length, 0.08 + 1e-4 * np.arange(len(lists)))
        for i, peaks in enumerate(lists):
            assert_equal(found[i], peaks)
            assert found.source(i) == ("run.h5", f"//{i}")


def test_positions_in_the_file_are_half_a_pixel_less(tmp_path):
    peaks = peak_list(7)
    with CxiWriter(tmp_path / "peaks.cxi", attributes={"min_snr": 5.5, "clen": None}) as writer:
        writer.append(peaks, 9300.0, 0.08)
    with h5py.File(tmp_path / "peaks.cxi") as file:
        result = file["/entry_1/result_1"]
        assert result["nPeaks"][0] == 7
        np.testing.assert_allclose(result["peakXPosRaw"][0], peaks.fs - 0.5, atol=1e-5)
        np.testing.assert_allclose(result["peakYPosRaw"][0], peaks.ss - 0.5, atol=1e-5)
        np.testing.assert_allclose(result["peakTotalIntensity"][0], peaks.intensity)
        assert file["/LCLS/detector_1/EncoderValue"][0] == pytest.approx(80.0)
        assert dict(result.attrs) == {"min_snr": 5.5}


def test_images_and_masks(tmp_path):
    rng = np.random.default_rng(1)
    frames = rng.integers(-5, 1000, (3, 80, 80), np.int16)
    masks = rng.random((3, 80, 80)) > 0.1
    path = tmp_path / "hits.cxi"
    with CxiWriter(path) as writer:
        for image in zip(frames, masks, strict=True):
            writer.append(PeakList.empty(), 9300.0, 0.08, image=image[0], mask=image[1])
    with h5py.File(path) as file:
        images = file["/entry_1/data_1/data"]
        assert images.chunks == (1, 80, 80)
        assert images.dtype == np.int16
        np.testing.assert_array_equal(images, frames)
        np.testing.assert_array_equal(file["/entry_1/data_1/mask"][:] == 0, masks)


def test_frames_that_share_a_mask(tmp_path):
    masks = [np.random.default_rng(i).random((80, 80)) > 0.1 for i in range(2)]
    order = [0, 0, 0, 1, 0, 1, 1]
    with CxiWriter(tmp_path / "hits.cxi") as writer:
        for i in order:
            writer.append(PeakList.empty(), 9300.0, 0.08, mask=masks[i])
    with h5py.File(tmp_path / "hits.cxi") as file:
        stored = file["/entry_1/data_1/mask"][:]
        assert "/entry_1/data_1/data" not in file
    np.testing.assert_array_equal(stored == 0, [masks[i] for i in order])


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "peaks.cxi"
    path.write_text("precious")
    with pytest.raises(KeyboardInterrupt), CxiWriter(path) as writer:
        writer.append(peak_list(3), 9300.0, 0.08)
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["peaks.cxi"]
    assert path.read_text() == "precious"


def test_a_file_of_another_program(tmp_path, geometry):
    path = tmp_path / "om.cxi"
    with h5py.File(path, "w") as file:
        file["/entry_1/result_1/nPeaks"] = np.array([2, 0])
        for name, values in (("X", [1.0, 50.0]), ("Y", [2.0, 3.0])):
            file[f"/entry_1/result_1/peak{name}PosRaw"] = np.array([values, [0, 0]])
        file["/entry_1/result_1/peakTotalIntensity"] = np.ones((2, 2))
    with CxiPeaks(path, geometry) as found:
        assert found.photon_energy is None
        assert found.source(0) is None
        np.testing.assert_array_equal(found[0].fs, [1.5, 50.5])
        np.testing.assert_array_equal(found[0].panel, [0, 1])
        assert len(found[-1]) == 0


def test_peaks_of_another_detector(tmp_path, geometry):
    with CxiWriter(tmp_path / "peaks.cxi") as writer:
        far = PeakList(*np.full((4, 1), 500.0), np.zeros(1), np.ones(1), np.ones(1))
        writer.append(far, 9300.0, 0.08)
    with (
        CxiPeaks(tmp_path / "peaks.cxi", geometry) as found,
        pytest.raises(InputError, match="peaks that lie on no panel"),
    ):
        found[0]


def test_unreadable(tmp_path, geometry):
    (tmp_path / "text.cxi").write_text("no")
    with pytest.raises(InputError, match=r"text\.cxi cannot be read as HDF5"):
        CxiPeaks(tmp_path / "text.cxi", geometry)
    h5py.File(tmp_path / "empty.cxi", "w").close()
    with pytest.raises(InputError, match="nPeaks is missing"):
        CxiPeaks(tmp_path / "empty.cxi", geometry)


def test_unwritable():
    with pytest.raises(InputError, match="cannot be written"):
        CxiWriter(Path("/nonexistent/peaks.cxi"))


def test_a_full_disk_is_one_sentence(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with (
            pytest.raises(InputError, match=r"peaks\.cxi cannot be written"),
            CxiWriter(tmp_path / "peaks.cxi") as writer,
        ):
            for seed in range(200):
                writer.append(peak_list(90, seed), 9300.0, 0.08)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert list(tmp_path.iterdir()) == []
