"""Runs of every layout, written here as the facilities write them, and the real ones."""

from __future__ import annotations

import multiprocessing
import operator
import os
import pickle
import re

import h5py
import hdf5plugin
import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError
from wrappers.frames.run import Run

HEAD = "clen = 0.1\nphoton_energy = 9000\nadu_per_photon = 1\nres = 1e4\n"
SLAB = "data = /entry/data/data\ndim0 = %\ndim1 = ss\ndim2 = fs\n"


def panel(name="p", ss=(0, 5), fs=(0, 7), extra=""):
    fields = {
        "min_fs": fs[0],
        "max_fs": fs[1],
        "min_ss": ss[0],
        "max_ss": ss[1],
        "corner_x": 0,
        "corner_y": 0,
        "fs": "x",
        "ss": "y",
    }
    lines = [f"{name}/{key} = {value}" for key, value in fields.items()]
    return "\n".join([*lines, *(f"{name}/{line}" for line in extra.split("\n") if line)]) + "\n"


FRAMES = np.arange(4 * 6 * 8, dtype="i2").reshape(4, 6, 8)


@pytest.fixture
def geometry(tmp_path):
    def read(text):
        path = tmp_path / "run.geom"
        path.write_text(text)
        return Geometry.read(path)

    return read


@pytest.fixture
def write(tmp_path):
    """Write an HDF5 file from data sets by path."""

    def write_file(arrays, name="run.h5", **options):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, **options)
        return path

    return write_file


def test_many_frames_in_one_array(geometry, write):
    path = write({"entry/data/data": FRAMES})
    run = Run.open(path, geometry(HEAD + SLAB + panel()))
    assert len(run) == 4
    for i in range(4):
        frame = run[i]
        np.testing.assert_array_equal(frame.data, FRAMES[i])
        assert frame.data.dtype == np.int16
        assert (frame.photon_energy, frame.camera_length) == (9000, 0.1)
        assert (frame.file, frame.event) == run.name(i) == (str(path), f"//{i}")
    assert run[0].mask is run[3].mask
    assert run.nominal_clen == 0.1
    assert len(list(run)) == 4


@pytest.mark.parametrize(
    "compression",
    [
        {"compression": "gzip"},
        hdf5plugin.Bitshuffle(),
        hdf5plugin.LZ4(),
        hdf5plugin.Zstd(),
        hdf5plugin.Blosc(),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "i2", "<u2", ">i4", "u4", "f4", "f8"])
def test_compressions_and_data_types(compression, dtype, geometry, write):
    path = write({"entry/data/data": FRAMES.astype(dtype)}, chunks=(1, 6, 8), **compression)
    frame = Run.open(path, geometry(HEAD + SLAB + panel()))[2]
    assert frame.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(frame.data, FRAMES.astype(dtype)[2])


def test_a_file_without_a_frame_dimension_is_one_frame(geometry, write):
    path = write({"data/data": FRAMES[1]}, "single.h5")
    run = Run.open(path, geometry(HEAD + panel()))
    assert len(run) == 1 and run.name(0) == (str(path), "//")
    np.testing.assert_array_equal(run[0].data, FRAMES[1])


def test_an_array_larger_than_the_panels_is_cut(geometry, write):
    path = write({"entry/data/data": FRAMES})
    run = Run.open(path, geometry(HEAD + SLAB + panel(ss=(1, 3), fs=(2, 5))))
    np.testing.assert_array_equal(run[1].data, FRAMES[1, :4, :6])
    assert run[1].mask.sum() == 12 and run[1].mask[1:4, 2:6].all()


@pytest.mark.parametrize("modules", [(0, 1, 2), (0, 2), (2, 1)])
def test_modules_on_an_axis(modules, geometry, write):
    stack = np.arange(5 * 3 * 4 * 8, dtype="f4").reshape(5, 3, 4, 8)
    text = HEAD + "data = /d\ndim0 = %\ndim2 = ss\ndim3 = fs\n"
    text += "".join(panel(f"m{m}", (0, 3), extra=f"dim1 = {m}") for m in modules)
    read = geometry(text)
    frame = Run.open(write({"d": stack}), read)[3]
    assert frame.data.shape == ((max(modules) + 1) * 4, 8)
    assert frame.data.base is None or frame.data.base.size == frame.data.size
    for m, place in zip(modules, read.panels, strict=True):
        np.testing.assert_array_equal(frame.data[place.rectangle], stack[3, m])
        assert frame.mask[place.rectangle].all()
    assert frame.mask.sum() == len(modules) * 32


def test_two_fixed_dimensions(geometry, write):
    # As raw AGIPD data have it: (frame, data or gain, module, ss, fs).
    stack = np.arange(2 * 2 * 3 * 4 * 8, dtype="u2").reshape(2, 2, 3, 4, 8)
    text = HEAD + "data = /d\ndim0 = %\ndim1 = 0\ndim3 = ss\ndim4 = fs\n"
    text += "".join(panel(f"m{m}", (0, 3), extra=f"dim2 = {m}") for m in range(3))
    frame = Run.open(write({"d": stack}), geometry(text))[1]
    np.testing.assert_array_equal(frame.data, stack[1, 0].reshape(12, 8))


def test_a_module_axis_between_ss_and_fs(geometry, write):
    stack = np.arange(2 * 4 * 3 * 8).reshape(2, 4, 3, 8)
    text = HEAD + "data = /d\ndim0 = %\ndim1 = ss\ndim3 = fs\n"
    text += "".join(panel(f"m{m}", (0, 3), extra=f"dim2 = {m}") for m in (0, 2))
    frame = Run.open(write({"d": stack}), geometry(text))[1]
    np.testing.assert_array_equal(frame.data, stack[1][:, [0, 2]].swapaxes(0, 1).reshape(8, 8))


def test_panels_in_data_sets_of_their_own(geometry, write):
    wide, narrow = FRAMES, FRAMES[:, :3, :5].astype("f4") + 0.5
    text = HEAD + "dim0 = %\ndim1 = ss\ndim2 = fs\n"
    text += panel("a", extra="data = /one") + panel("b", (0, 2), (0, 4), extra="data = /two")
    read = geometry(text)
    frame = Run.open(write({"one": wide, "two": narrow}), read)[2]
    assert frame.data.dtype == np.float32
    np.testing.assert_array_equal(frame.data[:6], wide[2])
    np.testing.assert_array_equal(frame.data[6:, :5], narrow[2])
    assert not frame.mask[6:, 5:].any()


def test_names_in_the_data_path(geometry, write):
    path = write({f"run/{name}/image": FRAMES[i] for i, name in enumerate("cab")})
    read = geometry(HEAD + "data = /run/%/image\nphoton_energy = /run/%/energy keV\n" + panel())
    with h5py.File(path, "a") as file:
        for i, name in enumerate("cab"):
            file[f"run/{name}/energy"] = 9.0 + i
    run = Run.open(path, read)
    assert [run.name(i)[1] for i in range(3)] == ["a//", "b//", "c//"]
    np.testing.assert_array_equal(run[0].data, FRAMES[1])
    assert [frame.photon_energy for frame in run] == [10000, 11000, 9000]


def test_headers_for_each_frame_or_for_all(geometry, write):
    path = write(
        {
            "entry/data/data": FRAMES,
            "lambda": np.array([1.0, 1.1, 1.2, 1.3]),
            "z": np.array([[80.0], [81.0], [90.0], [83.0]]),
            "x": np.array([0.5, 0.6, 0.7, 0.8], "f4"),
            "y": 2,
        }
    )
    text = HEAD.replace("clen = 0.1", "clen = /z mm").replace(
        "photon_energy = 9000", "wavelength = /lambda A"
    )
    run = Run.open(
        path,
        geometry(
            f"{text}coffset = 0.01\ndetector_shift_x = /x mm\ndetector_shift_y = /y mm\n"
            + SLAB
            + panel()
        ),
    )
    frame = run[3]
    assert frame.photon_energy == pytest.approx(HC / 1.3)
    assert frame.camera_length == pytest.approx(0.093)
    assert (frame.shift_x, frame.shift_y) == pytest.approx((0.0008, 0.002))
    assert run.nominal_clen == pytest.approx(0.092)
    assert run.select([0, 1]).nominal_clen == pytest.approx(0.0905)


def test_lists_of_files_and_events(geometry, write, tmp_path):
    write({"entry/data/data": FRAMES}, "a.h5")
    write({"entry/data/data": FRAMES[:2] + 1000}, "b.cxi")
    (tmp_path / "run.lst").write_text("b.cxi //1\na.h5\nb.cxi\na.h5 //3\n")
    run = Run.open(tmp_path / "run.lst", geometry(HEAD + SLAB + panel()))
    names = [(os.path.basename(file), event) for file, event in map(run.name, range(len(run)))]
    events = ["//0", "//1", "//2", "//3"]
    assert names == [
        ("b.cxi", "//1"),
        *(("a.h5", event) for event in events),
        ("b.cxi", "//0"),
        ("b.cxi", "//1"),
        ("a.h5", "//3"),
    ]
    np.testing.assert_array_equal(run[0].data, FRAMES[1] + 1000)
    np.testing.assert_array_equal(run[7].data, FRAMES[3])


def test_events_and_selections(geometry, write):
    path = write({"entry/data/data": FRAMES})
    read = geometry(HEAD + SLAB + panel())
    run = Run.open(path, read, events=["//3", "//0"])
    assert [run.name(i)[1] for i in range(2)] == ["//3", "//0"]
    part = Run.open(path, read).select([2, 0, 2])
    assert [int(frame.data[0, 0]) for frame in part] == [96, 0, 96]


def test_more_files_than_stay_open(geometry, write, tmp_path):
    bits = np.eye(20, 48, dtype="u1").reshape(20, 6, 8)
    paths = [write({"data/data": FRAMES[0] + i, "m": bits[i]}, f"{i}.h5") for i in range(20)]
    (tmp_path / "run.lst").write_text("\n".join(map(str, paths)))
    run = Run.open(tmp_path / "run.lst", geometry(HEAD + "mask = /m\nmask_bad = 1\n" + panel()))
    for i in [*range(20), 3, 19, 0]:
        np.testing.assert_array_equal(run[i].data, FRAMES[0] + i)
        np.testing.assert_array_equal(run[i].mask, bits[i] == 0)
    assert len(run._stored.files._files) <= run._stored.files.limit


def linked_run(tmp_path, write, virtual):
    """An NXmx master whose three frames are in two files of their own."""
    for i, frames in enumerate((FRAMES[:2], FRAMES[2:3]), start=1):
        write({"entry/data/data": frames}, f"run_data_{i:06}.h5", **hdf5plugin.Bitshuffle())
    with h5py.File(tmp_path / "run_master.h5", "w") as master:
        group = master.create_group("entry/data")
        if virtual:
            layout = h5py.VirtualLayout((3, 6, 8), "i2")
            for i, rows in ((1, slice(0, 2)), (2, slice(2, 3))):
                shape = (rows.stop - rows.start, 6, 8)
                layout[rows] = h5py.VirtualSource(f"run_data_{i:06}.h5", "entry/data/data", shape)
            group.create_virtual_dataset("data", layout)
        else:
            for i in (2, 1):
                group[f"data_{i:06}"] = h5py.ExternalLink(f"run_data_{i:06}.h5", "entry/data/data")
        master["entry/instrument/energy"] = 12.4
    return tmp_path / "run_master.h5"


@pytest.mark.parametrize("virtual", [True, False])
def test_master_files(virtual, geometry, write, tmp_path):
    text = HEAD.replace("= 9000", "= /entry/instrument/energy keV") + SLAB + panel()
    run = Run.open(linked_run(tmp_path, write, virtual), geometry(text))
    assert len(run) == 3
    for i in range(3):
        np.testing.assert_array_equal(run[i].data, FRAMES[i])
        assert run[i].photon_energy == pytest.approx(12400)
    if not virtual:
        assert [run.name(i)[1] for i in (1, 2)] == ["data_000001//1", "data_000002//0"]


@pytest.mark.parametrize("virtual", [True, False])
def test_master_files_without_their_data(virtual, geometry, write, tmp_path):
    path = linked_run(tmp_path, write, virtual)
    (tmp_path / "run_data_000002.h5").unlink()
    missing = r"run_data_000002\.h5, which does not exist"
    wanted = geometry(HEAD + SLAB + panel())
    run = Run.open(path, wanted)
    np.testing.assert_array_equal(run[1].data, FRAMES[1])
    if virtual:
        # HDF5 would give zeros.
        with pytest.raises(InputError, match=missing):
            run[2]
    else:
        assert len(run) == 2
        (note,) = run.notes
        assert "1 data sets of" in note and re.search(missing, note)
    (tmp_path / "run_data_000001.h5").unlink()
    with pytest.raises(InputError, match=r"run_data_00000[12]\.h5, which does not exist"):
        Run.open(path, wanted)


def test_headers_for_each_frame_of_a_linked_run_are_refused(geometry, write, tmp_path):
    path = linked_run(tmp_path, write, virtual=False)
    with h5py.File(path, "a") as file:
        file["entry/energies"] = [1.0, 2.0, 3.0]
    text = HEAD.replace("= 9000", "= /entry/energies") + SLAB + panel()
    with pytest.raises(InputError, match="linked data files"):
        Run.open(path, geometry(text))


def test_a_mask_for_all_frames(geometry, write):
    bits = np.zeros((6, 8), "u1")
    bits[1, 2] = 1
    path = write({"entry/data/data": FRAMES, "m": bits})
    run = Run.open(path, geometry(HEAD + SLAB + "mask = /m\nmask_bad = 1\n" + panel()))
    np.testing.assert_array_equal(run[0].mask, bits == 0)
    assert run[0].mask is run[1].mask


def test_a_mask_for_each_frame(geometry, write):
    bits = np.zeros((4, 6, 8), "u2")
    bits[2, 1, 2] = 1
    path = write({"entry/data/data": FRAMES, "m": bits})
    run = Run.open(path, geometry(HEAD + SLAB + "mask = /m\nmask_bad = 0xffff\n" + panel()))
    assert [int(frame.mask.sum()) for frame in run] == [48, 48, 47, 48]


def test_a_mask_in_a_file_of_its_own_beside_the_geometry(geometry, write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write({"entry/data/data": FRAMES})
    write({"good": (FRAMES[0] % 3 > 0).astype("u1")}, "mask.h5")
    text = HEAD + SLAB + "mask = /good\nmask_file = mask.h5\nmask_good = 1\n" + panel()
    run = Run.open(path, geometry(text))
    np.testing.assert_array_equal(run[1].mask, FRAMES[0] % 3 > 0)


def test_equal_masks_of_several_files_are_one(geometry, write, tmp_path):
    for i in range(3):
        bits = np.zeros((6, 8), "u1")
        bits[0, i // 2] = 1
        write({"data/data": FRAMES[i], "m": bits}, f"{i}.h5")
    (tmp_path / "run.lst").write_text("0.h5\n1.h5\n2.h5\n")
    run = Run.open(tmp_path / "run.lst", geometry(HEAD + "mask = /m\nmask_bad = 1\n" + panel()))
    assert run[0].mask is run[1].mask
    assert run[0].mask[0, 1] and not run[2].mask[0, 1]


def test_modules_have_their_mask_on_the_same_axis(geometry, write):
    bits = np.zeros((2, 3, 4, 8), "u4")
    bits[1, 2, 3, 4] = 0x80
    text = HEAD + "data = /d\nmask = /m\nmask_bad = 0xffff\ndim0 = %\ndim2 = ss\ndim3 = fs\n"
    text += "".join(panel(f"m{m}", (0, 3), extra=f"dim1 = {m}") for m in range(3))
    read = geometry(text)
    data = np.arange(2 * 3 * 4 * 8, dtype="f4").reshape(2, 3, 4, 8)
    np.testing.assert_array_equal(
        Run.open(write({"d": data, "m": bits}), read)[1].mask, (bits[1] == 0).reshape(12, 8)
    )
    np.testing.assert_array_equal(
        Run.open(write({"d": data, "m": bits[1]}, "static.h5"), read)[0].mask,
        (bits[1] == 0).reshape(12, 8),
    )


def test_flagged_values_and_nan(geometry, write):
    frames = FRAMES.astype("f4")
    frames[1, 2, 3] = np.nan
    frames[2, 0, 0] = -1e6
    path = write({"entry/data/data": frames})
    run = Run.open(path, geometry(HEAD + SLAB + "flag_lessthan = -1000\n" + panel()))
    assert run[0].mask is run[3].mask
    assert not run[1].mask[2, 3] and run[1].mask.sum() == 47
    assert not run[2].mask[0, 0] and run[2].mask.sum() == 47


def test_a_forked_process_reads_too(geometry, write):
    run = Run.open(write({"entry/data/data": FRAMES}), geometry(HEAD + SLAB + panel()))
    assert run[1].data[0, 0] == 48
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    worker = context.Process(
        target=lambda: send.send([int(frame.data[0, 0]) for frame in run]), daemon=True
    )
    worker.start()
    assert receive.poll(30) and receive.recv() == [0, 48, 96, 144]
    worker.join()
    assert run[2].data[0, 0] == 96


def test_a_spawned_process_reads_too(geometry, write):
    run = Run.open(write({"entry/data/data": FRAMES}), geometry(HEAD + SLAB + panel()))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        frame = pool.apply(operator.getitem, (run, 3))
    np.testing.assert_array_equal(frame.data, FRAMES[3])


def test_pickling_leaves_masks_and_files_behind(geometry, write):
    run = Run.open(write({"entry/data/data": FRAMES}), geometry(HEAD + SLAB + panel()))
    run[0]
    copy = pickle.loads(pickle.dumps(run))
    np.testing.assert_array_equal(copy[2].data, run[2].data)
    assert len(pickle.dumps(run)) < 5000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ("/entry/data/data", "/wrong/path"),
            r"no data set /wrong/path.*/entry/data/data: 4 x 6 x 8",
        ),
        (("max_ss = 5", "max_ss = 6"), r"panel p .*lies outside /entry/data/data .*4 x 6 x 8"),
        (("max_fs = 7", "max_fs = 99"), r"panel p .*lies outside"),
        (("dim0 = %\ndim1 = ss\ndim2 = fs\n", ""), r"has 3 dimensions .*'%' for the frame number"),
        (("dim0 = %", "dim0 = 4"), r"panel p .*lies outside"),
        (("photon_energy = 9000\n", ""), r"run\.geom gives no photon energy"),
        (("clen = 0.1\n", ""), r"run\.geom gives no camera length"),
        (("clen = 0.1", "clen = -0.1"), r"camera length .* is -0\.1 m"),
        (("clen = 0.1", "clen = /z mm"), r"no data set /z: set clen"),
        (("= 9000", "= /short"), r"/short in .* has 2 x 2 values"),
        (("= 9000", "= /zero"), r"photon energy in /zero .* is 0 eV"),
        (("= 9000", "= /text"), r"/text in .* no number"),
        (
            ("p/fs = x", "p/fs = x\np/mask = /m\np/mask_bad = 1"),
            r"no data set /m: it holds no",
        ),
        (
            ("p/fs = x", "p/fs = x\np/mask = /m\np/mask_bad = 1\np/mask_file = m.h5"),
            r"the mask file .*m\.h5 of .*run\.geom does not exist",
        ),
    ],
)
def test_a_geometry_that_does_not_fit_is_refused_at_once(change, says, geometry, write):
    path = write({"entry/data/data": FRAMES, "short": np.ones((2, 2)), "zero": 0.0})
    with h5py.File(path, "a") as file:
        file["text"] = "ten"
    text = (HEAD + SLAB + panel()).replace(*change)
    with pytest.raises(InputError, match=says) as caught:
        Run.open(path, geometry(text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(geometry, write, tmp_path):
    read = geometry(HEAD + SLAB + panel())
    path = write({"entry/data/data": np.zeros((50, 6, 8), "i4")})
    whole = path.read_bytes()
    cases = {
        "absent.h5": (None, "does not exist"),
        "cut.h5": (whole[:-100], "cut short"),
        "half.h5": (whole[: len(whole) // 2], "cut short"),
        "empty.h5": (b"", "no HDF5 file"),
        "text.h5": (b"not at all\n", "no HDF5 file"),
        "header.h5": (whole[:8] + b"\xff" * 500, "cannot be opened|no HDF5|cut short"),
        "image.cbf": (b"###CBF\0\0", "neither an HDF5 file nor a list"),
    }
    for name, (content, says) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=says) as caught:
            Run.open(tmp_path / name, read)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="is a folder"):
        Run.open(tmp_path, read)


def test_runs_without_the_frames_wanted(geometry, write, tmp_path):
    read = geometry(HEAD + SLAB + panel())
    empty = write({"entry/data/data": FRAMES[:0]}, "empty.h5")
    with pytest.raises(InputError, match="holds no frame"):
        Run.open(empty, read)
    path = write({"entry/data/data": FRAMES})
    with pytest.raises(InputError, match="holds no frame"):
        Run.open(path, read, events=[])
    with pytest.raises(InputError, match=r"no event //4.*holds 4 frames"):
        Run.open(path, read, events=["//2", "//4"])
    (tmp_path / "run.lst").write_text("run.h5 //0\nrun.h5 //17\n")
    with pytest.raises(InputError, match="no event //17"):
        Run.open(tmp_path / "run.lst", read)
    with pytest.raises(InputError, match="has 0 numbers"):
        Run.open(path, read, events=["//"])
    with pytest.raises(InputError, match="not of the form"):
        Run.open(path, read, events=["3"])


def damaged(path, chunk, filter_id=None):
    """Write frames of which one chunk is not what its filter expects."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, 6, 8))
    properties.set_filter(filter_id or h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (4,))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((4, 6, 8))
        dataset = h5py.h5d.create(
            file.create_group("entry/data").id, b"data", h5py.h5t.NATIVE_INT16, space, properties
        )
        for i in range(4):
            if i == chunk:
                dataset.write_direct_chunk((i, 0, 0), b"junk" * 10)
            else:
                dataset.write_direct_chunk((i, 0, 0), FRAMES[i].tobytes(), filter_mask=1)
    return path


def test_one_damaged_frame_leaves_the_others(geometry, tmp_path):
    path = damaged(tmp_path / "run.h5", chunk=1)
    run = Run.open(path, geometry(HEAD + SLAB + panel()))
    np.testing.assert_array_equal(run[0].data, FRAMES[0])
    with pytest.raises(InputError, match=r"run\.h5 cannot be read: the file is damaged"):
        run[1]
    np.testing.assert_array_equal(run[2].data, FRAMES[2])


def test_a_missing_filter_plugin_is_said(geometry, tmp_path):
    path = damaged(tmp_path / "run.h5", chunk=0, filter_id=32999)
    run = Run.open(path, geometry(HEAD + SLAB + panel()))
    with pytest.raises(InputError, match=r"HDF5 filter that is not installed.*hdf5plugin"):
        run[0]


@pytest.mark.parametrize(
    ("geom", "data", "n", "shape", "dtype", "clen", "energy", "usable"),
    [
        (
            "frames/thermolysin_cspad.geom",
            "frames/thermolysin_cspad_4.h5",
            4,
            (11840, 194),
            "i2",
            0.130106633,
            9747.484,
            64 * 185 * 194,
        ),
        (
            "frames/thaumatin_p6m_crop1320.geom",
            "frames/thaumatin_p6m_crop1320_19.h5",
            19,
            (1320, 1320),
            "u2",
            0.351,
            12800.483,
            None,
        ),
        (
            "simulated/jf1m.geom",
            "simulated/jf1m_lyso_60.h5",
            60,
            (1024, 1024),
            "i2",
            0.08,
            9300,
            None,
        ),
    ],
)
def test_real_runs(geom, data, n, shape, dtype, clen, energy, usable, shared_data):
    run = Run.open(shared_data / data, Geometry.read(shared_data / geom))
    assert len(run) == n
    assert run.nominal_clen == pytest.approx(clen, abs=1e-12)
    with h5py.File(shared_data / data) as file:
        frame = run[n - 1]
        np.testing.assert_array_equal(frame.data, file["entry/data/data"][n - 1])
        stored = file["entry/mask"][()]
    assert (frame.data.shape, frame.data.dtype) == (shape, np.dtype(dtype))
    assert (frame.photon_energy, frame.camera_length) == (energy, run.nominal_clen)
    if usable is None:
        # thaumatin: mask_good = 1; jf1m: mask0_badbits = 1.
        good = stored == 1 if "thaumatin" in geom else stored == 0
        np.testing.assert_array_equal(frame.mask, good)
    else:
        assert frame.mask.sum() == usable
    assert run[0].mask is frame.mask
