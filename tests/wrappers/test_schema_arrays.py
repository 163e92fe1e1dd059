"""The door of the program's own arrays: nothing is read before it is known to be what it should."""

from __future__ import annotations

import io
import os
import zipfile

import h5py
import numpy as np
import pytest

from wrappers.errors import InputError
from wrappers.schema_arrays import open_hdf5, read_arrays, stored_array, stored_text


def archive(path, header: str) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.zeros(3))
    text = content.getvalue()
    plain = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
    assert plain in text
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", text.replace(plain, header.encode().ljust(len(plain))))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("{'descr':'<f8','fortran_order':False,'shape':(10**9,)}", "damaged"),
        ("{'descr':'<f8','fortran_order':0>1,'shape':(9**9,)}", "damaged"),
        ("{'descr':'<f8','fortran_order':False,'shape':(999999999,)}", "more than 1024 MiB"),
        ("{'descr':'<f8','fortran_order':False,'shape':(-3,)}", "no numbers"),
        ("{'descr':'|O','fortran_order':False,'shape':(3,)}", "no numbers"),
        ("{'descr':'<f8','fortran_order':False,'shape':(9999,)}", "damaged"),
        ("{'descr':'<f8'", "damaged"),
    ],
)
def test_an_archive_that_claims_what_cannot_be_is_told(tmp_path, header, sentence):
    archive(tmp_path / "a.npz", header)
    with pytest.raises(InputError, match=sentence):
        read_arrays(tmp_path / "a.npz", "the table", "record it anew")


def test_arrays_come_back(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3), y=np.ones(2, bool))
    found = read_arrays(tmp_path / "a.npz", "the table", "record it anew")
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["y"].all()


def write(file: h5py.File) -> None:
    file["group/numbers"] = np.zeros((3, 2))
    file["text"] = ["a", "b"]
    file["soft"] = h5py.SoftLink("/group/numbers")
    file["outside"] = h5py.ExternalLink("pipe", "/group/numbers")
    file["circle"] = h5py.SoftLink("/circle")
    file["empty"] = h5py.Empty("f4")
    file["compound"] = np.zeros(3, [("a", "f4")])
    file.create_dataset("large", (10**6, 10**6), "f8", chunks=(10, 10))
    file.create_dataset("chunk", (1, 2**28), "f8", chunks=(1, 2**28))
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("pipe", "/x", (3,))
    file.create_virtual_dataset("virtual", layout)


@pytest.mark.parametrize(
    "name",
    [
        *("group", "none", "group/none", "group/numbers/x", "soft", "outside", "outside/x"),
        *("circle", "empty", "compound", "large", "chunk", "virtual", "text"),
    ],
)
def test_what_is_no_array_of_the_file_itself_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")  # HDF5 would wait for its other end
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    with (
        pytest.raises(InputError, match=r"the map .*a\.h5 is damaged .*make it anew"),
        open_hdf5(tmp_path / "a.h5", "the map", "make it anew") as file,
    ):
        stored_array(file, name)


def test_what_is_one_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    with open_hdf5(tmp_path / "a.h5", "the map", "make it anew") as file:
        assert stored_array(file, "/group/numbers", "f", (None, 2)).shape == (3, 2)
        assert stored_text(file, "text") == ["a", "b"]
        with pytest.raises(ValueError, match="shape"):
            stored_array(file, "/group/numbers", "f", (None, 3))
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError), open_hdf5(path, "the map", "make it anew"):
            pass
