"""Camera length and beam centre from peak lists and a cell, where the geometry is far off.

The embedded indexer allows for a camera length that is off by some per cent and a centre that is
off by a fraction of the spots' distance. Here it is asked at every place of a grid of centres and
camera lengths, and the lattices' evidence (`lattice_chance.significance`) decides: it is largest
where the nodes lie where the peaks are. That a wrong centre shifts all peaks alike, and a wrong
camera length stretches them, is all that is assumed, so no picture of the background is needed.
What the lattices then ask for at the best place leads to the middle of it.

Slopes are x/z and y/z of the peaks' rays, as in `lattice_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from wrappers.cell import Cell
from wrappers.lattices.blind_geometry import NOWHERE, Place, PlacedDetector, followed_by, moved
from wrappers.lattices.fast_indexer import FoundLattice, LatticeFinder
from wrappers.lattices.peak_vectors import PeakVectors

__all__ = ["GeometryStart", "find_geometry", "find_geometry_about"]

Floats = NDArray[np.float64]

FALSE_ACCEPT = 1e-3
"""Share of peak lists without a lattice that bear witness for a place."""
MOST_CHANCE = 0.01
"""Probability of an accidental agreement above which nothing is reported."""
TOLERANCE = 0.05
"""Relative error of the camera length that the indexer allows for by itself."""
STRETCH_STEP = 0.08
STEP = 0.002
"""Distance of neighbouring centres of the grid, in 1/Å."""
WIDEST_STRETCH = 0.15
NEAR = 1e-3
"""How far a cell looks about a centre that is known without it, in 1/Å and of the camera length."""
FEW_FRAMES = 2
"""Frames, those with the most peaks, that the whole grid is tried on."""
FOLLOWED = 4
"""Places of the grid that all frames are tried at."""
ROUNDS = 4
"""Times that the lattices move the best place, at most."""
KEPT = 0.98
"""Share of the evidence that a place must keep which the lattices ask for."""
SETTLED = 2e-5
"""A change of the slopes that is none any more."""


@dataclass(frozen=True)
class GeometryStart(PlacedDetector):
    """Where the lattices of one cell put the detector.

    Attributes
    ----------
    standard_error : tuple of 3 floats
        Of its numbers, from the scatter over frames.
    n_agree, n_frames : int
        Frames that have a lattice there, and that were tried.
    evidence, evidence_before : float
        Sum over their lattices, there and at the place that was given.
    chance : float
        Upper limit of the probability that so many agree by accident.
    """

    standard_error: Place
    n_agree: int
    n_frames: int
    evidence: float
    evidence_before: float
    chance: float


def find_geometry(
    lists: Sequence[PeakVectors],
    cell: Cell,
    *,
    widest_stretch: float = 0.1,
    widest_shift: float = 0.015,
    jobs: int = 1,
) -> GeometryStart | None:
    """Find where the detector must be for the frames to show the cell's lattice.

    Parameters
    ----------
    lists : sequence of PeakVectors
        Best the frames with the most peaks first.
    cell : Cell
    widest_stretch : float
        Relative error of the camera length up to which it is sought.
    widest_shift : float
        Error of the beam's position up to which it is sought, in 1/Å: what it makes of the
        scattering vectors.
    jobs : int
        Threads.

    Returns
    -------
    GeometryStart or None
        None where the frames do not agree beyond chance.
    """
    if not lists:
        return None
    finder = LatticeFinder(cell, false_accept=FALSE_ACCEPT, tolerance=TOLERANCE)
    wavenumber = float(np.median([one.wavenumber for one in lists]))
    grid = list(_grid(widest_stretch, widest_shift / wavenumber, STEP / wavenumber))

    def few(place: Place) -> float:
        return _evidence(_lattices(finder, lists[:FEW_FRAMES], place))

    with ThreadPoolExecutor(jobs) as threads:  # The kernels let go of the interpreter's lock.
        first = list(threads.map(few, grid))
        best = [grid[i] for i in np.argsort(-np.array(first), kind="stable")[:FOLLOWED]]
        ends = list(threads.map(lambda place: _follow(finder, lists, place), best))
    place, found = max(ends, key=lambda end: _evidence(end[1]))
    n = len(found)
    # The frames that chose the place bear no witness for it.
    free = max(len(lists) - FEW_FRAMES, 0)
    others = max(n - FEW_FRAMES, 0)
    tail = float(binom.sf(others - 1, free, FALSE_ACCEPT)) if others else 1.0
    if free == 0:
        tail = float(binom.sf(n - 1, len(lists), FALSE_ACCEPT)) if n > 1 else 1.0
    chance = min(1.0, len(grid) * tail)
    if chance > MOST_CHANCE:
        return None
    errors = _scatter(found)
    before = _evidence(_lattices(finder, lists, NOWHERE))
    return GeometryStart(place, errors, n, len(lists), _evidence(found), before, chance)


def find_geometry_about(
    lists: Sequence[PeakVectors], cell: Cell, there: Place, *, jobs: int = 1
) -> GeometryStart | None:
    """Find the camera length where the beam centre is known, as `find_geometry` does.

    Parameters
    ----------
    lists : sequence of PeakVectors
    cell : Cell
    there : Place
        With the right centre (`blind_geometry.find_centre`); the evidence before is that there.
    jobs : int
        Threads.
    """
    start = find_geometry(
        [moved(one, there) for one in lists],
        cell,
        widest_stretch=WIDEST_STRETCH,
        widest_shift=NEAR,
        jobs=jobs,
    )
    return start and replace(start, place=followed_by(there, start.place))


def _grid(widest_stretch: float, widest_shift: float, step: float) -> list[Place]:
    """Return the places of a hexagonal grid of shifts, for each of some stretches."""
    n = max(0, math.ceil((widest_stretch - TOLERANCE) / STRETCH_STEP))
    places = []
    reach = math.ceil(widest_shift / step) + 1
    for stretch in (i * STRETCH_STEP for i in range(-n, n + 1)):
        for i in range(-2 * reach, 2 * reach + 1):
            for j in range(-2 * reach, 2 * reach + 1):
                x, y = step * (i + j / 2), step * j * math.sqrt(3) / 2
                if math.hypot(x, y) <= widest_shift:
                    places.append((stretch, x, y))
    return sorted(places, key=lambda place: (abs(place[0]), math.hypot(*place[1:]), place))


def _lattices(
    finder: LatticeFinder, lists: Sequence[PeakVectors], place: Place
) -> list[FoundLattice]:
    answers = (moved(one, place) for one in lists)
    found = (finder.find(one.q, one.wavenumber, one.strength) for one in answers)
    return [lattices[0] for lattices in found if lattices]


def _evidence(lattices: Sequence[FoundLattice]) -> float:
    return float(sum(one.evidence for one in lattices))


def _follow(
    finder: LatticeFinder, lists: Sequence[PeakVectors], place: Place
) -> tuple[Place, list[FoundLattice]]:
    """Go where the lattices ask for, as long as they lose no evidence by it.

    They allow for a part of what is wrong by themselves, so evidence is flat about the right place.
    """
    found = _lattices(finder, lists, place)
    for _ in range(ROUNDS):
        if not found:
            break
        asked = _asked(found)
        further = followed_by(place, asked)
        then = _lattices(finder, lists, further)
        if _evidence(then) < KEPT * _evidence(found):
            break
        place, found = further, then
        if max(map(abs, asked)) < SETTLED:
            break
    return place, found


def _asked(found: Sequence[FoundLattice]) -> Place:
    """Return the median of the frames' geometries, weighted by their evidence."""
    values = np.array([one.geometry for one in found])
    weights = np.array([one.evidence for one in found])
    middle = []
    for column in values.T:
        order = np.argsort(column)
        total = np.cumsum(weights[order])
        middle.append(float(column[order][np.searchsorted(total, total[-1] / 2)]))
    return middle[0], middle[1], middle[2]


def _scatter(found: Sequence[FoundLattice]) -> Place:
    values = np.array([one.geometry for one in found])
    spread = 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    a, b, c = 1.25 * spread / math.sqrt(max(len(values) - 1, 1))
    return float(a), float(b), float(c)
