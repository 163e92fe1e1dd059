"""What is behind a run's files, at any depth."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from wrappers.frames.linked import files_behind, files_named, names_files


def write(path: Path, **links: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4)
        for name, link in links.items():
            file[name] = link
    return path


def virtual(path: Path, source: str) -> Path:
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(source, "x", (4,), "i8")
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
    return path


def test_links_are_followed_at_any_depth(tmp_path):
    deep = write(tmp_path / "raw" / "deep.h5")
    middle = virtual(tmp_path / "raw" / "middle.h5", "deep.h5")
    master = write(tmp_path / "m.h5", a=h5py.ExternalLink("raw/middle.h5", "/x"))
    assert files_behind([master]) == [deep, middle]
    assert files_behind([master, middle]) == [deep]


def test_circles_and_what_is_gone_lead_nowhere(tmp_path):
    write(tmp_path / "a.h5", b=h5py.ExternalLink("b.h5", "/"), c=h5py.ExternalLink("gone.h5", "/"))
    write(tmp_path / "b.h5", a=h5py.ExternalLink("a.h5", "/"), me=h5py.SoftLink("/nowhere"))
    assert files_behind([tmp_path / "a.h5"]) == [tmp_path / "b.h5"]
    (tmp_path / "text").write_text("no HDF5")
    assert files_behind([tmp_path / "text", tmp_path / "none"]) == []


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    write(tmp_path / "b.h5")
    assert files_behind([write(tmp_path / "a.h5")]) == []
    write(tmp_path / "a.h5", b=h5py.ExternalLink("b.h5", "/x"))
    assert files_behind([tmp_path / "a.h5"]) == [tmp_path / "b.h5"]


def test_a_list_and_the_files_in_it(tmp_path):
    master = write(tmp_path / "m.h5", a=h5py.ExternalLink("raw.h5", "/x"))
    raw = write(tmp_path / "raw.h5")
    listed = tmp_path / "run.files"
    listed.write_text(f"{master}\n")
    assert names_files(listed) and not names_files(master)
    assert files_named(listed) == [listed, master, raw]
    assert files_named(tmp_path / "gone.h5") == [tmp_path / "gone.h5"]
