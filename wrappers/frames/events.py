"""CrystFEL's events: which frames a file or a list holds, and what each is called.

An event is ``names//numbers``: the names that stand for the ``%`` of the data path, and the
indices that stand for the ``%`` of the dimensions, each joined by slashes. The fourth frame of a
file with all frames in one array is ``//3``; the only frame of a file is ``//``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Block
from wrappers.errors import InputError
from wrappers.frames.hdf5 import HDF5Files, reading
from wrappers.frames.hdf5_links import link_fault
from wrappers.reading import read_text

__all__ = ["fill_path", "find_events", "find_names", "linked_path", "read_list", "split_event"]

_NO_LIST = "{} is neither an HDF5 file nor a list of files: check its name"
_LINE = re.compile(r"(.*\S)\s+(\S*//\S*)(?<!///)")
_EVENT = re.compile(r"((?:[^/]+(?:/[^/]+)*)?)//((?:\d{1,18}(?:/\d{1,18})*)?)")
MOST_FRAMES = 2_000_000
"""Of a file; far more are a mistake of the file, and a list of them alone fills the memory."""

_LINKED = re.compile(r"data_\d+")


def split_event(event: str) -> tuple[list[str], list[int]]:
    """Return an event's names and numbers.

    Raises
    ------
    InputError
        If it is no event.
    """
    match = _EVENT.fullmatch(event)
    if not match:
        raise InputError(f"the event {event!r} is not of the form //3 or name//3: correct it")
    names = [name for name in match[1].split("/") if name]
    return names, [int(number) for number in match[2].split("/") if number]


def fill_path(pattern: str, names: list[str]) -> str:
    """Put the names of an event into the ``%`` of a path, which may have fewer."""
    remaining = iter(names)
    return re.sub("%", lambda match: next(remaining, "%"), pattern)


def linked_path(pattern: str, names: list[str]) -> str:
    """Return the data set of an event: `fill_path`, or a linked data set of an NXmx master.

    Where a geometry's path has no ``%``, a name stands for the last part of the path: the event
    ``data_000002//3`` of ``/entry/data/data`` is in ``/entry/data/data_000002``.
    """
    if names and "%" not in pattern:
        return f"{pattern.rpartition('/')[0]}/{names[0]}"
    return fill_path(pattern, names)


def read_list(path: Path) -> list[tuple[str, str]]:
    """Read a CrystFEL list: lines ``file`` or ``file //event``.

    Returns
    -------
    list of (file, event)
        Absolute names; the event is "" for all events of the file.

    Raises
    ------
    InputError
        If it cannot be read, is no text, names no file, or names a missing one.
    """
    text = read_text(path, "the list", "surrogateescape")
    if "\0" in text[: 1 << 16]:
        raise InputError(_NO_LIST.format(path))
    if text.startswith("CrystFEL stream format"):
        raise InputError(
            f"{path} is a CrystFEL stream: give the run that it was made of, an HDF5 file or a list"
        )
    found: list[tuple[str, str]] = []
    resolved: dict[str, str] = {}
    for i, line in enumerate(re.split(r"\r\n|\n|\r", text)):
        line = line.strip()
        if not line or (line.startswith((";", "#")) and not _existing(line, path)):
            continue
        # As in CrystFEL, a last word without '//' belongs to the file's name.
        match = _LINE.fullmatch(line)
        name, event = (match[1], match[2]) if match else (line, "")
        if name not in resolved:
            existing = _existing(name, path)
            if not existing and re.search("[\udc80-\udcff\ufffd]", name):
                raise InputError(_NO_LIST.format(path))
            if not existing:
                shown = name if len(name) <= 200 else f"{name[:200]}…"
                raise InputError(
                    f"{path}, line {i + 1}: {shown} does not exist, neither from the working "
                    "directory nor beside the list: correct the name"
                )
            resolved[name] = os.path.normpath(existing)
        found.append((resolved[name], event))
    if not found:
        raise InputError(f"{path} names no file: write one on each line")
    return found


def _existing(name: str, path: Path) -> str:
    """Return the file that a name in a list means: from here, else beside the list; "" if none."""
    for folder in (Path.cwd(), path.parent.absolute()):
        candidate = os.path.join(folder, name)
        # Unlike Path.exists this takes any name.
        if os.path.exists(candidate):
            return candidate
    return ""


def find_events(files: HDF5Files, path: str, geometry: Geometry) -> tuple[list[str], list[str]]:
    """Return all events of a file, in CrystFEL's order.

    Where the geometry's data path is missing, but linked data sets ``data_000001`` … stand in its
    place, as in an NXmx master file, the events are those of each of them in turn.

    Returns
    -------
    events : list of str
    notes : list of str
        Which linked data sets are left out because their files cannot be read.

    Raises
    ------
    InputError
        If the file is missing or damaged or does not hold what the geometry says.
    """
    block = geometry.blocks[0]
    if "%" not in block.data and "%" not in block.dims:
        return ["//"], []
    events: list[str] = []
    faults: list[str] = []
    for names in find_names(files, path, geometry):
        try:
            dataset = files.dataset(path, linked_path(block.data, names), "data")
        except InputError as error:
            if not names:
                raise
            # A collection that was stopped leaves links to files that were never written.
            faults.append(str(error))
            continue
        if dataset.ndim != len(block.dims):
            raise InputError(wrong_dimensions(dataset, path, block))
        sizes = [n for n, dim in zip(dataset.shape, block.dims, strict=True) if dim == "%"]
        if math.prod(sizes) + len(events) > MOST_FRAMES:
            raise InputError(
                f"{path} declares {math.prod(sizes)} frames, and more than {MOST_FRAMES} are not "
                "read at once: give a list of some of them (lines such as 'run.h5 //0')"
            )
        prefix = "/".join(names) + "//"
        events += [
            prefix + "/".join(map(str, numbers))
            for numbers in itertools.product(*(range(n) for n in sizes))
        ]
    if faults and not events:
        raise InputError(faults[0])
    if not faults:
        return events, []
    return events, [
        f"{len(faults)} data sets of {path} are left out, {len(events)} frames remain: {faults[0]}"
    ]


def wrong_dimensions(dataset: h5py.Dataset, path: str, block: Block) -> str:
    """Say that a data set does not have the dimensions that the geometry gives."""
    shape = " x ".join(map(str, dataset.shape))
    return (
        f"{dataset.name} in {path} has {dataset.ndim} dimensions ({shape}), but the geometry's "
        f"dim0, dim1 … give {len(block.dims)}: set them, '%' for the frame number"
    )


def find_names(files: HDF5Files, path: str, geometry: Geometry) -> list[list[str]]:
    """Return what can stand for the ``%`` of the data path, or which data sets are linked.

    It is one list without a name where the path is plain.
    """
    block = geometry.blocks[0]
    with reading(path, block.data):
        if "%" in block.data:
            parts = [part for part in block.data.split("/") if part]
            return list(_expand(files.file(path), parts))
        if files.get(path, block.data) is None:
            parent = files.get(path, block.data.rpartition("/")[0] or "/")
            if isinstance(parent, h5py.Group):
                linked = sorted(name for name in parent if _LINKED.fullmatch(name))
                if linked:
                    return [[name] for name in linked]
    return [[]]


def _expand(group: h5py.Group, parts: list[str]) -> Iterator[list[str]]:
    """Yield the names that stand for each ``%`` of a path, wherever the path leads to an array.

    A link to another file counts as an array: whether it is one is for the reader to find out.
    """
    part, *rest = parts
    for name in _matching(group, part):
        here = [name] if "%" in part else []
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            if not rest:
                yield here
            if not rest or link_fault(group, group.file.filename, name):
                continue
        try:
            item = group[name]
        except (KeyError, RuntimeError, OSError, ValueError):
            continue
        if not rest:
            if isinstance(item, h5py.Dataset):
                yield here
        elif isinstance(item, h5py.Group):
            for names in _expand(item, rest):
                yield here + names


def _matching(group: h5py.Group, part: str) -> list[str]:
    """Return the members of a group that a part of a path can mean."""
    if part != "%":
        return [part] if part in group else []
    return sorted(group)
