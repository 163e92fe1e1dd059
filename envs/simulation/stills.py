"""Peak lists of perfect crystals, and lists that no crystal made, as scattering vectors.

Scattering vectors are in 1/Å, in CrystFEL's laboratory frame with z along the beam; the detector
is flat, 80 mm away, and has pixels of 75 µm.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell

__all__ = [
    "WAVENUMBER",
    "is_same_lattice",
    "misplace",
    "simulate_blank",
    "simulate_still",
    "turn_along_arcs",
    "turn_around",
]

Floats = NDArray[np.float64]

WAVENUMBER = 0.75
"""1/λ in 1/Å: photons of 9.3 keV."""

DETECTOR = 0.08 / 75e-6
"""Camera length in pixels."""

LARGEST_Q = 0.4
"""Where the detector ends, in 1/Å."""

ARC = 4.0
"""How far a decoy's peaks move along their rings at most, in the longest reciprocal edge; as
`wrappers.lattices.decoys.ARC`."""


def simulate_still(
    cell: Cell,
    rng: np.random.Generator,
    n_peaks: int = 40,
    wrong: float = 0.0,
    clen_error: float = 0.0,
    shift_px: float = 0.0,
    noise_px: float = 0.3,
) -> tuple[Floats, Floats]:
    """Return the peaks of a still as a wrong geometry gives them, and the crystal's lattice.

    The strongest of the reflections within some 0.0006 1/Å of the Ewald sphere are seen.

    Parameters
    ----------
    cell : Cell
    rng : numpy.random.Generator
        Draws orientation, strengths, noise and the direction of the shift.
    n_peaks : int
        In all, where there are so many.
    wrong : float
        The share of them that lies anywhere at the same resolutions.
    clen_error : float
        Relative error of the camera length.
    shift_px : float
        Error of the beam's position.
    noise_px : float
        Standard deviation of a peak's position along each axis.

    Returns
    -------
    q : float64 array (n, 3)
        In random order.
    reciprocal : float64 array (3, 3)
        Rows a*, b*, c*.
    """
    reciprocal = cell.reciprocal @ _random_rotation(rng)
    g = _nodes_near_ewald_sphere(cell, reciprocal)
    ray = g + np.array([0.0, 0.0, WAVENUMBER])
    off = (np.linalg.norm(ray, axis=1) - WAVENUMBER) / 6e-4
    seen = (np.linalg.norm(g, axis=1) < LARGEST_Q) & (np.abs(off) < 4.0)
    g, ray, off = g[seen], ray[seen], off[seen]
    strength = rng.exponential(size=len(g)) * np.exp(-0.5 * off**2 - 10.0 * (g**2).sum(axis=1))
    ray = ray[np.argsort(-strength)[: round(n_peaks * (1.0 - wrong))]]
    slopes = ray[:, :2] / ray[:, 2:] + rng.normal(size=(len(ray), 2)) * noise_px / DETECTOR
    n_wrong = round(len(slopes) * wrong / (1.0 - wrong))
    radius = rng.choice(np.hypot(*slopes.T), n_wrong) * rng.uniform(0.9, 1.1, n_wrong)
    azimuth = rng.uniform(0.0, 2.0 * np.pi, n_wrong)
    astray = np.column_stack((radius * np.cos(azimuth), radius * np.sin(azimuth)))
    q = _scattering_vectors(rng.permutation(np.concatenate((slopes, astray))))
    return misplace(q, clen_error, shift_px, rng.uniform(0.0, 2.0 * np.pi)), reciprocal


def misplace(q: Floats, clen_error: float, shift_px: float, direction: float) -> Floats:
    """Return the peaks as a wrong geometry gives them; ``direction`` is the shift's, in radians."""
    slopes = q[:, :2] / (WAVENUMBER + q[:, 2:])
    shift = shift_px / DETECTOR * np.array([np.cos(direction), np.sin(direction)])
    return _scattering_vectors((slopes + shift) / (1.0 + clen_error))


def simulate_blank(rng: np.random.Generator, n_peaks: int) -> Floats:
    """Return peaks (n, 3) spread evenly over the detector."""
    radius = np.sqrt(rng.uniform(0.05**2, 0.55**2, n_peaks))
    azimuth = rng.uniform(0.0, 2.0 * np.pi, n_peaks)
    return _scattering_vectors(
        radius[:, None] * np.column_stack((np.cos(azimuth), np.sin(azimuth)))
    )


def turn_around(q: Floats, rng: np.random.Generator) -> Floats:
    """Turn each peak about the beam by an angle of its own."""
    return _turn(q, rng.uniform(-np.pi, np.pi, len(q)))


def turn_along_arcs(q: Floats, cell: Cell, rng: np.random.Generator) -> Floats:
    """Turn each peak about the beam along a short arc, as `wrappers.lattices.decoys` does."""
    radius = np.maximum(np.hypot(q[:, 0], q[:, 1]), 1e-12)
    arc = ARC * np.linalg.norm(cell.reciprocal, axis=1).max()
    return _turn(q, rng.uniform(-1.0, 1.0, len(q)) * np.minimum(np.pi, arc / radius))


def is_same_lattice(found: Floats, true: Floats, cell: Cell, tolerance: float = 0.1) -> bool:
    """Return whether two lattices are one, whatever axes they are described by.

    Parameters
    ----------
    found, true : array (3, 3)
        Rows a*, b*, c* in the setting of `cell`.
    cell : Cell
        Its centring decides which nodes there are.
    tolerance : float
        How far the change of basis between their primitive cells may be from whole numbers of
        determinant ± 1.
    """
    primitive = np.linalg.inv(cell.primitive_axes).T
    change = (primitive @ found) @ np.linalg.inv(primitive @ true)
    whole = np.round(change)
    near = bool(np.abs(change - whole).max() < tolerance)
    return near and round(abs(np.linalg.det(whole))) == 1


def _nodes_near_ewald_sphere(cell: Cell, reciprocal: Floats) -> Floats:
    """Return the lattice's nodes (n, 3) next to the sphere that reflects, but 000.

    On each row of nodes along the axis nearest to the beam, those about the two places where
    the row meets the sphere.
    """
    primitive = np.linalg.inv(cell.primitive_axes).T @ reciprocal
    order = np.argsort(np.abs(primitive[:, 2]) / np.linalg.norm(primitive, axis=1))
    primitive = primitive[order]
    real = np.linalg.inv(primitive)
    sizes = np.ceil(LARGEST_Q * np.linalg.norm(real, axis=0)).astype(int)
    rows = np.array(list(itertools.product(*[range(-size, size + 1) for size in sizes[:2]])))
    ray = rows @ primitive[:2] + np.array([0.0, 0.0, WAVENUMBER])
    a, b = primitive[2] @ primitive[2], ray @ primitive[2]
    root = np.sqrt(np.maximum(b**2 - a * ((ray**2).sum(axis=1) - WAVENUMBER**2), 0.0))
    meets = np.concatenate(((-b - root) / a, (-b + root) / a))
    last = (np.rint(meets)[:, None] + np.arange(-1, 2)).ravel()
    hkl = np.column_stack((np.repeat(np.tile(rows, (2, 1)), 3, axis=0), last))
    hkl = np.unique(hkl[np.abs(last) <= sizes[2]], axis=0)
    return hkl[hkl.any(axis=1)] @ primitive


def _random_rotation(rng: np.random.Generator) -> Floats:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


def _scattering_vectors(slopes: Floats) -> Floats:
    rays = np.column_stack((slopes, np.ones(len(slopes))))
    rays *= (WAVENUMBER / np.linalg.norm(rays, axis=1))[:, None]
    rays[:, 2] -= WAVENUMBER
    return rays


def _turn(q: Floats, angle: Floats) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.column_stack((q[:, 0] * c - q[:, 1] * s, q[:, 0] * s + q[:, 1] * c, q[:, 2]))
