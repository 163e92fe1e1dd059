"""The detector in the report: all frames in one picture, where peaks are and how strong.

Frames and peaks are read anew, from some frames of the recommended set's evaluation; lattices are
those that the session has kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from tuner.report.frames import open_run, patterns_of
from tuner.report.images import placed, powder_address
from tuner.report.prediction import Ring, detector_pixels, resolution_rings
from tuner.report.spots import Spots, histograms, peakogram
from tuner.session.store import SessionStore
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError, ProgramError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexing, Pattern
from wrappers.settings import Settings

__all__ = ["DetectorPage", "Powder", "detector_page"]

MOST_FRAMES, FEWEST_FRAMES = 120, 12
MOST_PIXELS = 1.5e8
"""Of all frames that are read for this page: some seconds."""

WIDEST = 700
"""Of a picture, in its pixels."""

MOST_DOTS = 6000
"""Peaks in the picture."""

HOT_PLACE = 3
"""Width in pixels of a place that is counted."""
OFTEN = 0.1
"""Share of the frames with a peak at one place, from which on that is no diffraction."""
FEWEST_OFTEN = 4

Box = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Powder:
    """All frames in one picture, with what lies over it; places are in its pixels.

    Attributes
    ----------
    size : (int, int)
        Width and height.
    maximum, mean : str
        Each pixel's largest and mean value, as ``data:`` addresses.
    beam : (float, float)
    rings : tuple of (float, float)
        Radius, and resolution in Å.
    outlines : tuple of str
        The panels' borders, as points of polygons.
    peaks : list of list of float
        x and y of the peaks of all frames, or of some.
    """

    size: Box
    maximum: str
    mean: str
    beam: tuple[float, float]
    rings: tuple[Ring, ...]
    outlines: tuple[str, ...]
    peaks: list[list[float]]


@dataclass(frozen=True, eq=False)
class DetectorPage:
    """What the report shows of the detector.

    Attributes
    ----------
    note : str
        Why there is less than there should be, or "".
    n_frames, n_masked, n_pixels : int
        Frames that were read; pixels that are masked, and all of the panels'.
    powder : Powder or None
    peakogram : Markup or None
    histograms : tuple of Markup
    statements : tuple of str
        What is to be noticed.
    """

    note: str = ""
    n_frames: int = 0
    n_masked: int = 0
    n_pixels: int = 0
    powder: Powder | None = None
    peakogram: Markup | None = None
    histograms: tuple[Markup, ...] = ()
    statements: tuple[str, ...] = ()


def detector_page(store: SessionStore, best: Evaluation) -> DetectorPage:
    """Return what the frames of an evaluation show of the detector."""
    try:
        read = _read(store, best)
    except (InputError, ProgramError, OSError) as error:
        return DetectorPage(f"No picture of the detector: {error}.")
    if read is None:
        return DetectorPage("No picture of the detector: no frame could be read.")
    geometry, frames, (maximum, mean, mask, energy) = read.geometry, read.frames, read.powder
    cell, patterns, answers = read.cell, read.patterns, read.answers
    outcomes = {outcome.frame: outcome for outcome in best.outcomes}
    spots = Spots.of(geometry, cell, patterns, answers, outcomes)
    on_panels = sum(panel.width * panel.height for panel in geometry.panels)
    n_masked = on_panels - int(sum(mask[panel.rectangle].sum() for panel in geometry.panels))
    clen = best.settings.clen or read.nominal_clen
    return DetectorPage(
        n_frames=len(frames),
        n_masked=n_masked,
        n_pixels=on_panels,
        powder=_drawn(geometry, (maximum, mean, mask), energy, clen, best.settings, patterns),
        peakogram=peakogram(spots, min(panel.max_adu for panel in geometry.panels)),
        histograms=histograms(spots, best.settings.min_peaks),
        statements=_hot_places(geometry, patterns, len(frames)),
    )


class _Read(NamedTuple):
    """What the run's files and the session's lattices gave."""

    geometry: Geometry
    cell: Cell
    nominal_clen: float
    frames: list[int]
    powder: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], float]
    patterns: dict[int, Pattern]
    answers: dict[int, Indexing]


def _read(store: SessionStore, best: Evaluation) -> _Read | None:
    """Read some frames, and close the files; None where no frame could be read."""
    run, cell = open_run(store)
    with run:
        frames = _some([o.frame for o in best.outcomes if not o.failure], run)
        if not frames:
            return None
        powder = _powder(run, frames)
        found = patterns_of(store, run, cell, best.settings, frames)
    return _Read(run.geometry, cell, run.nominal_clen, frames, powder, *found)


def _some(frames: Sequence[int], run: FrameSource) -> list[int]:
    """Return as many of the frames as are read in a few seconds, evenly spread."""
    pixels = sum(panel.width * panel.height for panel in run.geometry.panels)
    most = int(np.clip(MOST_PIXELS / pixels, FEWEST_FRAMES, MOST_FRAMES))
    places = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int))
    return sorted(frames[place] for place in places)


def _powder(
    run: FrameSource, frames: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], float]:
    """Return each pixel's maximum and mean, where it is usable in any frame, and the energy."""
    maximum = total = seen = None
    energies = []
    for number in frames:
        frame = run[number]
        energies.append(frame.photon_energy)
        good = frame.mask & np.isfinite(frame.data)
        values = np.where(good, frame.data, 0).astype(np.float32)
        if maximum is None or total is None or seen is None:
            maximum, total = np.full(values.shape, -np.inf, np.float32), np.zeros(values.shape)
            seen = np.zeros(values.shape, np.int32)
        np.maximum(maximum, values, out=maximum, where=good)
        total += values
        seen += good
    assert maximum is not None and total is not None and seen is not None
    usable = seen > 0
    mean = np.divide(total, seen, out=np.zeros_like(total), where=usable)
    return np.where(usable, maximum, 0), mean.astype(np.float32), usable, float(np.median(energies))


def _drawn(
    geometry: Geometry,
    pixels: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]],
    energy: float,
    clen: float,
    settings: Settings,
    patterns: Mapping[int, Pattern],
) -> Powder:
    maximum, mean, mask = pixels
    # The picture is as large as the panels are, with room for nothing else.
    (high, average, usable), there, origin = placed(geometry, (maximum, mean, mask))
    height, width = there.shape
    step = -(-max(width, height) // WIDEST)
    good = usable.astype(bool)

    def seen(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places in the picture, of places in pixel widths from the beam."""
        return np.stack([x - origin[0], height - (y - origin[1])], axis=-1)

    res = geometry.panels[0].res
    beam = seen(np.array(-settings.shift_x * res), np.array(-settings.shift_y * res))
    corners = seen(*_corners(geometry))
    reach = float(np.linalg.norm(corners.reshape(-1, 2) - beam, axis=1).max())
    peaks = [
        detector_pixels(geometry, each.peaks.fs, each.peaks.ss, each.peaks.panel)
        for each in patterns.values()
    ]
    dots = np.concatenate([np.empty((0, 2)), *peaks])
    if len(dots) > MOST_DOTS:
        dots = dots[np.linspace(0, len(dots) - 1, MOST_DOTS).astype(int)]
    return Powder(
        size=(width, height),
        maximum=powder_address(high[::-1], good[::-1], there[::-1], step, brightest=True),
        mean=powder_address(average[::-1], good[::-1], there[::-1], step, brightest=False),
        beam=(float(beam[0]), float(beam[1])),
        rings=resolution_rings(HC / energy, clen * res, reach),
        outlines=tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in one) for one in corners),
        peaks=seen(dots[:, 0], dots[:, 1]).round(1).tolist(),
    )


def _corners(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y (n_panels, 4) of the panels' corners, in pixel widths from the beam."""
    found = []
    for i, panel in enumerate(geometry.panels):
        fs = panel.slab_fs + panel.width * np.array([0, 1, 1, 0])
        ss = panel.slab_ss + panel.height * np.array([0, 0, 1, 1])
        found.append(detector_pixels(geometry, fs, ss, np.full(4, i)))
    corners = np.array(found)
    return corners[..., 0], corners[..., 1]


def _hot_places(
    geometry: Geometry, patterns: Mapping[int, Pattern], n_frames: int
) -> tuple[str, ...]:
    """Return a sentence where there are places with a peak in many frames."""
    counts: dict[tuple[int, int, int], int] = {}
    for pattern in patterns.values():
        peaks = pattern.peaks
        places = np.stack([peaks.panel, peaks.fs // HOT_PLACE, peaks.ss // HOT_PLACE], axis=1)
        for place in {tuple(each) for each in places.astype(int).tolist()}:
            counts[place] = counts.get(place, 0) + 1
    least = max(FEWEST_OFTEN, OFTEN * n_frames)
    often = sorted((n, place) for place, n in counts.items() if n >= least)
    if not often:
        return ()
    n, (panel, fs, ss) = often[-1]
    middle = [HOT_PLACE * (each + 0.5) for each in (fs, ss)]
    return (
        f"At {len(often)} places there is a peak in {OFTEN:.0%} of the frames or more, at the "
        f"worst in {n} of {n_frames} (panel {geometry.panels[panel].name}, fs {middle[0]:.0f}, ss "
        f"{middle[1]:.0f}): those are pixels, not crystals. `sfx-tuner mask` finds them, and "
        "`--tune mask_hot_sigma` masks them in a session.",
    )
