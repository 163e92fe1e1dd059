"""Images copied as they are stored: the same pixels, from any chunks and filters."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.geometries import geometry_text, panel_text
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.frames.stored_images import OwnImages, StoredImages

FILTERS = [
    {},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "lzf"},
    hdf5plugin.Bitshuffle(cname="lz4"),
    hdf5plugin.Bitshuffle(cname="zstd", clevel=3),
    hdf5plugin.Blosc(),
    hdf5plugin.LZ4(),
    hdf5plugin.Zstd(),
]


def opened(folder, data, **options) -> Run:
    """Return frames of two modules (n, 2, 20, 30), or as one of 40 rows (n, 40, 30)."""
    with h5py.File(folder / "run.h5", "w") as file:
        file.create_dataset("data", data=data, **options)
    modules = data.ndim == 4
    dims = {"dim2": "ss", "dim3": "fs"} if modules else {"dim1": "ss", "dim2": "fs"}
    first = {"dim1": 0} if modules else {}
    second = {"dim1": 1} if modules else {"ss": 20}
    text = geometry_text(
        panel_text("a", 30, 20, (-15, 2), **first),
        panel_text("b", 30, 20, (-15, -22), **second),
        **({"dim1": None} if modules else {}),
        **dims,
    )
    (folder / "run.geom").write_text(text)
    return Run.open(folder / "run.h5", Geometry.read(folder / "run.geom"))


@given(
    modules=st.booleans(),
    chunk=st.tuples(*(st.sampled_from(sizes) for sizes in ((1, 2), (5, 10, 20), (6, 15, 30)))),
    number=st.integers(0, len(FILTERS) - 1),
    dtype=st.sampled_from(["<i2", ">u4", "<f4"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_what_is_copied_is_what_is_read(tmp_path_factory, modules, chunk, number, dtype, seed):
    folder = tmp_path_factory.mktemp("stored")
    shape = (3, 2, 20, 30) if modules else (3, 40, 30)
    data = np.random.default_rng(seed).poisson(9, shape).astype(dtype)
    options = {"chunks": (1, *chunk[4 - data.ndim :]), **FILTERS[number]}
    with opened(folder, data, **options) as run:
        stored = StoredImages(run)
        # Rows of several modules follow each other only where they are whole.
        whole = not modules or chunk[0] == 1 or chunk[1] == 20
        assert (stored.find(0) is not None) == whole
        if not whole:
            return
        with h5py.File(folder / "copy.h5", "w") as file:
            copy = stored.find(0).form.create(file, "copy", run.geometry.slab_shape)
            copy.resize(2, axis=0)
            for row, index in enumerate((2, 1)):
                stored.find(index).copy_to(copy, row)
            assert copy.dtype == run.places(0)[0][1].dtype
            np.testing.assert_array_equal(copy[0], run[2].data)
            np.testing.assert_array_equal(copy[1], run[1].data)
            own = OwnImages(copy)[1]
            again = own.form.create(file, "again", own.shape)
            again.resize(1, axis=0)
            own.copy_to(again, 0)
            np.testing.assert_array_equal(again[0], copy[1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (2, 40, 30)},
        {"chunks": (1, 30, 30)},
        {"chunks": (1, 40, 30), "scaleoffset": 8},
    ],
    ids=["contiguous", "several frames", "parts of chunks", "another filter"],
)
def test_what_is_stored_otherwise_is_not_copied(tmp_path, options):
    data = np.arange(4 * 40 * 30, dtype=np.int16).reshape(4, 40, 30) % 200
    with opened(tmp_path, data, **options) as run:
        assert StoredImages(run).find(1) is None
