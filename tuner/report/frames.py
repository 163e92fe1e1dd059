"""Frames as two settings see them: the image, the found peaks, the predicted reflections.

Everything comes from what the session left: the run's files, and the lattices that it has kept.
Peaks are sought anew; nothing is indexed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.live import LiveEvaluator
from tuner.fingerprint import data_fingerprint, fingerprint
from tuner.report.prediction import detector_pixels, predict
from tuner.session.store import SessionStore
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.frames.frame import Frame
from wrappers.frames.opening import is_address, open_source
from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexing, Pattern, unheard
from wrappers.masks.bad_pixel_map import BadPixelMap

__all__ = ["Comparison", "View", "choose_frames", "compare_frames"]

Floats = NDArray[np.float64]
Outcomes = dict[int, FrameOutcome]

OVERVIEW = 700
"""Largest width and height of the picture of a whole detector, in pixels."""

DETAIL = 320
"""Largest width and height of the part that is shown as it is, in detector pixels."""

FAINT, BRIGHT = 2.0, 12.0
"""In standard deviations above the mean of the pixels as far from the beam: drawn white, black."""

QUALITY = 55
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


@dataclass(frozen=True, eq=False)
class Comparison:
    """One frame as the recommended and the default settings see it.

    Attributes
    ----------
    kind : str
        "gained", "lost", "kept" or "blank".
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
    """

    kind: str
    name: str
    size: tuple[int, int]
    overview: str
    detail: str
    part: tuple[int, int, int, int]
    recommended: View
    default: View


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
    store: SessionStore, best: Evaluation, baseline: Evaluation
) -> tuple[list[Comparison], str]:
    """Return pictures of some frames, and a sentence on what is missing and why, or "".

    Parameters
    ----------
    store : SessionStore
    best, baseline : Evaluation
        Of the recommended and of CrystFEL's default settings, on frames of which some are the
        same.
    """
    chosen = choose_frames(best, baseline)
    if not chosen:
        return [], "The recommended and the default settings were not measured on the same frames."
    try:
        run, cell = _open(store)
        views = [
            _views(store, run, cell, evaluation, list(chosen.values()))
            for evaluation in (best, baseline)
        ]
        comparisons = [
            _compare(kind, run, run[frame], views[0][frame], views[1][frame])
            for kind, frame in chosen.items()
        ]
    except (InputError, ProgramError, OSError) as error:
        return [], f"No pictures of frames: {error}."
    shown = [view for pair in comparisons for view in (pair.recommended, pair.default)]
    if any(view.outcome.indexed and not view.lattices_known for view in shown):
        return comparisons, "Some lattices were not kept, so their reflections are not drawn."
    return comparisons, ""


class _Remembered:
    """An indexer that knows nothing but what the session has kept."""

    parallel = True

    def __init__(self, name: str) -> None:
        self.name = name

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        return [Indexing(failure=NOT_KEPT)] * len(patterns)

    def close(self) -> None:
        """There is nothing to end."""


def _open(store: SessionStore) -> tuple[FrameSource, Cell]:
    """Open the session's run, if it is still the one that was measured."""
    names = {name: str(store.config.get(name)) for name in ("data", "geometry", "cell")}
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
        if now != store.config.get(f"{kind}_sha256"):
            raise InputError(f"{names[kind]} is no longer what the session was run with")
    bad_pixels = store.directory / "bad_pixels.h5"
    if bad_pixels.exists():
        run = run.with_bad_pixels(BadPixelMap.load(bad_pixels, geometry))
    return run, Cell.read(names["cell"])


def _views(
    store: SessionStore, run: FrameSource, cell: Cell, evaluation: Evaluation, frames: list[int]
) -> dict[int, View]:
    indexer = _Remembered(str(store.config.get("indexer")))
    kept = store.directory / "indexed"
    with LiveEvaluator(
        run, cell, indexer, frames, memory=0, cache=kept if kept.exists() else None
    ) as evaluator:
        _, patterns, answers = evaluator.inspect(evaluation.settings, frames, max_decoys=0)
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


def _compare(kind: str, run: FrameSource, frame: Frame, ours: View, theirs: View) -> Comparison:
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
    return Comparison(
        kind=kind,
        name=f"{Path(frame.file).name} {frame.event}".strip(),
        size=(width, height),
        overview=_address(*_pooled(image, usable, -(-max(width, height) // OVERVIEW))),
        detail=_address(image[part], usable[part]) if len(peaks) else "",
        part=(x, y, side, side),
        recommended=ours,
        default=theirs,
    )


def assemble(
    geometry: Geometry, frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    """Put a frame's panels where they are in the laboratory, to the nearest pixel.

    Returns
    -------
    image : float32 array (height, width)
        Standard deviations above the mean of the usable pixels as far from the beam. Rows go up
        along y, columns along x.
    usable : bool array (height, width)
        False for masked pixels and where there is no panel.
    origin : (int, int)
        x and y of the first column and row, in pixel widths from the beam.
    """
    flat = _flattened(frame.data, frame.mask, geometry.radius_map())
    places = []
    for i, panel in enumerate(geometry.panels):
        x, y = geometry.pixel_corners(i)
        scale = geometry.panels[0].res / panel.res
        middle = [
            (panel.fs_vector[axis] + panel.ss_vector[axis]) / 2 for axis in range(2)
        ]  # of a pixel, from its corner
        places.append(
            tuple(
                np.floor((corner + half) * scale).astype(np.intp)
                for corner, half in zip((x, y), middle, strict=True)
            )
        )
    left, bottom = (min(int(place[axis].min()) for place in places) for axis in range(2))
    right, top = (max(int(place[axis].max()) for place in places) for axis in range(2))
    image = np.zeros((top - bottom + 1, right - left + 1), np.float32)
    usable = np.zeros(image.shape, bool)
    for panel, (columns, rows) in zip(geometry.panels, places, strict=True):
        image[rows - bottom, columns - left] = flat[panel.rectangle]
        usable[rows - bottom, columns - left] = frame.mask[panel.rectangle]
    return image, usable, (left, bottom)


def _flattened(
    data: NDArray[Any], mask: NDArray[np.bool_], radius: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return each usable pixel's distance from its ring's mean in standard deviations; else 0."""
    ring = radius[mask].astype(np.intp)
    values = data[mask].astype(np.float64)
    inlier = np.ones(len(values), bool)
    for _ in range(3):  # without the bright ones, which are to stand out
        n = np.maximum(np.bincount(ring[inlier], minlength=ring.max(initial=0) + 1), 1)
        mean = np.bincount(ring[inlier], values[inlier], len(n)) / n
        square = np.bincount(ring[inlier], (values - mean[ring])[inlier] ** 2, len(n)) / n
        deviation = (values - mean[ring]) / np.maximum(np.sqrt(square), 1e-3)[ring]
        inlier = np.abs(deviation) < 4
    flat = np.zeros(data.shape, np.float32)
    flat[mask] = deviation
    return flat


def _densest(peaks: Floats, width: int, height: int) -> tuple[int, int, int]:
    """Return the upper left corner and the side of the part with most peaks."""
    side = min(DETAIL, min(width, height) // 2)
    if not len(peaks):
        return 0, 0, side
    corners: Floats = np.clip(peaks - side / 2, 0.0, [width - side, height - side])
    inside = (peaks[None] >= corners[:, None]) & (peaks[None] < corners[:, None] + side)
    x, y = corners[int(inside.all(axis=2).sum(axis=1).argmax())]
    return int(x), int(y), side


def _pooled(
    image: NDArray[np.float32], usable: NDArray[np.bool_], step: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Shrink by taking each block's brightest usable pixel, so that spots stay."""
    height, width = (-(-n // step) * step for n in image.shape)
    pad = [(0, height - image.shape[0]), (0, width - image.shape[1])]
    blocks = height // step, step, width // step, step
    lowest = np.where(usable, image, -np.inf).astype(np.float32)
    brightest = np.pad(lowest, pad, constant_values=-np.inf).reshape(blocks).max(axis=(1, 3))
    seen = np.isfinite(brightest)
    return np.where(seen, brightest, 0), seen


def _address(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> str:
    """Return an image as a ``data:`` address, dark where it is bright."""
    from PIL import Image

    shade = np.sqrt(np.clip((image - FAINT) / (BRIGHT - FAINT), 0, 1))
    grey = np.where(usable, 255 * (1 - shade), 225).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
