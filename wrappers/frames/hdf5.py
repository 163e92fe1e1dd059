"""Reading HDF5 files: few of them open, from any process, with errors that say what to do."""

from __future__ import annotations

import glob
import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5p
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.filters import BITSHUFFLE  # (HDF5 learns of bitshuffle and others there)
from wrappers.frames.hdf5_contents import candidates
from wrappers.frames.hdf5_links import Piece, link_fault, open_hdf5, pieces, why_unfit

if TYPE_CHECKING:
    from wrappers.frames.unpacking import Unpacker

__all__ = ["HDF5Files", "Selection", "is_hdf5", "reading"]

Selection = tuple[int | slice, ...]

_NUMBERS = "iufbS"
_KINDS = {"data": "iuf", "mask": "iufb"}
"""Kinds of NumPy's types that a field may have: numbers as text are taken for headers only."""

_LARGEST_SMALL = 2**28
"""Bytes."""

_NO_FILTER = re.compile("open directory|not registered|required filter|dlopen")
"""What HDF5 says when it does not find a filter's plugin."""

_CHUNK_CACHE = 2**26
"""Bytes per data set: reading frame by frame is ten times slower where a chunk of several frames
does not fit."""

_CHUNK_SLOTS = 521
"""HDF5's own number."""


def is_hdf5(path: Path) -> bool:
    """Tell whether a file begins as an HDF5 file does; it may still be cut short."""
    return not why_unfit(str(path)) and bool(h5py.is_hdf5(path))


class HDF5Files:
    """A pool of open HDF5 files.

    Files are opened when they are first needed, and again in each process: the pool can be
    pickled, and survives a fork.

    Parameters
    ----------
    limit : int
        How many files stay open.
    growing : bool
        Whether they may be written meanwhile.
    """

    def __init__(self, limit: int = 4, growing: bool = False) -> None:
        self.limit, self.growing = limit, growing
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "growing": self.growing}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}
        self._arrays: dict[tuple[str, str], NDArray[np.generic]] = {}
        self._pieces: dict[tuple[str, str], list[Piece]] = {}
        self._unpackers: dict[tuple[str, str], Unpacker | None] = {}

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
        if fault := why_unfit(path):
            raise InputError(f"{path} {fault}: give an HDF5 file or a list of files")
        try:
            file = open_hdf5(path, growing=self.growing, rdcc_nbytes=_CHUNK_CACHE)
        except OSError as error:
            raise InputError(_why_not(path, error)) from None
        self._files[path] = file
        while len(self._files) > self.limit:
            oldest, closing = self._files.popitem(last=False)
            for cache in (self._datasets, self._arrays, self._pieces, self._unpackers):
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
                if fault := link_fault(file, path, name):
                    raise InputError(fault)
                found = self._lookup(file, name)
                if not isinstance(found, h5py.Dataset):
                    raise InputError(
                        f"{path} has no data set {name}: {candidates(file, name, field)}"
                    )
                _require_kind(found, path, name, field)
                parts = pieces(found, path)
            if parts and all(part.fault for part in parts):
                raise InputError(parts[0].fault)
            if found.chunks is not None and found.chunks[0] == 1 < found.ndim:
                # The memory of one frame, which is soon used again, is quicker than that of many.
                frame = math.prod(found.shape[1:]) * found.dtype.itemsize
                del found  # an open one keeps its cache
                with reading(path, name):
                    found = _open_with_cache(file, name, min(frame, _CHUNK_CACHE))
            self._datasets[key], self._pieces[key] = found, parts
        return self._datasets[key]

    def get(self, path: str, name: str) -> Any:
        """Return a data set or group, or None."""
        file = self.file(path)
        return None if link_fault(file, path, name) else self._lookup(file, name)

    @staticmethod
    def _lookup(file: h5py.File, name: str) -> Any:
        try:
            return file[name]
        except (KeyError, ValueError, OSError, RuntimeError):
            return None

    def read(self, path: str, name: str, field: str, selection: Selection) -> NDArray[Any]:
        """Read a part of a data set.

        Parameters
        ----------
        path, name, field
            As for `dataset`.
        selection : tuple of int and slice
            Of the leading dimensions; slices have a start and a stop.

        Raises
        ------
        InputError
            If it is not there, or cannot be read: where HDF5 would give zeros for what is
            missing, too.
        """
        dataset = self.dataset(path, name, field)
        for part in self._pieces[path, name]:
            if part.fault and part.meets(selection):
                raise InputError(part.fault)
        with reading(path, name):
            unpacker = self._unpacker(path, name, dataset)
            found = None if unpacker is None else unpacker.read(selection)
            return np.asarray(dataset[selection]) if found is None else found

    def _unpacker(self, path: str, name: str, dataset: h5py.Dataset) -> Unpacker | None:
        key = (path, name)
        if key not in self._unpackers:
            self._unpackers[key] = None
            if not self.growing and _is_bitshuffled(dataset):
                # (Which imports Numba.)
                from wrappers.frames.unpacking import Unpacker

                self._unpackers[key] = Unpacker.of(dataset)
        return self._unpackers[key]

    def small_array(self, path: str, name: str, field: str) -> NDArray[np.generic]:
        """Return the whole of a small data set, read once."""
        dataset = self.dataset(path, name, field)
        key = (path, name)
        if key not in self._arrays:
            if dataset.size * dataset.dtype.itemsize > _LARGEST_SMALL:
                raise InputError(
                    f"{name} in {path} has {dataset.size} values, too many for {field}: correct it"
                )
            self._arrays[key] = self.read(path, name, field, ())
        return self._arrays[key]


def _is_bitshuffled(dataset: h5py.Dataset) -> bool:
    plist = dataset.id.get_create_plist()
    return dataset.chunks is not None and plist.get_filter_by_id(BITSHUFFLE) is not None


def _open_with_cache(file: h5py.File, name: str, size: int) -> h5py.Dataset:
    """Open a data set with room for so many bytes of chunks, unpacked."""
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(_CHUNK_SLOTS, size, 1.0)
    return h5py.Dataset(h5d.open(file.id, name.encode(), access))


def _require_kind(dataset: h5py.Dataset, path: str, name: str, field: str) -> None:
    """Check that a data set holds what its field needs: counts, bits of a mask, or numbers."""
    kind = dataset.dtype.kind
    if kind == "O" and h5py.check_string_dtype(dataset.dtype) is not None:
        kind = "S"
    if dataset.shape is None or kind not in _KINDS.get(field, _NUMBERS):
        holds = {"b": "true or false", "S": "text", "c": "complex numbers"}.get(kind, "no numbers")
        raise InputError(f"{name} in {path} holds {holds}: correct {field} in the geometry")


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
    text = str(error)
    if "truncated" in text:
        return f"{path} is cut short (truncated HDF5): copy it again"
    if "unable to lock" in text:
        return f"{path} is being written by another program: wait until that is done"
    if "already open for" in text:
        if _is_open_elsewhere(path):
            return (
                f"{path} is being written (SWMR) by another program: wait until that is done, or "
                f"name it growing+file://{path}"
            )
        return (
            f"{path} was never closed by the program that wrote it (it was killed, or writes from "
            "another machine): wait for it, or mend a copy with h5clear -s"
        )
    if not is_hdf5(Path(path)):
        return f"{path} is no HDF5 file: check its name, or whether it was copied whole"
    return f"{path} cannot be opened as HDF5: the file is damaged ({error}); copy it again"


def _is_open_elsewhere(path: str) -> bool:
    """Tell whether another process of this machine has a file open, as far as one may see.

    A writer in SWMR mode holds no lock.
    """
    wanted = os.stat(path)
    own = f"/proc/{os.getpid()}/"
    for each in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if not each.startswith(own) and os.path.samestat(os.stat(each), wanted):
                return True
        except OSError:
            continue
    return False
