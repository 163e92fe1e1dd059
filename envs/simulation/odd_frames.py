"""Frames that are no ordinary ones: rings, salt, jet streaks, beam off, a detector at fault.

Each kind adds light to a frame's expected photons, or spoils what was read out. What is the same
throughout a run (where the jet points, which rings, which panel fails) follows from the run's
seed; how strong it is, from the frame's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from envs.simulation.diffraction import excited_reflections
from envs.simulation.experiment import Crystals, Detector, Experiment
from wrappers.cell import Cell

__all__ = ["add_light", "fail", "odd_kind", "salt_reflections"]

Floats = NDArray[np.float64]

ICE = (3.897, 3.669, 3.441, 2.671, 2.249, 2.072, 1.948, 1.918, 1.883)
"""Spacings of hexagonal ice in Å (Blackman & Lisgarten, Proc. R. Soc. A 239 (1957) 93) ..."""
ICE_STRENGTHS = (1.0, 0.5, 0.9, 0.2, 0.5, 0.3, 0.15, 0.25, 0.1)
"""... and about how strong they are."""

SALTS = (
    Cell(7.78, 10.64, 5.99, 90.0, 90.0, 90.0, "orthorhombic", "P", "*"),  # ammonium sulphate
    Cell(11.51, 10.38, 12.83, 90.0, 107.8, 90.0, "monoclinic", "P", "b"),  # Glauber's salt
    Cell(11.86, 11.99, 6.86, 90.0, 90.0, 90.0, "orthorhombic", "P", "*"),  # Epsom salt
    Cell(5.68, 15.2, 6.52, 90.0, 118.4, 90.0, "monoclinic", "C", "b"),  # gypsum
)

BRIGHT = 1500.0
"""Photons of a salt's spot, of which two are shown at least."""
TRIES = 200
"""Orientations of a salt crystal, until it shows so many; the one with most is taken."""


def odd_kind(experiment: Experiment, index: int) -> str:
    """Return which odd kind a frame is of, or "" for an ordinary one."""
    odd = experiment.odd
    if not odd.shares or index < odd.first:
        return ""
    left = np.random.default_rng([experiment.seed, 2, index]).random()
    for kind, share in odd.shares:
        left -= share
        if left < 0:
            return kind
    return ""


def add_light(
    experiment: Experiment, kind: str, x: Floats, y: Floats, q: Floats, level: float,
    rng: np.random.Generator,
) -> Floats | None:  # fmt: skip
    """Return the photons that an odd kind adds to each pixel on average, or None.

    Parameters
    ----------
    experiment : Experiment
    kind : str
        Of `envs.simulation.experiment.ODD_KINDS`.
    x, y : float64 array (n_pixels,)
        In metres from the beam.
    q : float64 array (n_pixels,)
        In 1/Å.
    level : float
        Photons at the water ring's top.
    rng : numpy.random.Generator
        The frame's.
    """
    run = np.random.default_rng([experiment.seed, 3])
    if kind == "powder or ice ring":
        return _rings(x, y, q, level, run, rng)
    if kind == "jet streak":
        return _streak(experiment, x, y, level, run, rng)
    return None


def _rings(
    x: Floats, y: Floats, q: Floats, level: float, run: np.random.Generator,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    if run.random() < 0.6:
        spacings, strengths = np.array(ICE), np.array(ICE_STRENGTHS)
    else:  # a powder: lipid, or salt
        # Where the detector sees it all around.
        shortest = 1.5 / float(np.quantile(q, 0.9))
        spacings = np.exp(run.uniform(math.log(shortest), math.log(6.5), run.integers(1, 5)))
        strengths = np.exp(0.5 * run.standard_normal(len(spacings)))
        strengths /= strengths.max()
    width = float(np.exp(run.uniform(math.log(0.0015), math.log(0.006))))
    # Relative to the water ring's top, or, where there is next to no water, in photons.
    height = max(level, 0.1) * float(np.exp(rng.uniform(math.log(0.3), math.log(4.0))))
    azimuth = np.arctan2(y, x)
    texture = 1 + rng.uniform(0, 0.5) * np.cos(rng.integers(1, 4) * azimuth + rng.uniform(0, 6.28))
    light = np.zeros(q.size)
    for spacing, strength in zip(spacings, strengths, strict=True):
        light += height * strength * np.exp(-(((q - 1 / spacing) / width) ** 2) / 2)
    return light * texture


def _streak(
    experiment: Experiment, x: Floats, y: Floats, level: float, run: np.random.Generator,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    direction = run.choice([0.0, math.pi / 2]) + 0.1 * run.standard_normal()
    direction += 0.05 * rng.standard_normal()
    sides = run.choice([1, 2, 2])
    along = x * math.cos(direction) + y * math.sin(direction)
    across = y * math.cos(direction) - x * math.sin(direction)
    reach = float(np.abs(along).max())
    length = reach * rng.uniform(0.15, 0.6)
    height = max(level, 0.1) * float(np.exp(rng.uniform(math.log(1.5), math.log(60.0))))
    distance = np.abs(along)
    width = experiment.detector.pixel_size * rng.uniform(1.5, 4.0) + 0.015 * distance
    light = height * np.exp(-distance / length - (across / width) ** 2 / 2)
    return light if sides == 2 else np.where(along > 0, light, 0.0)


def salt_reflections(experiment: Experiment, wavenumber: float, rng: np.random.Generator) -> Floats:
    """Return the reflections of a salt crystal in an orientation in which it shows some."""
    run = np.random.default_rng([experiment.seed, 3])
    crystals = Crystals(
        cell=SALTS[run.integers(len(SALTS))], b_factor=2.0, resolution=1.0, mosaicity=0.3,
        domain_size=1500.0, wings=0.5,
    )  # fmt: skip
    scale = float(np.exp(rng.uniform(math.log(1e4), math.log(3e5))))
    reach = float(np.linalg.norm(_half_size(experiment.detector))) / experiment.clen
    best, most = np.empty((0, 6)), -1
    for _ in range(TRIES):
        rotation = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
        lattice = crystals.cell.reciprocal @ rotation.T
        found = excited_reflections(
            crystals, lattice, wavenumber, experiment.beam.bandwidth, scale, experiment.seed
        )
        seen = np.hypot(found[:, 0], found[:, 1]) < 0.7 * reach
        n = int(np.count_nonzero(seen & (found[:, 2] > BRIGHT)))
        if n > most:
            best, most = found, n
        if n >= 2:
            break
    return best


def _half_size(detector: Detector) -> Floats:
    """Return how far the detector reaches along x and y, in metres."""
    height, width = detector.module_shape
    first = np.array([(each.corner_x, each.corner_y) for each in detector.modules])
    last = first + np.array([width, height])
    return np.maximum(np.abs(first), np.abs(last)).max(axis=0) * detector.pixel_size


def fail(experiment: Experiment, data: NDArray[np.int32], rng: np.random.Generator) -> None:
    """Spoil what a detector at fault has read out, a flat frame in ADU."""
    run = np.random.default_rng([experiment.seed, 4])
    detector = experiment.detector
    height, width = detector.module_shape
    n = len(detector.modules)
    frame = data.reshape(n, height, width)
    way = run.choice(["dead", "stuck", "noisy", "rows"])
    first = int(run.integers(n))
    hurt = {(first + k) % n for k in range(1 + int(rng.integers(max(n // 3, 1))))}
    for module in hurt:
        part = frame[module]
        if n == 1:  # a part of its only module
            half = width // 2 if run.random() < 0.5 else width // 4
            part = part[:, half:]
        if way == "dead":
            part[:] = 0
        elif way == "stuck":
            part[:] = round(float(run.uniform(5, 60)) * detector.gain)
        elif way == "noisy":
            spread = float(run.uniform(8, 40)) * detector.gain
            noise = np.rint(spread * rng.standard_normal(part.shape)).astype(np.int32)
            part += noise if detector.read_noise else np.abs(noise)
        else:  # packets that were lost: rows of zeros
            lost = rng.random(height // 8 + 1) < 0.6
            part[np.repeat(lost, 8)[:height]] = 0
