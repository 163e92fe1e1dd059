"""What DIALS is told, held against dxtbx where there is one."""

from __future__ import annotations

import json
import os
import re
import subprocess

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from tests.tuner.export.test_exporters import TUNED, exported, folder, recommendation_of
from tuner.export.dials import TO_DIALS, experiment_list, space_group
from tuner.fingerprint import fingerprint
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError

assert folder  # a fixture

LOOSE = (
    geometry_text(
        panel_text("a", 100, 60, (-50.5, 3.0), max_adu=9000),
        panel_text("b", 100, 60, (-52.0, -70.0), ss=60, coffset="0.002"),
    )
    .replace("b/fs = x", "b/fs = 0.9998x +0.02y")
    .replace("b/ss = y", "b/ss = -0.02x +0.9998y")
)
"""Two panels, one turned and further downstream."""


def points(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places on all panels, counted from each panel's own first pixel."""
    rng = np.random.default_rng(1)
    panel = rng.integers(len(geometry.panels), size=50)
    sizes = np.array([(each.width, each.height) for each in geometry.panels])
    fs, ss = (rng.uniform(size=(50, 2)) * sizes[panel]).T
    return panel, fs, ss


def ours(geometry: Geometry, clen: float, panel, fs, ss) -> np.ndarray:
    first = np.array([(each.slab_fs, each.slab_ss) for each in geometry.panels])[panel]
    return geometry.lab_positions(fs + first[:, 0], ss + first[:, 1], panel, clen)


def test_pixels_are_where_ours_are(tmp_path):
    (tmp_path / "loose.geom").write_text(LOOSE)
    geometry = Geometry.read(tmp_path / "loose.geom")
    panel, fs, ss = points(geometry)
    panels = experiment_list(geometry, 0.123, 9300.0)["detector"][0]["panels"]
    place = np.array(
        [
            np.array(panels[i]["origin"])
            + x * panels[i]["pixel_size"][0] * np.array(panels[i]["fast_axis"])
            + y * panels[i]["pixel_size"][1] * np.array(panels[i]["slow_axis"])
            for i, x, y in zip(panel, fs, ss, strict=True)
        ]
    )
    np.testing.assert_allclose(place, 1e3 * ours(geometry, 0.123, panel, fs, ss) @ TO_DIALS)
    assert [each["name"] for each in panels] == ["a", "b"]
    assert [each["trusted_range"][1] for each in panels] == [9000, 1e9]


def test_a_frame_of_reference_is_turned_and_not_mirrored():
    assert np.linalg.det(TO_DIALS) == pytest.approx(1)
    # The beam goes along z for CrystFEL, and for DIALS it comes from there.
    np.testing.assert_array_equal(TO_DIALS @ [0, 0, 1], [0, 0, -1])


def test_limits_are_spacings(folder, tmp_path):
    text = exported(recommendation_of(folder), "dials", tmp_path)
    d_min = float(re.search(r"d_min = (.*)", text)[1])
    angle = np.arctan(TUNED.max_res / 10000 / TUNED.clen)
    assert d_min == pytest.approx(HC / 9300 / (2 * np.sin(angle / 2)), rel=1e-4)
    assert "gain = 10" in text


def test_an_energy_of_the_data_is_needed_as_a_number(folder, tmp_path):
    source = tmp_path / "energy.geom"
    source.write_text((folder / "run.geom").read_text().replace("9300 eV", "/energy eV"))
    with pytest.raises(InputError, match="DIALS needs a photon energy"):
        exported(recommendation_of(folder), "dials", tmp_path, geometry=source)


DXTBX = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory
found = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)
(detector,), (beam,) = found.detectors(), found.beams()
print(json.dumps({
    "places": [detector[i].get_pixel_lab_coord((x, y)) for i, x, y in json.load(sys.stdin)],
    "names": [panel.get_name() for panel in detector],
    "direction": beam.get_unit_s0(),
    "wavelength": beam.get_wavelength(),
}))
"""
SYMMETRY = """
import json, sys
from cctbx import crystal
for cell, group in json.load(sys.stdin):
    found = crystal.symmetry(unit_cell=cell, space_group_symbol=group)
    same = found.unit_cell().parameters()
    assert all(abs(x - y) < 1e-6 for x, y in zip(cell, same)), (group, cell, same)
"""


@pytest.fixture
def with_dials():
    """Run Python code where dxtbx and cctbx are; return what it prints."""
    python = os.environ.get("SFX_TUNER_DIALS_PYTHON")
    if not python:
        pytest.skip("needs DIALS: SFX_TUNER_DIALS_PYTHON does not name a Python that has it")

    def run(code: str, given: object, *arguments: object) -> str:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [python, "-c", code, *map(str, arguments)],
            input=json.dumps(given),
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_dxtbx_has_the_same_pixels(with_dials, folder, tmp_path):
    (tmp_path / "loose.geom").write_text(LOOSE)
    known = recommendation_of(
        folder,
        geometry=str(tmp_path / "loose.geom"),
        geometry_sha256=fingerprint(tmp_path / "loose.geom"),
        bad_pixels="",
        geometry_clen=0.101,
    )
    exported(known, "dials", tmp_path)
    tuned = Geometry.read(tmp_path / "recommended.phil.geom")
    panel, fs, ss = points(tuned)
    given = [[int(i), x, y] for i, x, y in zip(panel, fs, ss, strict=True)]
    read = json.loads(with_dials(DXTBX, given, tmp_path / "recommended.phil.expt"))
    np.testing.assert_allclose(
        read["places"], 1e3 * ours(tuned, TUNED.clen, panel, fs, ss) @ TO_DIALS, rtol=1e-9
    )
    assert read["names"] == ["a", "b"]
    np.testing.assert_allclose(read["direction"], [0, 0, -1], atol=1e-12)
    assert read["wavelength"] == pytest.approx(HC / 9300)


def test_cctbx_knows_the_groups_and_they_leave_the_cells_as_they_are(with_dials):
    shapes = [
        Cell(40, 50, 60, 81, 92, 103, "triclinic", "P"),
        *(Cell(40, 50, 60, 90, 92, 90, "monoclinic", c, "b") for c in "PACI"),
        *(Cell(40, 50, 60, 90, 90, 92, "monoclinic", c, "c") for c in "PB"),
        Cell(40, 50, 60, 92, 90, 90, "monoclinic", "P", "a"),
        *(Cell(40, 50, 60, 90, 90, 90, "orthorhombic", c) for c in "PABCIF"),
        *(Cell(40, 40, 60, 90, 90, 90, "tetragonal", c, "c") for c in "PI"),
        Cell(40, 40, 60, 90, 90, 120, "hexagonal", "P", "c"),
        Cell(40, 40, 60, 90, 90, 120, "hexagonal", "H", "c"),
        Cell(40, 40, 40, 80, 80, 80, "rhombohedral", "R"),
        *(Cell(40, 40, 40, 90, 90, 90, "cubic", c) for c in "PIF"),
    ]
    with_dials(SYMMETRY, [[list(cell.parameters), space_group(cell)] for cell in shapes])
