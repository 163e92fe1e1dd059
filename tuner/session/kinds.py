"""The kinds of a session's frames: told once, for its sample, its report, and runs after it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.apply.by_kind import FIRST_FRAMES, KINDS_FILE
from wrappers.errors import InputError, Note, UnreadableError
from wrappers.files import write_whole
from wrappers.frame_kinds import KINDS, FrameKinds, KindsOfFrames, tell_kinds
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixels import spread_frames
from wrappers.schema_arrays import read_arrays

__all__ = ["FEWEST", "TOLD_FILE", "frames_without_anything", "read_told", "session_kinds"]

TOLD_FILE = "kinds.npz"
"""In a session's directory: the kinds of its frames; beside it the kinds themselves."""

FEWEST = 100
"""Frames of a run from which on they are told by kind: fewer make no kinds."""


@dataclass(frozen=True)
class ToldFrames:
    """The kinds of some frames, as a session keeps them.

    Attributes
    ----------
    names : dict of int to str
        Kind by index in the run; the most typical frames of each kind come first.
    spread : tuple of int
        Those that are evenly spread over the run.
    """

    names: dict[int, str]
    spread: tuple[int, ...]


def session_kinds(
    run: FrameSource,
    sample: Sequence[int],
    directory: Path,
    jobs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FrameKinds | None:
    """Return the kinds of a run's frames, which are kept in the session's directory.

    None where there are too few frames to tell, none can be read, or the kinds that were kept
    cannot.
    """
    file = directory / KINDS_FILE
    if file.exists():
        try:
            return FrameKinds.read(file)
        except InputError as error:
            warnings.warn(Note(f"{error}; the session goes on without"), stacklevel=2)
            return None
    if len(run) < FEWEST:
        return None
    spread = spread_frames(len(run), FIRST_FRAMES)
    frames = [*dict.fromkeys([*spread, *sample])]
    try:
        found = tell_kinds(
            run, frames, jobs=jobs, progress=lambda done: progress(done, len(frames))
        )
    except UnreadableError:
        return None  # whoever wants the frames is told
    _write(directory / TOLD_FILE, found, spread)
    found.kinds.write(file)  # last: where it is, both are
    return found.kinds


def frames_without_anything(
    run: FrameSource, kinds: FrameKinds | None, frames: Sequence[int], jobs: int
) -> set[int]:
    """Return those of some frames that hold nothing to be indexed, by their kind.

    Promising frames with a ring or a streak index as those of a crystal do; of salt none does
    (`experiments/README.md`).
    """
    if kinds is None or not frames:
        return set()
    try:
        found = tell_kinds(run, frames, kinds, jobs=jobs)
    except InputError:
        return set()  # none can be read: whoever wants them is told
    return {*found.dropped, *found.of("salt")}


def _write(path: Path, found: KindsOfFrames, spread: Sequence[int]) -> None:
    order = [frame for name in found.counts for frame in found.of(name)]
    name_of = dict(zip(found.frames, found.names, strict=True))
    places = [*KINDS]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        allow_pickle=False,
        frames=np.array(order, np.int64),
        kinds=np.array([places.index(name_of[frame]) for frame in order], np.int64),
        spread=np.array(spread, np.int64),
    )
    write_whole(path, content.getvalue())


def read_told(directory: Path) -> ToldFrames | None:
    """Return the kinds of a session's frames, or None where they were not told.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = directory / TOLD_FILE
    if not path.exists():
        return None
    remedy = "the report is made without the kinds"
    arrays = read_arrays(path, "the kinds of the frames", remedy)
    columns = [arrays.get(name) for name in ("frames", "kinds", "spread")]
    if any(each is None or each.ndim != 1 or each.dtype.kind != "i" for each in columns):
        raise InputError(f"{path} is damaged (its arrays are others): {remedy}")
    frames, kinds, spread = (each.tolist() for each in columns if each is not None)
    if len(frames) != len(kinds) or any(not 0 <= each < len(KINDS) for each in kinds):
        raise InputError(f"{path} is damaged (its kinds are others): {remedy}")
    names = [*KINDS]
    return ToldFrames(
        {frame: names[kind] for frame, kind in zip(frames, kinds, strict=True)}, tuple(spread)
    )
