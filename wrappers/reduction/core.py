"""The reduction core: batches of frames go to processes, and what they write is put together.

A run is divided into batches once and for all; each becomes a part file in a folder beside the
output, whole or not at all. So whatever ends a reduction, only the batches under way are lost,
and none is ever there twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from wrappers.errors import InputError, ProgramError
from wrappers.files import write_whole
from wrappers.frames.linked import files_of_run
from wrappers.frames.source import FrameSource
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import needs_map
from wrappers.outputs import check_outputs, companion
from wrappers.peakfinding.peak_batch import Finder
from wrappers.processes import serve_parent
from wrappers.reduction.joining import SETS, SUMMARY, Joining
from wrappers.reduction.parts import HITS, Batch, Part, Reducer, SettingsSet, read_part
from wrappers.settings import Settings

__all__ = ["OtherInputs", "Reduction", "reduce_run"]

FRAMES_PER_BATCH, PIXELS_PER_BATCH = 100, 100_000_000
"""At most: what a kill costs each process, and how soon a new set is taken up."""
FEWEST_BATCHES = 8

PARTS = ".parts"
PLAN, LOCK, BAD_PIXELS = "plan.json", "lock", "bad_pixels.h5"


class OtherInputs(InputError):
    """The reduction to resume was begun with other inputs."""


@dataclass(frozen=True)
class Reduction:
    """What a reduction wrote.

    Attributes
    ----------
    hits : Path
        The CXI file of the hits.
    geometry : Path
        The geometry to read it with.
    n_frames, n_hits : int
        Frames that were searched, and those with enough peaks.
    unreadable : tuple of str
        Why frames could not be searched, a sentence each.
    sets : tuple of SettingsSet
        What the frames were searched with, in the order of their first use.
    n_resumed : int
        Frames of `n_frames` that an interrupted reduction had done before.
    """

    hits: Path
    geometry: Path
    n_frames: int
    n_hits: int
    unreadable: tuple[str, ...]
    sets: tuple[SettingsSet, ...]
    n_resumed: int = 0


def reduce_run(
    run: FrameSource,
    finder: Finder,
    settings: Settings | SettingsSet | Callable[[], SettingsSet],
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    virtual: bool = False,
    resume: bool = False,
    replace: bool = True,
    progress: Callable[[int, int], None] = lambda done, hits: None,
    on_part: Callable[[Part], None] = lambda part: None,
) -> Reduction:
    """Find peaks in every frame and write those with at least ``min_peaks`` to one CXI file.

    The file has the frames in the slab layout, compressed by bitshuffle and LZ4 (or, virtually,
    where they are), their masks, peak lists, photon energy and camera length (moved by the
    settings' ``clen``), and where each came from. ``/sfx_tuner/frames`` has for every frame of
    the run the number of peaks (-1: unreadable) and the set of settings that it was searched
    with, ``/sfx_tuner/hits`` that for every hit, and ``/sfx_tuner/sets`` the sets themselves.
    Beside it, with ``.geom`` behind its name, stands the geometry to read it with, with
    its own peak search or with ``--peaks=cxi``. Each process holds a frame at a time, however
    many there are.

    Parameters
    ----------
    run : FrameSource
        Its map of bad pixels is used where settings need one; without one it is made of the
        run's own frames.
    finder : Finder
        Of the run's geometry.
    settings : Settings, SettingsSet or callable
        A callable is asked before each batch and returns what to search it with.
    out : path
        The CXI file. While the reduction runs, or after it was interrupted, what is done
        stands in a folder of that name with ``.parts`` behind it.
    jobs : int, optional
        Processes that read, search and compress frames.
    virtual : bool, optional
        Leave the images where they are: the file has a virtual data set of them.
    resume : bool, optional
        Go on with an interrupted reduction, if there is one. Without it, what one has left
        behind is dropped.
    replace : bool, optional
        Whether earlier files of those names may be replaced; the run's own never are.
    progress : callable, optional
        Called with the number of frames done and the number of hits after each batch.
    on_part : callable, optional
        Called with what became of each batch, in the order of the run.

    Raises
    ------
    OtherInputs
        If the reduction to resume was begun with other inputs.
    InputError
        If no frame can be read, if another process is writing the same file, or if a file
        cannot be written.
    ProgramError
        If a process was killed.
    """
    out = Path(out)
    if out.suffix == ".geom":
        raise InputError(f"{out} is the name of the hits' geometry: give a name ending in .cxi")
    fixed = SettingsSet(settings) if isinstance(settings, Settings) else settings
    current = fixed if callable(fixed) else lambda: fixed
    key = _key(run, None if callable(fixed) else fixed, virtual)
    folder = companion(out, PARTS)
    if resume and not folder.exists() and (done := _finished(out, key)) is not None:
        return done
    check_outputs(
        *(out, companion(out, ".geom")),
        inputs=[run.geometry.path, *files_of_run(run)],
        force=replace or (resume and folder.exists()),
    )
    with _owned(folder, out):
        batches = _plan(folder, key, len(run), math.prod(run.geometry.slab_shape), resume)
        known = {b: p for b in batches if (p := read_part(b.path(folder))) is not None}
        work = _Work(run, finder, folder, virtual, jobs)
        parts: list[Part] = []
        n_hits = 0
        missing = [batch for batch in batches if batch not in known]
        with (
            Joining(out, run, virtual=virtual) as joining,
            closing(work.reduce(missing, current)) as new,
        ):
            for batch in batches:
                part = known[batch] if batch in known else next(new)
                parts.append(part)
                n_hits += part.n_hits
                joining.append(batch.path(folder), part)
                if batch not in known:
                    progress(batch.stop, n_hits)
                    on_part(part)
            unreadable = tuple(failure for part in parts for failure in part.failures)
            n_frames = len(run) - len(unreadable)
            if n_frames:
                joining.finish({"key": key, "n_frames": n_frames, "unreadable": unreadable})
    # Only now, because an open lock cannot be removed from a network's file system.
    _remove(folder)
    if not n_frames:
        raise InputError(f"none of the {len(run)} frames can be read: {unreadable[0]}")
    return Reduction(
        hits=out,
        geometry=companion(out, ".geom"),
        n_frames=n_frames,
        n_hits=n_hits,
        unreadable=unreadable,
        sets=tuple(dict.fromkeys(part.used for part in parts)),
        n_resumed=sum(part.n_frames for part in known.values()),
    )


def _key(run: FrameSource, fixed: SettingsSet | None, virtual: bool) -> str:
    """Return what tells whether two reductions would write the same."""
    digest = hashlib.sha256()
    for index in range(len(run)):
        digest.update("\0".join(run.name(index)).encode() + b"\n")
    files = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files_of_run(run)
    ]
    geometry = hashlib.sha256(run.geometry.path.read_bytes()).hexdigest()
    used = None if fixed is None else fixed.as_dict()
    digest.update(json.dumps([files, geometry, used, virtual]).encode())
    if run.bad_pixels is not None:
        for kind in (run.bad_pixels.hot, run.bad_pixels.noisy, run.bad_pixels.dead):
            digest.update(kind.tobytes())
    return digest.hexdigest()


def _finished(out: Path, key: str) -> Reduction | None:
    """Return what a reduction of the same inputs has written, if it was completed."""
    try:
        with h5py.File(out, "r") as file:
            summary = json.loads(file[SUMMARY].asstr()[()])
            if summary["key"] != key:
                return None
            sets = [SettingsSet.from_dict(json.loads(text)) for text in file[SETS].asstr()[:]]
            n_hits = len(file[f"{HITS}/frame"])
    except (OSError, KeyError, ValueError):
        return None
    n_frames, unreadable = summary["n_frames"], tuple(summary["unreadable"])
    geometry = companion(out, ".geom")
    return Reduction(out, geometry, n_frames, n_hits, unreadable, tuple(sets), n_frames)


def _is_ours(path: Path) -> bool:
    """Whether a file in the folder of the parts is a reduction's, by its name."""
    named = path.name in (PLAN, LOCK, BAD_PIXELS) or re.fullmatch(r"\d{6,}\.cxi", path.name)
    return bool(named) or (path.name.startswith(".") and path.name.endswith(".part"))


def _remove(folder: Path) -> None:
    """Remove the folder of the parts; where that fails it is left behind, which harms nothing."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _is_ours(path):
                path.unlink()
        folder.rmdir()


@contextmanager
def _owned(folder: Path, out: Path) -> Iterator[None]:
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


def _plan(folder: Path, key: str, n_frames: int, n_pixels: int, resume: bool) -> list[Batch]:
    """Return the batches, those of the interrupted reduction if one is resumed."""
    path = folder / PLAN
    plan: dict[str, Any] = {}
    if path.exists():
        if resume:
            plan = json.loads(path.read_text())
            if plan["key"] != key:
                raise OtherInputs(
                    f"what is in {folder} was begun with other data, geometry or settings: resume "
                    "with those, or leave out --resume to begin anew"
                )
        else:
            for old in folder.iterdir():
                if old.name != LOCK:
                    old.unlink()
    if not plan:
        most = min(max(PIXELS_PER_BATCH // n_pixels, 1), FRAMES_PER_BATCH)
        plan = {"key": key, "size": min(most, -(-n_frames // FEWEST_BATCHES))}
        write_whole(path, json.dumps(plan))
    size = plan["size"]
    return [
        Batch(number, first, min(first + size, n_frames))
        for number, first in enumerate(range(0, n_frames, size))
    ]


class _Work:
    """Hands batches to processes, or does them in this one."""

    def __init__(
        self, run: FrameSource, finder: Finder, folder: Path, virtual: bool, jobs: int
    ) -> None:
        self._run, self._folder, self._jobs = run, folder, jobs
        _ = run.nominal_clen  # which may take reading every frame's, once
        self._arguments = (run.with_bad_pixels(None), finder, folder, not virtual)

    def reduce(
        self, batches: Sequence[Batch], current: Callable[[], SettingsSet]
    ) -> Generator[Part]:
        """Reduce batches and yield what became of each, in their order."""
        if self._jobs == 1:
            reducer = Reducer(*self._arguments)
            for batch in batches:
                used = current()
                yield reducer.reduce(batch, used, self._map(used))
            return
        # Forking would copy the threads' locks of HDF5 and Numba in whatever state they are.
        context = multiprocessing.get_context("forkserver")
        pool = ProcessPoolExecutor(self._jobs, context, _start_worker, self._arguments)
        try:
            waiting: deque[Future[Part]] = deque()
            for batch in batches:
                used = current()
                # A set is settled when its batch is handed over, so not many are ahead.
                waiting.append(pool.submit(_reduce, batch, used, self._map(used)))
                if len(waiting) > 2 * self._jobs:
                    yield waiting.popleft().result()
            for future in waiting:
                yield future.result()
        except BrokenProcessPool as error:
            raise ProgramError(
                "a process that searched frames was killed, for want of memory perhaps: use fewer "
                f"than {self._jobs} jobs, and --resume to go on"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def _map(self, used: SettingsSet) -> Path | None:
        """Return the map of bad pixels that a set needs; it is made for the first that does."""
        if not needs_map(used.settings):
            return None
        path = self._folder / BAD_PIXELS
        if not path.exists():
            found = self._run.bad_pixels or find_bad_pixels(self._run)
            found.save(path)
        return path


_reducer: Reducer


def _start_worker(run: FrameSource, finder: Finder, folder: Path, images: bool) -> None:
    global _reducer
    serve_parent()
    _reducer = Reducer(run, finder, folder, images)


def _reduce(batch: Batch, used: SettingsSet, bad_pixels: Path | None) -> Part:
    return _reducer.reduce(batch, used, bad_pixels)
