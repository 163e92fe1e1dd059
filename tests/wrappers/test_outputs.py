"""The door for outputs: an input is never replaced, whatever it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrappers.errors import InputError
from wrappers.outputs import check_outputs, companion, require_new_folder


@pytest.fixture
def given(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.h5"
    file.write_text("raw data")
    (tmp_path / "soft.h5").symlink_to("run.h5")
    (tmp_path / "hard.h5").hardlink_to(file)
    (tmp_path / "folder").mkdir()
    (tmp_path / "again").symlink_to(".")
    return file


@pytest.mark.parametrize(
    "output",
    [
        "run.h5",
        "./run.h5",
        "folder/../run.h5",
        "soft.h5",
        "hard.h5",
        "again/run.h5",
        "again/soft.h5",
    ],
)
def test_an_input_is_never_an_output(given, output):
    for force in (False, True):
        with pytest.raises(InputError, match="is read by this command"):
            check_outputs(Path(output), inputs=[given], force=force)


def test_a_link_that_is_read_is_not_replaced_either(given):
    with pytest.raises(InputError, match="is read by this command"):
        check_outputs(Path("soft.h5"), inputs=[Path("soft.h5")], force=True)
    with pytest.raises(InputError, match="is read by this command"):
        check_outputs(given, inputs=[Path("soft.h5")], force=True)


def test_a_folder_that_is_read_protects_all_that_is_in_it(given, tmp_path):
    (tmp_path / "folder" / "deep").mkdir()
    (tmp_path / "folder" / "deep" / "trials.csv").write_text("1")
    with pytest.raises(InputError, match="is read by this command"):
        check_outputs(Path("folder/deep/trials.csv"), inputs=[Path("folder")], force=True)
    check_outputs(Path("folder/new.html"), inputs=[Path("folder")])


def test_an_input_that_is_not_there_yet_has_its_name_kept(tmp_path):
    with pytest.raises(InputError, match="is read by this command"):
        check_outputs(tmp_path / "x", inputs=[tmp_path / "." / "x"])


def test_what_exists_needs_force(given, tmp_path):
    (tmp_path / "old").write_text("a day's work")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("old", "dangling"):
        with pytest.raises(InputError, match="--force"):
            check_outputs(tmp_path / name, inputs=[given])
        check_outputs(tmp_path / name, inputs=[given], force=True)
    check_outputs(tmp_path / "old", ours=lambda path: True)
    check_outputs(tmp_path / "new", None, inputs=[given, None])


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/null"), "a device or a pipe"),
        (tmp_path / "no" / "file", "its directory does not exist"),
        (tmp_path / "pipe" / "file", "its directory does not exist"),
    ):
        with pytest.raises(InputError, match=why):
            check_outputs(path, force=True)


def test_two_outputs_of_one_name(tmp_path):
    (tmp_path / "again").symlink_to(".")
    with pytest.raises(InputError, match="written twice"):
        check_outputs(tmp_path / "m.h5", tmp_path / "again" / "m.h5")


def test_a_companion_has_a_name_of_its_own(tmp_path):
    assert companion(Path("a/run.cxi"), ".geom") == Path("a/run.cxi.geom")


def test_a_new_folder_holds_nothing_of_the_names(tmp_path):
    require_new_folder(tmp_path / "a" / "b", "trials.csv")
    (tmp_path / "a" / "b" / "notes.txt").write_text("mine")
    require_new_folder(tmp_path / "a" / "b", "trials.csv")
    (tmp_path / "a" / "b" / "trials.csv").write_text("mine")
    with pytest.raises(InputError, match=r"trials\.csv already"):
        require_new_folder(tmp_path / "a" / "b", "trials.csv")
    with pytest.raises(InputError, match="cannot be made"):
        require_new_folder(tmp_path / "a" / "b" / "notes.txt" / "c")
