"""Events and lists, as CrystFEL names and reads them."""

from __future__ import annotations

import contextlib

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.events import fill_path, find_events, linked_path, read_list, split_event
from wrappers.frames.hdf5 import HDF5Files


@pytest.mark.parametrize(
    ("event", "names", "numbers"),
    [
        ("//", [], []),
        ("//3", [], [3]),
        ("//3/14", [], [3, 14]),
        ("ev_1//", ["ev_1"], []),
        ("ev_1/data A//2", ["ev_1", "data A"], [2]),
    ],
)
def test_split_event(event, names, numbers):
    assert split_event(event) == (names, numbers)


@pytest.mark.parametrize("event", ["", "3", "/3", "//x", "//-1", "//3/", "a/b", "///", "//1//2"])
def test_what_is_no_event(event):
    with pytest.raises(InputError, match="is not of the form //3"):
        split_event(event)


def test_paths_are_filled():
    assert fill_path("/a/%/b/%", ["x", "y"]) == "/a/x/b/y"
    # Masks and headers may have fewer placeholders than the data.
    assert fill_path("/a/%/b", ["x", "y"]) == "/a/x/b"
    assert fill_path("/mask", ["x"]) == "/mask"
    assert linked_path("/entry/data/data", []) == "/entry/data/data"
    assert linked_path("/entry/data/data", ["data_000002"]) == "/entry/data/data_000002"


def test_events_of_crystfels_own_test(shared_data):
    geometry = Geometry.read(shared_data / "geom/ev_enum1.geom")
    events, _ = find_events(HDF5Files(), str(shared_data / "geom/ev_enum1.h5"), geometry)
    # ev_4 has no data set of that name.
    assert events == [
        "ev_1/dataABCset//",
        "ev_2/dataDEFset//",
        "ev_3/dataGHIset//",
        "ev_5/dataNOPset//",
    ]


def test_several_placeholder_dimensions(tmp_path):
    (tmp_path / "x.geom").write_text(
        "data = /d/%\ndim0 = %\ndim1 = ss\ndim2 = %\ndim3 = fs\nres = 1\np/min_fs = 0\n"
        "p/max_fs = 1\np/min_ss = 0\np/max_ss = 1\np/corner_x = 0\np/corner_y = 0\n"
        "p/fs = x\np/ss = y\n"
    )
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["d/b"] = [[[[0, 0]] * 2] * 2] * 1
        file["d/a"] = [[[[0, 0]] * 1] * 2] * 2
    geometry = Geometry.read(tmp_path / "x.geom")
    events, _ = find_events(HDF5Files(), str(tmp_path / "x.h5"), geometry)
    assert events == ["a//0/0", "a//1/0", "b//0/0", "b//0/1"]


def test_lists(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("here/one.h5", "here/with space.h5", "two.h5", "here/both.h5", "both.h5"):
        (tmp_path / name).touch()
    (tmp_path / "run.lst").write_text(
        "one.h5 //3\n\n; comment\n# comment\nwith space.h5\r\nwith space.h5 a/b//7\n"
        f"two.h5   //0/1  \n{tmp_path}/two.h5\nboth.h5\n"
    )
    assert read_list(tmp_path / "run.lst") == [
        (f"{here}/one.h5", "//3"),
        (f"{here}/with space.h5", ""),
        (f"{here}/with space.h5", "a/b//7"),
        (f"{tmp_path}/two.h5", "//0/1"),
        (f"{tmp_path}/two.h5", ""),
        # The working directory comes first, as in CrystFEL.
        (f"{here}/both.h5", ""),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "names no file"),
        (b"\n; nothing\n", "names no file"),
        (b"run.lst\nabsent.h5 //1\n", "line 2: absent.h5 does not exist"),
        (b"\x89PNG\0\0", "neither an HDF5 file nor a list"),
        (b"\xff\xfe\xfd", "neither an HDF5 file nor a list"),
    ],
)
def test_lists_that_are_none(content, says, tmp_path):
    path = tmp_path / "run.lst"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_list(path)
    assert "run.lst" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)))
def test_junk_lists_give_input_errors(tmp_path, junk):
    path = tmp_path / "run.lst"
    path.write_bytes(junk)
    with contextlib.suppress(InputError):
        read_list(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\ufeffrun.h5\n".encode(), [("run.h5", "")]),
        ("run.h5\n".encode("utf-16"), [("run.h5", "")]),
        (b"#1.h5\n# a comment\n;too\nrun.h5\n", [("#1.h5", ""), ("run.h5", "")]),
        (b"run.h5\t//1\nrun.h5 \t //2  \n", [("run.h5", "//1"), ("run.h5", "//2")]),
        (b"\tmy run.h5   a//1\r\n", [("my run.h5", "a//1")]),
        ("émile.h5 //0\n".encode("latin-1"), [("\udce9mile.h5", "//0")]),
        ("a\u2028b.h5\n".encode(), [("a\u2028b.h5", "")]),
    ],
)
def test_lists_as_people_have_them(tmp_path, content, expected):
    for name in ("run.h5", "#1.h5", "my run.h5", "a\u2028b.h5", "\udce9mile.h5"):
        (tmp_path / name).touch()
    (tmp_path / "x.lst").write_bytes(content)
    found = read_list(tmp_path / "x.lst")
    assert found == [(str(tmp_path / name), event) for name, event in expected]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"CrystFEL stream format 2.3\n", "is a CrystFEL stream"),
        (b"x" * 5000 + b"\n", "does not exist"),
        (b"run.h5\0\n", "neither an HDF5 file nor a list"),
        (b"\n\n", "names no file"),
    ],
)
def test_text_files_that_are_no_lists(tmp_path, content, says):
    (tmp_path / "x.lst").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_list(tmp_path / "x.lst")
