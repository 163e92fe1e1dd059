"""How far found spots are from predicted ones, and which panels that puts where.

The detector is held where it is said to be; each lattice, of the reference cell, is turned until
its spots suit the peaks best. What then remains shows a detector or a panel that is misplaced. For
the panels all lattices' turns and all panels' offsets are sought together by least squares, the
turns being eliminated lattice by lattice (as Millepede does: Blobel, Nucl. Instrum. Methods A566
(2006) 5): the median residual of a panel alone would be too small, as lattices turn to follow it.

All vectors are in the laboratory frame, z along the beam; offsets and residuals are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.indexing import Indexing, Pattern
from wrappers.lattices.geometry_refinement import fit_frame
from wrappers.schema import Count, Measured

__all__ = ["PanelOffset", "Place", "Spots", "match_spots", "median_residual", "panel_offsets"]

Floats = NDArray[np.float64]
Place = tuple[float, float, float]
"""A change of the camera length, and of the shift in x and y, in metres."""

TUKEY = 4.7
"""Spots farther off than so many standard deviations do not count (Tukey's biweight)."""
TURNS, ROUNDS = 8, 4
LEAST_SPOTS = 20
"""That a panel must have for its offset to be given."""
LEAST_FRAMES = 3
MATTERS, SIGMAS = 0.2, 4.0
"""Pixels, and standard errors, beyond which a panel is said to be off."""
BLIND = 0.05
"""Patterns of offsets that the spots know so much less of than of the best known one are taken to
be 0. All panels turned about the beam together are such a one: the crystals turn with them."""


@dataclass(frozen=True, eq=False)
class Spots:
    """The peaks that a lattice explains.

    Attributes
    ----------
    frame : int
        Place of the pattern among those given.
    panel : int array (m,)
    positions : float64 array (m, 3)
        In the laboratory in metres, at the geometry that was tried.
    pixel : float64 array (m,)
        In metres.
    nodes : float64 array (m, 3)
        Of the reference cell's lattice in 1/Å, turned as the lattice is.
    k : float
        1/λ in 1/Å.
    """

    frame: int
    panel: NDArray[np.intp]
    positions: Floats
    pixel: Floats
    nodes: Floats
    k: float

    def moved(self, offsets: Floats) -> Spots:
        """Return the spots with the peaks moved by (m, 3) in metres."""
        return Spots(
            self.frame, self.panel, self.positions + offsets, self.pixel, self.nodes, self.k
        )


@dataclass(frozen=True)
class PanelOffset:
    """How far a panel is off: where its spots are found, less where they are predicted.

    Attributes
    ----------
    name : str
    n_spots, n_frames : int
        How many spots there are, and in how many frames.
    x, y, x_se, y_se : float
        In pixels along the laboratory's axes, and the standard errors; NaN where too few spots
        tell.
    """

    name: str
    n_spots: Count
    n_frames: Count
    x: Measured
    y: Measured
    x_se: Measured
    y_se: Measured

    @property
    def size(self) -> float:
        """Length of the offset, in pixels."""
        return math.hypot(self.x, self.y)

    @property
    def clear(self) -> bool:
        """Whether it is more than an error of its own, and enough to matter."""
        sigmas = math.hypot(self.x / self.x_se, self.y / self.y_se)
        return self.size > MATTERS and sigmas > SIGMAS


def match_spots(
    patterns: Sequence[Pattern], indexings: Sequence[Indexing], geometry: Geometry, cell: Cell
) -> list[Spots]:
    """Return the explained peaks of each lattice of each pattern that explains enough of them."""
    found = []
    res = np.array([panel.res for panel in geometry.panels])
    for frame, (pattern, indexing) in enumerate(zip(patterns, indexings, strict=True)):
        for lattice in indexing.lattices:
            fit = fit_frame(pattern, lattice, geometry, cell)
            if fit is None:
                continue
            peaks, which = pattern.peaks, fit.explained
            panel = np.asarray(peaks.panel[which], np.intp)
            place = pattern.camera_length, pattern.shift_x, pattern.shift_y
            positions = geometry.lab_positions(peaks.fs[which], peaks.ss[which], panel, *place)
            k = pattern.photon_energy / HC
            nodes = fit.hkl @ cell.reciprocal
            nodes = nodes @ _rotation(_scattering_vectors(positions, k), nodes)
            found.append(Spots(frame, panel, positions, 1 / res[panel], nodes, k))
    return found


def median_residual(spots: Sequence[Spots], change: Place = (0.0, 0.0, 0.0)) -> tuple[float, float]:
    """Return the lattices' root mean square residual in pixels: median, and its standard error.

    There must be a lattice. `change` moves the detector from where the spots have it.
    """
    length, x, y = change
    move = np.array([x, y, length])
    sizes = []
    for one in spots:
        residual, _, weight = _turned(one.moved(move))
        square = (residual[:, :2] ** 2).sum(axis=1)
        sizes.append(math.sqrt(float(weight @ square) / max(float(weight.sum()), 1e-300)))
    middle = float(np.median(sizes))
    spread = 1.4826 * float(np.median(np.abs(np.array(sizes) - middle)))
    return middle, 1.2533 * spread / math.sqrt(len(sizes))


def panel_offsets(spots: Sequence[Spots], names: Sequence[str]) -> list[PanelOffset]:
    """Return how far each panel is off, along x and y.

    Parameters
    ----------
    spots : sequence of Spots
    names : sequence of str
        Of the geometry's panels.
    """
    n = len(names)
    panels = np.concatenate([one.panel for one in spots] or [np.empty(0, np.intp)])
    n_spots = np.bincount(panels, minlength=n)
    frames = [{one.frame for one in spots if (one.panel == i).any()} for i in range(n)]
    known = np.array(
        [n_spots[i] >= LEAST_SPOTS and len(frames[i]) >= LEAST_FRAMES for i in range(n)]
    )
    offsets, errors = np.full((2, n, 2), math.nan)
    if known.any():
        offsets[known], errors[known] = _together(spots, np.cumsum(known) - 1, known)
    return [
        PanelOffset(
            name, int(n_spots[i]), len(frames[i]), *offsets[i].tolist(), *errors[i].tolist()
        )
        for i, name in enumerate(names)
    ]


def _together(
    spots: Sequence[Spots], column: NDArray[np.intp], known: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return the offsets (n, 2) of the panels that are known, and their standard errors."""
    n = int(known.sum())
    offsets = np.zeros((n, 2))
    for _ in range(ROUNDS):
        information = np.zeros((2 * n, 2 * n))
        pulls = []
        for one in spots:
            has = known[one.panel]
            place = column[one.panel]
            move = np.zeros((len(place), 3))
            move[has, :2] = -offsets[place[has]] * one.pixel[has, None]
            residual, slopes, weight = _turned(one.moved(move))
            # In units of each kind's spread, so that all residuals weigh alike.
            unit = _units(residual)
            pull = np.zeros(2 * n)
            mixed = np.zeros((2 * n, 3))
            for axis in range(2):
                where, w = 2 * place[has] + axis, weight[has] / unit[axis] ** 2
                np.add.at(pull, where, w * residual[has, axis])
                np.add.at(mixed, where, w[:, None] * slopes[has, axis])
                np.add.at(information, (where, where), w)
            scaled = weight[:, None] / unit**2
            turns = np.einsum("mc,mca,mcb->ab", scaled, slopes, slopes)
            turning = np.einsum("mc,mca,mc->a", scaled, slopes, residual)
            through = mixed @ np.linalg.pinv(turns)
            information -= through @ mixed.T
            pulls.append(pull - through @ turning)
        inverse = _inverse(information)
        each = np.array(pulls)
        step = inverse @ each.sum(axis=0)
        offsets += step.reshape(n, 2)
    formal = np.diag(inverse)
    m = len(each)
    # Frames differ by more than their spots' noise: their own scatter tells by how much.
    spread = np.diag(inverse @ (each.T @ each) @ inverse) * m / max(m - 1, 1)
    return offsets, np.sqrt(np.maximum(formal, spread)).reshape(n, 2)


def _inverse(information: Floats) -> Floats:
    """Return the inverse, without the patterns that the spots are blind for."""
    size = np.sqrt(np.maximum(np.diag(information), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(size, size))
    seen = values > BLIND * values.max()
    inverse = (vectors[:, seen] / values[seen]) @ vectors[:, seen].T
    return np.asarray(inverse / np.outer(size, size), np.float64)


def _turned(spots: Spots) -> tuple[Floats, Floats, Floats]:
    """Turn a lattice until it suits its peaks best.

    Returns
    -------
    residual : float64 array (m, 3)
        Found less predicted place, along x and y in pixels, and by how much the node is off the
        Ewald sphere in 1/Å.
    slopes : float64 array (m, 3, 3)
        Its derivative (second axis as `residual`) by a small turn.
    weight : float64 array (m,)
    """
    nodes = spots.nodes
    for _ in range(TURNS):
        residual, slopes = _residual(spots, nodes)
        unit = _units(residual)
        far = ((residual / unit) ** 2).sum(axis=1) / 3
        weight = np.maximum(1 - far / TUKEY**2, 0) ** 2
        scaled = weight[:, None] / unit**2
        normal = np.einsum("mc,mca,mcb->ab", scaled, slopes, slopes)
        step = -np.linalg.pinv(normal) @ np.einsum("mc,mca,mc->a", scaled, slopes, residual)
        nodes = nodes + np.cross(step, nodes)
        nodes *= (np.linalg.norm(spots.nodes, axis=1) / np.linalg.norm(nodes, axis=1))[:, None]
    return residual, slopes, weight


def _residual(spots: Spots, nodes: Floats) -> tuple[Floats, Floats]:
    ray = nodes + np.array([0, 0, spots.k])
    length = np.linalg.norm(ray, axis=1)
    slope = ray[:, :2] / ray[:, 2:]
    z = spots.positions[:, 2] / spots.pixel
    residual = np.column_stack(
        (spots.positions[:, :2] / spots.pixel[:, None] - slope * z[:, None], length - spots.k)
    )
    # The node moves by turn × node: a matrix that takes the turn to that.
    gx, gy, gz = nodes.T
    zero = np.zeros_like(gx)
    moves = np.stack(
        [
            np.stack([zero, gz, -gy], axis=1),
            np.stack([-gz, zero, gx], axis=1),
            np.stack([gy, -gx, zero], axis=1),
        ],
        axis=1,
    )
    along = (slope[:, :, None] * moves[:, 2:3] - moves[:, :2]) * (z / ray[:, 2])[:, None, None]
    off = np.einsum("mc,mca->ma", ray / length[:, None], moves)
    return residual, np.concatenate((along, off[:, None]), axis=1)


def _units(residual: Floats) -> Floats:
    """Return the standard deviation of the places, twice, and of the excitation (3,)."""
    x, y, off = 1.4826 * np.median(np.abs(residual), axis=0)
    place = max(math.hypot(x, y) / math.sqrt(2), 1e-3)
    return np.array([place, place, max(off, 1e-9)])


def _scattering_vectors(positions: Floats, k: float) -> Floats:
    q = positions / np.linalg.norm(positions, axis=1)[:, None]
    q[:, 2] -= 1.0
    return q * k


def _rotation(vectors: Floats, reference: Floats) -> Floats:
    """Return the orthogonal matrix R for which ``reference @ R`` is nearest to ``vectors``.

    An indexer may give a left-handed basis, whose nodes are those of the mirrored cell.
    """
    u, _, vt = np.linalg.svd(reference.T @ vectors)
    return np.asarray(u @ vt, np.float64)
