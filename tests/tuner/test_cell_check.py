"""Whether the frames bear out a cell, from simulated peak lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from envs.simulation.stills import DETECTOR, WAVENUMBER, misplace, simulate_still
from tuner.cells.checking import CellCheck, check_cell, compare_cells
from tuner.cells.search import ClearFrames, clear_frames, usual_settings
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.indexing import Pattern
from wrappers.lattices.cell_consensus import CellConsensus, find_cell
from wrappers.lattices.peak_vectors import PeakVectors
from wrappers.peaks import PeakList
from wrappers.settings import Settings

LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")
PIXEL = 75e-6
NONE, NONE_WHOLE = np.zeros(0), np.zeros(0, np.int32)
NO_PEAKS = PeakList(NONE, NONE, NONE, NONE, NONE_WHOLE, NONE_WHOLE, NONE)
WRONG = {
    "another protein's": Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c"),
    "c doubled": replace(LYSOZYME, c=76),
    "c halved": replace(LYSOZYME, c=19),
    "a, b × √2": replace(LYSOZYME, a=111.723, b=111.723),
    "wrong centring": replace(LYSOZYME, centering="I"),
    "c 6 % long": replace(LYSOZYME, c=40.3),
}


def clear(shift_px: float) -> tuple[ClearFrames, CellConsensus | None]:
    rng = np.random.default_rng(3)
    lists = []
    for _ in range(8):
        q = misplace(simulate_still(LYSOZYME, rng, 70, 0.2)[0], 0.0, shift_px, 0.6)
        lists.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    placed = Pattern(NO_PEAKS, WAVENUMBER * HC, DETECTOR * PIXEL)
    frames = ClearFrames(tuple(range(8)), (placed,) * 8, tuple(lists), 8, Settings())
    return frames, find_cell(lists)


@pytest.fixture(scope="module")
def right() -> tuple[ClearFrames, CellConsensus | None]:
    return clear(0.0)


@pytest.fixture(scope="module")
def misplaced() -> tuple[ClearFrames, CellConsensus | None]:
    return clear(8.0)


def check(seen: tuple[ClearFrames, CellConsensus | None], cell: Cell) -> CellCheck:
    return compare_cells(seen[0], cell, seen[1], pixel_size=PIXEL, nominal_clen=DETECTOR * PIXEL)


@pytest.mark.parametrize("cell", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_cell_is_contradicted(right, cell):
    found = check(right, cell)
    assert found.wrong, found.reason


def test_the_right_cell_is_borne_out(right, misplaced):
    assert check(right, LYSOZYME).verdict == "agrees"
    found = check(misplaced, LYSOZYME)
    assert found.verdict == "agrees" and found.shift is not None, found.reason
    assert np.hypot(*found.shift) / PIXEL == pytest.approx(8, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_cell_is_contradicted_at_a_wrong_centre_too(misplaced, cell):
    found = check(misplaced, cell)
    assert found.wrong, found.reason


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["c doubled", "c 6 % long"])
def test_many_peaks_of_no_crystal_do_not_speak_for_a_wrong_cell(shared_data, wrong):
    """Nine real frames with up to 1068 peaks, a fifth of which are the crystal's."""
    frames = shared_data / "frames"
    geometry = Geometry.read(frames / "thaumatin_p6m_crop1320.geom")
    run = open_source(frames / "thaumatin_p6m_crop1320_19.h5", geometry)
    right = Cell.read(shared_data / "cell" / "thaumatin.cell")
    cell = {"c doubled": replace(right, c=2 * right.c), "c 6 % long": replace(right, c=161.4)}[
        wrong
    ]
    sample, _ = sample_frames(run, 13, 3)
    seen = clear_frames(run, usual_settings(run, sample), sample)
    size = {"pixel_size": 172e-6, "nominal_clen": run.nominal_clen}
    assert check_cell(seen, cell, **size).wrong
    assert check_cell(seen, right, **size).verdict == "agrees"


def test_a_frame_that_comes_again_is_no_other_witness(tmp_path):
    """A stream played in a loop gave nine copies of three frames, which agreed on a larger cell."""
    run = open_source(*_of(simulate_run(demo_experiment(seed=2), tmp_path / "run", 8)))
    once = clear_frames(run, usual_settings(run, range(8)), range(8))
    seen = dict(zip(once.frames, once.patterns, strict=True))
    copies = seen | {frame + 100: pattern for frame, pattern in seen.items()}
    again = ClearFrames.of(copies, run.geometry, once.settings)
    assert again.frames == once.frames


def _of(paths: RunPaths) -> tuple[Path, Geometry]:
    return paths.data, Geometry.read(paths.geometry)
