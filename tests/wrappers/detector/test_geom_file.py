"""Edited copies of geometry files, and the geometry of a slab."""

from __future__ import annotations

import os
import re
import subprocess

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrappers.detector.geom_file import slab_geometry_text, write_geometry
from wrappers.detector.geom_text import split_lines
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC, Header
from wrappers.errors import InputError
from wrappers.frames.run import Run

PANELS = """\
a/min_fs = 0
a/max_fs = 9
a/min_ss = 0
a/max_ss = 4
a/corner_x = -5.5
a/corner_y = 1.2
a/fs = x
a/ss = y
a/res = 10000
b/min_fs = 0
b/max_fs = 9
b/min_ss = 5
b/max_ss = 9
b/corner_x = 3.25
b/corner_y = -6
b/fs = -0.6x +0.8y +0.00001z
b/ss = -0.8x -0.6y
b/res = 10000
"""
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def changed_lines(before: str, after: str) -> list[str]:
    """The lines of `after` that are not, in their order, those of `before`."""
    remaining = iter(re.findall(r".*\n|.+", before))
    expected = next(remaining, None)
    new = []
    for line in re.findall(r".*\n|.+", after):
        if line == expected:
            expected = next(remaining, None)
        else:
            new.append(line)
    assert expected is None, f"lost {expected!r}"
    return new


@pytest.fixture
def edit(tmp_path):
    def edit_text(text, **changes):
        source, target = tmp_path / "source.geom", tmp_path / "target.geom"
        source.write_bytes(text.encode())
        write_geometry(source, target, **changes)
        assert sorted(os.listdir(tmp_path)) == ["source.geom", "target.geom"]
        return target.read_bytes().decode(), Geometry.read(source), Geometry.read(target)

    return edit_text


def test_clen_changes_in_its_own_unit_and_nothing_else_does(edit):
    text = "; made by hand\r\nclen  =\t80.0 mm ; or 81?\r\nfuture = 1\r\n" + PANELS
    after, _, read = edit(text, clen_change=0.0012)
    assert after == text.replace("80.0 mm", "81.2 mm")
    assert read.camera_length() == pytest.approx(0.0812)


def test_clen_of_each_panel_changes(edit):
    after, _, read = edit(PANELS + "a/clen = 50e-3\nb/clen = 0.06\n", clen_change=-0.01)
    assert "a/clen = 0.04\nb/clen = 0.05\n" in after
    assert read.camera_length() == pytest.approx(0.045)


def test_coffset_changes_where_clen_is_a_header(edit):
    text = f"clen = /LCLS/z mm\ncoffset = 0.5732 ; from a fit\n{PANELS}b/coffset = 574e-3\n"
    after, before, read = edit(text, clen_change=0.002)
    assert after == text.replace("= 0.5732 ", "= 0.5752 ").replace("= 574e-3", "= 0.576")
    assert read.camera_length(-450) - before.camera_length(-450) == pytest.approx(0.002)


@pytest.mark.parametrize("own", ["", "b/coffset = 0.1\n", "bad/min_fs = 0\n"])
def test_coffset_is_added_where_a_panel_has_none(edit, own):
    text = f"; first\nclen = /LCLS/z mm\n{PANELS}{own}"
    if own.startswith("bad"):
        text += "bad/max_fs = 1\nbad/min_ss = 0\nbad/max_ss = 1\n"
    after, before, read = edit(text, clen_change=-0.003)
    assert after.startswith("; first\ncoffset = -0.003\nclen = /LCLS/z mm\n")
    changes = [b.coffset - a.coffset for a, b in zip(before.panels, read.panels, strict=True)]
    assert changes == pytest.approx([-0.003, -0.003])


def test_a_late_default_of_coffset_is_changed_too(edit):
    first, second = PANELS.split("b/min_fs", 1)
    text = f"clen = /z\n{first}coffset = 0.5\nb/min_fs{second}"
    _, before, read = edit(text, clen_change=0.001)
    changes = [b.coffset - a.coffset for a, b in zip(before.panels, read.panels, strict=True)]
    assert changes == pytest.approx([0.001, 0.001])


def test_shifts_are_added(edit):
    after, _, read = edit("clen = 0.1\n" + PANELS, shift_x=2e-4)
    # CrystFEL wants both.
    assert changed_lines("clen = 0.1\n" + PANELS, after) == [
        "detector_shift_x = 0.0002 m\n",
        "detector_shift_y = 0 m\n",
    ]
    assert (read.shift_x, read.shift_y) == (2e-4, 0)


def test_shifts_add_to_those_that_are_there(edit):
    text = "clen = 0.1\ndetector_shift_y = 0.5 mm ;!\ndetector_shift_x = 1e-3\n" + PANELS
    after, _, read = edit(text, shift_x=-1e-4, shift_y=2e-4)
    assert after == text.replace("0.5 mm", "0.7 mm").replace("1e-3", "0.0009")
    assert (read.shift_x, read.shift_y) == pytest.approx((9e-4, 7e-4))


def test_a_shift_from_the_data_cannot_be_shifted_further(edit):
    text = "clen = 0.1\ndetector_shift_x = /x m\ndetector_shift_y = /y m\n" + PANELS
    assert edit(text, clen_change=0.1)[2].shift_headers[0] == Header("/x", 1.0)
    with pytest.raises(InputError, match=r"line 2: detector_shift_x.*read from the data"):
        edit(text, shift_x=1e-3)


def test_without_clen_there_is_nothing_to_change(edit):
    with pytest.raises(InputError, match="no clen"):
        edit(PANELS, clen_change=0.1)


def test_mask_files_become_absolute(tmp_path):
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "m.h5").touch()
    text = (
        "clen = 0.1\nmask_file = m.h5 ; mine\nmask = /m\nmask_bad = 1\n"
        f"mask1_file = /abs/n.h5\nmask1_data = /n\n{PANELS}"
        "a/mask2_file = ../k.h5\na/mask2_data = /k\n"
    )
    (folder / "source.geom").write_text(text)
    write_geometry(folder / "source.geom", tmp_path / "copy.geom")
    expected = text.replace("= m.h5 ;", f"= {folder}/m.h5 ;").replace("= ../", f"= {folder}/../")
    assert (tmp_path / "copy.geom").read_text() == expected


def test_the_source_may_be_the_target_and_survives_a_fault(tmp_path):
    path = tmp_path / "x.geom"
    path.write_text("clen = 0.1\n" + PANELS)
    write_geometry(path, path, clen_change=0.01)
    assert Geometry.read(path).camera_length() == pytest.approx(0.11)
    with pytest.raises(InputError, match="cannot be written"):
        write_geometry(path, tmp_path / "no_such_folder/x.geom", clen_change=0.01)
    assert os.listdir(tmp_path) == ["x.geom"]


def test_bytes_that_are_not_utf8_survive(tmp_path):
    source, target = tmp_path / "a.geom", tmp_path / "b.geom"
    source.write_bytes(b"; Universit\xe4t\x0c\nclen = 0.1\n" + PANELS.encode())
    write_geometry(source, target, clen_change=0.01)
    assert target.read_bytes() == source.read_bytes().replace(b"0.1\n", b"0.11\n", 1)


@pytest.mark.parametrize(
    "name",
    [
        "cspad-cxiformat",
        "cspad_cheetah_example",
        "agipd_mar18_v11",
        "jf-swissfel-16M",
        "rayonix_om",
    ],
)
def test_shared_geometries_move_as_asked(name, shared_data, tmp_path):
    source, target = shared_data / "geom" / f"{name}.geom", tmp_path / "target.geom"
    write_geometry(source, target, clen_change=0.00123, shift_x=1e-4, shift_y=-2e-4)
    before, after = Geometry.read(source), Geometry.read(target)
    assert after.camera_length(100.0) - before.camera_length(100.0) == pytest.approx(0.00123)
    np.testing.assert_allclose(after.z_offsets, before.z_offsets, atol=1e-12)
    place = [0.0] * len(before.panels)
    index = np.arange(len(before.panels))
    np.testing.assert_allclose(
        after.lab_positions(place, place, index, 0.1)
        - before.lab_positions(place, place, index, 0.1),
        np.tile([1e-4, -2e-4, 0], (len(index), 1)),
        atol=1e-12,
    )
    old, new = split_lines(source), split_lines(target)
    kept = [line for line in old if not re.search(r"clen|coffset|_file", line)]
    assert [line for line in new if line in set(kept)] == kept


@in_one_folder
@given(
    clen=st.floats(0.001, 10),
    change=st.floats(-0.0009, 0.5),
    unit=st.sampled_from(["", " m", " mm"]),
    form=st.sampled_from(["{!r}", "{:.6f}", "{:+.3e}"]),
    shift=st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)),
)
def test_the_camera_length_that_is_read_is_the_one_wanted(edit, clen, change, unit, form, shift):
    _, before, after = edit(
        f"clen = {form.format(clen)}{unit}\n{PANELS}",
        clen_change=change,
        shift_x=shift[0],
        shift_y=shift[1],
    )
    assert after.camera_length() - before.camera_length() == pytest.approx(change, abs=1e-9)
    assert (after.shift_x, after.shift_y) == pytest.approx(shift, abs=1e-12)


@pytest.mark.parametrize("name", ["cspad_psnorris_clen_00", "agipd_mar18_v11", "jf4m_vds_exfel"])
def test_the_slab_geometry_has_every_pixel_in_its_place(name, shared_data, tmp_path):
    original = Geometry.read(shared_data / "geom" / f"{name}.geom")
    path = tmp_path / "slab.geom"
    path.write_text(slab_geometry_text(original))
    slab = Geometry.read(path)
    assert [panel.name for panel in slab.panels] == [panel.name for panel in original.panels]
    assert slab.clen_header == Header("/LCLS/detector_1/EncoderValue", 1e-3)
    assert slab.photon_energy == Header("/LCLS/photon_energy_eV", 1.0)
    assert slab.camera_length(150.0) == pytest.approx(0.15, abs=1e-12)
    assert slab.panels[0].dims == ("%", "ss", "fs")
    for panel, twin in zip(original.panels, slab.panels, strict=True):
        assert panel.rectangle == twin.rectangle
    index = np.repeat(np.arange(len(slab.panels)), 2)
    fs = [value for p in slab.panels for value in (p.slab_fs + 0.3, p.slab_fs + p.width)]
    ss = [value for p in slab.panels for value in (p.slab_ss + 0.7, p.slab_ss + p.height)]
    np.testing.assert_allclose(
        slab.lab_positions(fs, ss, index, 0.15),
        original.lab_positions(fs, ss, index, 0.15),
        atol=1e-11,
    )


def test_the_slab_geometry_takes_shifts_gains_and_bad_panels(tmp_path):
    path = tmp_path / "x.geom"
    path.write_text(
        "clen = 0.1\ndetector_shift_x = 1 mm\nadu_per_eV = 0.01\n" + PANELS + "b/no_index = 1\n"
    )
    original = Geometry.read(path)
    path.write_text(
        slab_geometry_text(
            original, clen="80 mm", photon_energy="9 keV", shift_x="0.1 mm", shift_y="/y m"
        )
    )
    slab = Geometry.read(path)
    assert slab.camera_length() == pytest.approx(0.08)
    assert slab.photon_energy == 9000
    assert (slab.shift_x, slab.shift_headers[1]) == (1e-4, Header("/y", 1.0))
    assert slab.panels[0].corner_x == pytest.approx(-5.5 + 10)
    assert slab.panels[0].adu_per_ev == 0.01
    assert slab.panels[1].no_index
    assert slab.panels[1].fs_vector[2] == 0.00001


@pytest.mark.crystfel
@pytest.mark.parametrize("through_coffset", [False, True])
def test_crystfel_takes_the_copy_as_we_do(through_coffset, indexamajig, shared_data, tmp_path):
    source = tmp_path / "source.geom"
    text = (shared_data / "simulated/jf1m.geom").read_text()
    text = text.replace("jf1m_lyso_60.h5", str(shared_data / "simulated/jf1m_lyso_60.h5"))
    if through_coffset:
        with h5py.File(tmp_path / "clen.h5", "w") as file:
            # Frames that bring their own clen.
            with h5py.File(shared_data / "simulated/jf1m_lyso_60.h5") as original:
                file["entry/data/data"] = original["entry/data/data"][:2]
            file["z"] = [75.0, 76.0]
        text = text.replace("clen = 0.0800 m", "clen = /z mm")
        data = tmp_path / "clen.h5"
    else:
        data = shared_data / "simulated/jf1m_lyso_60.h5"
    source.write_text(text)
    write_geometry(source, tmp_path / "copy.geom", clen_change=0.0021, shift_x=4e-4, shift_y=-3e-4)
    (tmp_path / "run.lst").write_text(f"{data} //0\n{data} //1\n")
    subprocess.run(
        [
            indexamajig,
            *("-i", "run.lst", "-g", "copy.geom", "-o", "out.stream", "-j", "1"),
            *("--indexing=none", "--peaks=peakfinder8", "--threshold=30", "--min-snr=5"),
        ],
        cwd=tmp_path,
        env={**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH},
        check=True,
        capture_output=True,
        timeout=120,
    )
    stream = (tmp_path / "out.stream").read_text()
    run = Run.open(tmp_path / "run.lst", Geometry.read(tmp_path / "copy.geom"))
    chunks = stream.split("----- Begin chunk -----")[1:]
    assert len(chunks) == 2
    for chunk in chunks:
        camera_length = run.camera_length(int(re.search(r"Event: //(\d)", chunk)[1]))
        assert f"average_camera_length = {camera_length:.6f} m" in chunk
        table = re.search(r"Peaks from peak search\n.*\n((?:.*\n)*?)End of peak list", chunk)[1]
        fs, ss, resolution = np.array([row.split()[:3] for row in table.splitlines()], float).T
        assert len(fs) > 20
        position = run.geometry.lab_positions(fs, ss, ss >= 512, camera_length)
        angle = np.arctan2(np.hypot(*position[:, :2].T), position[:, 2])
        q = 2 * np.sin(angle / 2) * 9300 / HC
        np.testing.assert_allclose(10 * q, resolution, atol=0.0052)
