"""Kernels compiled before there are frames: what a first session would wait for."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import Note
from wrappers.frame_kinds import tell_kinds
from wrappers.frames.frame import Frame
from wrappers.frames.memory import MemoryFrames
from wrappers.lattices.blind_search import best_triples, lattice_vectors, refine_basis
from wrappers.lattices.fast_indexer import FastIndexer, LatticeFinder
from wrappers.lattices.geometry_fit import fit_detector
from wrappers.lattices.lattice_chance import significance
from wrappers.workers.kernels import compile_kernels

__all__ = ["DATA_TYPES", "warm_kernels"]

DATA_TYPES = ("uint16", "int16", "uint32", "int32", "float32")
"""Of frames, as detectors write them."""

SIDE, FRAMES = 128, 12
"""Pixels of a side, and number, of the made-up frames."""
WAVENUMBER = 0.75
"""In 1/Å."""
GEOMETRY = f"""
photon_energy = 9000 eV
adu_per_photon = 1
clen = 0.1 m
res = 10000
data = /data
dim0 = %
dim1 = ss
dim2 = fs
a/min_fs = 0
a/max_fs = {SIDE - 1}
a/min_ss = 0
a/max_ss = {SIDE - 1}
a/corner_x = {-SIDE / 2}
a/corner_y = {-SIDE / 2}
a/fs = x
a/ss = y
"""


def warm_kernels() -> Iterator[tuple[str, float]]:
    """Compile what finds peaks, indexes, tells kinds and finds geometry and cell.

    Yields
    ------
    what : str
        What was compiled, or was there already.
    seconds : float
        Of processor time that it took.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up.geom"
        path.write_text(GEOMETRY)
        geometry = Geometry.read(path)
    indexer = FastIndexer(geometry, Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0))
    for name in DATA_TYPES:
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Note)  # it is asked for
            compile_kernels(_frames(geometry, name), indexer, 0, again=True)
        yield f"peaks of {name} frames", time.process_time() - started
    started = time.process_time()
    tell_kinds(_frames(geometry, "float32"), range(FRAMES), jobs=1)
    _find_lattices()
    yield "kinds of frames, geometry and cell", time.process_time() - started


def _frames(geometry: Geometry, dtype: str) -> MemoryFrames:
    """Return made-up frames with spots."""
    rng = np.random.default_rng(0)
    usable = np.ones((SIDE, SIDE), bool)
    frames = []
    for number in range(FRAMES):
        data = rng.poisson(5, usable.shape)
        ss, fs = rng.integers(4, SIDE - 4, (2, 60))
        data[ss, fs] += 200
        data[ss, fs + 1] += 200
        frames.append(Frame(data.astype(dtype), usable, 9000.0, 0.1, "made-up", str(number)))
    return MemoryFrames(geometry, frames)


def _find_lattices() -> None:
    """Find a made-up crystal's lattice, and do once what finds geometry and cell from many."""
    cell = Cell(60.0, 70.0, 80.0, 90.0, 90.0, 90.0)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    axes = np.linalg.inv(cell.real).T @ turn
    nodes = np.array(list(np.ndindex(33, 33, 33)), float) - 16.0
    q = nodes @ axes
    rays = q + np.array([0.0, 0.0, WAVENUMBER])
    size = np.linalg.norm(q, axis=1)
    off_sphere = np.abs(np.linalg.norm(rays, axis=1) - WAVENUMBER)
    chosen = (size > 0.01) & (size < 0.2) & (off_sphere < 5e-4)
    nodes, q, rays = nodes[chosen], q[chosen], rays[chosen]
    LatticeFinder(cell).find(q, WAVENUMBER)
    vectors, scores = np.empty((6, 3)), np.ones(6)
    significance(scores, 0.05, 1e5, 1.0, 6.0)
    n = lattice_vectors(q[:20], 55.0, 62.0, vectors, scores)
    best_triples(q[:20], vectors[:n], 0.05, np.empty((2, 3, 3)), np.empty(2))
    refine_basis(q, axes.copy(), (0.004, 0.002), 1)
    places = rays / rays[:, 2:] * 0.1
    places[:, 2] = 0.0
    fit_detector(nodes, places, np.full(len(q), 1e-4), WAVENUMBER, axes, np.array([0.1, 0.0, 0.0]))
