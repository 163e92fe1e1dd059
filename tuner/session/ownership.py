"""One process at a time writes a session.

Who does stands in ``owner.json`` in the session's directory: a file that only one process can
create works on network file systems too, where locks may not.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wrappers.errors import InputError
from wrappers.files import cannot_write, write_whole
from wrappers.processes import ProcessMark, this_process
from wrappers.schema import read_json

__all__ = ["OWNER", "is_owned", "owned"]

OWNER = "owner.json"


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Own a session's directory, which is made where there is none.

    What a process that has ended left behind is taken over.

    Raises
    ------
    InputError
        If another process owns it, or it cannot be written.
    """
    path = directory / OWNER
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        while not _created(path) and not _taken_over(path):
            pass  # it has just gone
    except OSError as error:
        raise cannot_write(directory, error) from None
    try:
        yield
    finally:
        with suppress(OSError, InputError):
            # Somebody may have removed it, as from another machine one is told to, and begun.
            if _read(path) == this_process():
                path.unlink(missing_ok=True)
        if made:
            with suppress(OSError):  # unless something was written
                directory.rmdir()


def is_owned(directory: Path) -> bool:
    """Tell whether a process that is still there owns a session's directory."""
    owner = _read(directory / OWNER)
    return owner is not None and not owner.is_gone()


def _created(path: Path) -> bool:
    """Write this process's mark into a new file; tell whether there was none before."""
    # Written before it has its name: nobody reads half of it.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    mark = json.dumps(this_process().as_dict()) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        part.write_text(mark, encoding="utf-8")
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links.
        try:
            with os.fdopen(os.open(path, flags, 0o666), "w", encoding="utf-8") as stream:
                stream.write(mark)
        except FileExistsError:
            return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _taken_over(path: Path) -> bool:
    """Take over what a process has left that ended; tell whether there was something.

    Whoever may do so is settled by a file of its own for each owner that has gone, as only one
    process can create it.

    Raises
    ------
    InputError
        If the owner has not ended, or another process is taking over.
    """
    owner = _read(path)
    if owner is None:
        return False
    if not owner.is_gone():
        raise _busy(path, owner)
    claim = path.with_name(f".{path.name}.after-{owner.machine}-{owner.pid}-{owner.started}")
    if not _created(claim):
        other = _read(claim)
        if other is not None and other.is_gone():
            claim.unlink(missing_ok=True)
            return False
        raise _busy(path, other or owner)
    try:
        if _read(path) != owner:
            return False
        write_whole(path, json.dumps(this_process().as_dict()) + "\n")
        return True
    finally:
        claim.unlink(missing_ok=True)


def _busy(path: Path, owner: ProcessMark) -> InputError:
    known = owner.is_gone() is not None
    remedy = "wait for it, or stop it" if known else f"wait for it; if it has ended, remove {path}"
    return InputError(
        f"{path.parent} is being written by another sfx-tuner (process {owner.pid} on "
        f"{owner.host}): {remedy}"
    )


def _read(path: Path) -> ProcessMark | None:
    """Return whom the file names, or None if it has gone."""
    try:
        return read_json(
            path, ProcessMark, "the name of who writes the session,", "remove it if nobody does"
        )
    except InputError:
        if not path.exists():
            return None
        raise
