"""The unit cell on which several frames agree, found without knowing it.

A lattice that one frame proposes (`blind.find_lattices`) is tried on all other frames by the
embedded indexer, which knows how often it accepts a list of peaks without a lattice. So the chance
that frames agree by accident is a binomial tail, whatever proposed the cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from wrappers.cell import Cell
from wrappers.errors import InputError
from wrappers.lattices.blind import LONGEST, BlindLattice, find_lattices
from wrappers.lattices.bravais import Bravais, bravais_choices, reduced, unimodular
from wrappers.lattices.fast_indexer import LatticeFinder
from wrappers.lattices.peak_vectors import PeakVectors

__all__ = [
    "MOST_CHANCE",
    "CellChoice",
    "CellConsensus",
    "evidence_of",
    "find_cell",
    "metric_distance",
    "parts_of",
]

Floats = NDArray[np.float64]

MOST_CHANCE = 0.01
"""Probability of an accidental agreement above which nothing is reported."""
FALSE_ACCEPT = 1e-3
"""Share of peak lists without a lattice on which a frame is taken to agree."""
LEAST_EVIDENCE = 0.0
"""Of a lattice that a frame proposes; the agreement of the others decides."""
PROPOSALS = 10
"""Cells that are tried on all frames."""
SAME_METRIC = 0.05
"""Relative difference of two metrics up to which they may be of one cell, in one still."""
ROUNDS = 2
"""Times that the mean cell takes the place of the proposed one, which leans to its own frame."""
SAME_GEOMETRY = 0.01
"""Tolerance of the camera length where a cell comes from frames of the same geometry."""
SCALES = (-0.02, -0.01, 0.0, 0.01, 0.02)
"""Changes of a cell's size that are tried. A wrong camera length changes the size that lattices
seem to have, but not the curvature of the Ewald sphere, which only the right size fits."""
SYMMETRIC = 0.012
"""Relative deviation of the metric from a higher symmetry that a geometry is easily wrong by."""
LEAST_SHARE = 0.85
"""Of the most evidence that any system has: what the highest symmetry must reach."""
ALIKE = {"tetragonal": ([0, 1],), "hexagonal": ([0, 1],), "cubic": ([0, 1, 2],)}
"""Edges that are equal, by lattice type."""
FREE_ANGLES = {"triclinic": (0, 1, 2), "monoclinic": (1,)}
"""Angles that the symmetry leaves free, by lattice type."""


@dataclass(frozen=True, eq=False)
class CellChoice:
    """One crystal system that a lattice may be of, and what the frames say of it.

    Attributes
    ----------
    cell : Cell
        Conventional.
    deviation : float
        Relative change of the mean metric that makes it so (`bravais.Bravais`).
    n_agree : int
        Frames that agree with this cell.
    evidence : float
        Sum of their lattices' evidence, each of which is charged for the ways in which the cell
        was free to change its shape. Taken is the highest symmetry from which the lattice deviates
        no more than a geometry is easily wrong by, and which loses little of the evidence.
    """

    cell: Cell
    deviation: float
    n_agree: int
    evidence: float


@dataclass(frozen=True, eq=False)
class CellConsensus:
    """The cell on which frames agree.

    Attributes
    ----------
    cell : Cell
        Conventional, in the geometry that was given.
    standard_error : float64 array (6,)
        Of its edges (Å) and angles (degrees), from the scatter over frames; 0 for what the
        symmetry fixes. What all frames have in common, such as a wrong camera length, is not
        in it.
    choices : tuple of CellChoice
        All that the lattice may be seen as, the highest symmetry first.
    frames : tuple of int
        Places in the input of the frames that agree.
    n_frames : int
        Frames that were tried.
    chance : float
        Upper limit of the probability that so many agree by accident.
    """

    cell: Cell
    standard_error: Floats
    choices: tuple[CellChoice, ...]
    frames: tuple[int, ...]
    n_frames: int
    chance: float


def find_cell(
    lists: Sequence[PeakVectors],
    *,
    longest: float = LONGEST,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CellConsensus | None:
    """Find the cell on which most of the frames agree.

    Parameters
    ----------
    lists : sequence of PeakVectors
        Best the frames with the most peaks above the noise, some 5 to 30 of them.
    longest : float
        Longest vector of the primitive cell, in Å.
    jobs : int
        Threads; the result is the same for any number.
    progress : callable
        Called with the steps that are done and all steps.

    Returns
    -------
    CellConsensus or None
        None where they do not agree beyond chance (`MOST_CHANCE`).
    """
    total = len(lists) + PROPOSALS
    proposals: list[tuple[int, BlindLattice]] = []
    with ThreadPoolExecutor(jobs) as threads:  # The kernels let go of the interpreter's lock.
        each = threads.map(lambda one: find_lattices(one.q, one.strength, longest=longest), lists)
        for place, found in enumerate(each):
            proposals += [(place, one) for one in found if one.evidence > LEAST_EVIDENCE]
            progress(place + 1, total)
    tried = _ranked(proposals)[:PROPOSALS]
    agreements: list[_Agreement] = []
    for n, (source, lattice) in enumerate(tried):
        agreements += _try(source, lattice.real, lists)
        progress(len(lists) + n + 1, total)
    progress(total, total)
    if not agreements:
        return None
    best = max(agreements, key=_evidence)
    # A cell that is a whole multiple of the right one indexes as well, but says less.
    parts = [one for part in parts_of(best.mean_basis) for one in _try(best.source, part, lists)]
    best = max([best, *parts], key=_evidence)
    others = len(best.lattices) - (best.source in best.lattices)
    # The frame that proposed the cell bears no witness for it.
    tail = float(binom.sf(others - 1, len(lists) - 1, FALSE_ACCEPT)) if others else 1.0
    chance = min(1.0, (len(tried) + len(parts)) * tail)
    if chance > MOST_CHANCE:
        return None
    return _consensus(best, lists, chance)


@dataclass(frozen=True, eq=False)
class _Agreement:
    """What a proposed cell gives on all frames: lattices (rows a*, b*, c*) by frame."""

    source: int
    lattices: dict[int, Floats]
    evidence: float

    @property
    def metrics(self) -> Floats:
        """The metrics (n, 3, 3) of the frames' cells, in Å²."""
        real = np.linalg.inv(np.array(list(self.lattices.values()))).transpose(0, 2, 1)
        return real @ real.transpose(0, 2, 1)

    @property
    def mean_basis(self) -> Floats:
        """A basis (rows, Å) with the median of the metrics."""
        return np.linalg.cholesky(np.median(self.metrics, axis=0)).astype(np.float64)


def _evidence(agreement: _Agreement) -> float:
    return agreement.evidence


def _ranked(proposals: Sequence[tuple[int, BlindLattice]]) -> list[tuple[int, BlindLattice]]:
    """Return one proposal of each kind of cell, those first that several frames make."""
    groups: list[list[tuple[int, BlindLattice]]] = []
    for proposal in sorted(proposals, key=lambda one: -one[1].evidence):
        metric = proposal[1].real @ proposal[1].real.T
        for group in groups:
            first = group[0][1].real
            if metric_distance(first @ first.T, metric) < SAME_METRIC:
                group.append(proposal)
                break
        else:
            groups.append([proposal])
    groups.sort(key=lambda group: -sum(lattice.evidence for _, lattice in group))
    return [group[0] for group in groups]


def metric_distance(one: Floats, other: Floats) -> float:
    """Return how far two metrics (3, 3) of reduced bases are apart, whatever their order of axes.

    It is the largest relative difference of an entry after the change of basis that makes it
    smallest, of those with entries -1, 0 and 1.
    """
    size = np.sqrt(np.outer(np.diag(one), np.diag(one)))
    changes = unimodular()
    turned = changes @ other @ changes.transpose(0, 2, 1)
    return float((np.abs(turned - one) / size).max(axis=(1, 2)).min())


def parts_of(basis: Floats) -> list[Floats]:
    """Return the lattices that have a lattice as a part of half or a third of their points."""
    parts = []
    for n in (2, 3):
        for place in itertools.product(range(n), repeat=3):
            first = next((x for x in place if x), 0)
            if first == 1:
                # One more point, at this place in the cell, takes the place of an axis.
                axis = place.index(1)
                part = basis.copy()
                part[axis] = np.array(place) @ basis / n
                parts.append(part)
    return parts


def _try(source: int, basis: Floats, lists: Sequence[PeakVectors]) -> list[_Agreement]:
    """Index every frame with a proposed primitive cell; return one agreement, or none."""
    try:
        cell = _cell_of(reduced(basis))
    except InputError:
        return []
    agreement = _index_all(source, cell, lists)
    return [agreement] if agreement.lattices else []


def _index_all(
    source: int, cell: Cell, lists: Sequence[PeakVectors], tolerance: float = SAME_GEOMETRY
) -> _Agreement:
    finder = LatticeFinder(cell, false_accept=FALSE_ACCEPT, tolerance=tolerance)
    lattices: dict[int, Floats] = {}
    evidence = 0.0
    for place, one in enumerate(lists):
        found = finder.find(one.q, one.wavenumber, one.strength)
        if found:
            lattices[place] = found[0].reciprocal
            evidence += found[0].evidence
    return _Agreement(source, lattices, evidence)


def evidence_of(cell: Cell, lists: Sequence[PeakVectors]) -> tuple[float, int]:
    """Return the sum of the evidence that lists show a cell's lattice, and how many show it.

    Of two cells the one with more explains the same lists better: a cell is charged for the nodes
    that it has.
    """
    agreement = _index_all(0, cell, lists, 0.05)
    return agreement.evidence, len(agreement.lattices)


def _cell_of(real: Floats) -> Cell:
    """Return a primitive basis as a triclinic cell."""
    edges = np.linalg.norm(real, axis=1)
    cosines = (real @ real.T / np.outer(edges, edges))[[1, 0, 0], [2, 2, 1]]
    angles = np.degrees(np.arccos(cosines))
    a, b, c, al, be, ga = map(float, (*edges, *angles))
    return Cell(a, b, c, al, be, ga)


def _consensus(agreement: _Agreement, lists: Sequence[PeakVectors], chance: float) -> CellConsensus:
    """Return the mean cell over the frames that agree, in the system that suits them best."""
    for _ in range(ROUNDS):
        again = _try(agreement.source, agreement.mean_basis, lists)
        agreement = max([agreement, *again], key=lambda one: len(one.lattices))
    seen: list[tuple[Bravais, _Agreement]] = []
    for choice in bravais_choices(agreement.mean_basis):
        with suppress(InputError):
            seen.append((choice, _at_best_scale(agreement.source, choice.cell, lists)))
    most = max(one.evidence for _, one in seen)
    chosen, best = next(
        (choice, one)
        for choice, one in seen
        if choice.deviation < SYMMETRIC and one.evidence >= LEAST_SHARE * most
    )
    cell, error = _mean_cell(chosen.cell, best.metrics)
    choices = tuple(
        CellChoice(choice.cell, choice.deviation, len(one.lattices), one.evidence)
        for choice, one in seen
    )
    return CellConsensus(cell, error, choices, tuple(sorted(best.lattices)), len(lists), chance)


def _at_best_scale(source: int, cell: Cell, lists: Sequence[PeakVectors]) -> _Agreement:
    sizes = (scaled(cell, 1 + change) for change in SCALES)
    return max((_index_all(source, one, lists, 0.03) for one in sizes), key=_evidence)


def scaled(cell: Cell, factor: float) -> Cell:
    """Return a cell of the same shape and another size."""
    return replace(cell, a=factor * cell.a, b=factor * cell.b, c=factor * cell.c)


def _mean_cell(cell: Cell, metrics: Floats) -> tuple[Cell, Floats]:
    """Return the median of cells that are described as `cell` is, and its standard errors."""
    edges = np.sqrt(np.einsum("nii->ni", metrics))
    cosines = (metrics / (edges[:, :, None] * edges[:, None, :]))[:, [1, 0, 0], [2, 2, 1]]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    for alike in ALIKE.get(cell.lattice_type, ()):
        edges[:, alike] = edges[:, alike].mean(axis=1, keepdims=True)
    values = np.hstack((edges, angles))
    middle = np.median(values, axis=0)
    # The scatter of a median, robust against a wrong lattice among the frames.
    spread = 1.4826 * np.median(np.abs(values - middle), axis=0)
    error = 1.25 * spread / np.sqrt(max(len(values) - 1, 1))
    for angle in range(3):
        if angle not in FREE_ANGLES.get(cell.lattice_type, ()):
            middle[3 + angle], error[3 + angle] = cell.parameters[3 + angle], 0.0
    a, b, c, al, be, ga = map(float, middle)
    return replace(cell, a=a, b=b, c=c, al=al, be=be, ga=ga), error
