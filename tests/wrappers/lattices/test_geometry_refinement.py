"""Indexed frames tell the camera length and the shift, whoever indexed them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.cell import Cell
from wrappers.crystfel.stream import Stream
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.indexing import Indexing, Lattice, Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.geometry_drift import find_drift
from wrappers.lattices.geometry_pooling import pool
from wrappers.lattices.geometry_refinement import estimate_geometry, fit_frame, scale_deviation
from wrappers.peaks import PeakList

ENERGY = 9300.0
K = ENERGY / 12398.4198
PIXEL = 75e-6
TRUE_LENGTH = 0.08
TRUE_SHIFT = np.array([120e-6, -60e-6])
LYSOZYME = Cell(79.0, 79.0, 38.0, 90, 90, 90, "tetragonal", "P", "c")
CENTRED = Cell(61.4, 122.6, 168.0, 90, 90, 90, "orthorhombic", "C")

GEOM = geometry_text(
    panel_text("upper", 1024, 512, (-512, 10)),
    panel_text("lower", 1024, 512, (-512, -522), ss=512, coffset=0.002),
    clen="0.08 m",
    res=13333.333,
)
"""Two panels, of which the lower stands 2 mm behind the upper."""


@pytest.fixture
def geometry(tmp_path: Path) -> Geometry:
    path = tmp_path / "two.geom"
    path.write_text(GEOM)
    return Geometry.read(path)


def bandwidth(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ray that each node reflects from a beam of many colours, and how unlikely."""
    k = -(g**2).sum(axis=1) / (2.0 * g[:, 2])
    ray = g + np.column_stack((0.0 * k, 0.0 * k, k))
    return ray, (k / K - 1.0) / 1e-3


def mosaicity(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ray where the shortest turn brings each node to reflect, and how unlikely."""
    length = np.linalg.norm(g, axis=1)
    z = -(length**2) / (2.0 * K)
    across = np.hypot(g[:, 0], g[:, 1])
    turn = np.arcsin(np.clip(z / length, -1, 1)) - np.arctan2(g[:, 2], across)
    ray = g * (np.sqrt(length**2 - z**2) / across)[:, None]
    ray[:, 2] = z + K
    return ray, turn / 2e-3


Reflect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def still(
    cell: Cell, rng: np.random.Generator, reflect: Reflect, n_peaks: int = 60, size: float = 1.0
) -> tuple[PeakList, np.ndarray]:
    """Return the strongest spots on the detector of `GEOM`, and the rows a*, b*, c*."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    reciprocal = cell.reciprocal @ (turn * np.linalg.det(turn)) / size
    sizes = [int(0.42 * np.linalg.norm(axis)) for axis in cell.real]
    grid = np.meshgrid(*[np.arange(-size, size + 1) for size in sizes], indexing="ij")
    hkl = np.stack(grid, axis=-1).reshape(-1, 3)
    whole = hkl @ cell.primitive_axes.T
    hkl = hkl[(np.abs(whole - np.round(whole)) < 1e-6).all(axis=1) & hkl.any(axis=1)]
    g = hkl @ reciprocal
    g = g[(np.linalg.norm(g, axis=1) < 0.42) & (g[:, 2] < -1e-4)]
    ray, unlikely = reflect(g)
    near = np.abs(unlikely) < 4.0
    ray, unlikely = ray[near], unlikely[near]
    slope = ray[:, :2] / ray[:, 2:]
    # the panels stand 1 mm before and behind the mean camera length
    upper = slope[:, 1] > TRUE_SHIFT[1] / TRUE_LENGTH
    distance = TRUE_LENGTH + np.where(upper, -1e-3, 1e-3)
    spot = (slope * distance[:, None] - TRUE_SHIFT) / PIXEL + rng.normal(0.0, 0.3, slope.shape)
    fs, ss = spot[:, 0] + 512.0, np.where(upper, spot[:, 1] - 10.0, spot[:, 1] + 522.0)
    seen = (fs > 0) & (fs < 1024) & (ss > 0) & (ss < 512)
    strength = rng.exponential(size=len(fs)) * np.exp(-0.5 * unlikely**2)
    best = np.flatnonzero(seen)[np.argsort(-strength[seen])[:n_peaks]]
    panel = np.where(upper, 0, 1).astype(np.int32)[best]
    nothing = np.zeros(len(best))
    peaks = PeakList(
        fs[best], (ss + 512.0 * ~upper)[best], strength[best], nothing, panel, panel * 0, nothing
    )
    return peaks, reciprocal


def patterns_and_answers(
    cell: Cell, geometry: Geometry, n: int, length: float, reflect: Reflect = mosaicity
) -> tuple[list[Pattern], list[Indexing]]:
    rng = np.random.default_rng(1)
    patterns = [Pattern(still(cell, rng, reflect)[0], ENERGY, length) for _ in range(n)]
    return patterns, FastIndexer(geometry, cell).index(patterns)


@pytest.mark.parametrize(
    ("cell", "reflect", "error"),
    [
        (LYSOZYME, bandwidth, 0.0),
        (LYSOZYME, bandwidth, -0.02),
        (LYSOZYME, mosaicity, 0.025),
        (CENTRED, mosaicity, -0.02),
    ],
)
def test_places_camera_length_and_shift(geometry, cell, reflect, error):
    tried = TRUE_LENGTH * (1.0 + error)
    patterns, answers = patterns_and_answers(cell, geometry, 20, tried, reflect)
    estimate = estimate_geometry(patterns, answers, geometry, cell)
    assert estimate is not None
    assert estimate.n_frames >= 19
    assert estimate.camera_length == pytest.approx(TRUE_LENGTH, rel=1e-3)
    assert abs(estimate.camera_length - TRUE_LENGTH) < 4.0 * estimate.camera_length_se
    assert estimate.camera_length_se < 5e-4 * TRUE_LENGTH
    assert estimate.camera_length_change == pytest.approx(estimate.camera_length - tried)
    assert abs(estimate.shift_x - TRUE_SHIFT[0]) < min(0.2 * PIXEL, 4.0 * estimate.shift_x_se)
    assert abs(estimate.shift_y - TRUE_SHIFT[1]) < min(0.2 * PIXEL, 4.0 * estimate.shift_y_se)
    assert estimate.scale_deviation == pytest.approx(error, abs=0.005)


def test_each_frame_gives_its_own_change(geometry):
    """Frames that were tried at two camera lengths ask for two changes, and that is seen."""
    rng = np.random.default_rng(7)
    tried = [TRUE_LENGTH * (1.01 if i % 2 else 1.0) for i in range(20)]
    patterns, answers = [], []
    for length in tried:
        peaks, reciprocal = still(LYSOZYME, rng, bandwidth, 60)
        patterns.append(Pattern(peaks, ENERGY, length))
        answers.append(Indexing((Lattice(reciprocal),)))
    answers[3] = Indexing()
    estimate = estimate_geometry(patterns, answers, geometry, LYSOZYME)
    assert estimate is not None
    places, changes, errors = np.array(estimate.frame_changes).T
    assert places.tolist() == [i for i in range(20) if i != 3] and (errors > 0).all()
    own = np.array(tried)[places.astype(int)] + changes
    assert own == pytest.approx(TRUE_LENGTH, rel=2e-3)
    assert np.median(np.abs(own - TRUE_LENGTH) / errors) < 2
    found = find_drift(places, TRUE_LENGTH + changes, errors)
    assert found is not None and found.kind == "groups"
    assert found.size == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_standard_errors_are_honest(geometry, spread):
    rng = np.random.default_rng(2)
    off = []
    for _ in range(25):
        patterns, answers = [], []
        for _ in range(6):
            size, n_peaks = 1.0 + spread * rng.normal(), int(rng.integers(15, 120))
            peaks, reciprocal = still(LYSOZYME, rng, bandwidth, n_peaks, size)
            patterns.append(Pattern(peaks, ENERGY, TRUE_LENGTH))
            answers.append(Indexing((Lattice(reciprocal),)))
        estimate = estimate_geometry(patterns, answers, geometry, LYSOZYME)
        off.append((estimate.camera_length - TRUE_LENGTH) / estimate.camera_length_se)
    assert 0.5 < np.sqrt(np.mean(np.square(off))) < 1.6
    assert abs(np.mean(off)) < 0.7


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_crystals_of_different_size_widen_the_errors(spread):
    """Strong frames know their own crystal very well, but not the others'."""
    rng = np.random.default_rng(7)
    information = np.array([np.diag(rng.uniform(0.5, 1.0, 3)) / 1e-6**2 for _ in range(300)])
    information *= 10 ** rng.uniform(-3, 0, 300)[:, None, None]
    values = np.array([rng.multivariate_normal(np.zeros(3), np.linalg.inv(i)) for i in information])
    values[:, 0] += TRUE_LENGTH * spread * rng.normal(size=300)
    off = []
    for frames in np.split(np.arange(300), 30):
        mean, covariance = pool(values[frames], information[frames])
        off.append(mean / np.sqrt(np.diag(covariance)))
    assert np.all(np.sqrt(np.mean(np.square(off), axis=0)) < 1.4)
    assert np.all(np.sqrt(np.mean(np.square(off), axis=0)) > 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("reflect", [bandwidth, mosaicity])
def test_intervals_cover_the_truth(geometry, reflect):
    """From indexing on: 20 frames a time, a camera length that is 1 % off."""
    rng = np.random.default_rng(5)
    indexer = FastIndexer(geometry, LYSOZYME)
    off = []
    for _ in range(60):
        patterns = [
            Pattern(still(LYSOZYME, rng, reflect)[0], ENERGY, 1.01 * TRUE_LENGTH) for _ in range(20)
        ]
        told = estimate_geometry(patterns, indexer.index(patterns), geometry, LYSOZYME)
        assert told.camera_length == pytest.approx(TRUE_LENGTH, rel=1e-3)
        off.append(
            (
                (told.camera_length - TRUE_LENGTH) / told.camera_length_se,
                (told.shift_x - TRUE_SHIFT[0]) / told.shift_x_se,
                (told.shift_y - TRUE_SHIFT[1]) / told.shift_y_se,
            )
        )
    covered = (np.abs(off) < 1.96).mean(axis=0)
    # 60 intervals that each cover with 95 % have a share below 0.87 once in a hundred times
    assert np.all(covered >= 0.87)
    assert np.all(np.sqrt(np.mean(np.square(off), axis=0)) > 0.6)


def test_the_lattices_own_cell(geometry):
    patterns, answers = patterns_and_answers(LYSOZYME, geometry, 8, 0.99 * TRUE_LENGTH)
    told = estimate_geometry(patterns, answers, geometry, LYSOZYME)
    scale = 1.0 + told.scale_deviation
    expected = (79.0 * scale, 79.0 * scale, 38.0 * scale, 90.0, 90.0, 90.0)
    assert told.cell == pytest.approx(expected, rel=5e-3)
    assert all(0 < error < 0.5 for error in told.cell_se)
    assert 0 < told.residual_px_se < 0.5 * told.residual_px


def test_what_is_tried_makes_no_difference(geometry):
    patterns, answers = patterns_and_answers(LYSOZYME, geometry, 6, TRUE_LENGTH)
    moved = [
        dataclasses.replace(pattern, camera_length=0.0788, shift_x=50e-6) for pattern in patterns
    ]
    moved_answers = FastIndexer(geometry, LYSOZYME).index(moved)
    one = estimate_geometry(patterns, answers, geometry, LYSOZYME)
    other = estimate_geometry(moved, moved_answers, geometry, LYSOZYME)
    assert other.camera_length == pytest.approx(one.camera_length, abs=0.5 * one.camera_length_se)
    assert other.shift_x == pytest.approx(one.shift_x, abs=0.5 * one.shift_x_se)


def test_a_false_lattice_among_good_ones_does_little_harm(geometry):
    patterns, answers = patterns_and_answers(LYSOZYME, geometry, 12, TRUE_LENGTH)
    answers[5] = Indexing((Lattice(np.roll(answers[5].lattices[0].reciprocal, 1, axis=1)),))
    estimate = estimate_geometry(patterns, answers, geometry, LYSOZYME)
    assert estimate.camera_length == pytest.approx(TRUE_LENGTH, rel=1e-3)


def test_explained_peaks_and_indices(geometry):
    rng = np.random.default_rng(3)
    peaks, reciprocal = still(CENTRED, rng, mosaicity)
    n = len(peaks)
    # ten peaks that no lattice made
    stray = np.concatenate((peaks.fs[:10] + rng.uniform(40, 60, 10), peaks.fs))
    peaks = dataclasses.replace(
        peaks,
        fs=stray,
        **{
            field: np.concatenate((getattr(peaks, field)[:10], getattr(peaks, field)))
            for field in ("ss", "intensity", "snr", "panel", "n_pixels", "max_value")
        },
    )
    pattern = Pattern(peaks, ENERGY, TRUE_LENGTH)
    fit = fit_frame(pattern, Lattice(reciprocal), geometry, CENTRED)
    assert n - 3 <= np.sum(fit.explained >= 10) <= n
    assert np.sum(fit.explained < 10) <= 3
    assert not np.any(fit.hkl[:, :2].sum(axis=1) % 2)
    q = geometry.scattering_vectors(peaks, ENERGY, *fit.geometry)[fit.explained]
    assert np.median(np.linalg.norm(q - fit.hkl @ reciprocal, axis=1)) < 1.5e-3
    assert fit.residual_px < 0.7
    assert np.all(fit.standard_errors > 0)


def test_nothing_to_say(geometry):
    rng = np.random.default_rng(4)
    peaks, reciprocal = still(LYSOZYME, rng, mosaicity, n_peaks=5)
    few = Pattern(peaks, ENERGY, TRUE_LENGTH)
    empty = Pattern(PeakList.empty(), ENERGY, TRUE_LENGTH)
    answer = Indexing((Lattice(reciprocal),))
    assert fit_frame(few, Lattice(reciprocal), geometry, LYSOZYME) is None
    assert estimate_geometry([few, empty], [answer, answer], geometry, LYSOZYME) is None
    assert estimate_geometry([few], [Indexing()], geometry, LYSOZYME) is None
    assert estimate_geometry([], [], geometry, LYSOZYME) is None
    with pytest.raises(InputError, match="1 patterns but 0 answers"):
        estimate_geometry([few], [], geometry, LYSOZYME)


def test_scale_deviation_is_that_of_the_edges():
    lattice = Lattice(LYSOZYME.reciprocal / 1.02)
    assert scale_deviation(lattice, LYSOZYME) == pytest.approx(0.02)


def read_stream(path: Path, geometry: Geometry) -> tuple[list[Pattern], list[Indexing]]:
    names = [panel.name for panel in geometry.panels]
    patterns, answers = [], []
    for chunk in Stream(path):
        peaks = chunk.peaks
        panel = np.array([names.index(name) for name in peaks.panel], np.int32)
        nothing = np.zeros(len(panel))
        found = PeakList(peaks.fs, peaks.ss, peaks.intensity, nothing, panel, panel * 0, nothing)
        patterns.append(Pattern(found, chunk.photon_energy, chunk.camera_length))
        lattices = tuple(Lattice(crystal.reciprocal) for crystal in chunk.crystals)
        answers.append(Indexing(lattices))
    return patterns, answers


@pytest.mark.parametrize("tried", ["0.0800", "0.0784"])
@pytest.mark.parametrize("indexer", ["crystfel", "fast"])
def test_simulated_run(shared_data, tried, indexer):
    folder = shared_data / "simulated"
    geometry, cell = Geometry.read(folder / "jf1m.geom"), Cell.read(folder / "lyso.cell")
    patterns, answers = read_stream(folder / f"idx_clen_{tried}.stream", geometry)
    if indexer == "fast":
        answers = FastIndexer(geometry, cell).index(patterns)
    estimate = estimate_geometry(patterns, answers, geometry, cell)
    assert estimate.n_frames >= 40
    assert estimate.camera_length == pytest.approx(0.08, rel=1e-4)
    assert estimate.scale_deviation == pytest.approx(float(tried) / 0.08 - 1.0, abs=0.004)


@pytest.mark.parametrize("error", [-0.02, 0.0, 0.03])
def test_real_run(shared_data, error):
    """The cell was refined at the clen that the geometry file gives."""
    geometry = Geometry.read(shared_data / "frames" / "thermolysin_cspad.geom")
    cell = Cell.read(shared_data / "cell" / "thermolysin.cell")
    patterns, _ = read_stream(shared_data / "stream" / "thermolysin_cf012.stream", geometry)
    given = patterns[0].camera_length
    patterns = [
        dataclasses.replace(pattern, camera_length=given * (1.0 + error)) for pattern in patterns
    ]
    answers = FastIndexer(geometry, cell).index(patterns)
    assert all(answer.indexed for answer in answers)
    estimate = estimate_geometry(patterns, answers, geometry, cell)
    assert estimate.camera_length == pytest.approx(given, rel=1.5e-3)
