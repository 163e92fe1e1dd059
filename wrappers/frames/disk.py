"""A file for HDF5 to write to, and what it does when the disk is full."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["Disk"]


class Disk(io.FileIO):
    """A file for HDF5 to write to that remembers its first failure instead of raising it.

    HDF5 leaves a file half closed when the disk is full, and crashes the process later. Here it
    never learns of it: whoever owns the file looks at `error` and drops it.
    """

    error: OSError | None = None

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        """Write, or pretend to."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += super().write(view[done:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the size, or pretend to."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
