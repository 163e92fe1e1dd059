"""Indexing with CrystFEL: the `Indexer` that users believe."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from wrappers.cell import Cell
from wrappers.crystfel.geometry_rules import mend_for_crystfel
from wrappers.crystfel.indexamajig import (
    CrystfelProgram,
    ProgramRun,
    deaths_allowed,
    run_indexamajig,
)
from wrappers.crystfel.options import (
    Method,
    choose_method,
    frugal_options,
    peak_options,
    require_program,
    search_arguments,
    takes_no_images,
)
from wrappers.crystfel.stream import Chunk, Stream
from wrappers.crystfel.supervision import temporary_files_needed
from wrappers.detector.geom_file import slab_geometry_text, write_geometry
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import temporary_folder
from wrappers.frames.cxi import DATA, CxiWriter
from wrappers.frames.events import split_event
from wrappers.indexing import Done, Indexing, Lattice, Pattern, counting_on, unheard
from wrappers.settings import Settings

__all__ = ["CrystfelIndexer", "index_own_peaks"]

CLEN, PHOTON_ENERGY = "/LCLS/detector_1/EncoderValue", "/LCLS/photon_energy_eV"
"""In millimetres and eV, which all versions take them for where no unit is given."""

GROUPS_KNOWN = (0, 11)
"""Before that, a geometry with panel groups is refused; they only matter to its refinement."""


class CrystfelIndexer:
    """Indexes peaks with ``indexamajig``, one call for all patterns.

    Each pattern brings its own camera length and photon energy. The files of a call live in a
    temporary folder that is removed, and its processes are ended, whatever happens.

    Parameters
    ----------
    geometry : Geometry
    cell : Cell
    program : str or CrystfelProgram, optional
        As for `indexamajig.find_indexamajig`.
    method : str, optional
        The value of ``--indexing``; by default the best that the program offers: xgandalf,
        else asdf, and so on.
    effort : str, optional
        One of `options.EFFORTS`.
    options : sequence of str, optional
        The method's own options, instead of those of an effort.
    jobs : int, optional
        Processes; by default as many as there are cores to use.
    timeout : float, optional
        Seconds of processor time for one call and each process; by default
        `options.Method.time_limit`. What was done by then counts, the other frames are failures.

    Raises
    ------
    ProgramError
        If there is no CrystFEL, or it cannot do this.
    """

    def __init__(
        self,
        geometry: Geometry,
        cell: Cell,
        *,
        program: str | CrystfelProgram | None = None,
        method: str | None = None,
        effort: str = "normal",
        options: Sequence[str] | None = None,
        jobs: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self._geometry = geometry
        self._cell = cell
        self._program = require_program(program)
        self._needed = peak_options(self._program)
        self._method = choose_method(self._program, cell, method, effort=effort, options=options)
        self._jobs = jobs or cores()
        self._timeout = timeout

    @property
    def name(self) -> str:
        """Program, version and method."""
        return self._method.name

    @property
    def parallel(self) -> bool:
        """The program spreads the frames over processes by itself."""
        return True

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index each pattern; the answers come in the patterns' order.

        A pattern without peaks is not sent to the program. A frame that the program lost, or
        did not come to before it died or ran out of time, is answered by a failure.

        Raises
        ------
        InputError
            If a camera length or photon energy is not above 0: CrystFEL takes them silently.
        ProgramError
            If the program did not do a single frame.
        """
        require_possible(patterns)
        answers = [Indexing() for _ in patterns]
        # The shift stands in the geometry file, so each one takes a call of its own.
        calls: dict[tuple[float, float], list[int]] = {}
        for number, pattern in enumerate(patterns):
            if len(pattern.peaks):
                calls.setdefault((pattern.shift_x, pattern.shift_y), []).append(number)
        n_left = sum(map(len, calls.values()))
        for (shift_x, shift_y), numbers in calls.items():
            told = counting_on(done, len(patterns) - n_left)
            found = self._call([patterns[number] for number in numbers], shift_x, shift_y, told)
            n_left -= len(numbers)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def close(self) -> None:
        """Do nothing: each call ends its own program."""

    def _call(
        self, patterns: list[Pattern], shift_x: float, shift_y: float, done: Done
    ) -> list[Indexing]:
        moved = replace(
            self._geometry,
            shift_x=self._geometry.shift_x + shift_x,
            shift_y=self._geometry.shift_y + shift_y,
        )

        def prepare(folder: Path, geometry: Path) -> list[str]:
            file = folder / "peaks.cxi"
            geometry.write_text(slab_geometry_text(moved, clen=CLEN, photon_energy=PHOTON_ENERGY))
            with CxiWriter(file) as writer:
                for pattern in patterns:
                    writer.append(pattern.peaks, pattern.photon_energy, pattern.camera_length)
            if not takes_no_images(self._program):
                _add_blank_images(file, len(patterns), moved.slab_shape)
            return [f"{file} //{event}" for event in range(len(patterns))]

        chunks, run = _index(
            self._program,
            self._cell,
            prepare,
            [*self._needed, "--min-peaks=1"],
            self._method,
            jobs=self._jobs,
            timeout=self._timeout,
            n_frames=len(patterns),
            done=done,
        )
        by_event = {chunk.event: chunk for chunk in chunks}
        lost = Indexing(failure=_why_lost(run, len(patterns)), out_of_time=run.out_of_time)
        return [
            indexing_of(by_event[f"//{event}"]) if f"//{event}" in by_event else lost
            for event in range(len(patterns))
        ]


def index_own_peaks(
    frames: Sequence[tuple[str, str]],
    geometry_file: str | os.PathLike[str],
    cell: Cell,
    settings: Settings,
    *,
    clen_change: float = 0.0,
    program: str | CrystfelProgram | None = None,
    method: str | None = None,
    effort: str = "normal",
    jobs: int | None = None,
    timeout: float | None = None,
) -> list[Chunk | None]:
    """Index the original frames with CrystFEL's own peakfinder8, as a check on ours.

    Parameters
    ----------
    frames : sequence of (str, str)
        File and event of each.
    geometry_file : path
        The user's own geometry.
    cell : Cell
    settings : Settings
        All but ``clen`` is used.
    clen_change : float
        Added to the geometry's camera length, in metres.
    program, method, effort, jobs, timeout
        As for `CrystfelIndexer`.

    Returns
    -------
    list of Chunk or None
        What the stream says of each frame; None for a frame that is not in it.

    Raises
    ------
    ProgramError
        If there is no CrystFEL, or it did not do a single frame.
    InputError
        If the geometry cannot be read.
    """
    program = require_program(program)
    names = [(os.path.abspath(file), event) for file, event in frames]
    linked = any(split_event(event)[0] for _, event in names if event) and not any(
        "%" in block.data for block in Geometry.read(geometry_file).blocks
    )

    def prepare(folder: Path, geometry: Path) -> list[str]:
        write_geometry(
            geometry_file,
            geometry,
            clen_change=clen_change,
            shift_x=settings.shift_x,
            shift_y=settings.shift_y,
        )
        mend_for_crystfel(geometry, linked=linked)
        if program.release < GROUPS_KNOWN:
            text = geometry.read_text(errors="surrogateescape")
            text = re.sub(r"^[ \t]*group\w*[ \t]*=.*$", "", text, flags=re.MULTILINE)
            geometry.write_text(text, errors="surrogateescape")
        return [f"{file} {event}".rstrip() for file, event in names]

    if not takes_no_images(program):
        raise ProgramError(
            f"CrystFEL {program.version} does not understand geometry files with units, so its "
            "own peak search cannot be compared; install 0.10 or later for that check"
        )
    chunks, _ = _index(
        program,
        cell,
        prepare,
        search_arguments(settings),
        choose_method(program, cell, method, effort=effort),
        jobs=jobs,
        timeout=timeout,
        n_frames=len(names),
    )
    by_name = {(chunk.filename, chunk.event): chunk for chunk in chunks}
    return [by_name.get(name) for name in names]


def _index(
    program: CrystfelProgram,
    cell: Cell,
    prepare: Callable[[Path, Path], list[str]],
    arguments: Sequence[str],
    method: Method,
    *,
    jobs: int | None,
    timeout: float | None,
    n_frames: int,
    done: Done = unheard,
) -> tuple[list[Chunk], ProgramRun]:
    """Run the program on the frames that `prepare` lists; return what it finished."""
    jobs = max(1, min(jobs or cores(), n_frames))
    timeout = timeout or method.time_limit(n_frames, jobs)
    with temporary_files_needed(), temporary_folder() as folder:
        lines = prepare(folder, folder / "tried.geom")
        (folder / "frames.lst").write_text("".join(f"{line}\n" for line in lines))
        cell.write(folder / "known.cell")
        command = [
            program.path,
            f"--input={folder}/frames.lst",
            f"--geometry={folder}/tried.geom",
            f"--pdb={folder}/known.cell",
            f"--output={folder}/out.stream",
            f"--temp-dir={folder}",
            "-j",
            str(jobs),
            *frugal_options(program),
            *arguments,
            *method.arguments,
        ]
        run = run_indexamajig(
            command,
            folder=folder,
            timeout=timeout,
            jobs=jobs,
            most_deaths=deaths_allowed(n_frames, jobs),
            nudged=program.sleepy,
            done=done,
        )
        stream = folder / "out.stream"
        chunks = list(Stream(stream)) if stream.exists() else []
    killed_by_frames = not run.restless and "was killed by signal" in run.log
    if not (chunks or killed_by_frames or run.out_of_time):
        raise ProgramError(
            f"{program.path} (CrystFEL {program.version}) {run.how_it_ended} and did none of "
            f"{n_frames} frames: {run.complaint}"
        )
    return chunks, run


def indexing_of(chunk: Chunk) -> Indexing:
    """Return the lattices of a chunk."""
    return Indexing(tuple(Lattice(crystal.reciprocal) for crystal in chunk.crystals))


def _why_lost(run: ProgramRun, n_frames: int) -> str:
    if run.exit_code != 0:
        return f"indexamajig {run.how_it_ended} before this frame was done"
    if run.progress is None or not run.progress.final:
        return "indexamajig ended without its final count, and this frame is not in its stream"
    if run.progress.images < n_frames:
        return f"indexamajig gave this frame up; its last words: {run.complaint}"
    return "indexamajig counts this frame as done, but it is not in its stream: is the disk full?"


def require_possible(patterns: Sequence[Pattern]) -> None:
    """Raise InputError for values that CrystFEL would take without a word."""
    for pattern in patterns:
        _require_positive("camera length", pattern.camera_length, "m")
        _require_positive("photon energy", pattern.photon_energy, "eV")


def _require_positive(name: str, value: float, unit: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"the {name} is {value:g} {unit}, but must be above 0")


def cores() -> int:
    """Return how many cores there are to use."""
    return len(os.sched_getaffinity(0))


def _add_blank_images(file: Path, n_frames: int, shape: tuple[int, int]) -> None:
    """Give every event an image of zeros, which takes no space: HDF5 stores none of it."""
    with h5py.File(file, "r+") as cxi:
        cxi.create_dataset(DATA, (n_frames, *shape), np.uint8, chunks=(1, *shape))
