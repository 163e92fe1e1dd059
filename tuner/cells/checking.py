"""Whether the frames themselves bear out the cell that a session was given.

An embedded indexer finds lattices of a wrong cell, too: a cell with an axis halved or doubled
explains many of the peaks, and decoys that keep each peak's ring cannot see that. So the cell on
which the frames agree by themselves (`wrappers.lattices.cell_consensus`) is held against the given
one. The evidence of a lattice charges a cell for the nodes that it has, so the sum over the same
frames tells which of two cells explains them better. The given cell is taken where the detector
suits it best (`wrappers.lattices.geometry_start`); the frames are asked for theirs there, too, and
at the centre that needs no cell: a wrong centre or camera length makes cells of its own.

A cell with more nodes than the found one is told by the indices, too: where many peaks are of no
crystal, they make up for those nodes in the evidence, but hardly a peak of the lattice is on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuner.cells.search import ClearFrames
from tuner.cells.words import FAR_OFF, PIXELS_OFF, cell_words, geometry_words
from wrappers.cell import Cell
from wrappers.lattices.blind_geometry import NOWHERE, find_centre, moved
from wrappers.lattices.cell_consensus import CellConsensus, evidence_of, find_cell
from wrappers.lattices.cell_relation import CellRelation, relate, thinned
from wrappers.lattices.crystal_forms import CrystalForms
from wrappers.lattices.fast_indexer import LatticeFinder
from wrappers.lattices.geometry_start import GeometryStart, find_geometry, find_geometry_about
from wrappers.lattices.lattice_fit import scattering_vectors, slopes
from wrappers.lattices.peak_vectors import PeakVectors

__all__ = ["CellCheck", "check_cell", "compare_cells"]

Floats = NDArray[np.float64]

FRAMES = 12
"""Frames that are asked."""
LEAST_FRAMES = 3
CLEARLY = 1.05
"""A cell contradicts another if it has so many times its evidence."""
LEAST_NATS = 20.0
"""And at least so much more: a chance of e⁻²⁰."""
SEEN_BETWEEN = 0.25
"""Of the share that equally strong nodes would have: what peaks on the further nodes of a cell that
is a multiple of the found one must come to, for those nodes to be there."""
WHOLE = 0.1
"""How far an index of a node may be from a whole number."""
FALSE_ACCEPT = 1e-3
HERE = 1e-3
"""Change of the slopes by which no frame finds a clearer lattice."""
AS_GOOD = 0.95
"""Share of the found cell's evidence that the given one has where they are the same lattice."""
SHIFT_ASKED = "cell_check_shift"
"""In a recommendation's evidence: see `CellCheck.shift`."""


@dataclass(frozen=True, eq=False)
class CellCheck:
    """What the frames say of the given cell.

    Attributes
    ----------
    verdict : {"agrees", "contradicted", "unknown"}
    reason : str
        A sentence.
    found : CellConsensus or None
        The cell on which the frames agree by themselves.
    shift : (float, float) or None
        ``shift_x`` and ``shift_y`` in metres that the frames ask for, where the recommended ones
        are off by pixels.
    second : CrystalForms or None
        A second crystal form beside the given one.
    """

    verdict: Literal["agrees", "contradicted", "unknown"]
    reason: str
    found: CellConsensus | None = None
    shift: tuple[float, float] | None = None
    second: CrystalForms | None = None

    @property
    def wrong(self) -> bool:
        """Whether the frames contradict the given cell."""
        return self.verdict == "contradicted"

    @property
    def evidence(self) -> dict[str, Any]:
        """What a recommendation keeps of it."""
        asked = {} if self.shift is None else {SHIFT_ASKED: list(self.shift)}
        second = {} if self.second is None else {"second_form": _record(self.second)}
        return {"cell_check": self.verdict, "cell_check_reason": self.reason, **asked, **second}


def _record(forms: CrystalForms) -> dict[str, Any]:
    """Return what a recommendation keeps of the second form."""
    cell = forms.other.cell
    return {
        "cell": [round(value, 3) for value in cell.parameters],
        "lattice_type": cell.lattice_type,
        "centering": cell.centering,
        "n_frames": forms.n_frames,
        "n_given": forms.n_given,
        "n_second": forms.n_other,
        "false_consensus_probability": float(f"{forms.other.chance:.3g}"),
    }


def check_cell(
    clear: ClearFrames, cell: Cell, *, pixel_size: float, nominal_clen: float, jobs: int = 1
) -> CellCheck:
    """Hold the given cell against the one on which the clearest frames agree.

    Parameters
    ----------
    clear : ClearFrames
        At the geometry that is recommended.
    cell : Cell
        The given one.
    pixel_size, nominal_clen : float
        In metres; the geometry file's camera length.
    jobs : int
        Threads.
    """
    lists = clear.lists[:FRAMES]
    if len(lists) < LEAST_FRAMES:
        return CellCheck(
            "unknown",
            f"only {len(lists)} of {clear.n_searched} frames show enough peaks for their lattice "
            "to be found without the cell",
        )
    own = find_cell(lists, jobs=jobs)
    return compare_cells(
        clear, cell, own, pixel_size=pixel_size, nominal_clen=nominal_clen, jobs=jobs
    )


def compare_cells(
    clear: ClearFrames,
    cell: Cell,
    found: CellConsensus | None,
    *,
    pixel_size: float,
    nominal_clen: float,
    jobs: int = 1,
) -> CellCheck:
    """Do as `check_cell` does, with the cell on which the frames agree where they are."""
    lists = clear.lists[:FRAMES]
    given, n_given = evidence_of(cell, lists)
    if found is not None:
        theirs = _evidence_for(found, lists)
        relation = relate(cell, found.cell)
        if relation.kind == "same" and given >= AS_GOOD * evidence_of(found.cell, lists)[0]:
            return CellCheck("agrees", _agreeing(found, cell, relation, clear, nominal_clen), found)
    else:
        theirs = 0.0
    centre = find_centre(lists, jobs=jobs)
    here = there = NOWHERE if centre is None else centre.place(lists[0].wavenumber)
    if centre is None:
        start = find_geometry(lists, cell, jobs=jobs)
    else:
        start = find_geometry_about(lists, cell, there, jobs=jobs)
    at_given = NOWHERE
    if start is not None and start.evidence >= given:
        given, n_given, at_given = start.evidence, start.n_agree, start.place
        here = start.place
    for place, before in ((there, NOWHERE), (here, there)):
        # Where the frames were asked already, a further answer is the same.
        if max(map(abs, np.subtract(place, before))) < HERE:
            continue
        elsewhere = tuple(moved(one, place) for one in lists)
        again = find_cell(elsewhere, jobs=jobs)
        if again is not None:
            more = _evidence_for(again, elsewhere)
            # The geometry that a wrong cell asks for bends the right one: only where it is needed.
            if more > CLEARLY * theirs:
                found, theirs = again, more
    if found is None:
        return CellCheck(
            "unknown",
            f"the {len(lists)} frames with the most peaks agree on no cell by themselves",
        )
    relation = relate(cell, found.cell)
    wrong = theirs > CLEARLY * given and theirs > given + LEAST_NATS and relation.kind != "same"
    if relation.kind == "larger" and not wrong:
        there_too = [moved(one, at_given) for one in lists]
        share = _share_between(there_too, cell, thinned(cell, found.cell, relation.index))
        wrong = share < SEEN_BETWEEN * (1 - 1 / relation.index)
    if wrong:
        return CellCheck("contradicted", _contradiction(found, relation, cell, n_given), found)
    if relation.kind == "same":
        reason = _agreeing(found, cell, relation, clear, nominal_clen)
        asked = _asked_shift(start, clear, pixel_size)
        return CellCheck("agrees", reason + _misplaced(start, clear, pixel_size), found, asked)
    if given >= theirs and 2 * n_given > len(lists):
        return CellCheck(
            "agrees",
            f"no cell on which the frames agree by themselves explains them better than the given "
            f"one, which {n_given} of {len(lists)} show" + _misplaced(start, clear, pixel_size),
            found,
            _asked_shift(start, clear, pixel_size),
        )
    return CellCheck(
        "unknown",
        f"{len(found.frames)} of {found.n_frames} frames agree on {cell_words(found.cell)}, which "
        "explains them hardly better than the given cell",
        found,
    )


def _evidence_for(found: CellConsensus, lists: Sequence[PeakVectors]) -> float:
    """Return the evidence for a found cell, at the best of some sizes: a mean is a little off."""
    kind = found.cell.lattice_type, found.cell.centering
    seen = [c.evidence for c in found.choices if (c.cell.lattice_type, c.cell.centering) == kind]
    return max(evidence_of(found.cell, lists)[0], *seen)


def _share_between(lists: Sequence[PeakVectors], cell: Cell, axes: Floats | None) -> float:
    """Return the share of the cell's peaks on nodes that the lattice of some real axes lacks."""
    if axes is None:
        return 1.0
    finder = LatticeFinder(cell, false_accept=FALSE_ACCEPT)
    n_between = n_peaks = 0
    for one in lists:
        for found in finder.find(one.q, one.wavenumber, one.strength):
            rays = slopes(np.ascontiguousarray(one.q[found.explained], float), one.wavenumber)
            q = scattering_vectors(rays, one.wavenumber, 0.0, *found.geometry[1:])
            nodes = np.rint(q @ np.linalg.inv(found.reciprocal)) @ cell.reciprocal
            indices = nodes @ axes.T
            n_between += int((np.abs(indices - np.rint(indices)).max(axis=1) > WHOLE).sum())
            n_peaks += len(nodes)
    return n_between / n_peaks if n_peaks else 1.0


def _agreeing(
    found: CellConsensus, cell: Cell, relation: CellRelation, clear: ClearFrames, nominal: float
) -> str:
    """Return how many frames agree, and what of the size nobody can tell."""
    text = (
        f"{len(found.frames)} of {found.n_frames} frames agree on the given cell's lattice without "
        "knowing it"
    )
    changed = (clear.settings.clen or nominal) / nominal - 1
    if abs(changed) > FAR_OFF:
        text += (
            f"; it fits with a camera length {changed:+.1%} from the geometry's: that, the photon "
            "energy or the cell's size is off by as much, and frames cannot tell which"
        )
    elif abs(relation.scale - 1) > FAR_OFF:
        text += (
            f", with edges {1 / relation.scale - 1:+.1%} from it: the camera length, the photon "
            "energy or the cell's size is off by as much, and frames cannot tell which"
        )
    return text


def _contradiction(found: CellConsensus, relation: CellRelation, cell: Cell, n_given: int) -> str:
    """Return which cell the frames have instead, and how the given one relates to it."""
    text = (
        f"{len(found.frames)} of {found.n_frames} frames agree on {cell_words(found.cell)}, which "
        f"explains them better than the given {cell_words(cell)}"
    )
    axis = _multiple_axis(cell, found.cell, relation.index)
    if relation.kind == "larger" and axis:
        times = {2: "twice", 3: "three times"}.get(relation.index, f"{relation.index} times")
        text += (
            f": its {axis} is {times} the crystals', and all their reflections would have "
            f"{'hkl'['abc'.index(axis)]} = {relation.index}n"
        )
    elif relation.kind == "larger":
        text += f": the given lattice has {relation.index} times the volume"
    elif relation.kind == "smaller" and axis:
        part = {2: "half", 3: "a third"}.get(relation.index, f"1/{relation.index}")
        text += f": its {axis} is {part} of the crystals'"
    elif relation.kind == "smaller" and cell.centering != found.cell.centering:
        text += f": centring {cell.centering} leaves out reflections that are there"
    elif relation.kind == "smaller":
        text += f": the given lattice lacks nodes, its volume is 1/{relation.index}"
    else:
        text += f", whose lattice {n_given or 'none'} of them show"
    return text + "; check the cell before the settings are used"


def _multiple_axis(cell: Cell, found: Cell, index: int) -> str:
    """Return the axis of the given cell that alone is a multiple or a part, or ""."""
    ours, theirs = cell.parameters[:3], sorted(found.parameters[:3])
    for name, place in zip("abc", range(3), strict=True):
        for factor in (index, 1 / index):
            edges: Sequence[float] = sorted(
                edge / (factor if i == place else 1.0) for i, edge in enumerate(ours)
            )
            if all(math.isclose(x, y, rel_tol=0.03) for x, y in zip(edges, theirs, strict=True)):
                return name
    return ""


def _asked_shift(
    start: GeometryStart | None, clear: ClearFrames, pixel_size: float
) -> tuple[float, float] | None:
    """Return the shift that the frames ask for, in metres, where theirs is off by pixels."""
    if start is None:
        return None
    x, y = start.shift(clear.patterns[0].camera_length)
    if math.hypot(x, y) <= PIXELS_OFF * pixel_size:
        return None
    return clear.settings.shift_x + x, clear.settings.shift_y + y


def _misplaced(start: GeometryStart | None, clear: ClearFrames, pixel_size: float) -> str:
    """Return what the frames say of the geometry where it is far off, or ""."""
    if start is None:
        return ""
    said = geometry_words(start, clear.patterns[0].camera_length, clear.settings, pixel_size)
    return f"; they ask for {said}: correct the geometry, or tune it" if said else ""
