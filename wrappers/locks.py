"""File systems without locks: it is said once, and nothing waits for what never comes."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import secrets
import warnings
from pathlib import Path

from wrappers.errors import Note

__all__ = ["has_locks", "is_locked_by_writer", "is_want_of_locks"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@functools.cache
def has_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked, as databases do; warns once where they cannot."""
    probe = folder / f".lock.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError:
        return True  # full or read-only: whoever writes there will say so
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            warnings.warn(
                f"files in {folder} cannot be locked ({error.strerror}): it goes on without, so "
                "let no other program write there",
                Note,
                stacklevel=2,
            )
            return False
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    return True


def is_want_of_locks(error: OSError, path: str) -> bool:
    """Whether HDF5 could not open a file because its file system has no locks; warns once."""
    if "file locking flag values don't match" in str(error):
        return True  # open already, through a link of a file that was opened without
    told = re.search(r"unable to lock file, errno = (\d+)", str(error))
    if told is None or int(told[1]) not in _NO_LOCKS:
        return False
    warnings.warn(
        f"files in {os.path.dirname(path) or '.'} cannot be locked "
        f"({os.strerror(int(told[1]))}): they are read without",
        Note,
        stacklevel=2,
    )
    return True


def is_locked_by_writer(path: str) -> bool:
    """Whether a program has a lock on a file that lets nobody read it, as HDF5 has while it writes.

    Our own lock lasts for some microseconds, so that it keeps no writer from opening the file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # opening it in earnest says why
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(descriptor)
    return False
