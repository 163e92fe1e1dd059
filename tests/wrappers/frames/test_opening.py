"""The door to frames: files by their suffix, sources by their address."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tests.array_source import ArraySource, Stream
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import SOURCES, open_source
from wrappers.frames.run import Run
from wrappers.frames.source import FrameSource
from wrappers.settings import Settings

N = 3


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("sim") / "run", N)


@pytest.fixture(scope="module")
def geometry(paths) -> Geometry:
    return Geometry.read(paths.geometry)


@pytest.fixture
def arrays(paths, geometry) -> ArraySource:
    run = Run.open(paths.data, geometry)
    return ArraySource(geometry, [run[i] for i in range(N)])


@pytest.fixture
def registered(arrays):
    SOURCES.register("array", lambda name, geometry: arrays, aliases=(".arr",))
    yield
    SOURCES.forget("array")


@pytest.mark.parametrize("name", ["path", "text", "file://", "list", "no suffix"])
def test_files_and_lists_are_runs(paths, geometry, tmp_path, name):
    names = {
        "path": paths.data,
        "text": str(paths.data),
        "file://": f"file://{paths.data}",
        "list": tmp_path / "files.lst",
        "no suffix": tmp_path / "run",
    }
    (tmp_path / "files.lst").write_text(f"{paths.data}\n")
    (tmp_path / "run").symlink_to(paths.data)
    run = open_source(names[name], geometry)
    assert (len(run), run.n_frames) == (N, N)
    assert run.name(1)[1] == "//1"


@pytest.mark.parametrize("name", ["array://memory", "some.arr"])
def test_a_registered_source_is_opened_by_scheme_or_suffix(registered, arrays, geometry, name):
    assert open_source(name, geometry) is arrays


def test_an_unknown_scheme_lists_what_there_is(registered, geometry):
    with pytest.raises(InputError, match=r"no frame source 'karabo'; choose one of file, .*array"):
        open_source("karabo://host:1", geometry)


def sources(paths, geometry, arrays) -> list[FrameSource]:
    return [Run.open(paths.data, geometry), arrays]


def test_every_source_says_the_same_of_the_same_frames(paths, geometry, arrays):
    run, other = sources(paths, geometry, arrays)
    assert run.nominal_clen == other.nominal_clen
    for i in range(N):
        np.testing.assert_array_equal(run[i].data, other[i].data)
        assert run.photon_energy(i) == other.photon_energy(i)
        assert run.camera_length(i) == other.camera_length(i)
    with pytest.raises(IndexError):
        run[N]
    with pytest.raises(IndexError):
        other[N]


@pytest.mark.parametrize("kind", [0, 1])
def test_a_source_is_pickled_and_closed_and_still_reads(paths, geometry, arrays, kind):
    source = sources(paths, geometry, arrays)[kind]
    expected = source[1].data.copy()
    with pickle.loads(pickle.dumps(source)) as copied:
        np.testing.assert_array_equal(copied[1].data, expected)
    with source:
        pass
    np.testing.assert_array_equal(source[1].data, expected)


def test_a_closed_run_holds_no_file_open(paths, geometry):
    run = Run.open(paths.data, geometry)
    file = run._stored.files.file(str(paths.data))
    run.close()
    assert not file


def test_a_stream_has_no_length(arrays, geometry):
    stream = Stream(geometry, arrays._frames)
    assert stream.n_frames is None
    with pytest.raises(InputError, match="array://memory is a stream without an end"):
        len(stream)


def test_a_clen_is_beside_the_nominal_one(arrays):
    nominal = arrays.nominal_clen
    assert Settings().clen_change(nominal) == 0
    assert Settings(clen=nominal + 0.001).clen_change(nominal) == pytest.approx(0.001)
