"""Indexing with CrystFEL: the `Indexer` that users believe."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from wrappers.cell import Cell
from wrappers.cxi import CxiWriter
from wrappers.errors import InputError, ProgramError
from wrappers.geom_file import slab_geometry_text, write_geometry
from wrappers.geometry import Geometry
from wrappers.indexamajig import CrystfelProgram, ProgramRun, find_indexamajig, run_indexamajig
from wrappers.indexing import Indexing, Lattice, Pattern
from wrappers.settings import Settings
from wrappers.stream import Chunk, Stream

__all__ = ["CrystfelIndexer", "index_own_peaks"]

NEEDED = ("--peaks=cxi", "--no-revalidate", "--no-image-data", "--no-mask-data")
"""Peaks come from a file without images; without these options CrystFEL would reject them."""

FRUGAL = (
    "--cell-parameters-only",
    "--no-peaks-in-stream",
    "--no-refls-in-stream",
    "--max-indexer-threads=1",
)
"""Nothing is integrated: only lattices are wanted."""


class CrystfelIndexer:
    """Indexes peaks with ``indexamajig``, one call for all patterns.

    Each pattern brings its own camera length and photon energy. The files of a call live in a
    temporary folder that is removed, and its processes are ended, whatever happens.

    Parameters
    ----------
    geometry : Geometry
    cell : Cell
    program : str or CrystfelProgram, optional
        As for `wrappers.indexamajig.find_indexamajig`.
    method : str, optional
        The value of ``--indexing``; by default the best that the program offers: xgandalf,
        else asdf, and so on.
    options : sequence of str, optional
        The method's own options. xgandalf's are by default nearly the cheapest it has, which
        were seen to index as many frames as its own defaults at a tenth of the cost, and a
        tolerance that keeps the rate flat within 2 % of the true camera length.
    jobs : int, optional
        Processes; by default as many as there are cores to use.
    timeout : float, optional
        Seconds of wall time for one call; by default a minute and 10 s for each frame of a
        process. What was done by then counts, the other frames are failures.

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
        options: Sequence[str] | None = None,
        jobs: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self._geometry = geometry
        self._cell = cell
        self._program = _require_program(program)
        lacking = [option for option in NEEDED if not self._program.supported([option])]
        if lacking:
            raise ProgramError(
                f"CrystFEL {self._program.version} at {self._program.path} is too old: it does "
                f"not know {lacking[0]}; install 0.10 or later, or use the embedded indexer"
            )
        self._method = method or _best_method(self._program)
        self._options = _method_options(self._method, cell) if options is None else list(options)
        self._jobs = jobs or _cores()
        self._timeout = timeout

    @property
    def name(self) -> str:
        """Program, version and method."""
        return f"CrystFEL {self._program.version}, {self._method}"

    @property
    def parallel(self) -> bool:
        """The program spreads the frames over processes by itself."""
        return True

    def index(self, patterns: Sequence[Pattern]) -> list[Indexing]:
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
        for pattern in patterns:
            _require_positive("camera length", pattern.camera_length, "m")
            _require_positive("photon energy", pattern.photon_energy, "eV")
        answers = [Indexing() for _ in patterns]
        # The shift stands in the geometry file, so each one takes a call of its own.
        calls: dict[tuple[float, float], list[int]] = {}
        for number, pattern in enumerate(patterns):
            if len(pattern.peaks):
                calls.setdefault((pattern.shift_x, pattern.shift_y), []).append(number)
        for (shift_x, shift_y), numbers in calls.items():
            found = self._call([patterns[number] for number in numbers], shift_x, shift_y)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def _call(self, patterns: list[Pattern], shift_x: float, shift_y: float) -> list[Indexing]:
        def prepare(folder: Path, geometry: Path) -> list[str]:
            text = slab_geometry_text(
                self._geometry, shift_x=f"{shift_x:.9f} m", shift_y=f"{shift_y:.9f} m"
            )
            geometry.write_text(text)
            with CxiWriter(folder / "peaks.cxi") as writer:
                for pattern in patterns:
                    writer.append(pattern.peaks, pattern.photon_energy, pattern.camera_length)
            return [f"{folder}/peaks.cxi //{event}" for event in range(len(patterns))]

        chunks, run = _index(
            self._program,
            self._cell,
            prepare,
            [*NEEDED, "--min-peaks=1", f"--indexing={self._method}", *self._options],
            jobs=self._jobs,
            timeout=self._timeout,
            n_frames=len(patterns),
        )
        by_event = {chunk.event: chunk for chunk in chunks}
        lost = Indexing(failure=_why_lost(run, len(patterns)))
        return [
            _indexing(by_event[f"//{event}"]) if f"//{event}" in by_event else lost
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
    program, method, jobs, timeout
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
    program = _require_program(program)
    method = method or _best_method(program)
    names = [(os.path.abspath(file), event) for file, event in frames]

    def prepare(folder: Path, geometry: Path) -> list[str]:
        write_geometry(
            geometry_file,
            geometry,
            clen_change=clen_change,
            shift_x=settings.shift_x,
            shift_y=settings.shift_y,
        )
        return [f"{file} {event}".rstrip() for file, event in names]

    search = [
        "--peaks=peakfinder8",
        f"--min-snr={settings.min_snr!r}",
        f"--threshold={settings.threshold!r}",
        f"--min-pix-count={settings.min_pix_count}",
        f"--max-pix-count={settings.max_pix_count}",
        f"--local-bg-radius={settings.local_bg_radius}",
        f"--min-res={settings.min_res:.0f}",
        # No limit is written 0 from 0.12 on; a limit beyond any detector is none in all.
        f"--max-res={settings.max_res or 100_000:.0f}",
        f"--min-peaks={settings.min_peaks}",
        f"--indexing={method}",
        *_method_options(method, cell),
    ]
    chunks, _ = _index(
        program, cell, prepare, search, jobs=jobs, timeout=timeout, n_frames=len(names)
    )
    by_name = {(chunk.filename, chunk.event): chunk for chunk in chunks}
    return [by_name.get(name) for name in names]


def _index(
    program: CrystfelProgram,
    cell: Cell,
    prepare: Callable[[Path, Path], list[str]],
    arguments: Sequence[str],
    *,
    jobs: int | None,
    timeout: float | None,
    n_frames: int,
) -> tuple[list[Chunk], ProgramRun]:
    """Run the program on the frames that `prepare` lists; return what it finished."""
    jobs = max(1, min(jobs or _cores(), n_frames))
    if timeout is None:
        timeout = 60.0 + 10.0 * n_frames / jobs
    with tempfile.TemporaryDirectory(prefix="sfx-tuner-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
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
            "--tolerance=5,5,5,1.5",
            *program.supported(FRUGAL),
            *arguments,
        ]
        run = run_indexamajig(command, folder=folder, timeout=timeout)
        stream = folder / "out.stream"
        chunks = list(Stream(stream)) if stream.exists() else []
    if not chunks and run.exit_code is not None and "was killed by signal" not in run.log:
        raise ProgramError(
            f"{program.path} (CrystFEL {program.version}) {run.how_it_ended} and did none of "
            f"{n_frames} frames: {run.complaint}"
        )
    return chunks, run


def _indexing(chunk: Chunk) -> Indexing:
    return Indexing(tuple(Lattice(crystal.reciprocal) for crystal in chunk.crystals))


def _why_lost(run: ProgramRun, n_frames: int) -> str:
    if run.exit_code != 0:
        return f"indexamajig {run.how_it_ended} before this frame was done"
    if run.progress is None or not run.progress.final:
        return "indexamajig ended without its final count, and this frame is not in its stream"
    if run.progress.images < n_frames:
        return f"indexamajig gave this frame up; its last words: {run.complaint}"
    return "indexamajig counts this frame as done, but it is not in its stream: is the disk full?"


def _require_program(program: str | CrystfelProgram | None) -> CrystfelProgram:
    if isinstance(program, CrystfelProgram):
        return program
    found = find_indexamajig(program)
    if found is None:
        raise ProgramError(
            "CrystFEL's indexamajig is not on the PATH: install CrystFEL, set "
            "SFX_TUNER_INDEXAMAJIG to it, or use the embedded indexer (--indexer fast)"
        )
    return found


def _best_method(program: CrystfelProgram) -> str:
    if not program.indexers:
        raise ProgramError(
            f"CrystFEL {program.version} at {program.path} offers no indexing method: install "
            "one that it finds (xgandalf, say), or use the embedded indexer (--indexer fast)"
        )
    return program.indexers[0]


def _method_options(method: str, cell: Cell) -> list[str]:
    if method != "xgandalf":
        return []
    edges = (cell.a, cell.b, cell.c)
    return [
        "--xgandalf-sampling-pitch=1",
        "--xgandalf-grad-desc-iterations=1",
        "--xgandalf-tolerance=0.05",
        # Its own limits, 30 and 250 Å, unless the cell lies outside.
        f"--xgandalf-min-lattice-vector-length={min(30.0, 0.7 * min(edges)):g}",
        f"--xgandalf-max-lattice-vector-length={max(250.0, 1.3 * max(edges)):g}",
    ]


def _require_positive(name: str, value: float, unit: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"the {name} is {value:g} {unit}, but must be above 0")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
