"""Frames as two settings see them: the image, the found peaks, the predicted reflections.

Everything comes from what the session left: the run's files, and the lattices that it has kept.
Peaks are sought anew; nothing is indexed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.live import LiveEvaluator
from tuner.fingerprint import data_fingerprint, fingerprint
from tuner.report.images import assemble, data_address, shrink
from tuner.report.prediction import Ring, detector_pixels, predict, resolution_rings
from tuner.session.store import SessionStore
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError, ProgramError
from wrappers.frames.address import is_address
from wrappers.frames.frame import Frame
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexing, Pattern, unheard
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.settings import Settings

__all__ = [
    "TITLES",
    "Comparison",
    "Gallery",
    "View",
    "choose_frames",
    "compare_frames",
    "open_run",
    "patterns_of",
]

Floats = NDArray[np.float64]
Outcomes = dict[int, FrameOutcome]
Box = tuple[int, int, int, int]
"""x and y of the upper left corner, width and height."""

OVERVIEW = 700
"""Largest width and height of the picture of a whole detector, in pixels."""

DETAIL = 320
"""Largest width and height of the part that is shown as it is, in detector pixels."""

MOST_MARKS = 1500
"""Marks of a kind in one picture."""

TITLES = {
    "gained": "A hit gained",
    "lost": "A hit lost",
    "kept": "Indexed by both",
    "anyway": "Indexed anyway",
    "several": "Several lattices",
    "elsewhere": "Indexed by another set only",
    "few": "Too few peaks",
    "noisy": "Too many others",
    "unsolved": "Peaks but no lattice",
    "blank": "A blank",
}
"""Of the pictures, by what a frame shows."""

NOT_KEPT = "its lattices were not kept"


@dataclass(frozen=True, eq=False)
class View:
    """One frame as one set of settings sees it.

    Attributes
    ----------
    outcome : FrameOutcome
    peaks, predicted : float64 array (n, 2)
        x (to the right) and y (downwards) in the picture, in detector pixels.
    lattices_known : bool
        Whether the session has kept what it indexed.
    """

    outcome: FrameOutcome
    peaks: Floats
    predicted: Floats
    lattices_known: bool

    @property
    def words(self) -> str:
        """What became of the frame."""
        n, n_peaks = self.outcome.n_lattices, self.outcome.n_peaks
        peaks = f"{n_peaks} peak{'s' * (n_peaks != 1)}"
        if not self.outcome.hit:
            return f"{peaks}, no hit"
        return f"{peaks}, {f'{n} lattice' + 's' * (n != 1) if n else 'not indexed'}"

    def peaks_in(self, box: Box) -> list[list[float]]:
        """Return the peaks in a part of the picture, not too many of them."""
        return _inside(self.peaks, box)

    def predicted_in(self, box: Box) -> list[list[float]]:
        """Return the predicted reflections in a part of the picture, not too many of them."""
        return _inside(self.predicted, box)


def _inside(places: Floats, box: Box) -> list[list[float]]:
    low, span = np.array(box[:2]), np.array(box[2:])
    inside = ((places >= low) & (places < low + span)).all(axis=1)
    some: list[list[float]] = places[inside][:MOST_MARKS].tolist()
    return some


@dataclass(frozen=True, eq=False)
class Comparison:
    """One frame as the recommended and the default settings see it.

    Attributes
    ----------
    kind : str
        "gained", "lost", "kept" or "blank", or of `frame_list.FATES`.
    name : str
        The frame's file and event.
    size : (int, int)
        Width and height of the picture, in detector pixels.
    overview : str
        The image as a ``data:`` address.
    detail : str
        A part of it, or "" where there is nothing to be seen.
    part : (int, int, int, int)
        x and y of that part's upper left corner, its width and height.
    recommended, default : View
    beam : (float, float)
        x and y in the picture.
    rings : tuple of (float, float)
        Radius in detector pixels, and resolution in Å.
    """

    kind: str
    name: str
    size: tuple[int, int]
    overview: str
    detail: str
    part: Box
    recommended: View
    default: View
    beam: tuple[float, float]
    rings: tuple[Ring, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some frames as the recommended and the default settings see them.

    Attributes
    ----------
    comparisons : tuple of Comparison
    note : str
        What is missing and why, or "".
    against : str
        What the recommended settings are shown beside.
    """

    comparisons: tuple[Comparison, ...]
    note: str = ""
    against: str = "Defaults"

    @property
    def missing(self) -> list[str]:
        """Of "gained" and "lost" those of which there is no frame."""
        kinds = {each.kind for each in self.comparisons}
        return [kind for kind in ("gained", "lost") if kind not in kinds]


def choose_frames(best: Evaluation, baseline: Evaluation) -> dict[str, int]:
    """Choose a frame each that was gained, lost, kept (where none was gained), and a blank.

    Of several the one in the middle by its number of peaks is taken: a typical one.
    """
    ours: Outcomes = {outcome.frame: outcome for outcome in best.outcomes}
    theirs: Outcomes = {outcome.frame: outcome for outcome in baseline.outcomes}
    both = [frame for frame in ours if frame in theirs and not ours[frame].failure]
    kinds = {
        "gained": [i for i in both if ours[i].indexed and not theirs[i].indexed],
        "lost": [i for i in both if theirs[i].indexed and not ours[i].indexed],
        "kept": [i for i in both if theirs[i].indexed and ours[i].indexed],
        "blank": [i for i in both if not ours[i].hit and not theirs[i].indexed],
    }
    if kinds["gained"]:
        kinds["kept"] = []
    return {
        kind: sorted(frames, key=lambda i: (ours[i].n_peaks, i))[len(frames) // 2]
        for kind, frames in kinds.items()
        if frames
    }


def compare_frames(
    store: SessionStore,
    best: Evaluation,
    baseline: Evaluation,
    chosen: Mapping[str, int] | None = None,
) -> Gallery:
    """Return pictures of some frames.

    Parameters
    ----------
    store : SessionStore
    best, baseline : Evaluation
        Of the recommended settings and of what they are held against, on frames of which some are
        the same.
    chosen : mapping of str to int, optional
        Which frames, by kind; by default those of `choose_frames`.
    """
    chosen = choose_frames(best, baseline) if chosen is None else chosen
    if not chosen:
        return Gallery(
            (), "The recommended and the default settings were not measured on the same frames."
        )
    try:
        run, cell = open_run(store)
        with run:
            if beyond := [frame for frame in chosen.values() if frame >= len(run)]:
                raise InputError(f"the session's record has a frame {beyond[0]}, of {len(run)}")
            views = [
                _views(store, run, cell, evaluation, list(chosen.values()))
                for evaluation in (best, baseline)
            ]
            comparisons = tuple(
                _compare(kind, run, run[frame], best.settings, views[0][frame], views[1][frame])
                for kind, frame in chosen.items()
            )
    except (InputError, ProgramError, OSError) as error:
        return Gallery((), f"No pictures of frames: {error}.")
    shown = [view for pair in comparisons for view in (pair.recommended, pair.default)]
    if any(view.outcome.indexed and not view.lattices_known for view in shown):
        return Gallery(
            comparisons, "Some lattices were not kept, so their reflections are not drawn."
        )
    return Gallery(comparisons)


class _Remembered:
    """An indexer that knows nothing but what the session has kept."""

    parallel = True

    def __init__(self, name: str) -> None:
        self.name = name

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        return [Indexing(failure=NOT_KEPT)] * len(patterns)

    def close(self) -> None:
        """There is nothing to end."""


def open_run(store: SessionStore) -> tuple[FrameSource, Cell]:
    """Open the session's run, if it is still the one that was measured; its files are to be closed.

    Raises
    ------
    InputError
        If a file is gone, or another one.
    """
    names = {name: getattr(store.config, name) for name in ("data", "geometry", "cell")}
    for name in names.values():
        if not is_address(name) and not Path(name).is_file():
            raise InputError(f"{name} is not there")
    geometry = Geometry.read(names["geometry"])
    run = open_source(names["data"], geometry)
    for kind, now in {
        "data": data_fingerprint(names["data"], run),
        "geometry": fingerprint(Path(names["geometry"])),
        "cell": fingerprint(Path(names["cell"])),
    }.items():
        if now != getattr(store.config, f"{kind}_sha256"):
            raise InputError(f"{names[kind]} is no longer what the session was run with")
    bad_pixels = store.directory / "bad_pixels.h5"
    if bad_pixels.exists():
        run = run.with_bad_pixels(BadPixelMap.load(bad_pixels, geometry))
    return run, Cell.read(names["cell"])


def patterns_of(
    store: SessionStore, run: FrameSource, cell: Cell, settings: Settings, frames: Sequence[int]
) -> tuple[dict[int, Pattern], dict[int, Indexing]]:
    """Return the peaks of frames, sought anew, and the lattices that the session has kept."""
    indexer = _Remembered(store.config.indexer)
    kept = store.directory / "indexed"
    with LiveEvaluator(
        run,
        cell,
        indexer,
        frames,
        memory=0,
        cache=kept if kept.exists() else None,
        finder=settings.peak_finder,
    ) as evaluator:
        _, patterns, answers = evaluator.inspect(settings, frames, max_decoys=0)
    return patterns, answers


def _views(
    store: SessionStore, run: FrameSource, cell: Cell, evaluation: Evaluation, frames: list[int]
) -> dict[int, View]:
    patterns, answers = patterns_of(store, run, cell, evaluation.settings, frames)
    outcomes = {outcome.frame: outcome for outcome in evaluation.outcomes}
    return {
        frame: _view(run.geometry, cell, outcomes[frame], patterns.get(frame), answers.get(frame))
        for frame in frames
    }


def _view(
    geometry: Geometry,
    cell: Cell,
    outcome: FrameOutcome,
    pattern: Pattern | None,
    answer: Indexing | None,
) -> View:
    if pattern is None:
        return View(outcome, np.empty((0, 2)), np.empty((0, 2)), False)
    lattices = answer.lattices if answer is not None else ()
    predicted = [predict(lattice, pattern, geometry, cell) for lattice in lattices]
    return View(
        outcome,
        detector_pixels(geometry, pattern.peaks.fs, pattern.peaks.ss, pattern.peaks.panel),
        np.concatenate([np.empty((0, 2)), *predicted]),
        answer is not None and not answer.failure,
    )


def _compare(
    kind: str, run: FrameSource, frame: Frame, settings: Settings, ours: View, theirs: View
) -> Comparison:
    image, usable, origin = assemble(run.geometry, frame)
    height, width = image.shape

    def moved(view: View) -> View:
        peaks, predicted = (
            np.stack([x[:, 0] - origin[0], height - (x[:, 1] - origin[1])], axis=1)
            for x in (view.peaks, view.predicted)
        )
        return View(view.outcome, peaks, predicted, view.lattices_known)

    ours, theirs = moved(ours), moved(theirs)
    image, usable = image[::-1], usable[::-1]
    # Where most is to be seen, by the settings that see more.
    peaks = max((ours.peaks, theirs.peaks), key=len)
    x, y, side = _densest(peaks, width, height)
    part = slice(y, y + side), slice(x, x + side)
    res = run.geometry.panels[0].res
    beam = (
        -(settings.shift_x + frame.shift_x) * res - origin[0],
        height + (settings.shift_y + frame.shift_y) * res + origin[1],
    )
    distance = (frame.camera_length + settings.clen_change(run.nominal_clen)) * res
    reach = float(np.hypot(*np.maximum(beam, np.array([width, height]) - beam)))
    return Comparison(
        kind=kind,
        name=f"{Path(frame.file).name} {frame.event}".strip(),
        size=(width, height),
        overview=data_address(*shrink(image, usable, -(-max(width, height) // OVERVIEW))),
        detail=data_address(image[part], usable[part]) if len(peaks) else "",
        part=(x, y, side, side),
        recommended=ours,
        default=theirs,
        beam=beam,
        rings=resolution_rings(HC / frame.photon_energy, distance, reach),
    )


def _densest(peaks: Floats, width: int, height: int) -> tuple[int, int, int]:
    """Return the upper left corner and the side of the part with most peaks."""
    side = min(DETAIL, min(width, height) // 2)
    if not len(peaks):
        return 0, 0, side
    corners: Floats = np.clip(peaks - side / 2, 0.0, [width - side, height - side])
    inside = (peaks[None] >= corners[:, None]) & (peaks[None] < corners[:, None] + side)
    x, y = corners[int(inside.all(axis=2).sum(axis=1).argmax())]
    return int(x), int(y), side
