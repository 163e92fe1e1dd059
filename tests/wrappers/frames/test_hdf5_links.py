"""Files that HDF5 would hang at, crash at, or read zeros from; and values in strange clothes."""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.hdf5 import HDF5Files
from wrappers.frames.run import Run

FRAMES = np.arange(1, 4 * 6 * 8 + 1, dtype="i4").reshape(4, 6, 8)
HEAD = (
    "clen = 0.1\nphoton_energy = 9000\nadu_per_photon = 1\nres = 10000\ndata = /entry/data/data\n"
)
PANEL = """\
dim0 = %
dim1 = ss
dim2 = fs
p/min_fs = 0
p/max_fs = 7
p/min_ss = 0
p/max_ss = 5
p/corner_x = 0
p/corner_y = 0
p/fs = x
p/ss = y
"""


@pytest.fixture
def geometry(tmp_path):
    def read(head=HEAD, **changes):
        for key, value in changes.items():
            lines = [line for line in head.splitlines() if not line.startswith(f"{key} =")]
            head = "\n".join([*lines, f"{key} = {value}"]) + "\n"
        path = tmp_path / "run.geom"
        path.write_text(head + PANEL)
        return Geometry.read(path)

    return read


def plain(path, frames=FRAMES, name="entry/data/data", **options):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=frames, **options)
    return path


def virtual(path, *sources, name="entry/data/data"):
    """Write a virtual data set that takes one frame from each source (file, data set, frame)."""
    layout = h5py.VirtualLayout((len(sources), 6, 8), "i4")
    for i, (file, inner, frame, n) in enumerate(sources):
        layout[i] = h5py.VirtualSource(file, inner, (n, 6, 8))[frame]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout, fillvalue=0)
    return path


def test_nested_virtual_sets_are_read_where_all_is_there(tmp_path, geometry):
    plain(tmp_path / "a.h5", name="d")
    virtual(tmp_path / "b.h5", *[("a.h5", "d", i, 4) for i in range(4)], name="d")
    run = Run.open(virtual(tmp_path / "c.h5", *[("b.h5", "d", i, 4) for i in range(4)]), geometry())
    for i in range(4):
        np.testing.assert_array_equal(run[i].data, FRAMES[i])


@pytest.mark.parametrize("gone", ["missing", "damaged", "folder", "other name", "short"])
def test_a_frame_without_its_source_is_unreadable_at_any_depth(tmp_path, geometry, gone):
    plain(tmp_path / "a.h5", name="d")
    plain(tmp_path / "x.h5", name="d")
    virtual(tmp_path / "b.h5", *[("x.h5", "d", i, 4) for i in range(4)], name="d")
    sources = [("a.h5", "d", 0, 4), ("b.h5", "d", 1, 4), ("a.h5", "d", 2, 4)]
    run_file = virtual(tmp_path / "c.h5", *sources)
    (tmp_path / "x.h5").unlink()
    if gone == "damaged":
        (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    elif gone == "folder":
        (tmp_path / "x.h5").mkdir()
    elif gone == "other name":
        plain(tmp_path / "x.h5", name="other")
    elif gone == "short":
        plain(tmp_path / "x.h5", FRAMES[:1], name="d")
    run = Run.open(run_file, geometry())
    np.testing.assert_array_equal(run[0].data, FRAMES[0])
    np.testing.assert_array_equal(run[2].data, FRAMES[2])
    with pytest.raises(InputError, match="takes its data from"):
        run[1]


def test_what_a_virtual_set_leaves_out_is_as_before(tmp_path, geometry):
    plain(tmp_path / "a.h5", name="d")
    layout = h5py.VirtualLayout((2, 6, 8), "i4")
    layout[0, :3] = h5py.VirtualSource("a.h5", "d", (4, 6, 8))[0, :3]
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout, fillvalue=-1)
    run = Run.open(tmp_path / "c.h5", geometry())
    assert (run[0].data[3:] == -1).all() and (run[0].data[:3] == FRAMES[0, :3]).all()
    with pytest.raises(InputError, match="never written: all its pixels are -1"):
        run[1]


def test_a_percent_sign_in_a_source_s_name(tmp_path, geometry):
    plain(tmp_path / "50%.h5", name="d")
    run = Run.open(virtual(tmp_path / "c.h5", ("50%%.h5", "d", 1, 4)), geometry())
    np.testing.assert_array_equal(run[0].data, FRAMES[1])


def test_sources_are_found_by_hdf5_s_own_prefix(tmp_path, geometry, monkeypatch):
    (tmp_path / "raw").mkdir()
    plain(tmp_path / "raw" / "a.h5", name="d")
    monkeypatch.setenv("HDF5_VDS_PREFIX", str(tmp_path / "raw"))
    run = Run.open(virtual(tmp_path / "c.h5", ("a.h5", "d", 1, 4)), geometry())
    np.testing.assert_array_equal(run[0].data, FRAMES[1])


@pytest.mark.parametrize("sources", [["."], ["c.h5"], ["d.h5", "c.h5"]])
def test_a_virtual_set_that_leads_to_itself_is_refused(tmp_path, geometry, sources):
    names = ["c.h5", *sources[:-1]]
    for name, source in zip(names, sources, strict=True):
        virtual(tmp_path / name, (source, "entry/data/data", 0, 1))
    with pytest.raises(InputError, match=r"takes its data from itself|too small"):
        run = Run.open(tmp_path / "c.h5", geometry())
        run[0]


@pytest.mark.parametrize("where", ["entry/data/data", "entry/data", "entry"])
def test_a_link_to_a_pipe_is_not_followed(tmp_path, geometry, where):
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file[where] = h5py.ExternalLink("pipe.h5", "/d")
    with pytest.raises(InputError, match=r"pipe.h5, which is no regular file"):
        Run.open(tmp_path / "run.h5", geometry())
    # Nor by way of another file, nor where the geometry's path has names to fill in.
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("run.h5", "/entry/data/data")
    with pytest.raises(InputError, match=r"pipe.h5, which is no regular file"):
        Run.open(tmp_path / "outer.h5", geometry())
    with pytest.raises(InputError):
        Run.open(tmp_path / "run.h5", geometry(data="/entry/%/data"))


def test_a_pipe_is_no_run(tmp_path, geometry):
    os.mkfifo(tmp_path / "run.h5")
    with pytest.raises(InputError, match=r"run.h5 is no regular file"):
        Run.open(tmp_path / "run.h5", geometry())


def test_links_in_a_circle_are_refused(tmp_path, geometry):
    with h5py.File(tmp_path / "soft.h5", "w") as file:
        file["entry/data/data"] = h5py.SoftLink("/entry/data/data")
    with h5py.File(tmp_path / "hard.h5", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("hard.h5", "/entry/data/data")
    for name in ("soft.h5", "hard.h5"):
        with pytest.raises(InputError, match="links to itself"):
            Run.open(tmp_path / name, geometry())


def test_soft_links_are_followed(tmp_path, geometry):
    plain(tmp_path / "run.h5", name="real/images")
    with h5py.File(tmp_path / "run.h5", "a") as file:
        file["entry/alias"] = h5py.SoftLink("/real")
        file["entry/data/data"] = h5py.SoftLink("../alias/images")
    # HDF5 has no '..' in paths.
    with h5py.File(tmp_path / "run.h5", "a") as file:
        del file["entry/data/data"]
        file["entry/data/data"] = h5py.SoftLink("/entry/alias/images")
    np.testing.assert_array_equal(Run.open(tmp_path / "run.h5", geometry())[2].data, FRAMES[2])


def test_a_monstrous_chunk_is_not_unpacked(tmp_path, geometry):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_dataset(
            "entry/data/data",
            (1000, 1000, 1000),
            "i4",
            chunks=(900, 1000, 1000),
            compression="gzip",
        )
    with pytest.raises(InputError, match=r"chunks of 3\.4 GiB"):
        Run.open(tmp_path / "run.h5", geometry())


def test_a_thousand_million_frames_are_a_mistake(tmp_path, geometry):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_dataset("entry/data/data", (10**9, 6, 8), "i4", chunks=(1, 6, 8))
    with pytest.raises(InputError, match="declares 1000000000 frames"):
        Run.open(tmp_path / "run.h5", geometry())


@pytest.mark.parametrize("dtype", ["?", "c8", "S3"])
def test_images_hold_counts(tmp_path, geometry, dtype):
    plain(tmp_path / "run.h5", FRAMES.astype(dtype))
    with pytest.raises(InputError, match=r"holds .*: correct data"):
        Run.open(tmp_path / "run.h5", geometry())


@pytest.mark.parametrize(
    ("stored", "unit", "value"),
    [
        ("9300", "eV", 9300),
        (np.bytes_("9.3"), "keV", 9300),
        ("9300 eV", "eV", 9300),
        ("9300 eV", "keV", 9300),
        ([b"9000", b"9100", b"9200", b"9300"], "eV", 9000),
        (np.array(["9000.0"] * 4, h5py.string_dtype()), "eV", 9000),
    ],
)
def test_energies_may_be_text(tmp_path, geometry, stored, unit, value):
    with h5py.File(plain(tmp_path / "run.h5"), "a") as file:
        file["e"] = stored
    run = Run.open(tmp_path / "run.h5", geometry(photon_energy=f"/e {unit}"))
    assert run.photon_energy(0) == pytest.approx(value)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (9.3, "photon energy in /e of .* is 9.3 eV, but should lie between"),
        (9.3e6, "should lie between"),
        (1e300, "should lie between"),
        (0.0, "must be above 0"),
        (np.nan, "must be above 0"),
        (-9300.0, "must be above 0"),
        ("bright", "which is no number"),
        ("9300 furlong", "which is no number"),
        (np.zeros((2, 2), "c8"), "holds complex"),
        (np.zeros(10, [("a", "f4")]), "no numbers"),
    ],
)
def test_energies_that_none_has(tmp_path, geometry, stored, says):
    with h5py.File(plain(tmp_path / "run.h5"), "a") as file:
        file["e"] = stored
    with pytest.raises(InputError, match=says):
        Run.open(tmp_path / "run.h5", geometry(photon_energy="/e eV"))


@pytest.mark.parametrize(
    ("field", "value"), [("photon_energy", "9.3"), ("clen", "80"), ("clen", "1e-4")]
)
def test_so_it_is_with_numbers_of_the_geometry(tmp_path, geometry, field, value):
    plain(tmp_path / "run.h5")
    with pytest.raises(InputError, match="should lie between"):
        Run.open(tmp_path / "run.h5", geometry(**{field: value}))


@pytest.mark.parametrize(
    ("field", "path", "attribute", "agrees"),
    [
        ("clen", "/z mm", "mm", True),
        ("clen", "/z mm", "m", False),
        ("clen", "/z", "m", False),
        ("clen", "/z mm", "millimetre", True),
        ("clen", "/z mm", "turns", True),
        ("photon_energy", "/e eV", "eV", True),
        ("photon_energy", "/e eV", "keV", False),
        ("wavelength", "/w A", "angstrom", True),
        ("wavelength", "/w A", "nm", False),
    ],
)
def test_a_unit_in_the_file_must_agree(tmp_path, geometry, field, path, attribute, agrees):
    with h5py.File(plain(tmp_path / "run.h5"), "a") as file:
        for name, value in (("z", 80.0), ("e", 9300.0), ("w", 1.33)):
            file[name] = value
            file[name].attrs["units"] = attribute
    wanted = geometry(**{field: path})
    if agrees:
        assert len(Run.open(tmp_path / "run.h5", wanted)) == 4
    else:
        with pytest.raises(InputError, match=f"is in {attribute} by its attribute 'units'"):
            Run.open(tmp_path / "run.h5", wanted)


def test_energies_of_several_linked_sets_cannot_be_told_apart(tmp_path, geometry):
    for name in ("data_1", "data_2"):
        plain(tmp_path / "run.h5", name=f"entry/data/{name}")
    with h5py.File(tmp_path / "run.h5", "a") as file:
        file["e"], file["one"] = np.linspace(9000, 9700, 8), 9000.0
    with pytest.raises(InputError, match="cannot be told apart"):
        Run.open(tmp_path / "run.h5", geometry(data="/entry/data/%", photon_energy="/e eV"))
    one = Run.open(tmp_path / "run.h5", geometry(data="/entry/data/%", photon_energy="/one eV"))
    assert len(one) == 8 and one.photon_energy(7) == 9000
    one.close()
    with h5py.File(tmp_path / "run.h5", "a") as file:
        del file["entry/data/data_2"]
    alone = Run.open(tmp_path / "run.h5", geometry(data="/entry/data/%", photon_energy="/e eV"))
    assert alone.photon_energy(3) == pytest.approx(9300)


def test_a_wanted_mask_or_header_is_named(tmp_path, geometry):
    with h5py.File(plain(tmp_path / "run.h5"), "a") as file:
        file["m/pixel_mask"], file["e/photon_energy"] = np.zeros((6, 8), "u4"), 9000.0
        file["m/flatfield"] = np.ones((6, 8), "f4")
    with pytest.raises(InputError, match=r"set mask to what it holds \(/m/pixel_mask: 6 x 8\)"):
        Run.open(tmp_path / "run.h5", geometry(mask="/pixel_mask", mask_bad="1"))
    with pytest.raises(InputError, match=r"\(/e/photon_energy: one value\)"):
        Run.open(tmp_path / "run.h5", geometry(photon_energy="/photon eV"))


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    file["d"] = [1, 2, 3]
    if len(sys.argv) > 2:
        file.swmr_mode = True
    file.flush()
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("swmr", [[], ["swmr"]])
def test_a_writer_that_lives_is_told_from_one_that_died(tmp_path, swmr):
    path = tmp_path / "run.h5"
    command = [sys.executable, "-c", WRITER, str(path), *swmr]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match=r"being written .*by another program"):
            HDF5Files().file(str(path))
        writer.kill()
    with pytest.raises(InputError, match=r"never closed by the program|cut short|damaged"):
        HDF5Files().file(str(path))
