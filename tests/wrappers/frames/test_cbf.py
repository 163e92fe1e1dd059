"""Single images in CBF files: read, listed, refused where they are damaged."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.cbf import CBFFrames
from wrappers.frames.opening import open_source

fabio = pytest.importorskip("fabio")

IMAGE = np.random.default_rng(0).poisson(4, (12, 20)).astype("i4")
GEOMETRY = """\
clen = 0.2
photon_energy = 12400
adu_per_photon = 1
res = 5814
flag_lessthan = 0
p/min_fs = 0
p/max_fs = 19
p/min_ss = 0
p/max_ss = 11
p/corner_x = -10
p/corner_y = -6
p/fs = x
p/ss = y
"""


@pytest.fixture
def geometry(tmp_path):
    def read(text=GEOMETRY):
        (tmp_path / "run.geom").write_text(text)
        return Geometry.read(tmp_path / "run.geom")

    return read


@pytest.fixture
def files(tmp_path):
    for i in range(3):
        image = IMAGE + i
        image[2, 3] = -1
        fabio.cbfimage.CbfImage(data=image).write(str(tmp_path / f"img_{i}.cbf"))
    packed = gzip.compress((tmp_path / "img_2.cbf").read_bytes())
    (tmp_path / "img_2.cbf.gz").write_bytes(packed)
    (tmp_path / "all.lst").write_text("img_0.cbf\nimg_1.cbf //\nimg_2.cbf.gz\n")
    return tmp_path


def test_a_list_of_single_images(files, geometry):
    run = open_source(files / "all.lst", geometry())
    assert isinstance(run, CBFFrames) and len(run) == 3
    for i in range(3):
        frame = run[i]
        np.testing.assert_array_equal(frame.data[frame.mask], (IMAGE + i)[frame.mask])
        assert (~frame.mask).sum() == 1 and not frame.mask[2, 3]
        assert (frame.photon_energy, frame.camera_length) == (12400, 0.2)
    assert run.name(2) == (str(files / "img_2.cbf.gz"), "//")
    assert len(run.files) == 3


def test_one_image_and_a_mask_in_a_file(files, geometry):
    bits = np.zeros(IMAGE.shape, "u1")
    bits[5] = 1
    with h5py.File(files / "m.h5", "w") as file:
        file["mask"] = bits
    text = "mask = /mask\nmask_file = m.h5\nmask_bad = 1\n" + GEOMETRY
    run = open_source(files / "img_0.cbf", geometry(text))
    assert not run[0].mask[5].any() and run[0].mask.sum() == IMAGE.size - 21


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("photon_energy = 12400", "photon_energy = /e eV"), "give numbers"),
        (("flag_lessthan = 0", "mask = /m\nmask_bad = 1"), "a mask without a file"),
        (("p/max_fs = 19", "p/max_fs = 20"), "12 x 20 pixels"),
        (("photon_energy = 12400\n", ""), "no photon energy"),
        (("clen = 0.2", "clen = 200"), "should lie between"),
    ],
)
def test_geometries_that_do_not_fit(files, geometry, change, says):
    with pytest.raises(InputError, match=says):
        open_source(files / "img_0.cbf", geometry(GEOMETRY.replace(*change)))


@pytest.mark.parametrize("cut", [0, 5, 100, "image"])
def test_damaged_files(files, geometry, cut):
    whole = (files / "img_0.cbf").read_bytes()
    if cut == "image":
        cut = whole.index(b"\x0c\x1a\x04\xd5") + 40
    (files / "x.cbf").write_bytes(whole[:cut])
    with pytest.raises(InputError, match=r"CBF file|decoded|damaged"):
        open_source(files / "x.cbf", geometry())
    packed = gzip.compress(whole)
    (files / "x.cbf.gz").write_bytes(packed[: min(cut, len(packed) // 2)])
    with pytest.raises(InputError, match=r"cannot be read|CBF file|decoded|damaged"):
        open_source(files / "x.cbf.gz", geometry())


def test_an_image_of_monstrous_size(files, geometry):
    whole = (files / "img_0.cbf").read_bytes()
    (files / "x.cbf").write_bytes(
        whole.replace(b"Fastest-Dimension: 20", b"Fastest-Dimension: 2000000000")
    )
    with pytest.raises(InputError, match="it is damaged"):
        open_source(files / "x.cbf", geometry())
