"""Reading CrystFEL streams: what ``indexamajig`` found, frame by frame.

A stream is text: a header with the geometry and the cell, then one chunk a frame. It is read
chunk by chunk, so its length does not matter, and what was written before a program died is
read like any other; see `Stream.problems`. Facts about the format were taken from streams of
CrystFEL 0.9.0 to 0.12 and its manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError

__all__ = ["Chunk", "Crystal", "Progress", "Stream", "StreamPeaks", "read_progress"]

Floats = NDArray[np.float64]

MAGIC = "CrystFEL stream format "
FORMATS = ("2.1", "2.2", "2.3")
CHUNK_START, CHUNK_END = "----- Begin chunk -----", "----- End chunk -----"
CRYSTAL_START, CRYSTAL_END = "--- Begin crystal", "--- End crystal"
PEAKS_START, PEAKS_END = "Peaks from peak search", "End of peak list"
REFLECTIONS_START, REFLECTIONS_END = "Reflections measured after indexing", "End of reflections"
PER_NM = 0.1
"""1/nm in 1/Å."""
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class StreamPeaks:
    """The peaks of one frame, as the stream has them (with CrystFEL's half pixel).

    Attributes
    ----------
    fs, ss : float64 array (n,)
        Position in the file's own array, in pixels; pixel *i* spans *i* to *i* + 1.
    inverse_d : float64 array (n,)
        1/d in 1/Å.
    intensity : float64 array (n,)
    panel : tuple of str
        Names of the panels; "" each where the stream has none (formats before 2.3).
    """

    fs: Floats
    ss: Floats
    inverse_d: Floats
    intensity: Floats
    panel: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.fs)


@dataclass(frozen=True, eq=False)
class Crystal:
    """One crystal of a frame; NaN or "" where the stream is silent.

    Attributes
    ----------
    cell : float64 array (6,)
        a, b, c in Å, then α, β, γ in degrees, as refined.
    reciprocal : float64 array (3, 3)
        Rows are a*, b*, c* in 1/Å in CrystFEL's laboratory frame (z along the beam).
    profile_radius : float
        In 1/Å.
    final_residual : float
        Of the prediction refinement, in the unit that the CrystFEL version uses.
    det_shift : tuple of float
        Detector shift (x, y) found by the prediction refinement, in metres.
    resolution_limit : float
        Smallest d in Å at which the crystal diffracts.
    lattice_type, centering, unique_axis : str
    """

    cell: Floats
    reciprocal: Floats
    profile_radius: float = NAN
    final_residual: float = NAN
    det_shift: tuple[float, float] = (NAN, NAN)
    resolution_limit: float = NAN
    lattice_type: str = ""
    centering: str = ""
    unique_axis: str = ""


@dataclass(frozen=True, eq=False)
class Chunk:
    """What ``indexamajig`` made of one frame.

    Attributes
    ----------
    filename, event : str
        As the stream writes them; ``event`` is "" for a file of one frame.
    serial : int
        Image serial number, counted from 1 in the order of the input.
    hit : bool
    indexed_by : str
        The indexing method, or "none".
    n_peaks : int
        Number of peaks found, also where the peaks themselves are left out.
    photon_energy : float
        In eV.
    camera_length : float
        Mean over the panels, in metres.
    peak_resolution : float
        In 1/Å.
    headers : dict of str to str
        Header values copied from the frame, by their path.
    peaks : StreamPeaks or None
    crystals : tuple of Crystal
    """

    filename: str
    event: str = ""
    serial: int = 0
    hit: bool = False
    indexed_by: str = "none"
    n_peaks: int = 0
    photon_energy: float = NAN
    camera_length: float = NAN
    peak_resolution: float = NAN
    headers: dict[str, str] = field(default_factory=dict)
    peaks: StreamPeaks | None = None
    crystals: tuple[Crystal, ...] = ()

    @property
    def indexed(self) -> bool:
        """Whether at least one crystal was found."""
        return bool(self.crystals)


class Stream:
    """A CrystFEL stream; iterating it yields its chunks, each time from the start.

    Parameters
    ----------
    path : path
        A stream of format 2.1 to 2.3.

    Attributes
    ----------
    version : str
        The program that wrote it, "CrystFEL 0.12.0" say; "" if it does not say.
    command_line : str
    geometry, cell : str
        The texts of the geometry and cell files that the stream holds, or "".
    problems : list of str
        What was wrong with the part read so far, one sentence each: chunks that are cut off
        or unreadable. They are left out of the iteration; everything else is in it.

    Raises
    ------
    InputError
        If the file cannot be read, or is no stream of these formats.

    Examples
    --------
    >>> stream = Stream("run.stream")  # doctest: +SKIP
    >>> sum(chunk.indexed for chunk in stream), stream.problems  # doctest: +SKIP
    (41, [])
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.version = self.command_line = self.geometry = self.cell = ""
        self.problems: list[str] = []
        with self._open() as lines:
            self._read_header(lines)

    def __iter__(self) -> Iterator[Chunk]:
        self.problems = []
        with self._open() as lines:
            first = None
            body: list[str] | None = None
            in_reflections = False
            for number, line in enumerate(lines, start=1):
                text = line.rstrip("\n")
                if text == CHUNK_START:
                    if body is not None:
                        self._report(first, "is cut off by the next one")
                    first, body, in_reflections = number, [], False
                elif body is None:
                    continue
                elif text == CHUNK_END:
                    try:
                        yield parse_chunk(body)
                    except ValueError as error:
                        self._report(first, f"cannot be read ({error})")
                    body = None
                # Reflections are most of a stream's text and nothing here needs them.
                elif text == REFLECTIONS_START:
                    in_reflections = True
                elif text == REFLECTIONS_END:
                    in_reflections = False
                elif not in_reflections:
                    body.append(text)
            if body is not None:
                self._report(first, "is cut off by the end of the file")
            if first is None and not self._header_ended:
                self.problems.append(f"{self.path} ends within its header")

    def _open(self) -> TextIO:
        try:
            return open(self.path, encoding="utf-8", errors="replace", newline="\n")
        except OSError as error:
            raise InputError(
                f"the stream {self.path} cannot be read: {error.strerror or error}"
            ) from error

    def _read_header(self, lines: TextIO) -> None:
        first = lines.readline()
        complete = first.endswith("\n")
        if not (first.startswith(MAGIC) or (not complete and MAGIC.startswith(first))):
            raise InputError(
                f'{self.path} is not a CrystFEL stream: it does not begin with "{MAGIC.strip()}"'
            )
        if complete and first[len(MAGIC) :].strip() not in FORMATS:
            raise InputError(
                f"{self.path} has stream format {first[len(MAGIC) :].strip()}, but only "
                f"{FORMATS[0]} to {FORMATS[-1]} can be read"
            )
        texts: dict[str, list[str]] = {"geometry file": [], "unit cell": []}
        inside = None
        self._header_ended = complete
        for number, line in enumerate(lines, start=2):
            text = line.rstrip("\n")
            if text == CHUNK_START:
                break
            self._header_ended = line.endswith("\n")
            if marker := re.fullmatch(r"----- (Begin|End) (geometry file|unit cell) -----", text):
                inside = marker[2] if marker[1] == "Begin" else None
            elif inside:
                texts[inside].append(line)
            elif text.startswith("Generated by "):
                self.version = text.removeprefix("Generated by ")
            elif number == 3:
                self.command_line = text
        self._header_ended = self._header_ended and inside is None
        self.geometry, self.cell = ("".join(text) for text in texts.values())

    def _report(self, line: int | None, problem: str) -> None:
        self.problems.append(f"the chunk at line {line} of {self.path} {problem}")


# CrystFEL 0.9 writes "hdf5/LCLS/x = 1" and later ones "header/float//LCLS/x = 1".
HEADER_LINE = re.compile(r"(?:header/\w+/|hdf5(?=/))(.+?) = (.*)")
NAME_LINE = re.compile(r"(Image filename|Image serial number|Event): (.*)")


def parse_chunk(lines: Iterable[str]) -> Chunk:
    """Parse the lines between a chunk's markers.

    Raises
    ------
    ValueError
        If a number cannot be read, a block is not closed, or there is no file name.
    """
    values: dict[str, str] = {}
    headers: dict[str, str] = {}
    crystals: list[Crystal] = []
    peaks = None
    rest = iter(lines)
    for line in rest:
        if line == PEAKS_START:
            peaks = _parse_peaks(_until(rest, PEAKS_END))
        elif line == CRYSTAL_START:
            crystals.append(_parse_crystal(_until(rest, CRYSTAL_END)))
        elif found := HEADER_LINE.match(line):
            headers[found[1]] = found[2]
        elif found := NAME_LINE.match(line):
            values[found[1]] = found[2]
        else:
            key, _, value = line.partition(" = ")
            values[key] = value
    if "Image filename" not in values:
        raise ValueError("it names no image")
    return Chunk(
        filename=values["Image filename"],
        event=values.get("Event", ""),
        serial=int(values.get("Image serial number", 0)),
        hit=values.get("hit", "0") == "1",
        indexed_by=values.get("indexed_by", "none"),
        n_peaks=int(values.get("num_peaks", 0)),
        photon_energy=_number(values, "photon_energy_eV"),
        camera_length=_number(values, "average_camera_length"),
        peak_resolution=_number(values, "peak_resolution") * PER_NM,
        headers=headers,
        peaks=peaks,
        crystals=tuple(crystals),
    )


def _until(lines: Iterator[str], end: str) -> Iterator[str]:
    for line in lines:
        if line == end:
            return
        yield line
    raise ValueError(f'"{end}" is missing')


def _number(values: dict[str, str], key: str) -> float:
    """Return the first number of a value such as "2.80 nm^-1 or 3.57 A", or NaN."""
    words = values.get(key, "").split()
    return float(words[0]) if words else NAN


def _parse_peaks(lines: Iterator[str]) -> StreamPeaks:
    next(lines, None)  # the columns' names
    rows = [line.split() for line in lines]
    if any(len(row) not in (4, 5) for row in rows):
        raise ValueError("a line of its peak list has the wrong number of columns")
    numbers = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
    fs, ss, inverse_d, intensity = numbers.T.copy()
    panel = tuple(row[4] if len(row) == 5 else "" for row in rows)
    return StreamPeaks(fs, ss, inverse_d * PER_NM, intensity, panel)


CELL_LINE = re.compile(r"Cell parameters (\S+) (\S+) (\S+) nm, (\S+) (\S+) (\S+) deg")
SHIFT_LINE = re.compile(r"x = (\S+) y = (\S+) mm")


def _parse_crystal(lines: Iterator[str]) -> Crystal:
    cell: Floats | None = None
    shift = (NAN, NAN)
    values: dict[str, str] = {}
    for line in lines:
        if found := CELL_LINE.match(line):
            cell = np.array(found.groups(), np.float64) * [10, 10, 10, 1, 1, 1]
        elif line.startswith("predict_refine/det_shift ") and (found := SHIFT_LINE.search(line)):
            shift = (float(found[1]) * 1e-3, float(found[2]) * 1e-3)
        else:
            key, _, value = line.partition(" = ")
            values[key] = value
    axes = [values.get(name, "").split()[:3] for name in ("astar", "bstar", "cstar")]
    if cell is None or any(len(axis) != 3 for axis in axes):
        raise ValueError("a crystal has no cell")
    limit = re.search(r"or (\S+) A", values.get("diffraction_resolution_limit", ""))
    return Crystal(
        cell=cell,
        reciprocal=np.array(axes, np.float64) * PER_NM,
        profile_radius=_number(values, "profile_radius") * PER_NM,
        final_residual=_number(values, "predict_refine/final_residual"),
        det_shift=shift,
        resolution_limit=float(limit[1]) if limit else NAN,
        lattice_type=values.get("lattice_type", ""),
        centering=values.get("centering", ""),
        unique_axis=values.get("unique_axis", ""),
    )


@dataclass(frozen=True)
class Progress:
    """Counts of one progress line of ``indexamajig``'s log.

    Attributes
    ----------
    images, hits, indexed, crystals : int
        ``indexed`` counts frames, ``crystals`` lattices.
    final : bool
        Whether it is the log's last line of this kind, written when all is done.
    """

    images: int
    hits: int
    indexed: int
    crystals: int
    final: bool


PROGRESS_LINE = re.compile(
    r"(Final: )?(\d+) images processed, (\d+) hits \([^)]*\), "
    r"(\d+) indexable \([^)]*\), (\d+) crystals"
)


def read_progress(log: str) -> Progress | None:
    """Return the counts of the last progress line in a log, or None if there is none."""
    lines = PROGRESS_LINE.findall(log)
    if not lines:
        return None
    final, images, hits, indexed, crystals = lines[-1]
    return Progress(int(images), int(hits), int(indexed), int(crystals), final=bool(final))
