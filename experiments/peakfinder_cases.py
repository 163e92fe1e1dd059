"""Detectors and frames for `peakfinder_speed`: made up, of 1, 4 and 16 Mpx.

Modules of 512 x 1024 pixels with gaps between them, a background of single photons with a water
ring, readout noise, 200 Bragg spots, and a few masked and a few hot pixels, in 16-bit integers.
There are many of them: a session goes from frame to frame, and neither are they in the processor's
caches nor does it know their branches by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame

__all__ = ["DETECTORS", "Case", "make_case"]

DETECTORS = {1: (2, 1), 4: (8, 1), 16: (32, 4)}
"""Number of modules, and of their columns, by size in Mpx."""
HEIGHT, WIDTH = 512, 1024
N_SPOTS = 200
N_FRAMES = 24
"""Of 1 Mpx; fewer of larger ones."""


@dataclass(frozen=True, eq=False)
class Case:
    """A detector and frames of it, all of the same mask."""

    mpx: int
    geometry: Geometry
    frames: tuple[Frame, ...]

    @property
    def module(self) -> tuple[int, int]:
        """Width and height of the modules, which are one below the other in the slab."""
        return WIDTH, HEIGHT


def make_case(mpx: int, folder: Path) -> Case:
    """Write a geometry, ``x.geom``, and make up frames for it."""
    n_modules, n_columns = DETECTORS[mpx]
    lines = [
        "photon_energy = 9300 eV",
        "adu_per_photon = 10",
        "clen = 0.1 m",
        "res = 13333.3",
        "data = /data",
        "dim0 = %",
        "dim1 = ss",
        "dim2 = fs",
        "mask0_data = /mask",
        "mask0_goodbits = 0x00",
        "mask0_badbits = 0x01",
    ]
    for i in range(n_modules):
        row, column = divmod(i, n_columns)
        fields = {
            "min_fs": 0,
            "max_fs": WIDTH - 1,
            "min_ss": i * HEIGHT,
            "max_ss": (i + 1) * HEIGHT - 1,
            "corner_x": (column - n_columns / 2) * (WIDTH + 10) + 5.3,
            "corner_y": (row - n_modules / n_columns / 2) * (HEIGHT + 20) + 10.2,
            "fs": "x",
            "ss": "y",
        }
        lines += [f"m{i}/{name} = {value}" for name, value in fields.items()]
    (folder / "x.geom").write_text("\n".join(lines) + "\n")
    geometry = Geometry.read(folder / "x.geom")
    radius, rng = geometry.radius_map(), np.random.default_rng(mpx)
    mask = rng.random(radius.shape) > 0.003
    frames = (make_frame(radius, rng) for _ in range(max(N_FRAMES // mpx, 4)))
    return Case(
        mpx, geometry, tuple(Frame(data, mask, 9300.0, 0.1, "x.h5", "//0") for data in frames)
    )


def make_frame(radius: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
    """Return a frame in ADU, 10 a photon."""
    share = radius / radius.max()
    photons = 0.3 + 4 * np.exp(-(((share - 0.35) / 0.15) ** 2)) + 3 * np.exp(-6 * share)
    steps = np.arange(-2, 3)
    for _ in range(N_SPOTS):
        ss, fs = (rng.uniform(2, length - 3) for length in radius.shape)
        rows, columns = int(ss) + steps[:, None], int(fs) + steps
        profile = np.exp(-((rows + 0.5 - ss) ** 2 + (columns + 0.5 - fs) ** 2) / 0.98)
        photons[rows, columns] += rng.exponential(60) * profile / profile.sum()
    data = 10 * rng.poisson(photons) + rng.normal(0, 3, radius.shape)
    data[rng.random(radius.shape) < 1e-4] = 2000
    return np.rint(data).astype(np.int16)
