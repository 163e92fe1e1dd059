"""A night's folder: who may have it, what a killed program has left there, and its geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tuner.closed_loop.events import Begun, Block
from tuner.fingerprint import geometry_fingerprint
from tuner.session.ownership import OWNER
from wrappers.errors import InputError

__all__ = [
    "FOLDERS",
    "forget_night",
    "hits_of_no_block",
    "require_folder_for_night",
    "with_geometry",
]

FOLDERS = ("hits", "frames")
"""In it."""
HITS = re.compile(r"hits-\d{5,}\.cxi")
"""Names of our files of hits."""


def require_folder_for_night(night: Path) -> None:
    """Refuse a folder that holds anything else: a night removes files of its own.

    Raises
    ------
    InputError
        If it does.
    """
    try:
        names = sorted(path.name for path in night.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"{night} cannot be the night's folder ({error.strerror}): name a new one"
        ) from error
    other = next((name for name in names if name != OWNER and not name.startswith(".")), None)
    if other is not None:
        raise InputError(
            f"{night} holds other files already, such as {other}: name a new folder for the night"
        )


def with_geometry(begun: Begun, *, goes_on: bool) -> Begun:
    """Return how a night begins, with what tells its geometry from others.

    Raises
    ------
    InputError
        If it `goes_on`, and that is another geometry now.
    """
    found = geometry_fingerprint(Path(begun.geometry))
    if goes_on and begun.geometry_sha256 not in (None, found):
        raise InputError(
            f"{begun.geometry}, or a mask file that it names, is no longer what the night was "
            "begun with: put it back, or begin another night"
        )
    return replace(begun, geometry_sha256=found)


def forget_night(night: Path, log: Path) -> None:
    """Remove what a night wrote that ends before its first frame."""
    for name in FOLDERS:
        with suppress(OSError):
            (night / name).rmdir()
    log.unlink(missing_ok=True)


def hits_of_no_block(night: Path, told: Iterable[Block], *, goes_on: bool) -> Iterator[str]:
    """Remove hits that were written, but not told, before a kill: their frames come again.

    Those of a stream that `goes_on` do not: they stay, and a sentence each says so.
    """
    names = {Path(block.hits).name for block in told}
    for path in sorted((night / "hits").glob("*.cxi")):
        if path.name in names or not HITS.fullmatch(path.name):
            continue
        if goes_on:
            yield f"{path} was written before the program was killed: it is of no block"
        else:
            path.unlink()
