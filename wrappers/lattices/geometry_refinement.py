"""What camera length and detector shift the indexed frames ask for.

The indexing rate is flat in the camera length over some per cent, so it cannot place it; the
positions of the indexed peaks can. With the shape of the reference cell held fixed, each
frame's peaks are fitted by least squares with the crystal's orientation, the camera length and
the detector's shift. A spot is predicted where the ray **k** + **g** meets the detector, **k**
being the wave vector of the beam and **g** the lattice node; how far the node lies off the Ewald
sphere is a third residual, which holds the two tilts of the crystal that hardly move its spots.

The frames' answers are averaged with their information matrices as weights, from which the
orientation is eliminated, so that a frame counts for just what it tells; frames that contradict
the others are weighed down, and the standard errors come from the scatter between frames.

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

__all__ = ["FrameFit", "GeometryEstimate", "estimate_geometry", "fit_frame", "scale_deviation"]

Floats = NDArray[np.float64]

NEAR = 0.2
"""A peak is explained by a node within this share of the shortest reciprocal axis."""

_MIN_EXPLAINED = 6
"""Fewer peaks leave too little over for three angles and three lengths."""

_ROUNDS = 12
_SMALL_TURN, _SMALL_SHIFT = 1e-7, 2e-9
"""Steps (radians; metres) that end a fit."""
_TUKEY = 4.7
_HUBER = 2.0


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
    explained : float
        Share of the peaks that a lattice explains, median over the lattices.
    n_frames : int
        Number of frames used.
    n_lattices : int
        Number of lattices used.
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
    explained: float
    n_frames: int
    n_lattices: int


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
    frames: set[int] = set()
    for i, (pattern, indexing) in enumerate(zip(patterns, indexings, strict=True)):
        for lattice in indexing.lattices:
            fit = fit_frame(pattern, lattice, geometry, cell)
            if fit is not None:
                fits.append(fit)
                shares.append(len(fit.explained) / len(pattern.peaks))
                tried.append((pattern.camera_length, pattern.shift_x, pattern.shift_y))
                frames.add(i)
    if not fits:
        return None
    base = np.median(tried, axis=0)
    changes = np.array([fit.geometry for fit in fits]) - np.array(tried)
    change, covariance = _pool(changes, np.array([fit.information for fit in fits]))
    length, x, y = (base + change).tolist()
    length_se, x_se, y_se = np.sqrt(np.diag(covariance)).tolist()
    scale, scale_se = _median(np.array([fit.scale_deviation for fit in fits]))
    return GeometryEstimate(
        camera_length=length,
        camera_length_se=length_se,
        camera_length_change=float(change[0]),
        shift_x=x,
        shift_x_se=x_se,
        shift_y=y,
        shift_y_se=y_se,
        scale_deviation=scale,
        scale_deviation_se=scale_se,
        residual=float(np.median([fit.residual for fit in fits])),
        residual_px=float(np.median([fit.residual_px for fit in fits])),
        explained=float(np.median(shares)),
        n_frames=len(frames),
        n_lattices=len(fits),
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
    tried = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
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
    orientation = _rotation(primitive, reference)
    fit = _Fit(reference @ orientation, np.array(tried), k)
    for _ in range(2):
        if len(explained) < _MIN_EXPLAINED:
            return None
        fit.run(nodes[explained], positions[explained] - _place(tried), pixel[explained])
        # again, with the peaks that the better geometry explains
        q = _scattering_vectors(positions + _place(fit.geometry - tried), k)
        nodes, distance = _nearest(q, fit.reciprocal)
        explained = np.flatnonzero(finite & (distance < near))
    if len(explained) < _MIN_EXPLAINED:
        return None
    fit.run(nodes[explained], positions[explained] - _place(tried), pixel[explained])
    if not fit.sound:
        return None
    return FrameFit(
        explained=explained,
        hkl=np.rint(nodes[explained] @ np.linalg.inv(axes).T).astype(np.intp),
        residual=residual,
        residual_px=fit.residual_px,
        scale_deviation=scale_deviation(lattice, cell),
        geometry=fit.geometry,
        information=fit.information,
    )


class _Fit:
    """Robust least squares of orientation, camera length and shift for one lattice."""

    def __init__(self, reciprocal: Floats, geometry: Floats, k: float) -> None:
        self.reciprocal = reciprocal
        self.geometry = geometry
        self.information = np.zeros((3, 3))
        self.residual_px = math.nan
        self.sound = False
        self._tried = geometry
        self._k = k

    def run(self, nodes: Floats, positions: Floats, pixel: Floats) -> None:
        """Refine; ``positions`` (m, 3) are those of a detector at the origin, in metres."""
        n = len(nodes)
        for _ in range(_ROUNDS):
            g = nodes @ self.reciprocal
            ray = g + np.array([0.0, 0.0, self._k])
            slope = ray[:, :2] / ray[:, 2:]
            z = positions[:, 2] + self.geometry[0]
            off = (positions[:, :2] + self.geometry[1:] - slope * z[:, None]) / pixel[:, None]
            length = np.linalg.norm(ray, axis=1)
            excitation = length - self._k
            # turning the node by a small rotation vector adds its cross product with g
            turned = np.cross(np.eye(3)[:, None, :], g[None])
            jacobian = np.zeros((3, n, 6))
            for axis in range(2):
                d_slope = (turned[:, :, axis] - slope[:, axis] * turned[:, :, 2]) / ray[:, 2]
                jacobian[axis, :, :3] = -(d_slope * z / pixel).T
                jacobian[axis, :, 3] = -slope[:, axis] / pixel
                jacobian[axis, :, 4 + axis] = 1.0 / pixel
            jacobian[2, :, :3] = np.einsum("anx,nx->na", turned, ray / length[:, None])
            distance = np.hypot(off[:, 0], off[:, 1])
            scales = (_spread(off), _spread(off), _spread(excitation))
            far = (distance / scales[0]) ** 2 / 2 + (excitation / scales[2]) ** 2
            weight = np.clip(1.0 - far / (_TUKEY**2 * 1.5), 0.0, None) ** 2
            normal, gradient = np.zeros((6, 6)), np.zeros(6)
            for part, value, scale in zip(
                jacobian, (off[:, 0], off[:, 1], excitation), scales, strict=True
            ):
                normal += (part * (weight / scale**2)[:, None]).T @ part
                gradient -= part.T @ (weight * value / scale**2)
            try:
                step: Floats = np.linalg.solve(normal, gradient).astype(np.float64)
            except np.linalg.LinAlgError:
                self.sound = False
                return
            self.reciprocal = np.asarray(self.reciprocal @ _turn(step[:3]).T, np.float64)
            self.geometry = self.geometry + step[3:]
            self.residual_px = math.sqrt(np.sum(weight * distance**2) / np.sum(weight))
            if max(np.abs(step[:3])) < _SMALL_TURN and max(np.abs(step[3:])) < _SMALL_SHIFT:
                break
        cross = normal[:3, 3:]
        self.information = normal[3:, 3:] - cross.T @ np.linalg.solve(normal[:3, :3], cross)
        # six parameters were taken from the residuals that the weights are scaled by
        self.information *= max(1, 2 * n - 6) / (2 * n)
        change = self.geometry - self._tried
        self.sound = bool(
            np.isfinite(self.information).all()
            and np.linalg.eigvalsh(self.information)[0] > 0
            and abs(change[0]) < 0.2 * self._tried[0]
        )


def _pool(values: Floats, information: Floats) -> tuple[Floats, Floats]:
    """Return the robust mean of estimates (n, 3) and its covariance.

    Huber's weights act on each frame's distance from the mean in its own standard errors; the
    covariance is the sandwich estimate from the frames' scatter, never below the formal one.
    """
    n = len(values)
    weight = np.ones(n)
    mean = values[0]
    for _ in range(20):
        total = np.einsum("i,ijk->jk", weight, information)
        mean = np.linalg.solve(total, np.einsum("i,ijk,ik->j", weight, information, values))
        off = values - mean
        chi = np.sqrt(np.einsum("ij,ijk,ik->i", off, information, off) / 3.0)
        scale = max(1.0, float(np.median(chi)))
        weight = np.minimum(1.0, _HUBER * scale / np.maximum(chi, 1e-12))
    formal = np.linalg.inv(total)
    if n == 1:
        return mean, formal
    pull = weight[:, None] * np.einsum("ijk,ik->ij", information, values - mean)
    sandwich = formal @ (pull.T @ pull) @ formal * (n / (n - 1))
    widen = np.sqrt(np.maximum(np.diag(formal) / np.maximum(np.diag(sandwich), 1e-300), 1.0))
    return mean, sandwich * np.outer(widen, widen)


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


def _turn(omega: Floats) -> Floats:
    """Return the matrix that rotates column vectors by the rotation vector ``omega``."""
    angle = float(np.linalg.norm(omega))
    cross = np.cross(np.eye(3), omega)
    first = math.sin(angle) / angle if angle > 1e-12 else 1.0
    second = (1.0 - math.cos(angle)) / angle**2 if angle > 1e-6 else 0.5
    return np.eye(3) + first * cross + second * cross @ cross
