"""Where a lattice's reflections should be on the detector, and rings of equal resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.indexing import Lattice, Pattern
from wrappers.lattices.geometry_refinement import NEAR

__all__ = ["Ring", "detector_pixels", "predict", "resolution_rings"]

Floats = NDArray[np.float64]
Ring = tuple[float, float]

LEAST_EXCITATION, MOST_EXCITATION = 2e-4, 4e-3
"""In 1/Å: bounds of how far off the Ewald sphere a predicted reflection may be."""

MOST = 3000
"""Reflections; the nearest to the Ewald sphere are kept."""

RINGS = (30, 20, 15, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9)
"""Resolutions in Å at which a ring may be drawn."""
APART = 0.09
"""Of the largest radius: rings are no nearer to one another."""


def detector_pixels(geometry: Geometry, fs: ArrayLike, ss: ArrayLike, panel: ArrayLike) -> Floats:
    """Return x and y (n, 2) of places in the slab, in pixel widths from the beam."""
    return geometry.lab_positions(fs, ss, panel, 0.0)[:, :2] * geometry.panels[0].res


def predict(lattice: Lattice, pattern: Pattern, geometry: Geometry, cell: Cell) -> Floats:
    """Return where a still's reflections meet the panels.

    How far a lattice node may lie off the Ewald sphere, and to which resolution there are
    reflections, is taken from the peaks that the lattice explains: nine tenths of them lie
    within. Spots are where the ray **k** + **g** goes, for the wave vector **k** of the beam and
    the node **g**, as in `wrappers.lattices.geometry_refinement`.

    Parameters
    ----------
    lattice : Lattice
    pattern : Pattern
        The peaks that it was found in, and the detector's place.
    geometry : Geometry
    cell : Cell
        For its centring.

    Returns
    -------
    float64 array (n, 2)
        x and y in pixel widths from the beam, as `detector_pixels`.
    """
    k = pattern.photon_energy / HC
    primitive = np.linalg.inv(cell.primitive_axes).T @ lattice.reciprocal
    place = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
    q = geometry.scattering_vectors(pattern.peaks, pattern.photon_energy, *place)
    nodes = np.rint(q @ np.linalg.inv(primitive)) @ primitive
    near = NEAR * np.linalg.norm(primitive, axis=1).min()
    explained = np.linalg.norm(q - nodes, axis=1) < near
    if not explained.any():
        return np.empty((0, 2))
    off = np.abs(_excitation(nodes[explained], k))
    width = float(np.clip(np.quantile(off, 0.9), LEAST_EXCITATION, MOST_EXCITATION))
    reach = float(np.quantile(np.linalg.norm(q[explained], axis=1), 0.9))
    excited = _excited(primitive, k, width, reach)
    return _on_panels(excited, k, geometry, place)


def _excitation(nodes: Floats, k: float) -> Floats:
    """Return how far outside the Ewald sphere nodes are, in 1/Å."""
    return np.linalg.norm(nodes + np.array([0.0, 0.0, k]), axis=1) - k


def _excited(primitive: Floats, k: float, width: float, reach: float) -> Floats:
    """Return the nodes (n, 3) near the Ewald sphere."""
    most = np.floor(reach * np.linalg.norm(np.linalg.inv(primitive), axis=0)).astype(int)
    rest = np.stack(
        np.meshgrid(*(np.arange(-m, m + 1) for m in most[1:]), indexing="ij"), axis=-1
    ).reshape(-1, 2)
    layer = rest @ primitive[1:]
    found = []
    # Layer by layer: a large cell has millions of nodes.
    for h in range(-most[0], most[0] + 1):
        nodes = layer + h * primitive[0]
        length = np.linalg.norm(nodes, axis=1)
        near = (np.abs(_excitation(nodes, k)) < width) & (length < reach) & (length > 0)
        found.append(nodes[near])
    nodes = np.concatenate(found)
    return nodes[np.argsort(np.abs(_excitation(nodes, k)))[:MOST]]


def _on_panels(
    nodes: Floats, k: float, geometry: Geometry, place: tuple[float, float, float]
) -> Floats:
    ray = nodes + np.array([0.0, 0.0, k])
    ray = ray[ray[:, 2] > 0]
    slope = ray[:, :2] / ray[:, 2:]
    found = []
    for panel, z in zip(geometry.panels, geometry.z_offsets, strict=True):
        at = (slope * (place[0] + z) - np.array(place[1:])) * panel.res
        corner = np.array([panel.corner_x, panel.corner_y], np.float64)
        corner += np.array([geometry.shift_x, geometry.shift_y]) * panel.res
        axes = np.array([panel.fs_vector[:2], panel.ss_vector[:2]])
        inside = (at - corner) @ np.linalg.inv(axes)
        on = ((inside >= 0) & (inside < [panel.width, panel.height])).all(axis=1)
        found.append(at[on] * (geometry.panels[0].res / panel.res))
    return np.concatenate(found)


def resolution_rings(wavelength: float, distance: float, reach: float) -> tuple[Ring, ...]:
    """Return radius in pixels and resolution of some rings, not too near to one another.

    Parameters
    ----------
    wavelength : float
        In Å.
    distance : float
        The camera length, in pixels.
    reach : float
        Radius in pixels beyond which there are no pixels.
    """
    found: list[Ring] = []
    for d in RINGS:
        sine = wavelength / (2 * d)
        if sine >= np.sqrt(0.5):  # at right angles to the beam, or backwards
            break
        radius = float(distance * np.tan(2 * np.arcsin(sine)))
        if radius < reach and radius - (found[-1][0] if found else 0.0) > APART * reach:
            found.append((radius, float(d)))
    return tuple(found)
