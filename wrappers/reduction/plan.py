"""A reduction's folder of parts: who owns it, and which batches it holds.

A run is divided into batches once and for all; what identifies a reduction stands beside them, so
that an interrupted one is gone on with only with the same inputs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frame_kinds import FrameKinds
from wrappers.frames.linked import files_of_run
from wrappers.frames.source import FrameSource
from wrappers.reduction.parts import Batch, SettingsSet
from wrappers.schema import read_json

__all__ = [
    "BAD_PIXELS",
    "OtherInputs",
    "owned",
    "plan_batches",
    "reduction_key",
    "remove_parts",
]

FRAMES_PER_BATCH, PIXELS_PER_BATCH = 100, 100_000_000
"""At most: what a kill costs each process, and how soon a new set is taken up."""
FEWEST_BATCHES = 8

PLAN, LOCK, BAD_PIXELS = "plan.json", "lock", "bad_pixels.h5"


class OtherInputs(InputError):
    """The reduction to resume was begun with other inputs."""


@dataclass(frozen=True)
class _Plan:
    """What identifies a reduction, and the frames of one of its batches."""

    key: str
    size: Annotated[int, Interval(ge=1, le=FRAMES_PER_BATCH)]


def reduction_key(
    run: FrameSource,
    fixed: SettingsSet | None,
    virtual: bool,
    kinds: tuple[FrameKinds, bool] | None = None,
) -> str:
    """Return what tells whether two reductions would write the same.

    `kinds` are those that frames are told by, and whether some are left out for theirs. What these
    have learnt does not count, which the reduction itself may change: a frame's features are the
    same before and after.
    """
    digest = hashlib.sha256()
    for index in range(len(run)):
        digest.update(os.fsencode("\0".join(run.name(index))) + b"\n")
    files = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files_of_run(run)
    ]
    geometry = hashlib.sha256(run.geometry.path.read_bytes()).hexdigest()
    used = None if fixed is None else fixed.as_dict()
    digest.update(json.dumps([files, geometry, used, virtual]).encode())
    if run.bad_pixels is not None:
        for kind in (run.bad_pixels.hot, run.bad_pixels.noisy, run.bad_pixels.dead):
            digest.update(kind.tobytes())
    if kinds is not None:
        digest.update(json.dumps([asdict(kinds[0].reference), kinds[1]]).encode())
    return digest.hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether a file in the folder of the parts is a reduction's, by its name."""
    named = path.name in (PLAN, LOCK, BAD_PIXELS) or re.fullmatch(r"\d{6,}\.cxi", path.name)
    return bool(named) or (path.name.startswith(".") and path.name.endswith(".part"))


def remove_parts(folder: Path) -> None:
    """Remove the folder of the parts; where that fails it is left behind, which harms nothing."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _is_ours(path):
                path.unlink()
        folder.rmdir()


@contextmanager
def owned(folder: Path, out: Path) -> Iterator[None]:
    """Make the folder of the parts, and keep other processes out of it."""
    try:
        folder.mkdir(exist_ok=True)
        if strange := next((each for each in folder.iterdir() if not _is_ours(each)), None):
            raise InputError(
                f"{folder} is where the parts of {out} go, but holds other files "
                f"({strange.name}): move them, or choose another name"
            )
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror} for {folder}): choose another place"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is writing {out}: wait for it, or choose another name"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(lock)


def plan_batches(folder: Path, key: str, n_frames: int, n_pixels: int, resume: bool) -> list[Batch]:
    """Return the batches, those of the interrupted reduction if one is resumed."""
    path = folder / PLAN
    plan: _Plan | None = None
    if path.exists():
        if resume:
            plan = read_json(path, _Plan, "the plan", "leave out --resume to begin anew")
            if plan.key != key:
                raise OtherInputs(
                    f"what is in {folder} was begun with other data, geometry or settings: resume "
                    "with those, or leave out --resume to begin anew"
                )
        else:
            for old in folder.iterdir():
                if old.name != LOCK:
                    old.unlink()
    if plan is None:
        most = min(max(PIXELS_PER_BATCH // n_pixels, 1), FRAMES_PER_BATCH)
        plan = _Plan(key, min(most, -(-n_frames // FEWEST_BATCHES)))
        write_whole(path, json.dumps(asdict(plan)))
    size = plan.size
    return [
        Batch(number, first, min(first + size, n_frames))
        for number, first in enumerate(range(0, n_frames, size))
    ]
