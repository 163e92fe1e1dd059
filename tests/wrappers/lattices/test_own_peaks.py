"""Own and other peaks against nodes that are written out one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tests.geometries import geometry_text, panel_text
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Lattice, Pattern
from wrappers.lattices.own_peaks import FrameLattices, split_peaks
from wrappers.peakfinding.peak_batch import FramePeaks
from wrappers.peaks import PeakList

CLEN, PIXEL, ENERGY = 0.1, 100e-6, 9000.0
CORNER = (-250.0, -230.0)
WAVENUMBER = ENERGY / 12398.4198
CELLS = {
    "P": Cell(60, 70, 90, 90, 90, 90, "orthorhombic", "P"),
    "I": Cell(60, 60, 110, 90, 90, 90, "tetragonal", "I", "c"),
    "C": Cell(120, 50, 70, 90, 101, 90, "monoclinic", "C", "b"),
}
ALLOWED = {
    "P": lambda h, k, l: True,  # noqa: E741
    "I": lambda h, k, l: (h + k + l) % 2 == 0,  # noqa: E741
    "C": lambda h, k, l: (h + k) % 2 == 0,  # noqa: E741
}


@pytest.fixture(scope="module")
def geometry(tmp_path_factory) -> Geometry:
    path = tmp_path_factory.mktemp("geometry") / "x.geom"
    path.write_text(
        geometry_text(
            panel_text("a", 500, 500, CORNER), photon_energy=ENERGY, adu_per_photon=2, clen=CLEN
        )
    )
    return Geometry.read(path)


def some_peaks(n: int, rng: np.random.Generator) -> PeakList:
    fs, ss = rng.uniform(0, 500, (2, n))
    ones, ints = np.ones(n), np.zeros(n, np.int32)
    return PeakList(fs, ss, ones, ones, ints, ints + 2, ones)


def own_by_hand(peaks, reciprocal, centering, clen, shift_x, shift_y):
    """Return which peaks are within a fifth of the shortest allowed node of an allowed node."""
    x = (CORNER[0] + peaks.fs) * PIXEL + shift_x
    y = (CORNER[1] + peaks.ss) * PIXEL + shift_y
    ray = np.column_stack((x, y, np.full(len(x), clen)))
    q = WAVENUMBER * (ray / np.linalg.norm(ray, axis=1)[:, None] - [0, 0, 1])
    reach = range(-30, 31)
    hkl = [i for i in itertools.product(reach, reach, reach) if ALLOWED[centering](*i) and any(i)]
    nodes = np.array(hkl) @ reciprocal
    return cKDTree(nodes).query(q)[0] < 0.2 * np.linalg.norm(nodes, axis=1).min()


@pytest.mark.parametrize("centering", CELLS)
@pytest.mark.parametrize("n_lattices", [1, 2])
def test_own_peaks_are_those_near_a_node(geometry, centering, n_lattices):
    rng = np.random.default_rng(n_lattices)
    cell = CELLS[centering]
    turns = Rotation.random(n_lattices, rng=rng)
    lattices = [Lattice(cell.reciprocal @ turn.as_matrix().T) for turn in turns]
    found_at = Pattern(PeakList.empty(), ENERGY, 0.098, 1e-4, -2e-4)
    known = FrameLattices.of(7, found_at, lattices, cell)
    lists = [some_peaks(n, rng) for n in (2000, 0, 40)]
    # Where the detector stood for the lattices counts, not where the peaks' own set has it.
    patterns = [Pattern(peaks, ENERGY, 0.15) for peaks in lists]
    split = split_peaks(FramePeaks(7, (*patterns, patterns[0])), known, geometry)
    place = 0.098, 1e-4, -2e-4
    expected = []
    for peaks in (*lists, lists[0]):
        own = np.zeros(len(peaks), bool)
        for lattice in lattices:
            own |= own_by_hand(peaks, lattice.reciprocal, centering, *place)
        expected.append([own.sum(), (~own).sum()])
    assert split.index == 7 and split.peaks.dtype == np.uint16
    assert split.peaks.tolist() == expected
    assert 20 < expected[0][0] < 400


def test_a_frame_that_cannot_be_read_has_no_peaks_to_split(geometry):
    pattern = Pattern(PeakList.empty(), ENERGY, CLEN)
    known = FrameLattices.of(3, pattern, [Lattice(CELLS["P"].reciprocal)], CELLS["P"])
    split = split_peaks(FramePeaks(3, (), "x.h5 is damaged"), known, geometry)
    assert (split.index, split.peaks, split.failure) == (3, None, "x.h5 is damaged")
