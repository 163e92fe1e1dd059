"""What a few frames show: masked shares, idle flags, pixels without data, unwritten frames."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.first_look import first_look
from wrappers.frames.run import Run
from wrappers.frames.sampling import background_level

SHAPE = (40, 50)
TOP = "clen = 0.1\nphoton_energy = 9000\nadu_per_photon = 1\nres = 10000\ndata = /d\n"
PANEL = """\
dim0 = %
dim1 = ss
dim2 = fs
p/min_fs = 0
p/max_fs = 49
p/min_ss = 0
p/max_ss = 39
p/corner_x = -25
p/corner_y = -20
p/fs = x
p/ss = y
"""


@pytest.fixture
def run(tmp_path):
    number = itertools.count()

    def make(frames, extra="", mask=None):
        path = tmp_path / f"run{next(number)}.h5"
        with h5py.File(path, "w") as file:
            file["d"] = frames
            if mask is not None:
                file["mask"] = mask
        (tmp_path / "run.geom").write_text(TOP + extra + PANEL)
        return Run.open(path, Geometry.read(tmp_path / "run.geom"))

    return make


def counts(dtype, n=6, level=3.0):
    return np.random.default_rng(3).poisson(level, (n, *SHAPE)).astype(dtype)


def test_sound_frames_are_not_talked_about(run):
    assert first_look(run(counts("u2"))) == []
    assert first_look(run(counts("i4") - 5, "flag_lessthan = -100\n")) == []
    clipped = counts("f4") - 2
    clipped[:, :3] = -2
    assert first_look(run(clipped)) == []


def test_a_flag_between_whole_numbers_is_named(run):
    (note,) = first_look(run(counts("u2"), "flag_equal = 3.5\n"))
    assert "flag_equal = 3.5" in note and "has no effect" in note


@pytest.mark.parametrize(
    ("dtype", "value", "line"),
    [
        ("u2", 65535, "flag_morethan = 65534"),
        ("u4", 2**32 - 1, "flag_morethan = 2147483000"),
        ("i4", 65535, "flag_morethan = 65534"),
        ("i4", -2, "flag_lessthan = -1"),
        ("f4", 65535, "flag_morethan = 65534"),
        ("f8", -9999, "flag_lessthan = -9998"),
    ],
)
def test_pixels_without_data_are_named_and_left_out_of_estimates(run, dtype, value, line):
    frames = counts(dtype)
    plain = background_level(run(frames), range(6))
    frames[:, 10:12, 5:21] = value
    odd = run(frames)
    (note,) = first_look(odd)
    assert f"1.6 % of the pixels are {value} in every frame" in note and f"'{line}'" in note
    assert background_level(odd, range(6)) == pytest.approx(plain, rel=0.02)
    assert first_look(run(frames, f"{line}\n")) == []


def test_two_values_are_two_sentences(run):
    frames = counts("i4")
    frames[:, :, 3], frames[:, :, 4] = -1, -2
    assert len(first_look(run(frames))) == 2


def test_bright_pixels_that_change_are_counts(run):
    frames = counts("i4")
    frames[0, 5:9, 5:9] = 100_000
    frames[1, 5:9, 5:9] = 90_000
    assert first_look(run(frames)) == []


@pytest.mark.parametrize(("masked", "share"), [(30, "75.0 %"), (39, "97.5 %")])
def test_a_large_share_that_is_masked_is_said(run, masked, share):
    mask = np.zeros(SHAPE, "u1")
    mask[:masked] = 1
    lines = "mask = /mask\nmask_bad = 1\n"
    (note,) = first_look(run(counts("u2"), lines, mask))
    assert note.startswith(f"{share} of the pixels")
    mask[: 40 - masked] = 0
    mask[19:] = 0
    assert first_look(run(counts("u2"), lines, mask)) == []


def test_a_mask_of_everything_is_refused(run):
    lines = "mask = /mask\nmask_bad = 1\n"
    with pytest.raises(InputError, match=r"all pixels of .* are masked"):
        first_look(run(counts("u2"), lines, np.ones(SHAPE, "u1")))


@pytest.mark.parametrize(
    ("dtype", "flag", "idle"),
    [
        ("u2", "morethan = 65535", True),
        ("u2", "morethan = 65534", False),
        ("u2", "morethan = 1000000", True),
        ("u2", "lessthan = 0", False),
        ("u2", "equal = 4294967295", True),
        ("i2", "lessthan = -32768", True),
    ],
)
def test_flags_that_the_type_rules_out_are_named(run, dtype, flag, idle):
    notes = first_look(run(counts(dtype), f"flag_{flag}\n"))
    assert [note.startswith(f"flag_{flag.split()[0]}") for note in notes] == [True] * idle


@pytest.mark.parametrize("value", [0, 7])
def test_frames_that_were_never_written_are_unreadable(run, value):
    frames = counts("u2")
    frames[2:4] = value
    odd = run(frames)
    with pytest.raises(InputError, match=f"//2 was never written: all its pixels are {value}"):
        odd[2]
    assert odd[1].data.any()
    frames[4:] = value
    (note,) = first_look(run(frames))
    assert "of 5 frames looked at cannot be used" in note and "never written" in note


@pytest.mark.parametrize(
    ("lines", "values", "idle"),
    [
        ("mask_bad = 1", (0, 2, 8), True),
        ("mask_bad = 1", (0, 1, 2), False),
        ("mask_bad = 1", (0, 0, 0), False),
        ("mask_good = 0\nmask_bad = 0x10", (0, 1, 15), True),
        ("mask_good = 1\nmask_bad = 0", (1, 3, 5), True),
        ("mask_good = 1\nmask_bad = 0", (1, 0, 1), False),
    ],
)
def test_bits_that_mask_none_of_the_marked_pixels_are_named(run, lines, values, idle):
    mask = np.full(SHAPE, values[0], "u4")
    mask[3, 4:7], mask[5, 6] = values[1:]
    notes = first_look(run(counts("u2"), f"mask = /mask\n{lines}\n", mask))
    assert [("the mask /mask in" in note, "masks nothing" in note) for note in notes] == (
        [(True, True)] if idle else []
    )


@pytest.mark.parametrize(
    ("energies", "differ"),
    [([9000, 9100, 8900], False), ([200, 9000, 3e6], True), ([9000, 9000, 1.4], False)],
)
def test_energies_that_no_one_run_has_are_named(tmp_path, energies, differ):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["d"], file["e"] = counts("u2", 3), energies
    (tmp_path / "run.geom").write_text(TOP.replace("= 9000", "= /e eV") + PANEL)
    notes = first_look(Run.open(tmp_path / "run.h5", Geometry.read(tmp_path / "run.geom")))
    assert any("photon energies differ within the run" in note for note in notes) == differ


def test_a_mask_of_numbers_that_are_too_large_is_refused(run):
    with pytest.raises(InputError, match="no whole number"):
        run(counts("u2"), "mask = /mask\nmask_bad = 1\n", np.full(SHAPE, 1e300))
