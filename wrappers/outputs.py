"""The one door for what a command writes: no output lands on an input.

Every command names its outputs and its inputs here before it begins. An input is never replaced,
whatever it is called and whatever is forced; anything else that exists only when that is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wrappers.errors import InputError

__all__ = ["check_outputs", "companion", "require_new_folder"]


def companion(path: Path, ending: str) -> Path:
    """Return the name of a file that is written beside another: ``hits.cxi.geom``, say.

    The whole name of the other is in it, so that a user's own ``hits.geom`` is never meant.
    """
    return path.with_name(path.name + ending)


def check_outputs(
    *outputs: Path | None,
    inputs: Iterable[str | os.PathLike[str] | None] = (),
    force: bool = False,
    ours: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Refuse outputs that would destroy something, before the work begins.

    Parameters
    ----------
    outputs : Path or None
        The files that are to be written; None stands for one that is not.
    inputs : iterable of path or None
        Files, and folders with all that is in them. A file is the same by whatever name: through
        links of either kind, or in other letters where the file system does not mind.
    force : bool
        Whether outputs that exist may be replaced.
    ours : callable
        Says of an existing output that it may be replaced in any case.

    Raises
    ------
    InputError
        If an output is an input or another output, cannot be a file there, or exists.
    """
    given = [path for path in outputs if path is not None]
    if not given:
        return
    read = list(_files(Path(path) for path in inputs if path is not None))
    known = {identity: path for path in read for identity in _identities(path)}
    places = set()
    for path in given:
        if not os.path.isdir(path.parent):
            raise InputError(f"cannot write {path}: its directory does not exist, make it first")
        same = next((known[i] for i in _identities(path) if i in known), None)
        if same is not None:
            named = "" if same.absolute() == path.absolute() else f", by another name ({same})"
            raise InputError(
                f"{path} is read by this command{named}, and must stay as it is: give the output "
                "another name"
            )
        place = _place(path)
        if place in places:
            raise InputError(f"{path} is to be written twice: give each output its own name")
        places.add(place)
        _require_free(path, force or ours(path))


def require_new_folder(folder: Path, *names: str) -> None:
    """Make the folder of a command's outputs; refuse one that holds a file of their names.

    Raises
    ------
    InputError
        If there is such a file, or the folder cannot be made.
    """
    for name in names:
        if os.path.lexists(folder / name):
            raise InputError(
                f"{folder} holds a file {name} already, which would be replaced: name another "
                "directory"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the directory {folder} cannot be made: {error.strerror}") from None


def _require_free(path: Path, may_replace: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder: give the output the name of a file")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise InputError(f"{path} is a device or a pipe: give the output the name of a file")
    if not may_replace:
        raise InputError(
            f"{path} exists already: give the output another name, or --force to replace it"
        )


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield path
        for folder, _, names in os.walk(path):
            yield from (Path(folder, name) for name in names)


def _identities(path: Path) -> list[object]:
    """Return what tells a file: its places, and device and inode of it and of a link to it."""
    found: list[object] = [os.path.realpath(path), _place(path)]
    for status in (os.stat, os.lstat):
        try:
            known = status(path)
        except OSError:
            continue
        found.append((known.st_dev, known.st_ino))
    return found


def _place(path: Path) -> str:
    """Return where a name stands; the name itself may be that of a link."""
    return os.path.join(os.path.realpath(path.parent), path.name)
