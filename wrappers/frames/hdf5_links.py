"""Where the data of HDF5 files really are: links and virtual data sets, followed before reading.

HDF5 itself waits for ever at a link to a pipe, ends the process at a virtual data set that leads
back to itself, and gives zeros where a virtual data set's source is missing. So each place is
looked at before HDF5 goes there.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from wrappers.locks import is_locked_by_writer, is_want_of_locks

__all__ = ["Piece", "file_places", "link_fault", "open_hdf5", "pieces", "why_unfit"]

MOST_LINKS = 40
"""From one file to the next, or from one name to the next; more are a circle."""

LARGEST_CHUNK = 2**30
"""Bytes; HDF5 unpacks a chunk as a whole, however little of it is wanted."""


def why_unfit(path: str) -> str:
    """Say why a file's name must not be opened, or nothing if it may."""
    try:
        kind = os.stat(path).st_mode
    except OSError as error:
        return (
            "does not exist" if not os.path.lexists(path) else f"cannot be read ({error.strerror})"
        )
    except ValueError:
        return "is no name of a file"
    if stat.S_ISDIR(kind):
        return "is a folder"
    if not stat.S_ISREG(kind):
        return "is no regular file (a pipe or a device)"
    return "" if os.access(path, os.R_OK) else "may not be read (check its permissions)"


def open_hdf5(path: str, *, growing: bool = False, **options: int) -> h5py.File:
    """Open a file for reading, with a lock where its file system has some.

    One that is `growing` may be written meanwhile, by a program that writes as HDF5's SWMR has it.
    It is not locked, as that would keep its writer from opening it again; OSError if one that lets
    nobody read has it.
    """
    if growing:
        if is_locked_by_writer(path):
            raise BlockingIOError(f"unable to lock {path}")
        return h5py.File(path, "r", swmr=True, locking=False, **options)
    try:
        return h5py.File(path, "r", **options)
    except OSError as error:
        if not is_want_of_locks(error, path):
            raise
    # Goes for the files that it links to, too.
    return h5py.File(path, "r", locking=False, **options)


def file_places(name: str, path: str, prefix: str) -> Iterator[str]:
    """Yield where HDF5 finds a file that another one names: none, one, or those of a pattern.

    Parameters
    ----------
    name : str
        As a virtual data set has it: ``%b`` counts blocks, ``%%`` is a plain ``%``. For an external
        link double each ``%``.
    path : str
        The file that names it.
    prefix : str
        Of HDF5's environment variables: "HDF5_EXT_PREFIX" or "HDF5_VDS_PREFIX".
    """
    parts = [part.replace("%b", "\0") for part in name.split("%%")]
    plain = "%".join(parts)
    names = [plain]
    if os.path.isabs(plain):
        names.append(os.path.basename(plain))
    folders = [
        *os.environ.get(prefix, "").replace("${ORIGIN}", os.path.dirname(path)).split(":"),
        os.path.dirname(path),
        "",
        os.path.dirname(os.path.realpath(path)),
    ]
    for each in names:
        for folder in dict.fromkeys(folders):
            place = os.path.join(folder, each)
            if "\0" in place:
                matching = glob.glob("*".join(map(glob.escape, place.split("\0"))))
            else:
                matching = [place] if os.path.exists(place) else []
            if matching:
                yield from (os.path.realpath(found) for found in matching)
                return


def link_fault(file: h5py.File, path: str, name: str, depth: int = 0) -> str:
    """Say what keeps a name of a file from being followed safely, or nothing.

    A name that is simply not there is no fault: whoever looks it up finds none.
    """
    group: h5py.Group = file
    parts = [part for part in name.split("/") if part]
    here = ""
    for i, part in enumerate(parts):
        here += f"/{part}"
        try:
            link = group.get(part, getlink=True)
        except (KeyError, RuntimeError, OSError, ValueError):
            return ""
        rest = "/".join(parts[i + 1 :])
        if not isinstance(link, h5py.HardLink) and depth >= MOST_LINKS:
            return f"{here} in {path} links to itself: mend the file"
        if isinstance(link, h5py.SoftLink):
            target = (
                link.path if link.path.startswith("/") else f"{here.rpartition('/')[0]}/{link.path}"
            )
            return link_fault(file, path, f"{target}/{rest}", depth + 1)
        if isinstance(link, h5py.ExternalLink):
            place = next(file_places(link.filename.replace("%", "%%"), path, "HDF5_EXT_PREFIX"), "")
            fault = why_unfit(place) if place else "does not exist"
            if fault:
                return (
                    f"{here} in {path} links to {link.filename}, which {fault}: put it beside the "
                    "master file"
                )
            try:
                with open_hdf5(place, growing=file.swmr_mode) as other:
                    return link_fault(other, place, f"{link.path}/{rest}", depth + 1)
            except (OSError, RuntimeError) as error:
                return f"{here} in {path} links to {place}, which cannot be opened ({error})"
        try:
            item = group[part]
        except (KeyError, RuntimeError, OSError, ValueError):
            return ""
        if not isinstance(item, h5py.Group):
            return ""
        group = item
    return ""


@dataclass(frozen=True)
class Piece:
    """A part of a virtual data set.

    Attributes
    ----------
    first, last : tuple of int
        Its corners in the data set, inclusive.
    fault : str
        Why it cannot be read, or "".
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    fault: str

    def meets(self, selection: tuple[int | slice, ...]) -> bool:
        """Tell whether an index of numbers and slices (from start to stop) reads from it."""
        for first, last, part in zip(self.first, self.last, selection, strict=False):
            start, stop = (part.start, part.stop) if isinstance(part, slice) else (part, part + 1)
            if start > last or stop <= first:
                return False
        return True


def pieces(dataset: h5py.Dataset, path: str) -> list[Piece]:
    """Return the parts of a virtual data set, with what keeps each from being read.

    A data set that is not virtual is one part.
    """
    whole = (0,) * dataset.ndim, tuple(n - 1 for n in dataset.shape)
    if not dataset.is_virtual:
        return [Piece(*whole, _chunk_fault(dataset, path))]
    found = []
    known: dict[tuple[str, str], str] = {}
    for source in dataset.virtual_sources():
        key = source.file_name, source.dset_name
        if key not in known:
            known[key] = _source_fault(dataset, path, source, ())
        first, last = _bounds(source.vspace) or whole
        found.append(Piece(first, last, known[key]))
    return found


def _bounds(space: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the corners of a selection, inclusive; None where it is everything, or endless."""
    try:
        first, last = space.get_select_bounds()
    except (ValueError, RuntimeError, OverflowError):
        return None
    return tuple(first), tuple(last)


def _reaches_beyond(source: Any, dataset: h5py.Dataset) -> bool:
    """Tell whether a virtual data set wants more of its source than the source has."""
    bounds = _bounds(source.src_space)
    if bounds is None:
        limits = _bounds(source.vspace)
        return limits is not None and bool(source.vspace.get_select_npoints() > dataset.size)
    last = bounds[1]
    if len(last) != dataset.ndim:
        return True
    return any(i >= n for i, n in zip(last, dataset.shape, strict=True))


def _chunk_fault(dataset: h5py.Dataset, path: str) -> str:
    size = dataset.dtype.itemsize
    for n in dataset.chunks or ():
        size *= n
    if dataset.chunks is None or size <= LARGEST_CHUNK:
        return ""
    return (
        f"{dataset.name} in {path} is stored in chunks of {size / 2**30:.1f} GiB, each of which "
        "must be unpacked as a whole: rechunk it, a frame to a chunk (h5repack -l)"
    )


def _source_fault(
    dataset: h5py.Dataset,
    path: str,
    source: Any,
    above: tuple[tuple[str, str], ...],
) -> str:
    """Say what keeps a virtual data set's source, or a source of that, from being read."""
    name, inner = source.file_name, source.dset_name.replace("%%", "%")
    takes = f"{dataset.name} in {path} takes its data from"
    if "%b" in name or "%b" in source.dset_name:
        # HDF5 counts the blocks that are there, and the data set is as long as these.
        return ""
    place = path if name == "." else next(file_places(name, path, "HDF5_VDS_PREFIX"), "")
    fault = why_unfit(place) if place else "does not exist"
    if fault:
        return f"{takes} {name.replace('%%', '%')}, which {fault}: put it beside the file"
    key = os.path.realpath(place), inner
    if key in above or len(above) >= MOST_LINKS:
        return f"{takes} itself, by way of {place}: mend the file"
    try:
        with open_hdf5(place, growing=dataset.file.swmr_mode) as other:
            if fault := link_fault(other, place, inner):
                return fault
            found = other.get(inner)
            if not isinstance(found, h5py.Dataset):
                return f"{takes} {inner} of {place}, which has no such data set: mend the file"
            if _reaches_beyond(source, found):
                return f"{takes} {inner} of {place}, which is too small: copy that file again"
            if not found.is_virtual:
                return _chunk_fault(found, place)
            for each in found.virtual_sources():
                if fault := _source_fault(found, place, each, (*above, key)):
                    return fault
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        return f"{takes} {place}, which cannot be read ({error}): copy it again"
    return ""
