"""The files behind a run's files: what external links and virtual data sets lead to."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import h5py

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.events import read_list
from wrappers.frames.hdf5 import is_hdf5
from wrappers.frames.hdf5_links import file_places, open_hdf5
from wrappers.frames.opening import SOURCES
from wrappers.frames.source import FrameSource

__all__ = ["files_behind", "files_named", "files_of_run", "masks_named", "names_files"]

_LISTS = (".lst", ".list", ".txt", ".files")


def files_of_run(run: FrameSource) -> list[Path]:
    """Return every file that a run's frames are made of, linked files and mask files included."""
    masks = {mask.file for panel in run.geometry.panels for mask in panel.masks if mask.file}
    named = [*run.files, *map(Path, sorted(masks))]
    return [*named, *files_behind(named)]


def masks_named(geometry: Path) -> list[Path]:
    """Return the mask files that a geometry file names; none where it cannot be read."""
    try:
        panels = Geometry.read(geometry).panels
    except InputError:
        return []
    return [Path(f) for f in sorted({m.file for panel in panels for m in panel.masks if m.file})]


def names_files(data: Path) -> bool:
    """Whether a run is a list of files, and not one itself: by what is in it, where it is there."""
    if data.is_file():
        return data.suffix.lower() not in SOURCES and not is_hdf5(data)
    return data.suffix.lower() in _LISTS


def files_named(data: Path) -> list[Path]:
    """Return a run's file, or a list and the files in it, and what is behind them.

    The run need not be there any more.
    """
    files = [data]
    if data.is_file() and names_files(data):
        with suppress(InputError):
            files += [Path(file) for file in dict.fromkeys(file for file, _ in read_list(data))]
    return [*files, *files_behind(files)]


def files_behind(paths: Iterable[Path]) -> list[Path]:
    """Return the files that HDF5 files take data from, at any depth, and that exist.

    Parameters
    ----------
    paths : iterable of Path
        HDF5 files; others, and what cannot be read, lead nowhere.

    Returns
    -------
    list of Path
        Sorted, without the given ones.
    """
    given = {os.path.realpath(path) for path in paths}
    found: set[str] = set()
    waiting = list(given)
    while waiting:
        for name in _linked(waiting.pop()):
            if name not in found and name not in given:
                found.add(name)
                waiting.append(name)
    return [Path(name) for name in sorted(found)]


def _linked(path: str) -> set[str]:
    """Return the files that one file names."""
    try:
        status = os.stat(path)
    except OSError:
        return set()
    return _links_of(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _links_of(path: str, changed: int, size: int) -> set[str]:
    """Return what is asked for several times of each file, whose run may have thousands."""
    if not os.path.isfile(path) or not is_hdf5(Path(path)):
        return set()
    names: set[str] = set()
    try:
        with open_hdf5(path) as file:

            def look(name: str, link: object) -> None:
                if isinstance(link, h5py.ExternalLink):
                    names.update(
                        file_places(link.filename.replace("%", "%%"), path, "HDF5_EXT_PREFIX")
                    )
                elif isinstance(link, h5py.HardLink):
                    item = file.get(name)
                    if isinstance(item, h5py.Dataset) and item.is_virtual:
                        sources = {source.file_name for source in item.virtual_sources()}
                        for source in sources - {"."}:
                            names.update(file_places(source, path, "HDF5_VDS_PREFIX"))

            file.visititems_links(look)
    except (OSError, RuntimeError, KeyError, ValueError):
        pass  # damaged or gone: reading it will say so
    return names
