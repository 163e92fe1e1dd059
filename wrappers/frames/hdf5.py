"""Reading HDF5 files: few of them open, from any process, with errors that say what to do."""

from __future__ import annotations

import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers bitshuffle, LZ4, zstd and others with HDF5)
import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError

__all__ = ["HDF5Files", "is_hdf5"]

_NUMERIC = "iufb"

_NO_FILTER = re.compile("open directory|not registered|required filter|dlopen")
"""What HDF5 says when it looks for a filter's plugin in vain."""

_CHUNK_CACHE = 2**26
"""Bytes per data set: reading frame by frame is ten times slower where a chunk of several frames
does not fit."""


def is_hdf5(path: Path) -> bool:
    """Tell whether a file begins as an HDF5 file does; it may still be cut short."""
    return bool(h5py.is_hdf5(path))


class HDF5Files:
    """A pool of open HDF5 files.

    Files are opened when they are first needed, and again in each process: the pool can be
    pickled, and survives a fork.

    Parameters
    ----------
    limit : int
        How many files stay open.
    """

    def __init__(self, limit: int = 4) -> None:
        self.limit = limit
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}
        self._arrays: dict[tuple[str, str], NDArray[np.generic]] = {}

    def file(self, path: str) -> h5py.File:
        """Return an open file.

        Raises
        ------
        InputError
            If it is missing, no HDF5 file, or cut short.
        """
        if self._pid != os.getpid():
            # The handles are the parent's: leave them to it.
            self._forget()
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        try:
            file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
        except OSError as error:
            raise InputError(_why_not(path, error)) from None
        self._files[path] = file
        while len(self._files) > self.limit:
            oldest, closing = self._files.popitem(last=False)
            for cache in (self._datasets, self._arrays):
                for key in [key for key in cache if key[0] == oldest]:
                    del cache[key]
            closing.close()
        return file

    def close(self) -> None:
        """Close the files; one that is needed later is opened again."""
        if self._pid == os.getpid():
            for file in self._files.values():
                file.close()
        self._forget()

    def dataset(self, path: str, name: str, field: str) -> h5py.Dataset:
        """Return a numeric data set.

        Parameters
        ----------
        path, name : str
            The file, and the data set in it.
        field : str
            What the user calls it, for the message: "data", "clen" …

        Raises
        ------
        InputError
            If there is no such data set, or it links to a file that is missing.
        """
        file = self.file(path)
        key = (path, name)
        if key not in self._datasets:
            with reading(path, name):
                found = self._lookup(file, name)
                if not isinstance(found, h5py.Dataset):
                    raise InputError(_not_there(file, path, name, field))
                if found.dtype.kind not in _NUMERIC or found.shape is None:
                    raise InputError(f"{name} in {path} holds no numbers: correct {field}")
                _require_sources(found, path)
            self._datasets[key] = found
        return self._datasets[key]

    def get(self, path: str, name: str) -> Any:
        """Return a data set or group, or None."""
        return self._lookup(self.file(path), name)

    @staticmethod
    def _lookup(file: h5py.File, name: str) -> Any:
        try:
            return file[name]
        except (KeyError, ValueError, OSError, RuntimeError):
            return None

    def small_array(self, path: str, name: str, field: str) -> NDArray[np.generic]:
        """Return the whole of a small data set, read once."""
        dataset = self.dataset(path, name, field)
        key = (path, name)
        if key not in self._arrays:
            with reading(path, name):
                self._arrays[key] = np.asarray(dataset[()])
        return self._arrays[key]


@contextmanager
def reading(path: str, name: str) -> Iterator[None]:
    """Turn whatever HDF5 says of a file that it cannot make out into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        text = str(error)
        if _NO_FILTER.search(text):
            raise InputError(
                f"{name} in {path} is compressed with an HDF5 filter that is not installed: "
                "update hdf5plugin (pip install -U hdf5plugin), or set HDF5_PLUGIN_PATH"
            ) from None
        raise InputError(
            f"{name} in {path} cannot be read: the file is damaged ({text}); copy it again"
        ) from None


def _why_not(path: str, error: OSError) -> str:
    if not os.path.exists(path):
        return f"{path} does not exist: check its name"
    if os.path.isdir(path):
        return f"{path} is a folder: give an HDF5 file or a list of files"
    if not os.access(path, os.R_OK):
        return f"{path} may not be read: check its permissions"
    if "truncated" in str(error):
        return f"{path} is cut short (truncated HDF5): copy it again"
    if "unable to lock" in str(error):
        return f"{path} is being written by another program: wait until that is done"
    if not is_hdf5(Path(path)):
        return f"{path} is no HDF5 file: check its name, or whether it was copied whole"
    return f"{path} cannot be opened as HDF5: the file is damaged ({error}); copy it again"


def _not_there(file: h5py.File, path: str, name: str, field: str) -> str:
    parts = [part for part in name.split("/") if part]
    for i in range(len(parts)):
        here = "/" + "/".join(parts[: i + 1])
        try:
            link = file.get(here, getlink=True)
        except (KeyError, RuntimeError):
            break
        if isinstance(link, h5py.ExternalLink):
            target = os.path.join(os.path.dirname(path), link.filename)
            if not os.path.exists(target):
                return (
                    f"{here} in {path} links to {link.filename}, which does not exist: "
                    "put it beside the master file"
                )
    holds = ", ".join(_likely(file)) or "no arrays"
    return f"{path} has no data set {name}: set {field} to what it holds ({holds})"


def _likely(file: h5py.File, most: int = 5) -> list[str]:
    """Describe the largest numeric arrays of a file that have at least two dimensions."""
    found: list[tuple[int, str]] = []
    groups: list[tuple[h5py.Group, str, int]] = [(file, "", 0)]
    budget = 2000
    while groups and budget > 0:
        group, prefix, depth = groups.pop(0)
        for key in group:
            budget -= 1
            try:
                item = group[key]
            except (KeyError, OSError, RuntimeError):
                continue
            if isinstance(item, h5py.Group):
                if depth < 8:
                    groups.append((item, f"{prefix}/{key}", depth + 1))
            elif (
                isinstance(item, h5py.Dataset)
                and len(item.shape or ()) >= 2
                and item.dtype.kind in _NUMERIC
            ):
                shape = " x ".join(map(str, item.shape))
                found.append((math.prod(item.shape), f"{prefix}/{key}: {shape}"))
    found.sort(reverse=True)
    return [text for _, text in found[:most]]


def _require_sources(dataset: h5py.Dataset, path: str) -> None:
    """Check that a virtual data set's files exist: HDF5 would read zeros in their place."""
    if not dataset.is_virtual:
        return
    folder = os.path.dirname(os.path.abspath(dataset.file.filename))
    for name in {source.file_name for source in dataset.virtual_sources()}:
        if name == "." or "%b" in name or os.path.exists(os.path.join(folder, name)):
            continue
        if not os.path.exists(name):
            raise InputError(
                f"{dataset.name} in {path} takes its data from {name}, which does not exist: "
                "put it beside the file"
            )
