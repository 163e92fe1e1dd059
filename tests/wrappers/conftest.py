"""Stills of perfect crystals, as scattering vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wrappers.cell import Cell

Floats = NDArray[np.float64]
Still = tuple[Floats, Floats]

WAVENUMBER = 0.75
DETECTOR = 0.08 / 75e-6
"""Camera length in pixels."""


def random_rotation(rng: np.random.Generator) -> Floats:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


@functools.cache
def lattice_nodes(cell: Cell, q_max: float) -> NDArray[np.int64]:
    """Return the Miller indices of all reflections out to ``q_max`` that the centring allows."""
    sizes = [int(np.ceil(q_max * np.linalg.norm(axis))) for axis in cell.real]
    grid = np.meshgrid(*[np.arange(-size, size + 1) for size in sizes], indexing="ij")
    hkl = np.stack(grid, axis=-1).reshape(-1, 3)
    whole = hkl @ cell.primitive_axes.T
    return hkl[(np.abs(whole - np.round(whole)) < 1e-6).all(axis=1) & hkl.any(axis=1)]


def rays_to_q(slopes: Floats, wavenumber: float = WAVENUMBER) -> Floats:
    rays = np.column_stack((slopes, np.ones(len(slopes))))
    rays *= (wavenumber / np.linalg.norm(rays, axis=1))[:, None]
    rays[:, 2] -= wavenumber
    return rays


def simulate_still(
    cell: Cell,
    rng: np.random.Generator,
    n_peaks: int = 40,
    wrong: float = 0.0,
    clen_error: float = 0.0,
    shift_px: float = 0.0,
    noise_px: float = 0.3,
) -> Still:
    """Return the peaks' q (n, 3) as a wrong geometry gives them, and the true rows a*, b*, c*.

    The strongest reflections within some 0.0006 1/Å of the Ewald sphere are seen; a share
    ``wrong`` of the peaks lies anywhere at the same resolutions.
    """
    reciprocal = cell.reciprocal @ random_rotation(rng)
    g = lattice_nodes(cell, 0.4) @ reciprocal
    ray = g + np.array([0.0, 0.0, WAVENUMBER])
    off = (np.linalg.norm(ray, axis=1) - WAVENUMBER) / 6e-4
    seen = (np.linalg.norm(g, axis=1) < 0.4) & (np.abs(off) < 4.0)
    g, ray, off = g[seen], ray[seen], off[seen]
    strength = rng.exponential(size=len(g)) * np.exp(-0.5 * off**2 - 10.0 * (g**2).sum(axis=1))
    ray = ray[np.argsort(-strength)[: round(n_peaks * (1.0 - wrong))]]
    slopes = ray[:, :2] / ray[:, 2:] + rng.normal(size=(len(ray), 2)) * noise_px / DETECTOR
    n_wrong = n_peaks - len(slopes) if wrong else 0
    radius = rng.choice(np.hypot(*slopes.T), n_wrong) * rng.uniform(0.9, 1.1, n_wrong)
    azimuth = rng.uniform(0.0, 2.0 * np.pi, n_wrong)
    astray = np.column_stack((radius * np.cos(azimuth), radius * np.sin(azimuth)))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    shift = shift_px / DETECTOR * np.array([np.cos(angle), np.sin(angle)])
    slopes = (np.concatenate((slopes, astray)) + shift) / (1.0 + clen_error)
    return rays_to_q(rng.permutation(slopes)), reciprocal


def scramble_azimuths(q: Floats, rng: np.random.Generator) -> Floats:
    """Turn each peak about the beam by an angle of its own."""
    angle = rng.uniform(0.0, 2.0 * np.pi, len(q))
    c, s = np.cos(angle), np.sin(angle)
    return np.column_stack((q[:, 0] * c - q[:, 1] * s, q[:, 0] * s + q[:, 1] * c, q[:, 2]))


def is_same_lattice(found: Floats, true: Floats, cell: Cell, tolerance: float = 0.12) -> bool:
    """Whether two bases in a cell's setting span one lattice: a unimodular change of basis."""
    primitive = np.linalg.inv(cell.primitive_axes).T
    change = (primitive @ found) @ np.linalg.inv(primitive @ true)
    whole = np.round(change)
    return bool(np.abs(change - whole).max() < tolerance and round(abs(np.linalg.det(whole))) == 1)


@pytest.fixture
def simulate() -> Callable[..., Still]:
    return simulate_still


@pytest.fixture
def scramble() -> Callable[[Floats, np.random.Generator], Floats]:
    return scramble_azimuths


@pytest.fixture
def same_lattice() -> Callable[..., bool]:
    return is_same_lattice
