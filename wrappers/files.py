"""Writing files so that they appear whole or not at all.

What is being written stands under a hidden name beside its target. The name cannot be guessed,
and it is never one that exists: in a folder that others may write to, too, nobody's link is
followed. What a killed process has left is removed when another one writes to the folder.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wrappers.errors import InputError
from wrappers.processes import ProcessMark, this_process

__all__ = [
    "Unfinished",
    "append_line",
    "cannot_write",
    "is_of_the_disk",
    "mend",
    "temporary_folder",
    "unfinished_folder",
    "write_whole",
]

PART = re.compile(r"\..*\.([0-9a-f]{12})-(\d+)-(\d+)-[0-9a-f]{16}\.part", re.DOTALL)
TEMPORARY = re.compile(r"sfx-tuner-([0-9a-f]{12})-(\d+)-(\d+)-[0-9a-f]{16}")
LONGEST_NAME = 120
"""Bytes of the target's name in a hidden name; file systems take 255 in all."""

ABANDONED = 86_400.0
"""Seconds after which an unchanged file of another machine's process counts as left behind."""


class Unfinished:
    """A hidden file that becomes its target with `finish`, or nothing with `discard`.

    Attributes
    ----------
    path : Path
    descriptor : int
        Open for reading and writing; it is for the owner to close.

    Raises
    ------
    OSError
        If the file cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = _hidden_name(target)
        self.descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )

    def finish(self) -> None:
        """Give the file its name; one that was there is replaced."""
        os.replace(self.path, self.target)

    def discard(self) -> None:
        """Remove the file; after `finish` there is nothing to remove."""
        self.path.unlink(missing_ok=True)


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file by way of a hidden one beside it.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    try:
        part = Unfinished(target)
        try:
            with os.fdopen(part.descriptor, "wb") as stream:
                stream.write(content)
            part.finish()
        finally:
            part.discard()
    except OSError as error:
        raise cannot_write(target, error) from None


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is on disk when this returns.

    Raises
    ------
    InputError
        If it cannot be written; then nothing of it remains.
    """
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        with os.fdopen(descriptor, "ab", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            content = (line + "\n").encode("utf-8", "surrogateescape")
            try:
                while content:
                    content = content[stream.write(content) :]
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    stream.truncate(size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(target: Path, error: OSError) -> InputError:
    """Return what to say where a file cannot be written."""
    return InputError(f"{target} cannot be written ({error.strerror or error}): {mend(error)}")


def mend(error: OSError) -> str:
    """Return what to do about a failure of the file system."""
    return _MENDS.get(_number(error) or 0, "choose another place")


def is_of_the_disk(error: OSError) -> bool:
    """Whether it is the place that fails, not what was asked of it."""
    return _number(error) in _MENDS


def _number(error: OSError) -> int | None:
    # HDF5 has the number in its text only.
    told = re.search(r"errno = (\d+)", str(error))
    return int(told[1]) if error.errno is None and told else error.errno


_MENDS = {
    errno.ENOSPC: "the disk is full, make room",
    errno.EDQUOT: "your quota is used up, make room",
    errno.EFBIG: "no file may become so large here, choose another place",
    errno.EROFS: "it is on a read-only file system, choose another place",
    errno.ESTALE: "its disk has gone, mount it again",
    errno.EIO: "its disk does not work, choose another place",
    errno.ENODEV: "its disk has gone, mount it again",
    errno.ENOTCONN: "its disk has gone, mount it again",
    errno.ETIMEDOUT: "its disk does not answer, try again later",
    errno.EACCES: "you may not, choose another place",
    errno.EPERM: "you may not, choose another place",
    errno.ENOLCK: "its file system has no locks left, choose another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "too many files are open, raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
}


def unfinished_folder(target: Path) -> Path:
    """Make a hidden folder beside the folder that it is to become.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _hidden_name(target)
    folder.mkdir()
    return folder


@contextmanager
def temporary_folder(where: Path | None = None) -> Iterator[Path]:
    """Make a folder for this process alone, which is removed in the end.

    What others of this user left, that were killed, is removed when one is made.

    Parameters
    ----------
    where : Path, optional
        By default where TMPDIR says.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    inside = where or Path(tempfile.gettempdir())
    _sweep(inside, TEMPORARY)
    this = this_process()
    mark = f"{this.machine}-{this.pid}-{this.started}-{secrets.token_hex(8)}"
    folder = inside / f"sfx-tuner-{mark}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hidden_name(target: Path) -> Path:
    _sweep(target.parent.absolute(), PART)
    this = this_process()
    shown = os.fsdecode(os.fsencode(target.name)[:LONGEST_NAME])
    token = secrets.token_hex(8)
    return target.with_name(f".{shown}.{this.machine}-{this.pid}-{this.started}-{token}.part")


@functools.lru_cache(maxsize=64)
def _sweep(folder: Path, names: re.Pattern[str]) -> None:
    """Remove what processes that have ended left in a folder; once a process."""
    try:
        with os.scandir(folder) as entries:
            left = [entry for entry in entries if _is_left(entry, names)]
    except OSError:
        return
    for entry in left:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):  # another's, or swept by another
                os.unlink(entry.path)


def _is_left(entry: os.DirEntry[str], names: re.Pattern[str]) -> bool:
    named = names.fullmatch(entry.name)
    if named is None or entry.is_symlink():
        return False
    gone = ProcessMark("", named[1], int(named[2]), int(named[3])).is_gone()
    if gone is not None:
        return gone
    try:
        return entry.stat(follow_symlinks=False).st_mtime < time.time() - ABANDONED
    except OSError:
        return False
