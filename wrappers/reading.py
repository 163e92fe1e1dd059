"""Reading files that people give, which may be anything: pipes, folders, raw data."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from wrappers.errors import InputError

__all__ = ["LARGEST_TEXT", "open_regular", "read_bytes", "read_text"]

LARGEST_TEXT = 2**28
"""Bytes."""


def open_regular(path: Path, what: str) -> BinaryIO:
    """Open a file for reading that lies on a disk.

    Parameters
    ----------
    path : Path
    what : str
        For messages, such as "the cell file".

    Raises
    ------
    InputError
        If it cannot be opened, or is no regular file.
    """
    try:
        # Opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} {path} cannot be read ({reason}): check its name") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{what} {path} is no regular file: give a file on a disk")
    return open(descriptor, "rb")


def read_bytes(path: Path, what: str) -> bytes:
    """Return what a file holds that is no larger than a text may be.

    Raises
    ------
    InputError
        If it cannot be read, is no regular file, or is far too large for a text.
    """
    with open_regular(path, what) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TEXT:
            raise InputError(f"{what} {path} is far too large for a text: check its name")
        try:
            return file.read(LARGEST_TEXT)
        except OSError as error:
            raise InputError(
                f"{what} {path} cannot be read ({error.strerror}): check its name"
            ) from None


def read_text(path: Path, what: str, errors: str = "replace") -> str:
    """Return a text file's text without its byte-order mark.

    Parameters
    ----------
    path : Path
    what : str
        For messages, such as "the cell file".
    errors : str
        What becomes of bytes that are no UTF-8, as `bytes.decode` has it.

    Raises
    ------
    InputError
        As `read_bytes` does.
    """
    content = read_bytes(path, what)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace").removeprefix("\ufeff")
    return content.decode("utf-8", errors).removeprefix("\ufeff")
