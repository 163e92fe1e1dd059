"""The cell of a run's crystals, found from the frames that show their lattices most clearly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from envs.environments.tasks import run_space
from envs.parameter_space import DEFAULT_TUNED
from tuner.cells.words import geometry_words
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError, UnreadableError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Pattern
from wrappers.lattices.blind import LEAST_PEAKS
from wrappers.lattices.blind_geometry import LEAST_FRAMES as FEWEST_FOR_CENTRE
from wrappers.lattices.blind_geometry import (
    BlindGeometry,
    find_blind_geometry,
    find_centre,
    moved,
)
from wrappers.lattices.cell_consensus import CellConsensus, find_cell
from wrappers.lattices.peak_vectors import PeakVectors
from wrappers.outputs import require_new_folder
from wrappers.settings import Settings
from wrappers.workers.opening import open_pool
from wrappers.workers.pool import batches

__all__ = [
    "CLEAR_FRAMES",
    "ClearFrames",
    "FoundCell",
    "cell_of",
    "cell_of_session",
    "clear_frames",
    "usual_settings",
]

CLEAR_FRAMES = 20
"""Frames that a cell is sought in; more cost time and hardly change what is found."""
CLEAR_SNR = 5.0
LEAST_FRAMES = 2
"""One frame proposes a cell, and another bears witness for it."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ClearFrames:
    """The frames of a sample that show the most peaks.

    Attributes
    ----------
    frames : tuple of int
        Their indices in the run, that with the most peaks first.
    patterns : tuple of Pattern
        Their peaks, where the settings put the detector.
    lists : tuple of PeakVectors
        The same as scattering vectors.
    n_searched : int
        Frames of the sample.
    settings : Settings
        What the peaks were found with.
    """

    frames: tuple[int, ...]
    patterns: tuple[Pattern, ...]
    lists: tuple[PeakVectors, ...]
    n_searched: int
    settings: Settings

    @classmethod
    def of(
        cls,
        patterns: dict[int, Pattern],
        geometry: Geometry,
        settings: Settings,
        most: int = CLEAR_FRAMES,
    ) -> ClearFrames:
        """Choose among the patterns (by frame), which are placed as the settings have it."""
        # Loose settings fill a list with noise, so the peaks that nobody doubts are counted.
        clear = {i: int((one.peaks.snr >= CLEAR_SNR).sum()) for i, one in patterns.items()}
        enough = [i for i, n in clear.items() if n >= LEAST_PEAKS]
        enough.sort(key=lambda i: (-clear[i], i))
        # A frame that comes again, as from a stream that is played in a loop, is no other witness.
        enough = [*{_content(patterns[i]): i for i in reversed(enough)}.values()][::-1]
        chosen = tuple(patterns[i] for i in enough[:most])
        return cls(
            tuple(enough[:most]),
            chosen,
            tuple(vectors(one, geometry) for one in chosen),
            len(patterns),
            settings,
        )


def _content(pattern: Pattern) -> bytes:
    """Return what tells a frame's peaks from those of all others."""
    peaks = pattern.peaks
    return b"".join(each.tobytes() for each in (peaks.fs, peaks.ss, peaks.intensity))


def vectors(pattern: Pattern, geometry: Geometry) -> PeakVectors:
    """Return a pattern's peaks as scattering vectors."""
    place = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
    q = geometry.scattering_vectors(pattern.peaks, pattern.photon_energy, *place)
    return PeakVectors(q, pattern.peaks.intensity, pattern.photon_energy / HC)


def usual_settings(run: FrameSource, sample: Sequence[int]) -> Settings:
    """Return the settings that a session starts its search from: the threshold is the frames'."""
    return run_space(run, sample, DEFAULT_TUNED).base


def clear_frames(
    run: FrameSource,
    settings: Settings,
    sample: Sequence[int],
    *,
    most: int = CLEAR_FRAMES,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> ClearFrames:
    """Find the peaks of a sample of frames, and keep the frames with the most.

    Parameters
    ----------
    run : FrameSource
    settings : Settings
    sample : sequence of int
        Indices in the run.
    most : int
        Frames that are kept.
    jobs : int
        Processes.
    progress : callable
        Called with the frames that are searched, and all.

    Raises
    ------
    UnreadableError
        If no frame can be read.
    """
    patterns: dict[int, Pattern] = {}
    problem = ""
    with closing(open_pool(run, None, sample, jobs, 0, finder=settings.peak_finder)) as pool:
        for places in batches(len(sample), jobs):
            found = pool.search([sample[i] for i in places], [settings])
            for frame, peaks in found.items():
                if peaks.failure:
                    problem = peaks.failure
                else:
                    patterns[frame] = peaks.patterns[0].placed(settings, run.nominal_clen)
            progress(places[-1] + 1, len(sample))
    if not patterns:
        raise UnreadableError(f"none of {len(sample)} frames can be read: {problem}")
    return ClearFrames.of(patterns, run.geometry, settings, most)


@dataclass(frozen=True, eq=False)
class FoundCell:
    """A cell, and the geometry at which the frames agree on it.

    Attributes
    ----------
    consensus : CellConsensus
        At the geometry that the frames ask for.
    geometry : BlindGeometry or None
        That geometry; None where too few frames tell.
    geometry_words : str
        How it differs from the given one, or "".
    """

    consensus: CellConsensus
    geometry: BlindGeometry | None
    geometry_words: str


def cell_of(
    clear: ClearFrames,
    *,
    pixel_size: float,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> FoundCell:
    """Return the cell on which the frames agree.

    A wrong geometry makes cells of its own, so the frames are first asked for beam centre and
    camera length, and frames that agree on a cell must agree on a centre, too.

    Raises
    ------
    InputError
        If they agree on none, with what to check.
    """
    lists = clear.lists
    if len(lists) < LEAST_FRAMES:
        few = {0: "no frame", 1: "only one frame"}[len(lists)]
        raise InputError(
            f"{few} of {clear.n_searched} has {LEAST_PEAKS} clear peaks or more, and a cell needs "
            f"{LEAST_FRAMES}: take more frames, or look for weaker peaks (a lower threshold or "
            "min_snr)"
        )
    geometry = find_blind_geometry(lists, jobs=jobs)
    words = ""
    if geometry is not None and geometry.beyond:
        raise InputError(
            "no cell: the frames fit no camera length near the geometry's; check the camera length "
            "and the photon energy in the geometry"
        )
    if geometry is not None and not geometry.given_is_right:
        lists = tuple(moved(one, geometry.place) for one in lists)
        length = clear.patterns[0].camera_length
        words = geometry_words(geometry, length, clear.settings, pixel_size)
    found = find_cell(lists, jobs=jobs, progress=progress)
    if found is None:
        peaks = len(clear.patterns[0].peaks)
        raise InputError(
            f"the {len(lists)} frames with the most peaks (up to {peaks}) agree on no cell: "
            "look whether the peaks are Bragg spots and not rings or noise, then check the beam "
            "centre, the camera length and the photon energy in the geometry"
        )
    agreeing = [lists[place] for place in found.frames]
    # Frames without crystals may have hidden the centre on which the others agree.
    hidden = geometry is None and len(agreeing) >= FEWEST_FOR_CENTRE
    if hidden and find_centre(agreeing, jobs=jobs) is None:
        raise InputError(
            f"no cell: the frames fit no geometry; {len(agreeing)} of {len(lists)} agree on "
            "lattices, but on no beam centre within some pixels of the geometry's: check the "
            "beam centre (corner_x, corner_y or detector_shift_x, detector_shift_y)"
        )
    return FoundCell(found, geometry, words)


def cell_of_session(
    run: FrameSource, sample: Sequence[int], path: Path, resume: bool, jobs: int
) -> tuple[Cell, str]:
    """Return the cell of a session that was given none, and how it was found.

    It is written to `path`, from where a resumed session reads it.

    Raises
    ------
    InputError
        If the frames agree on none.
    """
    if resume and path.exists():
        return Cell.read(path), "cell found by consensus of the session's frames"
    require_new_folder(path.parent, path.name)
    try:
        clear = clear_frames(run, usual_settings(run, sample), sample, jobs=jobs)
        found = cell_of(clear, pixel_size=1 / run.geometry.panels[0].res, jobs=jobs)
    except InputError as error:
        raise InputError(f"no cell is given (-p FILE) and none was found: {error}") from error
    found.consensus.cell.write(path)
    origin = f"cell found by consensus of {len(found.consensus.frames)} frames"
    return Cell.read(path), origin + (found.geometry_words and f", with {found.geometry_words}")
