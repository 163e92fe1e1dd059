"""Reading text files that people give, which may be anything: pipes, folders, raw data."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wrappers.errors import InputError

__all__ = ["read_text"]

LARGEST_TEXT = 2**28
"""Bytes."""


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
        If it cannot be read, is no regular file, or is far too large for a text.
    """
    try:
        # Opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} {path} cannot be read ({reason}): check its name") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{what} {path} is no regular file: give a file on a disk")
        if status.st_size > LARGEST_TEXT:
            raise InputError(f"{what} {path} is far too large for a text: check its name")
        try:
            content = file.read(LARGEST_TEXT)
        except OSError as error:
            raise InputError(
                f"{what} {path} cannot be read ({error.strerror}): check its name"
            ) from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace").removeprefix("\ufeff")
    return content.decode("utf-8", errors).removeprefix("\ufeff")
