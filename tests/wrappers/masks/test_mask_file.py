"""Mask files that CrystFEL, and this program, take by the lines given for them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from wrappers.crystfel.indexamajig import run_indexamajig
from wrappers.crystfel.stream import Stream
from wrappers.detector.geom_file import write_geometry
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.masks.mask_file import geometry_lines, write_mask
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

HEIGHT, WIDTH = 30, 40
TOP = "photon_energy = 9000 eV\nadu_per_photon = 1\nclen = 0.1\nres = 1e4\n"


def panels(**lines: str) -> str:
    """Return two panels, each with lines of its own."""
    return "".join(
        f"{name}/min_fs = 0\n{name}/max_fs = {WIDTH - 1}\n{name}/corner_x = -20\n"
        f"{name}/corner_y = {y}\n{name}/fs = x\n{name}/ss = y\n"
        + "".join(f"{name}/{line}\n" for line in lines[name].split(";"))
        for name, y in (("a", 5), ("b", -35))
    )


SLAB = "data = /data\ndim0 = %\ndim1 = ss\ndim2 = fs\n" + panels(
    a="min_ss = 0;max_ss = 29", b="min_ss = 30;max_ss = 59"
)
MODULES = "data = /data\ndim0 = %\ndim2 = ss\ndim3 = fs\n" + panels(
    a="dim1 = 0;min_ss = 0;max_ss = 29", b="dim1 = 1;min_ss = 0;max_ss = 29"
)
SEPARATE = "dim0 = %\ndim1 = ss\ndim2 = fs\n" + panels(
    a="data = /top;min_ss = 0;max_ss = 29", b="data = /bottom;min_ss = 0;max_ss = 29"
)
FIXED = "data = /data\ndim0 = %\ndim1 = 2\ndim2 = ss\ndim3 = fs\n" + panels(
    a="min_ss = 0;max_ss = 29", b="min_ss = 30;max_ss = 59"
)
LAYOUTS = {"slab": SLAB, "modules": MODULES, "separate": SEPARATE, "fixed": FIXED}
N_FRAMES = 3


def write_run(folder, layout: str, slab: np.ndarray) -> Geometry:
    (folder / "run.geom").write_text(TOP + LAYOUTS[layout])
    with h5py.File(folder / "run.h5", "w") as file:
        match layout:
            case "slab":
                file["data"] = slab
            case "modules":
                file["data"] = slab.reshape(N_FRAMES, 2, HEIGHT, WIDTH)
            case "separate":
                file["top"], file["bottom"] = slab[:, :HEIGHT], slab[:, HEIGHT:]
            case "fixed":
                file["data"] = np.stack([0 * slab, 0 * slab, slab], axis=1)
    return Geometry.read(folder / "run.geom")


def spots(seed: int = 4) -> np.ndarray:
    """Return frames (n, ss, fs) with single bright pixels, apart from each other."""
    rng = np.random.default_rng(seed)
    slab = rng.poisson(10, (N_FRAMES, 2 * HEIGHT, WIDTH)).astype(np.int32)
    slab[:, 3:58:6, 3:38:6] += 500
    return slab


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mask_comes_back_through_the_geometry(tmp_path, layout):
    geometry = write_run(tmp_path, layout, spots())
    rng = np.random.default_rng(5)
    bits = (
        rng.integers(0, 32, geometry.slab_shape) * (rng.random(geometry.slab_shape) < 0.1)
    ).astype(np.uint8)
    write_mask(tmp_path / "mask.h5", geometry, bits, attributes={"n_frames": 3})
    top, bottom = geometry_lines(tmp_path / "mask.h5", geometry)
    write_geometry(geometry.path, tmp_path / "masked.geom", top=top, bottom=bottom)
    masked = Run.open(tmp_path / "run.h5", Geometry.read(tmp_path / "masked.geom"))
    np.testing.assert_array_equal(masked[1].mask, bits == 0)
    with h5py.File(tmp_path / "mask.h5") as file:
        assert (file["mask"][()] != 0).sum() == (bits != 0).sum()
        assert file["mask"].attrs["bit_hot"] == 2
        assert file["mask"].attrs["n_frames"] == 3


@pytest.mark.crystfel
@pytest.mark.parametrize("layout", LAYOUTS)
def test_crystfel_masks_the_same_pixels(tmp_path, indexamajig, layout):
    slab = spots()
    geometry = write_run(tmp_path, layout, slab)
    bits = np.zeros(geometry.slab_shape, np.uint8)
    bits[9, 9] = bits[33, 3] = 2
    bits[45:, 20:] = 8
    write_mask(tmp_path / "mask.h5", geometry, bits)
    top, bottom = geometry_lines(tmp_path / "mask.h5", geometry)
    write_geometry(geometry.path, tmp_path / "masked.geom", top=top, bottom=bottom)
    settings = Settings(min_snr=5, threshold=100, min_pix_count=1, max_pix_count=20)
    (tmp_path / "run.lst").write_text(f"{tmp_path / 'run.h5'}\n")
    counts = {}
    for name in ("run", "masked"):
        command = (
            f"{indexamajig} -i run.lst -g {name}.geom -o {name}.stream --peaks=peakfinder8 "
            "--threshold=100 --min-snr=5 --min-pix-count=1 --max-pix-count=20 --indexing=none "
            "--min-peaks=0 -j 1"
        )
        assert run_indexamajig(command.split(), folder=tmp_path, timeout=100.0).exit_code == 0
        run = Run.open(tmp_path / "run.h5", Geometry.read(tmp_path / f"{name}.geom"))
        finder = PeakFinder(run.geometry)
        chunks = sorted(Stream(tmp_path / f"{name}.stream"), key=lambda chunk: chunk.serial)
        counts[name] = [chunk.n_peaks for chunk in chunks]
        assert counts[name] == [len(finder.find(frame, settings)) for frame in run]
    assert all(b < a for a, b in zip(counts["run"], counts["masked"], strict=True))


def test_a_number_that_is_free(tmp_path):
    (tmp_path / "a.geom").write_text(
        TOP
        + "mask = /m\nmask_good = 1\nmask2_data = /x\nmask2_badbits = 1\nmask_edge_pixels = 1\n"
        + SLAB
        + "a/mask1_data = /y\na/mask1_badbits = 1\n"
    )
    top, bottom = geometry_lines(tmp_path / "mask.h5", Geometry.read(tmp_path / "a.geom"))
    assert top[0] == f"mask3_file = {tmp_path / 'mask.h5'}"
    assert not bottom


def test_no_number_is_free(tmp_path):
    masks = "".join(f"mask{i}_data = /m{i}\nmask{i}_badbits = 1\n" for i in range(8))
    (tmp_path / "full.geom").write_text(TOP + masks + SLAB)
    with pytest.raises(InputError, match="has 8 masks already"):
        geometry_lines(tmp_path / "mask.h5", Geometry.read(tmp_path / "full.geom"))


def test_a_copy_without_a_last_line_break(tmp_path):
    geometry = write_run(tmp_path, "separate", spots())
    geometry.path.write_bytes(geometry.path.read_bytes().rstrip(b"\n"))
    top, bottom = geometry_lines(tmp_path / "mask.h5", geometry)
    write_geometry(geometry.path, tmp_path / "copy.geom", top=top, bottom=bottom)
    names = {
        mask.data for panel in Geometry.read(tmp_path / "copy.geom").panels for mask in panel.masks
    }
    assert names == {"/mask_0", "/mask_1"}
