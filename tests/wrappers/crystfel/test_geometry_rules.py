"""A geometry that ours reads, mended, is read by CrystFEL, and says the same to both."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from wrappers.crystfel.geometry_rules import mend_for_crystfel
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings

SETTINGS = Settings(
    min_snr=4, threshold=20, min_pix_count=1, max_pix_count=20, local_bg_radius=3, max_res=500
)
TOP = """\
photon_energy = 9300 eV
adu_per_photon = 1
clen = 0.08 m
res = 10000
data = /entry/data/data
dim0 = %
dim1 = ss
dim2 = fs
"""
PANELS = """\
a/min_fs = 0
a/max_fs = 119
a/min_ss = 0
a/max_ss = 59
a/corner_x = -60
a/corner_y = 2
a/fs = x
a/ss = y
b/min_fs = 0
b/max_fs = 119
b/min_ss = 60
b/max_ss = 119
b/corner_x = -60
b/corner_y = -62
b/fs = x
b/ss = y
"""
REGION = "bad_r/min_fs = 30\nbad_r/max_fs = 70\nbad_r/min_ss = 40\nbad_r/max_ss = 80\n"
CASES = {
    "plain": TOP + PANELS,
    "byte-order mark": "\ufeff" + TOP + PANELS,
    "hash": "# a comment\n" + TOP + PANELS + "  # another\n",
    "spaces": TOP + PANELS.replace("a/", "a / "),
    "units": TOP.replace("9300 eV", "9300\teV").replace("0.08 m", "80mm") + PANELS,
    "two blanks": TOP.replace("9300 eV", "9.3  keV ; beam") + PANELS,
    "MeV": TOP.replace("9300 eV", "0.0093 MeV") + PANELS,
    "no adu": TOP.replace("adu_per_photon = 1\n", "") + PANELS,
    "clen of panels": TOP.replace("clen = 0.08 m\n", "")
    + PANELS
    + "a/clen = 0.08\nb/clen = 0.081\n",
    "clen twice": TOP + PANELS + "a/clen = 0.079\nb/clen = 0.081\nb/coffset = 0.001\n",
    "exponents": TOP + PANELS.replace("a/fs = x", "a/fs = 1.0e0x +1e-5y"),
    "region": TOP + PANELS + REGION,
    "region beyond its panel": TOP + PANELS + REGION + "bad_r/panel = a\n",
    "region of a panel": TOP + PANELS + REGION.replace("= 80", "= 50") + "bad_r/panel = a\n",
    "one shift": "detector_shift_x = 1 mm\n" + TOP + PANELS,
    "coffset": "coffset = 0.001 m\n" + TOP + PANELS,
    "relative path": TOP.replace("/entry/data", "entry/data") + PANELS,
    "unknown below": TOP + PANELS + "future = 3\n",
    "groups": TOP + PANELS + "group_all = a,b\ngroup_odd = a,c\n",
    "flag": "flag_morethan = 4294967294\n" + TOP + PANELS,
    "equal": TOP + "flag_equal = 4294967295\n" + PANELS,
    "no last line break": (TOP + PANELS + REGION).rstrip(),
    "carriage returns": (TOP + PANELS + REGION).replace("\n", "\r\n"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    rng = np.random.default_rng(2)
    frames = rng.poisson(3, (3, 120, 120)).astype("u4")
    for frame in frames:
        spots = rng.integers(3, 116, (60, 2))
        frame[spots[:, 0], spots[:, 1]] += 80
    frames[:, 5:9, 100:104] = 2**32 - 1
    with h5py.File(folder / "run.h5", "w") as file:
        file["entry/data/data"] = frames
    with h5py.File(folder / "linked.h5", "w") as file:
        for i in (1, 2, 3):
            file[f"entry/data/data_{i:06}"] = frames[i - 1 : i]
    return folder


def ours(data: Path, geometry: Path) -> list[int]:
    run = open_source(data, Geometry.read(geometry))
    finder = NamedFinder(run.geometry)
    return [len(finder.find(run[i], SETTINGS)) for i in range(len(run))]


def crystfel(indexamajig: str, data: Path, geometry: Path, folder: Path) -> list[int]:
    (folder / "files.lst").write_text(f"{data}\n")
    arguments = "--threshold=20 --min-snr=4 --min-pix-count=1 --max-pix-count=20 --max-res=500"
    command = [
        *(indexamajig, "-i", "files.lst", "-g", str(geometry), "-o", "out.stream", "--min-res=0"),
        *("--indexing=none", "--peaks=peakfinder8", "--local-bg-radius=3", "--min-peaks=0"),
        *("-j", "1", f"--temp-dir={folder}", *arguments.split()),
    ]
    plugins = {"HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **plugins},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    text = (folder / "out.stream").read_text(errors="replace")
    return [int(n) for n in re.findall(r"num_peaks = (\d+)", text)]


@pytest.mark.parametrize("name", CASES)
def test_what_is_mended_means_the_same_to_us(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.geom"
    path.write_bytes(CASES[name].encode())
    before, read = ours(folder / "run.h5", path), Geometry.read(path)
    mend_for_crystfel(path)
    after = Geometry.read(path)
    assert ours(folder / "run.h5", path) == before
    assert after.camera_length() == pytest.approx(read.camera_length())
    np.testing.assert_allclose(after.z_offsets, read.z_offsets, atol=1e-12)
    np.testing.assert_array_equal(after.static_mask(), read.static_mask())
    np.testing.assert_array_equal(after.radius_map(), read.radius_map())
    once = path.read_bytes()
    mend_for_crystfel(path)
    assert path.read_bytes() == once


def test_a_sound_geometry_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.geom"
    text = "; mine\n" + TOP + PANELS + "bad_x/min_x = 0\nbad_x/max_x = 9\n"
    text += "bad_x/min_y = 0\nbad_x/max_y = 9 ; corner\ngroup_all = a,b\n"
    path.write_text(text)
    assert mend_for_crystfel(path) == []
    assert path.read_text() == text


@pytest.mark.crystfel
@pytest.mark.parametrize("name", CASES)
def test_crystfel_reads_what_is_mended(
    name: str, folder: Path, tmp_path: Path, indexamajig: str
) -> None:
    path = tmp_path / "x.geom"
    path.write_bytes(CASES[name].encode())
    expected = ours(folder / "run.h5", path)
    mend_for_crystfel(path)
    assert crystfel(indexamajig, folder / "run.h5", path, tmp_path) == expected


@pytest.mark.crystfel
def test_linked_data_sets(folder: Path, tmp_path: Path, indexamajig: str) -> None:
    path = tmp_path / "x.geom"
    path.write_text("flag_morethan = 1000000\n" + TOP + PANELS)
    expected = ours(folder / "linked.h5", path)
    assert len(expected) == 3
    mend_for_crystfel(path, linked=True)
    assert ours(folder / "linked.h5", path) == expected
    assert crystfel(indexamajig, folder / "linked.h5", path, tmp_path) == expected
