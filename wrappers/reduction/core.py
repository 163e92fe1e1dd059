"""The reduction core: batches of frames go to processes, and what they write is put together.

A run is divided into batches once and for all; each becomes a part file in a folder beside the
output, whole or not at all. So whatever ends a reduction, only the batches under way are lost,
and none is ever there twice.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from wrappers.errors import InputError, UnreadableError
from wrappers.frame_kinds import FrameKinds, KindTeller
from wrappers.frames.linked import files_of_run
from wrappers.frames.source import FrameSource
from wrappers.frames.stored_images import ImageForm, StoredImages
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import needs_map
from wrappers.outputs import check_outputs, companion
from wrappers.peakfinding.peak_batch import FindsPeaks
from wrappers.processes import require_main_guard
from wrappers.reduction.joining import SETS, SUMMARY, Joining, require_virtual
from wrappers.reduction.parts import FRAMES, HITS, Batch, Part, Reducer, SettingsSet, read_part
from wrappers.reduction.plan import (
    BAD_PIXELS,
    PLAN,
    OtherInputs,
    owned,
    plan_batches,
    reduction_key,
    remove_parts,
)
from wrappers.schema import Count, read_json_text
from wrappers.schema_arrays import open_hdf5, stored_array, stored_text
from wrappers.settings import Settings
from wrappers.workers.kernels import compile_kernels
from wrappers.workers.worker_processes import Processes

__all__ = ["OtherInputs", "Reduction", "Summary", "reduce_run"]


PARTS = ".parts"

_Order = tuple[Batch, SettingsSet, Path | None]
"""A batch, what to search it with, and the map of bad pixels that this needs."""


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
    n_vetoed : int
        Those of `n_frames` that were left out for their kind, unsearched.
    kinds : tuple of str
        Kind of each frame of the run, "" of an unreadable one; empty where none were told.
    """

    hits: Path
    geometry: Path
    n_frames: int
    n_hits: int
    unreadable: tuple[str, ...]
    sets: tuple[SettingsSet, ...]
    n_resumed: int = 0
    n_vetoed: int = 0
    kinds: tuple[str, ...] = ()


def reduce_run(
    run: FrameSource,
    finder: FindsPeaks,
    settings: Settings | SettingsSet | Callable[[], SettingsSet],
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    virtual: bool = False,
    resume: bool = False,
    replace: bool = True,
    kinds: FrameKinds | None = None,
    veto: bool = False,
    progress: Callable[[int, int], None] = lambda done, hits: None,
    on_part: Callable[[Part], None] = lambda part: None,
) -> Reduction:
    """Find peaks in every frame and write those with at least ``min_peaks`` to one CXI file.

    The file has the frames in the slab layout, compressed by bitshuffle and LZ4 (or, virtually,
    where they are), their masks, peak lists, photon energy and camera length (moved by the
    settings' ``clen``), and where each came from. ``/sfx_tuner/frames`` has for every frame of
    the run the number of peaks (-1: unreadable) and the set of settings that it was searched
    with (and its kind, where kinds are told), ``/sfx_tuner/hits`` that for every hit, and
    ``/sfx_tuner/sets`` the sets themselves. Beside it, with ``.geom`` behind its name, stands the
    geometry to read it with, with its own peak search or with ``--peaks=cxi``. Each process holds
    a frame at a time, however many there are.

    Parameters
    ----------
    run : FrameSource
        Its map of bad pixels is used where settings need one; without one it is made of the
        run's own frames.
    finder : FindsPeaks
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
    kinds : FrameKinds, optional
        By which each frame's kind is told.
    veto : bool, optional
        Leave out frames whose kind holds nothing to be indexed (`naming.drops`): they are not
        searched.
    progress : callable, optional
        Called with the number of frames done and the number of hits after each batch.
    on_part : callable, optional
        Called with what became of each batch, in the order of the run; also of those that an
        interrupted reduction had done, but not where all had been written before.

    Raises
    ------
    OtherInputs
        If the reduction to resume was begun with other inputs.
    UnreadableError
        If no frame can be read.
    InputError
        If another process is writing the same file, if a file cannot be written, or if the
        images are to be left in no HDF5 file.
    ProgramError
        If a batch kills two processes, one after the other.
    """
    require_main_guard()
    out = Path(out)
    if out.suffix == ".geom":
        raise InputError(f"{out} is the name of the hits' geometry: give a name ending in .cxi")
    if virtual:
        require_virtual(run)
    fixed = SettingsSet(settings) if isinstance(settings, Settings) else settings
    current = fixed if callable(fixed) else lambda: fixed
    by_kind = None if kinds is None else (kinds, veto)
    key = reduction_key(run, None if callable(fixed) else fixed, virtual, by_kind)
    folder = companion(out, PARTS)
    if resume and not folder.exists() and (done := _finished(out, key)) is not None:
        return done
    check_outputs(
        *(out, companion(out, ".geom")),
        inputs=[run.geometry.path, *files_of_run(run)],
        force=replace or (resume and (folder / PLAN).exists()),
    )
    with owned(folder, out):
        batches = plan_batches(folder, key, len(run), math.prod(run.geometry.slab_shape), resume)
        known = {b: p for b in batches if (p := read_part(b.path(folder))) is not None}
        teller = None if kinds is None else KindTeller(kinds, run.geometry)
        work = _Work(run, finder, folder, virtual, jobs, teller, veto)
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
            n_vetoed = sum(each.dropped for part in parts for each in part.told) if veto else 0
            if n_frames:
                joining.finish(asdict(Summary(key, n_frames, unreadable, n_vetoed)))
    # Only now, because an open lock cannot be removed from a network's file system.
    remove_parts(folder)
    if not n_frames:
        raise UnreadableError(f"none of the {len(run)} frames can be read: {unreadable[0]}")
    return Reduction(
        hits=out,
        geometry=companion(out, ".geom"),
        n_frames=n_frames,
        n_hits=n_hits,
        unreadable=unreadable,
        sets=tuple(dict.fromkeys(part.used for part in parts)),
        n_resumed=sum(part.n_frames for part in known.values()),
        n_vetoed=n_vetoed,
        kinds=joining.kinds,
    )


def _finished(out: Path, key: str) -> Reduction | None:
    """Return what a reduction of the same inputs has written, if it was completed."""
    remedy = "it is made anew"
    try:
        with open_hdf5(out, "the file of the hits", remedy) as file:
            (text,) = stored_text(file, SUMMARY)
            summary = read_json_text(text, Summary, str(out), remedy)
            if summary.key != key:
                return None
            sets = [
                read_json_text(each, SettingsSet, str(out), remedy)
                for each in stored_text(file, SETS)
            ]
            n_hits = len(stored_array(file, f"{HITS}/frame", "iu", (None,)))
            named = f"{FRAMES}/kind" in file
            kinds = tuple(stored_text(file, f"{FRAMES}/kind")) if named else ()
    except InputError:
        return None
    return Reduction(
        hits=out,
        geometry=companion(out, ".geom"),
        n_frames=summary.n_frames,
        n_hits=n_hits,
        unreadable=summary.unreadable,
        sets=tuple(sets),
        n_resumed=summary.n_frames,
        n_vetoed=summary.n_vetoed,
        kinds=kinds,
    )


@dataclass(frozen=True)
class Summary:
    """What a file of hits says of its reduction."""

    key: str
    n_frames: Count
    unreadable: tuple[str, ...]
    n_vetoed: Count = 0


def _form(run: FrameSource) -> ImageForm | None:
    """Return how the run stores its images, by its first frame; None where they must be packed."""
    try:
        stored = StoredImages(run).find(0)
    except InputError:
        return None
    return None if stored is None else stored.form


class _Work:
    """Reduces batches in processes, or in this one."""

    def __init__(
        self,
        run: FrameSource,
        finder: FindsPeaks,
        folder: Path,
        virtual: bool,
        jobs: int,
        teller: KindTeller | None = None,
        veto: bool = False,
    ) -> None:
        self._run, self._folder, self._jobs = run, folder, jobs
        self._compiled: set[str] = set()
        _ = run.nominal_clen  # which may take reading every frame's, once
        known = run.with_bad_pixels(None)
        form = None if virtual else _form(run)
        self._make = functools.partial(
            Reducer, known, finder, folder, not virtual, form, teller, veto
        )

    def reduce(
        self, batches: Sequence[Batch], current: Callable[[], SettingsSet]
    ) -> Generator[Part]:
        """Reduce batches and yield what became of each, in their order."""
        # A set is settled when its batch is handed over, which is not long before its turn.
        orders = (self._order(batch, current()) for batch in batches)
        jobs = max(1, min(self._jobs, len(batches)))
        with Processes(self._make, jobs) as processes:
            yield from processes.stream(_reduce, orders)

    def _order(self, batch: Batch, used: SettingsSet) -> _Order:
        finder = used.settings.peak_finder
        if finder not in self._compiled:
            compile_kernels(self._run, None, batch.first, finder=finder)
            self._compiled.add(finder)
        return batch, used, self._map(used)

    def _map(self, used: SettingsSet) -> Path | None:
        """Return the map of bad pixels that a set needs; it is made for the first that does."""
        if not needs_map(used.settings):
            return None
        path = self._folder / BAD_PIXELS
        if not path.exists():
            found = self._run.bad_pixels or find_bad_pixels(self._run, jobs=self._jobs)
            found.save(path)
        return path


def _reduce(reducer: Reducer, order: _Order) -> Part:
    return reducer.reduce(*order)
