"""Where pixels are, against CrystFEL, cfelpyutils and EXtra-geom."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC, Header
from wrappers.errors import InputError
from wrappers.peaks import PeakList

TWO_PANELS = """\
clen = 0.1 m
photon_energy = 9300 eV
adu_per_photon = 10
res = 10000
a/min_fs = 0
a/max_fs = 9
a/min_ss = 0
a/max_ss = 4
a/corner_x = -5.5
a/corner_y = 1.2
a/fs = x
a/ss = y
b/min_fs = 0
b/max_fs = 9
b/min_ss = 5
b/max_ss = 9
b/corner_x = 3.25
b/corner_y = -6
b/fs = -0.6x +0.8y +0.1z
b/ss = -0.8x -0.6y
b/coffset = 0.002
"""

SLAB_FILES = [
    "Eiger16M-binning2-nativefiles",
    "Eiger4M_probixi",
    "agipd_cheetah_exfel",
    "cspad-cxiformat",
    "cspad-single",
    "cspad_cheetah_example",
    "cspad_cxib2313_v9",
    "cspad_lcls_sep2018",
    "cspad_psnorris_clen_00",
    "eiger4m_npc",
    "epix10k2M_om",
    "jf-swissfel-16M",
    "jf4m_cheetah_exfel",
    "jungfrau16M_swissfel_dermen",
    "jungfrau4M_om",
    "jungfraujoch_jf4m",
    "lcls-dec",
    "lcls-june",
    "mx2_eiger",
    "p11_eiger16m",
    "pilatus_crystfel",
    "pilatus_om",
    "rayonix_om",
    "simple",
]
EUXFEL_FILES = [
    "agipd_mar18_v11",
    "agipd_p700000_r0030",
    "agipd_vds_exfel",
    "agipd_cheetah_exfel",
    "jf4m_vds_exfel",
    "jf4m_cheetah_exfel",
]
ALL_FILES = [*SLAB_FILES, *EUXFEL_FILES, "MultiPanel_probixi", "ev_enum1", "wavelength_geom1"]


def geometry_of(text: str, folder: Path) -> Geometry:
    path = folder / "test.geom"
    path.write_text(text)
    return Geometry.read(path)


def peaks_at(fs, ss, panel) -> PeakList:
    n, zero = len(fs), np.zeros(len(fs))
    return PeakList(
        np.asarray(fs, float),
        np.asarray(ss, float),
        zero,
        zero,
        np.asarray(panel, np.int32),
        np.ones(n, np.int32),
        zero,
    )


@pytest.mark.parametrize("name", ALL_FILES)
def test_every_shared_geometry_is_read(name, shared_data):
    geometry = Geometry.read(shared_data / "geom" / f"{name}.geom")
    covered = np.zeros(geometry.slab_shape, int)
    for panel in geometry.panels:
        covered[panel.rectangle] += 1
    assert covered.max() == 1, "panels overlap in the slab"
    assert covered.sum() == sum(panel.width * panel.height for panel in geometry.panels)


def test_the_list_of_shared_geometries_is_complete(shared_data):
    # simex_s2e is another program's format.
    assert {path.stem for path in (shared_data / "geom").glob("*.geom")} == {
        *ALL_FILES,
        "simex_s2e",
    }
    with pytest.raises(InputError, match="simex_s2e"):
        Geometry.read(shared_data / "geom/simex_s2e.geom")


@pytest.mark.parametrize("name", SLAB_FILES)
def test_pixels_are_where_cfelpyutils_has_them(name, shared_data):
    from cfelpyutils.geometry import compute_pix_maps, load_crystfel_geometry

    path = shared_data / "geom" / f"{name}.geom"
    geometry = Geometry.read(path)
    # cfelpyutils knows neither units nor whole numbers with a decimal point.
    text = re.sub(r"(?m)^(clen|photon_energy)( *= *[\d.]+) m?(eV|m)\b", r"\1\2", path.read_text())
    text = re.sub(r"((?:min|max)_[fs]s = \d+)\.0\b", r"\1", text)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = load_crystfel_geometry(io.StringIO(text))
    maps = compute_pix_maps(oracle.detector)
    assert maps.x.shape == geometry.slab_shape
    for i, panel in enumerate(geometry.panels):
        x, y = geometry.pixel_corners(i)
        np.testing.assert_allclose(x, maps.x[panel.rectangle], atol=0.01)
        np.testing.assert_allclose(y, maps.y[panel.rectangle], atol=0.01)
        assert panel.coffset == oracle.detector["panels"][panel.name]["coffset"]


@pytest.mark.parametrize("name", EUXFEL_FILES)
def test_pixels_are_where_extra_geom_has_them(name, shared_data):
    import extra_geom

    path = shared_data / "geom" / f"{name}.geom"
    kind = extra_geom.AGIPD_1MGeometry if "agipd" in name else extra_geom.JUNGFRAUGeometry
    centres = kind.from_crystfel_geom(path).get_pixel_positions()
    centres = centres.reshape(-1, *centres.shape[2:])
    geometry = Geometry.read(path)
    coffset = np.mean([panel.coffset for panel in geometry.panels])
    for i, panel in enumerate(geometry.panels):
        ss, fs = np.mgrid[panel.rectangle] + 0.5
        index = np.full(fs.size, i)
        ours = geometry.lab_positions(fs.ravel(), ss.ravel(), index, coffset)
        theirs = centres[panel.rectangle].reshape(-1, 3)
        np.testing.assert_allclose(ours * panel.res, theirs * panel.res, atol=0.01)


@pytest.mark.parametrize(
    ("stream", "tolerance"),
    [
        # Streams round 1/d to 0.01/nm; those of CrystFEL 0.9 scatter by a little more.
        ("stream/thermolysin_cf012.stream", 0.0052),
        ("stream/thaumatin_crop_cf012.stream", 0.0052),
        ("simulated/idx_clen_0.0784.stream", 0.0052),
        ("stream/rs_crystfel.stream", 0.009),
        ("stream/crystfel_test_1_35.stream", 0.009),
    ],
)
def test_resolutions_are_those_that_crystfel_wrote(stream, tolerance, shared_data, tmp_path):
    text = (shared_data / stream).read_text()
    geometry = geometry_of(
        re.search(r"Begin geometry file -+\n(.*?)\n-+ End geometry", text, re.S)[1], tmp_path
    )
    index = {panel.name: i for i, panel in enumerate(geometry.panels)}
    n_peaks = 0
    for chunk in text.split("----- Begin chunk -----")[1:]:
        energy = float(re.search(r"photon_energy_eV = (\S+)", chunk)[1])
        camera_length = float(re.search(r"average_camera_length = (\S+) m", chunk)[1])
        table = re.search(r"Peaks from peak search\n.*\n((?:.*\n)*?)End of peak list", chunk)
        rows = [line.split() for line in table[1].splitlines()] if table else []
        if not rows:
            continue
        fs, ss, resolution = np.array([row[:3] for row in rows], float).T
        panels = [index[row[4]] for row in rows]
        q = geometry.scattering_vectors(peaks_at(fs, ss, panels), energy, camera_length)
        np.testing.assert_allclose(10 * np.linalg.norm(q, axis=1), resolution, atol=tolerance)
        n_peaks += len(rows)
    assert n_peaks > 100


def test_lab_positions_follow_the_panel_vectors(tmp_path):
    geometry = geometry_of(TWO_PANELS, tmp_path)
    # Panel b begins at ss = 5; the mean of clen + coffset is 0.101 m.
    ours = geometry.lab_positions([2.0, 3.0], [1.0, 7.0], [0, 1], 0.2, 0.001, -0.002)
    a = [(-5.5 + 2) / 1e4 + 0.001, (1.2 + 1) / 1e4 - 0.002, 0.2 - 0.001]
    b = [
        (3.25 - 0.6 * 3 - 0.8 * 2) / 1e4 + 0.001,
        (-6 + 0.8 * 3 - 0.6 * 2) / 1e4 - 0.002,
        0.2 + 0.001 + 0.1 * 3 / 1e4,
    ]
    np.testing.assert_allclose(ours, [a, b], atol=1e-15)
    assert geometry.camera_length() == pytest.approx(0.101)


def test_scattering_vectors_lie_on_the_ewald_sphere(tmp_path):
    geometry = geometry_of(TWO_PANELS, tmp_path)
    rng = np.random.default_rng(1)
    fs, ss = rng.uniform(0, 10, (2, 50))
    q = geometry.scattering_vectors(peaks_at(fs, ss, ss >= 5), 9300.0, 0.08)
    k = 9300.0 / HC
    k_in = np.array([0, 0, k])
    np.testing.assert_allclose(np.linalg.norm(q + k_in, axis=1), k)
    position = geometry.lab_positions(fs, ss, ss >= 5, 0.08)
    np.testing.assert_allclose(np.cross(q + k_in, position), np.zeros((50, 3)), atol=1e-12)
    assert geometry.scattering_vectors(PeakList.empty(), 9300.0, 0.08).shape == (0, 3)


def test_the_geometrys_own_shift_moves_the_detector(tmp_path):
    plain = geometry_of(TWO_PANELS, tmp_path)
    moved = geometry_of(
        "detector_shift_x = 1 mm\ndetector_shift_y = -0.0005\n" + TWO_PANELS, tmp_path
    )
    place = ([2.5, 4.0], [1.0, 8.0], [0, 1], 0.1)
    np.testing.assert_allclose(
        moved.lab_positions(*place) - plain.lab_positions(*place), [[1e-3, -5e-4, 0]] * 2
    )
    # In CrystFEL the corners move, by shift times res, and the radii with them.
    x, y = moved.pixel_corners(0)
    assert (x[0, 0], y[0, 0]) == pytest.approx((-5.5 + 10, 1.2 - 5))


def test_radius_map_truncates_x_and_y_towards_zero(tmp_path):
    radius = geometry_of(TWO_PANELS, tmp_path).radius_map()
    assert radius.dtype == np.float32
    # Panel a, fs 0, ss 1: x = -5.5 counts as -5, y = 2.2 as 2.
    assert radius[1, 0] == np.sqrt(np.float32(29))
    # Panel b, fs 1, ss 2: x = 3.25 - 0.6 - 1.6 = 1.05, y = -6 + 0.8 - 1.2 = -6.4.
    assert radius[7, 1] == np.sqrt(np.float32(37))


def test_radius_map_is_infinite_without_a_panel(tmp_path):
    text = TWO_PANELS.replace("b/min_fs = 0", "b/min_fs = 4")
    radius = geometry_of(text, tmp_path).radius_map()
    assert np.isinf(radius[5:, :4]).all()
    assert np.isfinite(radius[5:, 4:]).all() and np.isfinite(radius[:5]).all()


def test_modules_on_an_axis_of_their_own_are_stacked(tmp_path):
    text = TWO_PANELS.replace("b/min_ss = 5\nb/max_ss = 9", "b/min_ss = 1\nb/max_ss = 3")
    text = "dim0 = %\ndim2 = ss\ndim3 = fs\n" + text + "a/dim1 = 0\nb/dim1 = 2\n"
    geometry = geometry_of(text, tmp_path)
    assert geometry.slab_shape == (15, 10)
    assert [panel.slab_ss for panel in geometry.panels] == [0, 11]
    assert len(geometry.blocks) == 1 and geometry.blocks[0].modules == 3
    assert not geometry.static_mask()[5:11].any()


def test_data_sets_of_their_own_are_stacked(tmp_path):
    text = TWO_PANELS.replace("b/min_ss = 5\nb/max_ss = 9", "b/min_ss = 0\nb/max_ss = 2")
    text = text.replace("b/max_fs = 9", "b/max_fs = 5")
    geometry = geometry_of(text + "a/data = /one\nb/data = /two\n", tmp_path)
    assert geometry.slab_shape == (8, 10)
    assert [block.data for block in geometry.blocks] == ["/one", "/two"]
    mask = geometry.static_mask()
    assert mask[:5].all() and mask[5:, :6].all() and not mask[5:, 6:].any()


def test_static_mask_takes_regions_edges_and_bad_panels(tmp_path):
    text = TWO_PANELS + (
        "a/mask_edge_pixels = 1\n"
        "bad_spot/min_fs = 3\nbad_spot/max_fs = 4\nbad_spot/min_ss = 2\nbad_spot/max_ss = 2\n"
        "bad_spot/panel = a\n"
    )
    mask = geometry_of(text, tmp_path).static_mask()
    expected = np.zeros((5, 10), bool)
    expected[1:4, 1:9] = True
    expected[2, 3:5] = False
    np.testing.assert_array_equal(mask[:5], expected)
    assert mask[5:].all()
    assert not geometry_of(text + "b/no_index = 1\n", tmp_path).static_mask()[5:].any()


def test_a_bad_region_without_a_panel_covers_all(tmp_path):
    text = TWO_PANELS + "bad/min_fs = 2\nbad/max_fs = 3\nbad/min_ss = 4\nbad/max_ss = 6\n"
    mask = geometry_of(text, tmp_path).static_mask()
    expected = np.ones((10, 10), bool)
    expected[4:7, 2:4] = False
    np.testing.assert_array_equal(mask, expected)


def test_a_bad_region_in_the_laboratory_is_exclusive(tmp_path):
    text = TWO_PANELS + "bad/min_x = -5.5\nbad/max_x = -3.4\nbad/min_y = 0.1\nbad/max_y = 2.2\n"
    mask = geometry_of(text, tmp_path).static_mask()
    # Panel a: x = -5.5 + fs and y = 1.2 + ss; panel b does not reach there.
    expected = np.ones((5, 10), bool)
    expected[0, 1:3] = False
    np.testing.assert_array_equal(mask[:5], expected)
    assert mask[5:].all()


def test_camera_length_of_a_header_is_in_its_unit_plus_coffset(tmp_path):
    text = TWO_PANELS.replace("clen = 0.1 m", "clen = /LCLS/detectorPosition")
    geometry = geometry_of(text, tmp_path)
    assert geometry.camera_length(-450.0) == pytest.approx(-0.45 + 0.001)
    with pytest.raises(InputError, match="/LCLS/detectorPosition"):
        geometry.camera_length()


def test_camera_length_that_is_missing_is_said(tmp_path):
    geometry = geometry_of(TWO_PANELS.replace("clen = 0.1 m\n", ""), tmp_path)
    with pytest.raises(InputError, match="no camera length"):
        geometry.camera_length()


def test_adu_per_photon(tmp_path):
    assert geometry_of(TWO_PANELS, tmp_path).adu_per_photon(9300) == 10
    text = TWO_PANELS.replace("adu_per_photon = 10", "adu_per_eV = 0.01")
    assert geometry_of(text, tmp_path).adu_per_photon(9300) == pytest.approx(93)
    text = TWO_PANELS.replace("adu_per_photon = 10", "")
    assert geometry_of(text, tmp_path).adu_per_photon(9300) is None


@pytest.mark.parametrize("name", ["beam_energy", "/beam_energy", "%/energy", "/A/B:C/energy"])
def test_a_header_has_any_name(tmp_path, name):
    """In a message, CrystFEL documents names without a slash."""
    text = geometry_text(
        panel_text("p", 10, 10, (-5, -5)), photon_energy=f"{name} keV", clen="far mm"
    )
    geometry = geometry_of(text, tmp_path)
    assert geometry.photon_energy == Header("/" + name.lstrip("/"), 1e3)
    assert geometry.clen_header == Header("/far", 1e-3)
