"""Runs as files: complete, readable by the project's own readers, indexable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from envs.simulation.experiment import SMALL_DETECTOR, Beam, Crystals, Detector, Experiment, Module
from envs.simulation.rendering import static_mask
from envs.simulation.simulator import RunPaths, read_truth, render_frame, simulate_run
from wrappers.cell import Cell
from wrappers.crystfel.indexer import CrystfelIndexer, index_own_peaks
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.indexing import Indexing, Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

MISSET = Experiment(
    detector=SMALL_DETECTOR, clen_error=-0.012, shift_x=3e-4, shift_y=-2e-4, seed=11
)
STRONG = Experiment(
    detector=SMALL_DETECTOR,
    crystals=Crystals(hit_fraction=1.0, multi_fraction=0.0, photons=600.0, photons_spread=0.3),
    seed=5,
)
SETTINGS = Settings(min_snr=5.0, threshold=30.0, min_pix_count=2, max_pix_count=50)


@pytest.fixture(scope="module", params=["hdf5", "cxi"])
def misset(request, tmp_path_factory) -> RunPaths:
    return simulate_run(MISSET, tmp_path_factory.mktemp("run") / "new", 4, request.param)


@pytest.fixture(scope="module")
def strong(tmp_path_factory) -> RunPaths:
    return simulate_run(STRONG, tmp_path_factory.mktemp("strong"), 6)


def patterns_of(paths: RunPaths) -> list[Pattern]:
    geometry = Geometry.read(paths.geometry)
    run = Run.open(paths.data, geometry)
    finder = PeakFinder(geometry)
    frames = [run[i] for i in range(len(run))]
    return [
        Pattern(finder.find(frame, SETTINGS), frame.photon_energy, frame.camera_length)
        for frame in frames
    ]


def check_lattices(answers: list[Indexing], paths: RunPaths) -> None:
    """Each answer must be the true lattice, in whichever equivalent setting, to 1 %."""
    for answer, truth in zip(answers, read_truth(paths.truth), strict=True):
        assert answer.indexed
        transformation = answer.lattices[0].reciprocal @ np.linalg.inv(truth.reciprocal[0])
        np.testing.assert_allclose(transformation, np.rint(transformation), atol=0.01)
        assert abs(round(np.linalg.det(transformation))) == 1


def test_frames_are_written_as_rendered(misset):
    with h5py.File(misset.data) as file:
        path = "/entry/data/data" if misset.data.suffix == ".h5" else "/entry_1/data_1/data"
        data = file[path]
        assert data.shape == (4, 512, 512)
        assert data.dtype == np.int16
        assert data.chunks == (1, 512, 512)
        assert str(hdf5plugin.Bitshuffle.filter_id) in data._filters
        for index in range(4):
            np.testing.assert_array_equal(data[index], render_frame(MISSET, index)[0])


def test_readers_see_what_was_simulated(misset):
    geometry = Geometry.read(misset.geometry)
    run = Run.open(misset.data, geometry)
    assert len(run) == 4
    assert run.nominal_clen == pytest.approx(0.08 * (1 - 0.012), abs=1e-7)
    assert Cell.read(misset.cell) == MISSET.crystals.cell
    for index in range(4):
        frame = run[index]
        data, truth = render_frame(MISSET, index)
        np.testing.assert_array_equal(frame.data, data)
        np.testing.assert_array_equal(frame.mask, static_mask(MISSET))
        assert frame.photon_energy == pytest.approx(truth.photon_energy, rel=1e-12)


def test_truth_reads_back(misset):
    truths = read_truth(misset.truth)
    assert len(truths) == 4
    for index, truth in enumerate(truths):
        expected = render_frame(MISSET, index)[1]
        assert truth.kind == expected.kind
        assert truth.photon_energy == expected.photon_energy
        assert truth.background == expected.background
        np.testing.assert_array_equal(truth.reciprocal, expected.reciprocal)
        np.testing.assert_array_equal(truth.photons, expected.photons)
        assert len(truth.photons) == len(truth.reciprocal)
        np.testing.assert_allclose(truth.spots, expected.spots, rtol=1e-6)
    with h5py.File(misset.truth) as file:
        assert file.attrs["clen"] == 0.08
        assert file.attrs["shift_x"] == 3e-4


@pytest.mark.parametrize(
    "detector",
    [
        SMALL_DETECTOR,
        dataclasses.replace(
            SMALL_DETECTOR, modules=(Module(-250, 12, 3.0), Module(-262, -270, -2.0))
        ),
    ],
)
@pytest.mark.parametrize("format", ["hdf5", "cxi"])
def test_true_spots_lie_on_the_lattice_once_the_geometry_is_mended(detector, format, tmp_path):
    """Through the geometry file and its reader, so an independent way from pixels to q."""
    experiment = dataclasses.replace(
        STRONG, detector=detector, clen_error=0.02, shift_x=3e-4, shift_y=-5e-4
    )
    paths = simulate_run(experiment, tmp_path / "run", 2, format)
    geometry = Geometry.read(paths.geometry)
    for truth in read_truth(paths.truth):
        fs, ss, photons = truth.spots[truth.spots[:, 2] > 30].T
        n = len(fs)
        assert n > 30
        panel = (ss >= 256).astype(np.int32)
        peaks = PeakList(fs, ss, photons, photons, panel, np.ones(n, np.int32), photons)
        q = geometry.scattering_vectors(
            peaks, truth.photon_energy, experiment.clen, experiment.shift_x, experiment.shift_y
        )
        indices = q @ np.linalg.inv(truth.reciprocal[0])
        off = (indices - np.rint(indices)) @ truth.reciprocal[0]
        # What remains is the distance of the points from the Ewald sphere.
        assert np.median(np.linalg.norm(off, axis=1)) < 3e-4
        written = geometry.scattering_vectors(peaks, truth.photon_energy, experiment.written_clen)
        assert np.median(np.linalg.norm(written - q, axis=1)) > 1e-3


def test_progress_is_reported(tmp_path):
    seen = []
    simulate_run(
        STRONG, tmp_path / "run", 2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 2), (2, 2)]


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_run(STRONG, tmp_path / "run", 3, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not an empty folder"):
        simulate_run(STRONG, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_impossible_requests(tmp_path):
    with pytest.raises(InputError, match="n_frames"):
        simulate_run(STRONG, tmp_path / "run", 0)
    with pytest.raises(InputError, match="hdf5, cxi"):
        simulate_run(STRONG, tmp_path / "run", 1, "tiff")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        simulate_run(STRONG, tmp_path / "file" / "run", 1)
    with pytest.raises(InputError, match="truth"):
        read_truth(tmp_path / "file")


def test_the_embedded_indexer_finds_the_true_lattices(strong):
    answers = FastIndexer(Geometry.read(strong.geometry), STRONG.crystals.cell).index(
        patterns_of(strong)
    )
    check_lattices(answers, strong)


def test_a_blank_frame_has_no_peaks_but_its_bad_pixels(tmp_path):
    blank = dataclasses.replace(STRONG, crystals=Crystals(hit_fraction=0.0))
    for pattern in patterns_of(simulate_run(blank, tmp_path / "run", 2)):
        assert len(pattern.peaks) < 5


def test_the_default_threshold_loses_most_spots(strong):
    geometry = Geometry.read(strong.geometry)
    run, finder = Run.open(strong.data, geometry), PeakFinder(geometry)
    found = {
        threshold: sum(
            len(finder.find(run[i], SETTINGS.replace(threshold=threshold))) for i in range(len(run))
        )
        for threshold in (30.0, 800.0)
    }
    assert 0 < found[800.0] < 0.3 * found[30.0]


@pytest.mark.crystfel
def test_crystfel_finds_the_true_lattices(strong, indexamajig):
    indexer = CrystfelIndexer(
        Geometry.read(strong.geometry), STRONG.crystals.cell, program=indexamajig, jobs=2
    )
    check_lattices(indexer.index(patterns_of(strong)), strong)


@pytest.mark.crystfel
@pytest.mark.parametrize("format", ["hdf5", "cxi"])
def test_crystfel_reads_the_files_and_indexes_them(format, indexamajig, tmp_path):
    counter = Detector(
        SMALL_DETECTOR.modules, (256, 512), 150e-6, gain=1.0, read_noise=0.0, dtype="int32"
    )
    experiment = dataclasses.replace(STRONG, detector=counter, beam=Beam(9300.0, 0.002))
    paths = simulate_run(experiment, tmp_path / "run", 4, format)
    names = [(str(Path(paths.data)), f"//{i}") for i in range(4)]
    chunks = index_own_peaks(
        names,
        paths.geometry,
        experiment.crystals.cell,
        SETTINGS.replace(threshold=3.0),
        program=indexamajig,
        jobs=2,
    )
    assert [len(chunk.crystals) if chunk else None for chunk in chunks] == [1, 1, 1, 1]
