"""Beam centre and camera length from peak lists alone, without knowing the cell.

A wrong beam centre moves all peaks by nearly the same **s** (others try one centre after another:
Sauter et al., J. Appl. Cryst. 37 (2004) 399). Differences of peaks do not feel it, so vectors **v**
of the crystal are sought with those. The phase of the sum of exp(2πi **q**·**v**) over the peaks
themselves is then 2π **s**·**v**: each vector of each frame says where **s** may be, up to a
period, and only the right place suits crystals of all orientations.

A wrong camera length changes the size that lattices seem to have, but not the curvature of the
Ewald sphere: the peaks of one frame fit a lattice best where both suit each other. So the blind
evidence (`blind.find_lattices`) is largest at the right camera length. The photon energy scales the
sphere together with the lattice, which nothing shows.

Slopes are x/z and y/z of the peaks' rays, as in `lattice_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.blind import LEAST_PEAKS, find_lattices
from wrappers.lattices.blind_search import lattice_vectors
from wrappers.lattices.lattice_fit import apart, scattering_vectors, slopes
from wrappers.lattices.peak_vectors import PeakVectors

__all__ = [
    "NOWHERE",
    "BlindGeometry",
    "Centre",
    "Place",
    "PlacedDetector",
    "blind_evidence",
    "find_blind_geometry",
    "find_centre",
    "followed_by",
    "moved",
]

Floats = NDArray[np.float64]
Place = tuple[float, float, float]
"""Stretch of the slopes, and their shifts in x and y after it."""
NOWHERE: Place = (0.0, 0.0, 0.0)
"""Where the geometry puts the detector."""

WIDEST_SHIFT = 0.02
"""Error of the beam's position up to which it is sought, in 1/Å."""
MOST_CHANCE = 1e-3
"""Probability of so good a centre in frames that have none in common."""
LEAST_FRAMES = 4
"""One frame alone leaves all points of its reciprocal lattice as centres."""

_PEAKS, _PAIRS, _VECTORS = 60, 150, 24
"""Peaks of lowest resolution among the strongest, their nearest pairs, vectors that are kept."""
_STRONG_PEAKS = 200
_SHORTEST, _LONGEST = 10.0, 200.0
"""Of a vector, in Å."""
_SPLIT = 5e-4
"""Peaks nearer to each other than this, in 1/Å, are the parts of one."""
_STEP, _FINE_STEP = 8e-4, 5e-5
"""Distance of neighbouring centres, in 1/Å, at first and about the best."""
_DECOYS = 48
_STRETCH_FRAMES = 6
"""Frames whose lattices tell the camera length."""
_STRETCH_STEP, _STRETCH_STEPS = 0.04, 4
"""Stretches that are tried, and how many to either side: the outermost is none to believe."""
_RESAMPLED = 200
CLEARLY = 1.1
"""Times the evidence at the given geometry that another one must have."""
OFF_CENTRE = 5e-4
"""Shift in 1/Å that is no error worth a word: lattices allow for it."""
OFF_LENGTH = 0.02
SIGMAS = 5.0
"""A camera length is called wrong if it is off by so many of its standard errors."""


@dataclass(frozen=True)
class Centre:
    """Where the peaks have their origin.

    Attributes
    ----------
    shift : tuple of 2 floats
        Of all peaks in x and y by the wrong centre, in 1/Å.
    chance : float
        Probability that frames with centres at random agree as well.
    """

    shift: tuple[float, float]
    chance: float

    def place(self, wavenumber: float) -> Place:
        """Return what is to be done to the slopes; nothing where the shift is no error."""
        if math.hypot(*self.shift) < OFF_CENTRE:
            return NOWHERE
        return 0.0, -self.shift[0] / wavenumber, -self.shift[1] / wavenumber


@dataclass(frozen=True)
class PlacedDetector:
    """Where frames put the detector.

    Attributes
    ----------
    place : Place
        What is to be done to the slopes that were given; all 0 where they are right.
    """

    place: Place

    def camera_length(self, given: float) -> float:
        """Return the camera length instead of the given one, in the same unit."""
        return given / (1.0 + self.place[0])

    def shift(self, given: float) -> tuple[float, float]:
        """Return the further shift of the detector, in the unit of the given camera length."""
        length = self.camera_length(given)
        return self.place[1] * length, self.place[2] * length


@dataclass(frozen=True)
class BlindGeometry(PlacedDetector):
    """Where the lattices of an unknown cell put the detector.

    Attributes
    ----------
    stretch_error : float
        Standard error of its first number, from the scatter over frames; infinite where the camera
        length is beyond all that were tried.
    evidence, evidence_before : float
        Blind evidence of some frames' lattices, there and at the place that was given.
    chance : float
        Of the centre.
    """

    stretch_error: float
    evidence: float
    evidence_before: float
    chance: float

    @property
    def given_is_right(self) -> bool:
        """Whether nothing was found to be wrong."""
        return self.place == NOWHERE

    @property
    def beyond(self) -> bool:
        """Whether the camera length is farther off than was looked."""
        return math.isinf(self.stretch_error)


def moved(one: PeakVectors, place: Place) -> PeakVectors:
    """Return a list with its rays stretched and shifted."""
    rays = slopes(np.ascontiguousarray(one.q, float), one.wavenumber)
    return replace(one, q=scattering_vectors(rays, one.wavenumber, *place))


def followed_by(first: Place, then: Place) -> Place:
    """Return what two changes of the slopes do one after the other."""
    stretch, x, y = then
    return (
        (1 + first[0]) * (1 + stretch) - 1,
        first[1] * (1 + stretch) + x,
        first[2] * (1 + stretch) + y,
    )


def find_centre(
    lists: Sequence[PeakVectors], *, widest: float = WIDEST_SHIFT, jobs: int = 1
) -> Centre | None:
    """Find the beam's position, on which the frames must agree beyond chance.

    Parameters
    ----------
    lists : sequence of PeakVectors
        Best the frames with the most peaks above the noise, some 10 to 30 of them.
    widest : float
        Error up to which it is sought, in 1/Å.
    jobs : int
        Threads; the result is the same for any number.
    """
    with ThreadPoolExecutor(jobs) as threads:  # The kernels let go of the interpreter's lock.
        frames = [one for one in threads.map(_vectors, lists) if one is not None]
    if len(frames) < LEAST_FRAMES:
        return None
    axis = np.arange(-widest, widest + _STEP / 2, _STEP)
    grid = np.array([(x, y) for x in axis for y in axis if math.hypot(x, y) <= widest])
    nowhere = np.zeros((1, len(frames), 2))
    decoys = np.random.default_rng(0).uniform(-0.1, 0.1, (_DECOYS, len(frames), 2))
    score, *others = _scores(frames, grid, np.concatenate((nowhere, decoys)))
    best = grid[np.argmax(score)]
    chances = np.array([other.max() for other in others])
    # Of the largest of many numbers of one kind, Gumbel's distribution.
    scale = max(float(chances.std()) * math.sqrt(6) / math.pi, 1e-12)
    mode = float(chances.mean()) - np.euler_gamma * scale
    chance = -math.expm1(-math.exp(min(50.0, -(float(score.max()) - mode) / scale)))
    if chance > MOST_CHANCE:
        return None
    near = np.arange(-_STEP, _STEP + _FINE_STEP / 2, _FINE_STEP)
    fine = best + np.array([(x, y) for x in near for y in near])
    x, y = fine[np.argmax(_scores(frames, fine, nowhere)[0])]
    return Centre((float(x), float(y)), chance)


def _vectors(one: PeakVectors) -> tuple[Floats, NDArray[np.complex128]] | None:
    """Return vectors of one frame's crystal (n, 3) and the mean of exp(2πi q·v) for each."""
    q = np.ascontiguousarray(one.q, float)
    length = np.linalg.norm(q, axis=1)
    strongest = np.argsort(-one.strength, kind="stable")
    strongest = strongest[apart(q[strongest], _SPLIT)][:_STRONG_PEAKS]
    if len(strongest) < LEAST_PEAKS:
        return None
    peaks = q[strongest[np.argsort(length[strongest], kind="stable")[:_PEAKS]]]
    first, second = np.triu_indices(len(peaks), 1)
    pairs = peaks[first] - peaks[second]
    # Long pairs need a finer search, so of few peaks only the nearest are paired.
    near = np.argsort(np.linalg.norm(pairs, axis=1), kind="stable")[: min(_PAIRS, len(pairs) // 4)]
    pairs = pairs[near]
    vectors, scores = np.empty((_VECTORS, 3)), np.empty(_VECTORS)
    n = lattice_vectors(np.ascontiguousarray(pairs), _SHORTEST, _LONGEST, vectors, scores)
    return vectors[:n], np.exp(2j * math.pi * (peaks @ vectors[:n].T)).mean(axis=0)


def _scores(
    frames: Sequence[tuple[Floats, NDArray[np.complex128]]], places: Floats, off: Floats
) -> Floats:
    """Return how well places (n, 2) suit the frames' phases, for m ways to be off (m, frames, 2).

    It is the sum of cos(2π (place - off)·v - phase), (m, n), with the squared sums for weights.
    """
    total = np.zeros((len(off), len(places)))
    for (vectors, sums), extra in zip(frames, off.transpose(1, 0, 2), strict=True):
        across = 2j * math.pi * vectors[:, :2].T
        weights = np.conj(sums) * np.abs(sums) * np.exp(-extra @ across)
        total += (weights @ np.exp(places @ across).T).real
    return total


def find_blind_geometry(
    lists: Sequence[PeakVectors],
    *,
    jobs: int = 1,
) -> BlindGeometry | None:
    """Find beam centre and camera length without knowing the cell.

    Parameters
    ----------
    lists : sequence of PeakVectors
        Best the frames with the most peaks above the noise, some 10 to 30 of them.
    jobs : int
        Threads; the result is the same for any number.

    Returns
    -------
    BlindGeometry or None
        None where the frames have no centre in common, beyond chance.
    """
    centre = find_centre(lists, jobs=jobs)
    if centre is None:
        return None
    wavenumber = float(np.median([one.wavenumber for one in lists]))
    _, x, y = centre.place(wavenumber)
    few = lists[:_STRETCH_FRAMES]

    def stretched(steps: int) -> Place:
        a = steps * _STRETCH_STEP
        return a, x * (1 + a), y * (1 + a)

    curves: dict[int, Floats] = {}
    with ThreadPoolExecutor(jobs) as threads:

        def evidence(place: Place) -> Floats:
            return np.array(list(threads.map(lambda one: _evidence(moved(one, place)), few)))

        middle = 0
        while abs(middle) < _STRETCH_STEPS:
            for steps in (middle - 1, middle, middle + 1):
                if steps not in curves:
                    curves[steps] = evidence(stretched(steps))
            best = max(curves, key=lambda steps: (curves[steps].sum(), -abs(steps)))
            if best == middle:
                break
            middle = best
        if abs(middle) == _STRETCH_STEPS:
            there, before = (float(curves[i].sum()) for i in (middle, 0))
            if there > CLEARLY * before:
                ends = stretched(middle)
                return BlindGeometry(ends, math.inf, there, before, centre.chance)
            middle = 0
        three = np.column_stack([curves[middle + i] for i in (-1, 0, 1)])
        stretch = _STRETCH_STEP * (middle + _vertex(three.sum(axis=0)))
        rng = np.random.default_rng(0)
        again = three[rng.integers(0, len(few), (_RESAMPLED, len(few)))].sum(axis=1)
        error = _STRETCH_STEP * float(np.std([_vertex(curve) for curve in again]))
        if abs(stretch) < max(OFF_LENGTH, SIGMAS * error):
            stretch = 0.0
        place = (stretch, x * (1 + stretch), y * (1 + stretch))
        given = NOWHERE
        there = float(evidence(place).sum() if stretch else curves[0].sum())
        before = float(evidence(given).sum() if x or y else curves[0].sum())
    if there < CLEARLY * before:
        place, there = given, before
    return BlindGeometry(place, error, there, before, centre.chance)


def _vertex(curve: Floats) -> float:
    """Return where the parabola through three neighbours is highest, from the one in the middle."""
    left, top, right = curve
    bend = left - 2 * top + right
    return float(np.clip(0.5 * (left - right) / bend, -1.0, 1.0)) if bend < 0 else 0.0


def blind_evidence(lists: Sequence[PeakVectors], place: Place, *, jobs: int = 1) -> float:
    """Return the sum of the evidence for lattices of any cell in some of the lists, at a place."""
    few = [moved(one, place) for one in lists[:_STRETCH_FRAMES]]
    with ThreadPoolExecutor(jobs) as threads:
        return float(sum(threads.map(_evidence, few)))


def _evidence(one: PeakVectors) -> float:
    found = find_lattices(one.q, one.strength, n_lattices=1)
    return max(found[0].evidence, 0.0) if found else 0.0
