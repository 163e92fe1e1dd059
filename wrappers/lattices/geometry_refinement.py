"""What camera length and detector shift the indexed frames ask for.

The indexing rate is flat in the camera length over some per cent, so it cannot place it; the
positions of the indexed peaks can. With the shape of the reference cell held fixed, each
frame's peaks are fitted by least squares with the crystal's orientation, the camera length and
the detector's shift. A spot is predicted where the ray **k** + **g** meets the detector, **k**
being the wave vector of the beam and **g** the lattice node; how far the node lies off the Ewald
sphere is a third residual, which holds the two tilts of the crystal that hardly move its spots.

The frames' answers are averaged (`geometry_pooling`) with weights from their information matrices,
from which the orientation is eliminated, and from the scatter between frames; frames that
contradict the others are weighed down.

Works for the lattices of any indexer. A deviation of the reference cell from the crystals' true
cell, or of the photon energy, goes in full into the camera length: they cannot be told apart.
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
from wrappers.errors import InputError
from wrappers.indexing import Indexing, Lattice, Pattern
from wrappers.lattices.geometry_fit import fit_detector
from wrappers.lattices.geometry_pooling import pool

__all__ = ["FrameFit", "GeometryEstimate", "estimate_geometry", "fit_frame", "scale_deviation"]

Floats = NDArray[np.float64]

NEAR = 0.2
"""A peak is explained by a node within this share of the shortest reciprocal axis."""

_MIN_EXPLAINED = 6
"""Fewer peaks leave too little over for three angles and three lengths."""

_FARTHEST = 0.2
"""A fit that changes the camera length by more than this share has gone astray."""


@dataclass(frozen=True, eq=False)
class FrameFit:
    """What one lattice of one frame says about the geometry.

    Attributes
    ----------
    explained : int array (m,)
        Indices of the peaks that the lattice explains.
    hkl : int array (m, 3)
        Their Miller indices in the reference cell's setting.
    residual : float
        Root mean square distance of the explained peaks from the lattice's nodes as the
        indexer gave them, at the geometry that was tried, in 1/Å.
    residual_px : float
        Root mean square distance on the detector between the explained peaks and the spots of
        the reference cell at this frame's own best geometry, in pixels.
    scale_deviation : float
        See `scale_deviation`.
    geometry : float64 array (3,)
        Camera length and shift in x and y that this frame asks for, in metres.
    information : float64 array (3, 3)
        Inverse of the covariance of `geometry`, in 1/m².
    """

    explained: NDArray[np.intp]
    hkl: NDArray[np.intp]
    residual: float
    residual_px: float
    scale_deviation: float
    geometry: Floats
    information: Floats

    @property
    def standard_errors(self) -> Floats:
        """Formal standard errors of `geometry` (3,), in metres."""
        return np.sqrt(np.diag(np.linalg.inv(self.information)))


@dataclass(frozen=True)
class GeometryEstimate:
    """The geometry that the indexed frames ask for together.

    Attributes
    ----------
    camera_length, camera_length_se : float
        Mean over the panels of ``clen`` + ``coffset``, in metres, and its standard error. Where
        the tried camera length differs between frames, what is estimated is the change, given
        here on top of the median of what was tried.
    camera_length_change : float
        The change itself, in metres.
    shift_x, shift_x_se, shift_y, shift_y_se : float
        Shift of the detector in metres, with the sign and the zero of `Settings.shift_x`.
    scale_deviation, scale_deviation_se : float
        Median over the lattices of `scale_deviation`; near the relative error of the tried
        camera length.
    residual, residual_px : float
        Median over the lattices (see `FrameFit`).
    residual_px_se : float
        Standard error of the second.
    cell, cell_se : tuple of 6 floats
        The lattices' own cell at the tried geometry, in Å and degrees: median and its standard
        error of each parameter.
    explained : float
        Share of the peaks that a lattice explains, median over the lattices.
    n_frames : int
        Number of frames used.
    n_lattices : int
        Number of lattices used.
    frame_changes : tuple of (int, float, float)
        For each of those frames: its place among the patterns, the change of the camera length that
        it gives by itself, in metres, and the formal standard error; of several lattices the one
        that knows it best.
    """

    camera_length: float
    camera_length_se: float
    camera_length_change: float
    shift_x: float
    shift_x_se: float
    shift_y: float
    shift_y_se: float
    scale_deviation: float
    scale_deviation_se: float
    residual: float
    residual_px: float
    residual_px_se: float
    cell: tuple[float, ...]
    cell_se: tuple[float, ...]
    explained: float
    n_frames: int
    n_lattices: int
    frame_changes: tuple[tuple[int, float, float], ...]


def scale_deviation(lattice: Lattice, cell: Cell) -> float:
    """Return the isotropic deviation of a lattice's cell edges from the reference cell.

    It is the cube root of the ratio of the volumes, less 1. A camera length that is taken 2 %
    too short makes the refined cell about 2 % too small.
    """
    volume = 1.0 / abs(np.linalg.det(lattice.reciprocal))
    return float(np.cbrt(volume / cell.volume) - 1.0)


def estimate_geometry(
    patterns: Sequence[Pattern], indexings: Sequence[Indexing], geometry: Geometry, cell: Cell
) -> GeometryEstimate | None:
    """Pool what all indexed frames say.

    Parameters
    ----------
    patterns : sequence of Pattern
    indexings : sequence of Indexing
        The indexer's answers for these patterns, in the same order.
    geometry : Geometry
    cell : Cell
        The reference cell, whose shape is taken for granted.

    Returns
    -------
    GeometryEstimate or None
        None where no frame explains enough peaks.
    """
    if len(patterns) != len(indexings):
        raise InputError(
            f"there are {len(patterns)} patterns but {len(indexings)} answers of the indexer: "
            "give one answer a pattern"
        )
    fits: list[FrameFit] = []
    tried: list[tuple[float, float, float]] = []
    shares: list[float] = []
    cells: list[Floats] = []
    frames: dict[int, tuple[float, float]] = {}
    for i, (pattern, indexing) in enumerate(zip(patterns, indexings, strict=True)):
        for lattice in indexing.lattices:
            fit = fit_frame(pattern, lattice, geometry, cell)
            if fit is not None:
                fits.append(fit)
                cells.append(_parameters(lattice))
                shares.append(len(fit.explained) / len(pattern.peaks))
                tried.append((pattern.camera_length, pattern.shift_x, pattern.shift_y))
                change = float(fit.geometry[0]) - pattern.camera_length
                own = change, float(fit.standard_errors[0])
                frames[i] = min(frames.get(i, own), own, key=lambda each: each[1])
    if not fits:
        return None
    base = np.median(tried, axis=0)
    changes = np.array([fit.geometry for fit in fits]) - np.array(tried)
    pooled, covariance = pool(changes, np.array([fit.information for fit in fits]))
    length, x, y = (base + pooled).tolist()
    length_se, x_se, y_se = np.sqrt(np.diag(covariance)).tolist()
    scale, scale_se = _median(np.array([fit.scale_deviation for fit in fits]))
    residual_px, residual_px_se = _median(np.array([fit.residual_px for fit in fits]))
    edges, edges_se = zip(*[_median(column) for column in np.transpose(cells)], strict=True)
    return GeometryEstimate(
        camera_length=length,
        camera_length_se=length_se,
        camera_length_change=float(pooled[0]),
        shift_x=x,
        shift_x_se=x_se,
        shift_y=y,
        shift_y_se=y_se,
        scale_deviation=scale,
        scale_deviation_se=scale_se,
        residual=float(np.median([fit.residual for fit in fits])),
        residual_px=residual_px,
        residual_px_se=residual_px_se,
        cell=edges,
        cell_se=edges_se,
        explained=float(np.median(shares)),
        n_frames=len(frames),
        n_lattices=len(fits),
        frame_changes=tuple((i, *own) for i, own in sorted(frames.items())),
    )


def fit_frame(
    pattern: Pattern, lattice: Lattice, geometry: Geometry, cell: Cell
) -> FrameFit | None:
    """Fit the geometry to the peaks of one lattice.

    Returns
    -------
    FrameFit or None
        None where the lattice explains fewer than 6 peaks, or the fit leads nowhere.
    """
    k = pattern.photon_energy / HC
    tried = np.array([pattern.camera_length, pattern.shift_x, pattern.shift_y])
    peaks = pattern.peaks
    positions = geometry.lab_positions(peaks.fs, peaks.ss, peaks.panel, *tried)
    pixel = 1.0 / np.array([panel.res for panel in geometry.panels])[peaks.panel]
    finite = np.isfinite(positions.sum(axis=1))
    positions[~finite] = 1.0
    q = _scattering_vectors(positions, k)
    axes = cell.primitive_axes
    # whole numbers on primitive axes leave out the centred cell's extinct nodes
    primitive = np.linalg.inv(axes).T @ lattice.reciprocal
    near = NEAR * float(np.linalg.norm(primitive, axis=1).min())
    nodes, distance = _nearest(q, primitive)
    explained = np.flatnonzero(finite & (distance < near))
    residual = math.sqrt(np.mean(distance[explained] ** 2)) if len(explained) else math.nan

    reference = np.linalg.inv(axes).T @ cell.reciprocal
    turned = reference @ _rotation(primitive, reference)
    place = tried.copy()
    for last in (False, False, True):
        if len(explained) < _MIN_EXPLAINED:
            return None
        residual_px, information = fit_detector(
            nodes[explained],
            positions[explained] - _place(tried),
            pixel[explained],
            k,
            turned,
            place,
        )
        if not last:
            # again, with the peaks that the better geometry explains
            q = _scattering_vectors(positions + _place(place - tried), k)
            nodes, distance = _nearest(q, turned)
            explained = np.flatnonzero(finite & (distance < near))
    sound = np.isfinite(information).all() and np.linalg.eigvalsh(information)[0] > 0
    if not sound or abs(place[0] - tried[0]) > _FARTHEST * tried[0]:
        return None
    return FrameFit(
        explained=explained,
        hkl=np.rint(nodes[explained] @ np.linalg.inv(axes).T).astype(np.intp),
        residual=residual,
        residual_px=residual_px,
        scale_deviation=scale_deviation(lattice, cell),
        geometry=place,
        information=information,
    )


def _parameters(lattice: Lattice) -> Floats:
    """Return a, b, c in Å and al, be, ga in degrees (6,)."""
    axes = np.linalg.inv(lattice.reciprocal).T
    edges = np.linalg.norm(axes, axis=1)
    cosines = [axes[i] @ axes[j] / (edges[i] * edges[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.concatenate((edges, np.degrees(np.arccos(cosines))))


def _median(values: Floats) -> tuple[float, float]:
    """Return the median and its standard error (for near-normal scatter)."""
    middle = float(np.median(values))
    if len(values) == 1:
        return middle, math.nan
    return middle, 1.2533 * _spread(values - middle) / math.sqrt(len(values))


def _spread(values: Floats) -> float:
    """Return the standard deviation about 0 of near-normal values, from the median size."""
    return max(1.4826 * float(np.median(np.abs(values))), 1e-9)


def _place(geometry: Sequence[float] | Floats) -> Floats:
    """Return the lab vector of (camera length, shift x, shift y)."""
    return np.array([geometry[1], geometry[2], geometry[0]])


def _scattering_vectors(positions: Floats, k: float) -> Floats:
    q = positions / np.linalg.norm(positions, axis=1)[:, None]
    q[:, 2] -= 1.0
    return q * k


def _nearest(q: Floats, reciprocal: Floats) -> tuple[Floats, Floats]:
    """Return the indices of the nearest nodes but 000, and their distances in 1/Å."""
    nodes = np.rint(q @ np.linalg.inv(reciprocal))
    distance = np.linalg.norm(q - nodes @ reciprocal, axis=1)
    distance[~nodes.any(axis=1)] = math.inf
    return nodes, distance


def _rotation(vectors: Floats, reference: Floats) -> Floats:
    """Return the orthogonal matrix R for which ``reference @ R`` is nearest to ``vectors``."""
    u, _, vt = np.linalg.svd(reference.T @ vectors)
    return u @ vt
