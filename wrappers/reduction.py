"""The reduction core: from a run to its hits, with the settings found for it."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import write_whole
from wrappers.frames.cxi import MASK, CxiWriter
from wrappers.frames.run import Frame, Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Reduction", "reduce_run"]


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
    """

    hits: Path
    geometry: Path
    n_frames: int
    n_hits: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Searched:
    """A frame's peaks; the frame itself only if it is a hit."""

    peaks: PeakList
    frame: Frame | None = None
    failure: str = ""


def reduce_run(
    run: Run,
    finder: PeakFinder,
    settings: Settings,
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Reduction:
    """Find peaks in every frame and write those with at least ``min_peaks`` to one CXI file.

    The file has the frames in the slab layout, compressed by bitshuffle and LZ4, their masks,
    their peak lists, photon energy and camera length (moved by the settings' ``clen``), where
    each came from, and the settings as attributes of ``/entry_1/result_1``. Beside it, with the
    suffix ``.geom``, stands the geometry with which CrystFEL reads it, with its own peak search
    or with ``--peaks=cxi``. Both appear only when all is done. A frame at a time is held in
    memory, and a few more for each process.

    Parameters
    ----------
    run : Run
    finder : PeakFinder
        Of the run's geometry.
    settings : Settings
    out : path
        The CXI file.
    jobs : int, optional
        Processes that read and search frames.
    progress : callable, optional
        Called with the number of frames done and the number of hits after each frame.

    Raises
    ------
    InputError
        If no frame can be read, if the detector's shift is another in each frame, or if a file
        cannot be written.
    ProgramError
        If a process was killed.
    """
    out = Path(out)
    if out.suffix == ".geom":
        raise InputError(f"{out} is the name of the hits' geometry: give a name ending in .cxi")
    if any(run.geometry.shift_headers):
        raise InputError(
            f"{run.geometry.path} takes detector_shift from each frame, but the hits need one "
            "for all: give numbers there"
        )
    clen_change = 0.0 if settings.clen is None else settings.clen - run.nominal_clen
    attributes = {"software": "sfx-tuner", **settings.as_dict()}
    n_hits = 0
    unreadable: list[str] = []
    with CxiWriter(out, attributes=attributes, sources=True) as writer:
        for done, found in enumerate(_search_all(run, finder, settings, jobs), start=1):
            if found.failure:
                unreadable.append(found.failure)
            if (frame := found.frame) is not None:
                writer.append(
                    found.peaks,
                    frame.photon_energy,
                    frame.camera_length + clen_change,
                    source=(frame.file, frame.event),
                    image=(frame.data, frame.mask),
                )
                n_hits += 1
            if progress is not None:
                progress(done, n_hits)
        if len(unreadable) == len(run):
            raise InputError(f"none of the {len(run)} frames can be read: {unreadable[0]}")
    geometry = out.with_suffix(".geom")
    write_whole(geometry, _hits_geometry(run.geometry, settings))
    return Reduction(out, geometry, len(run) - len(unreadable), n_hits, tuple(unreadable))


def _hits_geometry(geometry: Geometry, settings: Settings) -> str:
    """Return the slab geometry with the masks, and with the panels' saturation."""
    text = slab_geometry_text(
        geometry, shift_x=f"{settings.shift_x:.9f} m", shift_y=f"{settings.shift_y:.9f} m"
    )
    masks = f"mask = {MASK}\nmask_good = 0x00\nmask_bad = 0x01\n"
    saturation = [
        f"{panel.name}/max_adu = {panel.max_adu!r}\n"
        for panel in geometry.panels
        if math.isfinite(panel.max_adu)
    ]
    return f"; hits of {geometry.path.name}\n{masks}{text}{''.join(saturation)}"


def _search(run: Run, finder: PeakFinder, settings: Settings, index: int) -> _Searched:
    try:
        frame = run[index]
    except InputError as error:
        return _Searched(PeakList.empty(), failure=str(error))
    peaks = finder.find(frame, settings)
    return _Searched(peaks, frame if len(peaks) >= settings.min_peaks else None)


def _search_all(run: Run, finder: PeakFinder, settings: Settings, jobs: int) -> Iterator[_Searched]:
    """Search the frames in order, in this process or in several."""
    if jobs <= 1:
        for index in range(len(run)):
            yield _search(run, finder, settings, index)
        return
    pool = ProcessPoolExecutor(jobs, initializer=_start_worker, initargs=(run, finder, settings))
    try:
        indices = iter(range(len(run)))
        # Only so many are under way that results cannot pile up before a slow disk.
        waiting: deque[Future[_Searched]] = deque(
            pool.submit(_search_in_worker, index) for index in itertools.islice(indices, 2 * jobs)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_search_in_worker, i) for i in itertools.islice(indices, 1))
    except BrokenProcessPool as error:
        raise ProgramError(
            "a process that searched frames was killed, for want of memory perhaps: "
            f"use fewer than {jobs} jobs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[Run, PeakFinder, Settings]


def _start_worker(run: Run, finder: PeakFinder, settings: Settings) -> None:
    global _worker
    # Ctrl-C reaches all processes; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = run, finder, settings


def _search_in_worker(index: int) -> _Searched:
    return _search(*_worker, index)
