"""An HDF5 file that appears whole or not at all, on a disk that may be full."""

from __future__ import annotations

from pathlib import Path

import h5py

from wrappers.files import Unfinished, cannot_write
from wrappers.frames.disk import Disk

__all__ = ["WholeHDF5"]


class WholeHDF5:
    """An HDF5 file under a hidden name, which `finish` makes its target.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    file : File
        What to write to; see `check`.

    Raises
    ------
    InputError
        If the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._part = Unfinished(path)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._disk = Disk(self._part.descriptor, "w+")
        self.file = h5py.File(self._disk, "w")

    def check(self) -> None:
        """Raise InputError if something could not be written."""
        if self._disk.error is not None:
            raise cannot_write(self.path, self._disk.error)

    def close(self) -> None:
        """Write all of it to the disk; only the name is missing then."""
        self.file.close()
        self._disk.close()
        self.check()

    def finish(self) -> None:
        """Close the file and give it its name.

        Raises
        ------
        InputError
            If something could not be written.
        """
        try:
            self.close()
            self._part.finish()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def discard(self) -> None:
        """Drop what was written; after `finish` there is nothing to drop."""
        self.file.close()
        self._disk.close()
        self._part.discard()
