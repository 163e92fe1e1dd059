"""Peak lists that no lattice made, to learn how often an indexer accepts chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.indexing import Pattern

__all__ = ["make_decoy"]

ARC = 4
"""How far a peak moves at most, in reciprocal cell edges."""

TRIES = 64
"""Azimuths drawn for a peak; one that never falls on a panel stays where it was."""

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def make_decoy(pattern: Pattern, geometry: Geometry, cell: Cell, seed: int) -> Pattern:
    """Return the pattern with every peak moved along its resolution ring by chance.

    Resolutions and intensities stay, the lattice goes; peaks stay on the panels, so that any
    indexer takes them. A peak moves by up to `ARC` reciprocal cell edges either way, not all
    around: where noise crowds one part of the detector (a list cut at 2,048 peaks holds the
    first panels only), spreading it over the whole ring would thin it out, and the decoys
    would be accepted far more rarely than the noise itself.

    Parameters
    ----------
    pattern : Pattern
    geometry : Geometry
    cell : Cell
        Its longest reciprocal edge is the unit of the arcs.
    seed : int
        Equal seeds give equal decoys.
    """
    peaks = pattern.peaks
    place = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
    position = geometry.lab_positions(peaks.fs, peaks.ss, peaks.panel, *place)
    radius = np.hypot(position[:, 0], position[:, 1])
    fs, ss, panel = peaks.fs.copy(), peaks.ss.copy(), peaks.panel.copy()
    # In the small-angle limit, which is all that a length of arc needs.
    arc = ARC * np.linalg.norm(cell.reciprocal, axis=1).max()
    arc *= pattern.camera_length * HC / pattern.photon_energy
    azimuth = np.arctan2(position[:, 1], position[:, 0])
    widest = np.minimum(np.pi, arc / np.maximum(radius, 1e-12))
    rng = np.random.default_rng(seed)
    waiting = np.arange(len(peaks))
    for _ in range(TRIES):
        angle = azimuth[waiting] + rng.uniform(-1, 1, len(waiting)) * widest[waiting]
        x, y = radius[waiting] * np.cos(angle), radius[waiting] * np.sin(angle)
        new_fs, new_ss, new_panel = _locate(geometry, x, y, pattern)
        on_panel = new_panel >= 0
        moved = waiting[on_panel]
        fs[moved], ss[moved] = new_fs[on_panel], new_ss[on_panel]
        panel[moved] = new_panel[on_panel]
        waiting = waiting[~on_panel]
        if not len(waiting):
            break
    return replace(pattern, peaks=replace(peaks, fs=fs, ss=ss, panel=panel))


def _locate(
    geometry: Geometry, x: Floats, y: Floats, pattern: Pattern
) -> tuple[Floats, Floats, Ints]:
    """Return slab coordinates and panel, -1 where there is none, of lab positions (m)."""
    found = np.full(len(x), -1, np.intp)
    fs, ss = np.zeros(len(x)), np.zeros(len(x))
    place = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
    for index, panel in enumerate(geometry.panels):
        corners = geometry.lab_positions(
            panel.slab_fs + np.array([0.0, 1.0, 0.0]),
            panel.slab_ss + np.array([0.0, 0.0, 1.0]),
            [index] * 3,
            *place,
        )[:, :2]
        steps = (corners[1:] - corners[0]).T
        in_panel = np.linalg.solve(steps, np.stack([x, y]) - corners[0][:, None])
        inside = (
            (in_panel[0] >= 0)
            & (in_panel[0] < panel.width)
            & (in_panel[1] >= 0)
            & (in_panel[1] < panel.height)
        )
        found[inside] = index
        fs[inside] = in_panel[0, inside] + panel.slab_fs
        ss[inside] = in_panel[1, inside] + panel.slab_ss
    return fs, ss, found
