"""The embedded indexer: known-cell indexing without an outside program.

The search for orientations is in `lattice_search`, the fit in `lattice_fit`, the
test against chance in `lattice_chance`, the procedure in `lattice_candidates`;
here are what they need to know of the cell, and the choice of peaks.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError
from wrappers.indexing import Done, Indexing, Lattice, Pattern, unheard
from wrappers.lattices.lattice_candidates import find_lattice
from wrappers.lattices.lattice_fit import apart, distances, scattering_vectors, slopes

__all__ = ["FastIndexer", "FoundLattice", "LatticeFinder", "explained_within"]

Floats = NDArray[np.float64]

_MAX_PEAKS = 600
"""Of longer lists only so many of the strongest peaks are looked at."""
_SEARCH_PEAKS = 48
"""Peaks that a search uses; all peaks score what it finds."""
_STRONG_PEAKS = 64
"""They are those of lowest resolution among so many of the strongest, or a third of all."""
_MIN_PEAKS = 5
_FEW_PEAKS = 24
"""Short lists leave little to the refinement, and cost little: they are searched more finely."""
_STRETCH_STEP, _STRETCH_STEP_OF_FEW = 0.02, 0.0125
"""A search finds lattices although the camera length is wrong by up to half of this."""
_LARGE_PHASE, _LARGE_PHASE_OF_FEW = 0.27, 0.2
"""Longest axis × `_SHIFT` from which on searches are made that allow for large shifts."""
_STRETCH_PHASE = 0.5
"""Longest axis × mean length of q × step of the stretch, in those searches."""
_SMALLEST_STEP = 0.004
"""Of the stretch: more than 26 searches are not made."""
_EXPLAINED = 0.2
"""A peak is explained by a node within this share of the shortest reciprocal axis."""

# Standard deviations that the least squares expects, for what the peaks leave open.
_NOISE = 1e-3  # of a peak's distance from its node, in 1/Å
_STRETCH = 0.02  # of the camera length
_SHIFT = 1.5e-3  # of the beam's position, in 1/Å
_SHAPE = 0.01  # of the cell's shape, while searching
_STRAIN = 0.01  # of each edge and angle, in the cell that is returned


@dataclass(frozen=True, eq=False)
class FoundLattice:
    """A lattice and how it came to be accepted.

    Attributes
    ----------
    reciprocal : float64 array (3, 3)
        Rows a*, b*, c* of the reference cell's setting in 1/Å, refined for the geometry that
        was given.
    evidence : float
        Natural logarithm of the inverse of the chance of so good a lattice in a list of peaks
        without one.
    explained : bool array (n,)
        The peaks that belong to it; one that an earlier lattice explains is not among them.
    geometry : tuple of 3 floats
        Which stretch and shifts in x and y make the slopes of the peaks' rays fit it best
        (`lattice_fit.scattering_vectors`).
    """

    reciprocal: Floats
    evidence: float
    explained: NDArray[np.bool_]
    geometry: tuple[float, float, float] = (0.0, 0.0, 0.0)


class LatticeFinder:
    """Finds lattices of one known cell among scattering vectors.

    Parameters
    ----------
    cell : Cell
        The known cell; a centred one is searched for by its primitive cell.
    false_accept : float
        Probability that a list of peaks which holds no lattice gets one all the same.
    max_lattices : int
        Most lattices to look for in one list.
    tolerance : float
        Relative error of the camera length up to which lattices are sought, and with it the
        deviation of the cell's edges. A camera length that is right costs no more for it.

    Raises
    ------
    InputError
        If a parameter is out of its range.

    Examples
    --------
    >>> finder = LatticeFinder(Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0), false_accept=1e-3)
    >>> lattices = finder.find(q, wavenumber=1 / 1.33)  # doctest: +SKIP
    """

    def __init__(
        self,
        cell: Cell,
        *,
        false_accept: float = 0.01,
        max_lattices: int = 1,
        tolerance: float = 0.05,
    ) -> None:
        if not 0.0 < false_accept < 1.0:
            raise InputError(f"false_accept is {false_accept}, but must lie between 0 and 1")
        if max_lattices < 1:
            raise InputError(f"max_lattices is {max_lattices}, but must be at least 1")
        if not 0.0 <= tolerance <= 0.1:
            raise InputError(f"tolerance is {tolerance}, but must lie between 0 and 0.1")
        self._max_lattices = max_lattices
        self._threshold = -math.log(false_accept)
        self._tolerance = tolerance
        primitive = _reduced(cell.primitive_axes @ cell.real)
        self._primitive = primitive
        self._to_primitive = primitive @ np.linalg.inv(cell.real)
        self._longest = float(np.linalg.norm(primitive, axis=1).max())
        self._shortest = _shortest(primitive)
        rotations = _rotations(primitive)
        self._modes = _modes(primitive, rotations)
        volume = float(abs(np.linalg.det(primitive)))
        self._lattice = (volume, self._shortest, float(len(rotations)))
        self._axes = _search_axes(primitive, rotations)

    def find(
        self, q: ArrayLike, wavenumber: float, strength: ArrayLike | None = None
    ) -> list[FoundLattice]:
        """Find lattices.

        Parameters
        ----------
        q : array (n, 3)
            Scattering vectors in 1/Å.
        wavenumber : float
            1/λ in 1/Å.
        strength : array (n,), optional
            How far a peak is to be trusted, such as its intensity: what is searched with, and of
            very long lists what is looked at, are the strongest peaks. By default those of
            lowest resolution.

        Returns
        -------
        list of FoundLattice
            The one that explains most peaks first; the same for the same input.
        """
        q = np.ascontiguousarray(q, float).reshape(-1, 3)
        length = np.linalg.norm(q, axis=1)
        strength = -length if strength is None else np.asarray(strength, float)
        free = np.isfinite(length) & np.isfinite(strength) & (length > 0.6 * self._shortest)
        free &= q[:, 2] > -wavenumber  # a detector before the sample sees nothing else
        rays = slopes(q, wavenumber)
        priors = (
            (_NOISE / _STRETCH) ** 2,
            (_NOISE / _SHIFT * wavenumber) ** 2,
            (_NOISE / _SHAPE) ** 2,
        )
        found: list[FoundLattice] = []
        while len(found) < self._max_lattices:
            left = np.flatnonzero(free)
            left = left[np.argsort(-strength[left], kind="stable")[:_MAX_PEAKS]]
            # the parts of a split peak would bear witness for each other
            left = left[apart(q[left], 0.25 * self._shortest)]
            if len(left) < _MIN_PEAKS:
                break
            searches, stretches, shifted = self._plan(length[left])
            evidence, recip, geometry = find_lattice(
                rays[left],
                searches,
                stretches,
                shifted,
                wavenumber,
                self._primitive,
                self._axes,
                self._lattice,
                self._modes,
                self._threshold,
                priors,
            )
            if evidence < self._threshold:
                break
            corrected = scattering_vectors(rays, wavenumber, *geometry)
            explained = free & (distances(corrected, recip) < _EXPLAINED * self._shortest)
            nodes = np.rint(corrected[explained] @ np.linalg.inv(recip)) @ recip
            # the shift is not the cell's, so it stays corrected
            observed = scattering_vectors(rays[explained], wavenumber, 0.0, *geometry[1:])
            refined = _strained(recip, nodes, observed, -geometry[0])
            reciprocal = self._to_primitive.T @ refined
            stretch, x, y = map(float, geometry)
            found.append(FoundLattice(reciprocal, float(evidence), explained, (stretch, x, y)))
            free &= ~explained
        return found

    def _plan(self, length: Floats) -> tuple[NDArray[np.intp], Floats, NDArray[np.bool_]]:
        """Return the searches to make: which peaks, in the order of length, at which stretch.

        The third array tells which of them allow for large shifts.
        """
        strong = max(_STRONG_PEAKS, len(length) // 3)
        low = np.argsort(length[:strong], kind="stable")[:_SEARCH_PEAKS]
        plan = [(low, 0.0, False)]
        if len(low) < len(length):
            brightest = np.argsort(length[:_SEARCH_PEAKS], kind="stable")
            plan.append((brightest, 0.0, False))
        few = len(length) <= _FEW_PEAKS
        step = _STRETCH_STEP_OF_FEW if few else _STRETCH_STEP
        plan += [(low, stretch, False) for stretch in self._offsets(step)]
        if self._longest * _SHIFT > (_LARGE_PHASE_OF_FEW if few else _LARGE_PHASE):
            fine = _STRETCH_PHASE / (self._longest * float(length[low].mean()))
            step = min(max(fine, _SMALLEST_STEP), step)
            plan += [(low, stretch, True) for stretch in (0.0, *self._offsets(step))]
        peaks, stretches, shifted = zip(*plan, strict=True)
        return np.array(peaks), np.array(stretches), np.array(shifted)

    def _offsets(self, step: float) -> list[float]:
        """Return the stretches, smallest first, which cover the tolerance in such steps."""
        n = math.ceil(self._tolerance / step - 0.5)
        return [sign * i * step for i in range(1, n + 1) for sign in (1.0, -1.0)]


class FastIndexer:
    """Indexes patterns by themselves, without an outside program.

    Parameters
    ----------
    geometry : Geometry
    cell : Cell
    false_accept : float
        Probability that a pattern which holds no lattice is indexed all the same.
    max_lattices : int
        Most lattices to look for in one pattern.
    tolerance : float
        Relative error of the camera length up to which lattices are sought.

    See Also
    --------
    LatticeFinder : the same for scattering vectors.
    """

    def __init__(
        self,
        geometry: Geometry,
        cell: Cell,
        *,
        false_accept: float = 0.01,
        max_lattices: int = 1,
        tolerance: float = 0.05,
    ) -> None:
        self._geometry = geometry
        self._finder = LatticeFinder(
            cell, false_accept=false_accept, max_lattices=max_lattices, tolerance=tolerance
        )

    @property
    def name(self) -> str:
        """Name and version."""
        return f"fast {version('sfx-tuner')}"

    @property
    def parallel(self) -> bool:
        """It works frame by frame, so it is spread over processes."""
        return False

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index each pattern; the answers come in the patterns' order."""
        answers = []
        for pattern in patterns:
            answers.append(self._index(pattern))
            done(len(answers))
        return answers

    def close(self) -> None:
        """Do nothing: nothing runs for it."""

    def _index(self, pattern: Pattern) -> Indexing:
        q = self._geometry.scattering_vectors(
            pattern.peaks,
            pattern.photon_energy,
            pattern.camera_length,
            pattern.shift_x,
            pattern.shift_y,
        )
        wavenumber = pattern.photon_energy / HC
        found = self._finder.find(q, wavenumber, pattern.peaks.intensity)
        return Indexing(tuple(Lattice(one.reciprocal) for one in found))


def explained_within(cell: Cell) -> float:
    """Return how far from a node, in 1/Å, a peak is explained by a lattice of a cell."""
    return _EXPLAINED * _shortest(_reduced(cell.primitive_axes @ cell.real))


def _shortest(primitive: Floats) -> float:
    """Return the length of the shortest reciprocal axis."""
    return float(np.linalg.norm(np.linalg.inv(primitive), axis=0).min())


def _strained(recip: Floats, nodes: Floats, observed: Floats, scale: float) -> Floats:
    """Return the basis, freed to follow its peaks, each axis in length and direction.

    ``scale`` is the relative change of size that is expected. What the peaks leave open stays
    as the fit with the rigid cell has it.
    """
    expected = nodes * (1.0 + scale)
    ridge = (_NOISE / _STRAIN) ** 2 * np.eye(3)
    strain = np.linalg.solve(nodes.T @ nodes + ridge, nodes.T @ (observed - expected))
    return recip @ ((1.0 + scale) * np.eye(3) + strain)


def _reduced(basis: Floats) -> Floats:
    """Return short vectors of the same lattice, shortest first (pairwise reduction).

    `bravais.reduced` goes further and fixes the signs; with it the search would try other axes, and
    the answers would not stay what the benchmark recorded.
    """
    basis = np.array(basis, float)
    changed = True
    while changed:
        basis = basis[np.argsort(np.linalg.norm(basis, axis=1), kind="stable")]
        changed = False
        for i, j in itertools.permutations(range(3), 2):
            n = np.round(basis[i] @ basis[j] / (basis[j] @ basis[j]))
            shorter = basis[i] - n * basis[j]
            if np.linalg.norm(shorter) < np.linalg.norm(basis[i]) * (1 - 1e-6):
                basis[i] = shorter
                changed = True
    return basis


def _rotations(primitive: Floats) -> Floats:
    """Return the rotations (n, 3, 3) that map the lattice onto itself, acting on basis rows."""
    matrices = _possible_rotations()
    metric = primitive @ primitive.T
    change = np.abs(matrices @ metric @ matrices.transpose(0, 2, 1) - metric)
    size = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    return matrices[(change < 1e-3 * size).all(axis=(1, 2))]


@functools.cache
def _possible_rotations() -> Floats:
    """Return the matrices (n, 3, 3) that may be rotations of a reduced lattice."""
    # Of a reduced lattice they have no other entries.
    matrices = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    return matrices[np.linalg.det(matrices) > 0]


def _search_axes(primitive: Floats, rotations: Floats) -> NDArray[np.intp]:
    """Return which basis vectors to search with, and their symmetry, as `find_lattice` wants it.

    Vectors of equal length cannot be told apart in the search, so each length comes once.
    """
    lengths = np.linalg.norm(primitive, axis=1)
    firsts = [i for i in range(3) if not np.isclose(lengths[:i], lengths[i], rtol=0.02).any()][:2]
    kept = (rotations == np.eye(3)).all(axis=2).sum(axis=0)
    turned_round = (rotations == -np.eye(3)).all(axis=2).any(axis=0)
    return np.column_stack((firsts, kept[firsts], ~turned_round[firsts])).astype(np.intp)


def _modes(primitive: Floats, rotations: Floats) -> Floats:
    """Return the ways (m, 3, 3) in which the cell can change its shape, but not its symmetry.

    A mode, from the left of the reciprocal basis, strains it by 1; pure growth is none of them.
    """
    turns = np.linalg.inv(primitive) @ rotations @ primitive
    strains = []
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1.0
        strain -= np.eye(3) * np.trace(strain) / 3.0
        strains.append((turns.transpose(0, 2, 1) @ strain @ turns).mean(axis=0).ravel())
    _, sizes, vectors = np.linalg.svd(np.array(strains))
    free = vectors[: int((sizes > 1e-2).sum())].reshape(-1, 3, 3)
    reciprocal = np.linalg.inv(primitive).T
    return np.ascontiguousarray(reciprocal @ free @ np.linalg.inv(reciprocal))
