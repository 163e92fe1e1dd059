"""The one door for the program's own arrays: NumPy archives and HDF5 files, checked as they enter.

What a file says of its arrays is looked at before they are read, because a few bytes may claim
any amount of memory, and HDF5 follows links to wherever they lead.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.reading import open_regular

__all__ = ["NUMBERS", "open_hdf5", "own_dataset", "read_arrays", "stored_array", "stored_text"]

LARGEST = 2**30
"""Bytes of an array, or of all of an archive."""

NUMBERS = "biuf"


def read_arrays(path: Path, what: str, remedy: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of numbers of a ``.npz``.

    Parameters
    ----------
    path : Path
    what : str
        For messages, such as "the table".
    remedy : str
        What to do where it is damaged, for the end of the sentence.

    Raises
    ------
    InputError
        If it cannot be read, holds something else, or more than fits.
    """
    room = LARGEST
    found = {}
    with open_regular(path, what) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for name in archive.namelist():
                    with archive.open(name) as member:
                        room -= _claimed(member, name)
                    if room < 0:
                        raise ValueError(f"{name} claims more than {LARGEST >> 20} MiB")
                    with archive.open(name) as member:
                        values = npy.read_array(member, allow_pickle=False)
                    found[name.removesuffix(".npy")] = values
        # NumPy and zipfile raise whatever their own parts do of bytes that are another thing.
        except Exception as error:
            raise InputError(f"{what} {path} is damaged ({error}): {remedy}") from None
    return found


def _claimed(member: Any, name: str) -> int:
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is in no known format")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.kind not in NUMBERS or min(shape, default=0) < 0:
        raise ValueError(f"{name} holds no numbers")
    return math.prod(shape) * dtype.itemsize


@contextmanager
def open_hdf5(path: Path, what: str, remedy: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of the program's own for reading.

    Whatever HDF5 says within the block of what it cannot make out is an `InputError`.

    Raises
    ------
    InputError
        If it cannot be read, or is no HDF5.
    """
    open_regular(path, what).close()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise InputError(f"{what} {path} is damaged ({error}): {remedy}") from None


def stored_array(
    file: h5py.File,
    name: str,
    kinds: str = NUMBERS,
    shape: tuple[int | None, ...] | None = None,
) -> NDArray[Any]:
    """Return an array that lies in the file itself.

    Parameters
    ----------
    file : h5py.File
        From `open_hdf5`.
    name : str
    kinds : str
        NumPy's letters of what it may hold.
    shape : tuple of int or None, optional
        That it must have, None for any length.

    Raises
    ------
    ValueError
        If it is not there, or is another one.
    """
    dataset = own_dataset(file, name)
    kind = "O" if h5py.check_string_dtype(dataset.dtype) else dataset.dtype.kind
    if dataset.dtype.subdtype or dataset.dtype.names or kind not in kinds:
        raise ValueError(f"{name} holds {dataset.dtype}")
    if dataset.shape is None or (
        shape is not None
        and (
            len(shape) != len(dataset.shape)
            or any(n not in (None, is_) for n, is_ in zip(shape, dataset.shape, strict=True))
        )
    ):
        raise ValueError(f"{name} has the shape {dataset.shape}")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if max(dataset.size * dataset.dtype.itemsize, chunk) > LARGEST:
        raise ValueError(f"{name} claims more than {LARGEST >> 20} MiB")
    return np.asarray(dataset[()])


def stored_text(file: h5py.File, name: str) -> list[str]:
    """Return the texts of a data set of strings; of a single one, it alone.

    Raises
    ------
    ValueError
        If it is not there, or holds something else.
    """
    values = stored_array(file, name, "OS")
    return [
        each.decode() if isinstance(each, bytes) else str(each) for each in np.atleast_1d(values)
    ]


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set that lies in the file itself, unread.

    Raises
    ------
    ValueError
        If it is not there, or lies in another file.
    """
    item: Any = file
    for part in name.strip("/").split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"it has no {name}")
        item = item[part]
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{name} is no array")
    if item.is_virtual or item.external:
        raise ValueError(f"{name} lies in another file")
    return item
