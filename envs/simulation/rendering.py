"""Frames of an experiment, rendered photon by photon.

A frame is the Poisson draw of a smooth background plus the photons of the Bragg spots, plus hot,
noisy and dead pixels, multiplied by the gain, with read noise, rounded and clipped. Nothing is
approximated by a Gaussian: background photons are drawn from the Poisson distribution itself and
each photon of a spot gets a position of its own.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from envs.simulation.diffraction import excited_reflections
from envs.simulation.experiment import Crystals, Detector, Experiment
from envs.simulation.exposure import expose, record_spots
from envs.simulation.odd_frames import add_light, fail, odd_kind, salt_reflections

__all__ = [
    "HC",
    "FrameTruth",
    "background_profiles",
    "pixel_positions",
    "render_frame",
    "static_mask",
    "structure_seed",
]

Floats = NDArray[np.float64]

HC = 12398.4198  # eV Å
WITHOUT_CRYSTALS = ("beam off", "salt")
"""Odd frames that have no crystals of the sample."""


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """What is really in a frame.

    Attributes
    ----------
    kind : str
        "blank", or "multi" for several crystals, or by the number of spots brighter than 10
        photons "weak" (below 25), "medium" (below 100) or "strong"; or one of
        `envs.simulation.experiment.ODD_KINDS`, with or without crystals.
    photon_energy : float
        In eV.
    background : float
        Expected photons that the water ring adds to a pixel at its top.
    reciprocal : float64 array (n_crystals, 3, 3)
        Rows are a*, b*, c* in 1/Å in CrystFEL's laboratory frame.
    spots : float64 array (n, 3)
        fs and ss (CrystFEL's, pixel i spans i to i + 1) and the expected photons of every spot
        on the detector with at least one; not those of salt.
    photons : float64 array (n_crystals,)
        Photons of an average reflection of each crystal, see `Crystals.photons`.
    """

    kind: str
    photon_energy: float
    background: float
    reciprocal: Floats
    spots: Floats
    photons: Floats


@dataclass(frozen=True, eq=False)
class _Scene:
    """The parts of an experiment's frames that never change; arrays are flat over pixels."""

    ring: Floats
    air: Floats
    module_table: Floats
    drift_phase: float
    structure_seed: int
    hot: NDArray[np.int64]
    hot_level: Floats
    noisy: NDArray[np.int64]
    noisy_level: Floats
    dead: NDArray[np.int64]
    mask: NDArray[np.bool_]


def render_frame(experiment: Experiment, index: int) -> tuple[NDArray[np.generic], FrameTruth]:
    """Render one frame of an experiment.

    Parameters
    ----------
    experiment : Experiment
    index : int
        Number of the frame in the run. With the experiment's seed it decides every random
        number, so frames may be rendered in any order and by any number of processes.

    Returns
    -------
    data : int16 or int32 array (ss, fs)
        In ADU.
    truth : FrameTruth
    """
    scene = _scene(experiment)
    rng = np.random.default_rng([experiment.seed, 1, index])
    detector, beam, model = experiment.detector, experiment.beam, experiment.background

    energy = beam.photon_energy * (1 + beam.energy_jitter * rng.standard_normal())
    phase = 2 * math.pi * (index / model.drift_period + scene.drift_phase)
    log_level = model.jitter * rng.standard_normal() + model.drift * math.sin(phase)
    level = model.level * math.exp(log_level)
    air = level * math.exp(0.25 * rng.standard_normal())

    photons = np.zeros(scene.ring.size, np.int32)
    odd = odd_kind(experiment, index)
    crystals = experiment.crystals
    if odd in WITHOUT_CRYSTALS:
        crystals = dataclasses.replace(crystals, hit_fraction=0.0)
    if odd == "beam off":
        level = air = 0.0
    lattices, spots, scales = _diffract(experiment, crystals, scene, energy, photons, rng)
    if odd:
        _add_odd(experiment, odd, scene, level, energy, photons, index)

    data = np.empty(scene.ring.size, np.int32)
    expose(
        scene.ring, scene.air, level, air, photons, detector.gain, detector.read_noise, rng, data
    )
    _spoil(scene, detector, rng, data)
    if odd == "detector fault":
        fail(experiment, data, np.random.default_rng([experiment.seed, 5, index]))
    clipped = np.clip(data, np.iinfo(detector.dtype).min, int(detector.saturation))
    frame = clipped.astype(detector.dtype).reshape(detector.shape)
    kind = odd or _kind(len(lattices), spots)
    return frame, FrameTruth(kind, energy, level, lattices, spots, scales)


def background_profiles(experiment: Experiment, q: Floats) -> tuple[Floats, Floats]:
    """Return what the water with the even part, and the air, scatter at q (1/Å).

    Relative to the water ring's top, before polarisation and slant.
    """
    model = experiment.background
    ring = np.exp(-(((q - 1 / model.ring_spacing) / model.ring_width) ** 2) / 2) + model.floor
    return ring, model.air * np.exp(-q / model.air_width)


def pixel_positions(experiment: Experiment) -> tuple[Floats, Floats]:
    """Return the true laboratory x and y of all pixel centres, in metres, flat."""
    return _pixel_positions(experiment.detector, _module_table(experiment))


def static_mask(experiment: Experiment) -> NDArray[np.bool_]:
    """Return the mask that the beamline gives its users: bool (ss, fs), True where usable."""
    return _scene(experiment).mask


def structure_seed(experiment: Experiment) -> int:
    """Return what decides the structure factors of an experiment's crystals."""
    return _scene(experiment).structure_seed


def _kind(n_crystals: int, spots: Floats) -> str:
    if n_crystals != 1:
        return "multi" if n_crystals else "blank"
    bright = int(np.count_nonzero(spots[:, 2] > 10))
    return "weak" if bright < 25 else "medium" if bright < 100 else "strong"


def _add_odd(
    experiment: Experiment,
    kind: str,
    scene: _Scene,
    level: float,
    energy: float,
    photons: NDArray[np.int32],
    index: int,
) -> None:
    """Add the photons that a frame has for being an odd one."""
    rng = np.random.default_rng([experiment.seed, 5, index])
    detector = experiment.detector
    if kind == "salt":
        reflections = salt_reflections(experiment, energy / HC, rng)
        record_spots(
            reflections,
            scene.module_table,
            *detector.module_shape,
            experiment.clen,
            detector.pixel_size,
            detector.point_spread,
            rng,
            photons,
        )
        return
    x, y, q = _places(experiment)
    light = add_light(experiment, kind, x, y, q, level, rng)
    if light is not None:
        photons += rng.poisson(light).astype(np.int32)


@lru_cache(maxsize=1)
def _places(experiment: Experiment) -> tuple[Floats, Floats, Floats]:
    """Return x and y of all pixels, in metres, and q in 1/Å."""
    x, y = _pixel_positions(experiment.detector, _module_table(experiment))
    cos_two_theta = experiment.clen / np.sqrt(x**2 + y**2 + experiment.clen**2)
    return x, y, np.sqrt(2 * (1 - cos_two_theta)) * experiment.beam.photon_energy / HC


@lru_cache(maxsize=2)
def _scene(experiment: Experiment) -> _Scene:
    rng = np.random.default_rng([experiment.seed, 0])
    detector, model = experiment.detector, experiment.background
    table = _module_table(experiment)
    x, y = _pixel_positions(detector, table)

    distance_sq = x**2 + y**2 + experiment.clen**2
    cos_two_theta = experiment.clen / np.sqrt(distance_sq)
    wavelength = HC / experiment.beam.photon_energy
    q = np.sqrt(2 * (1 - cos_two_theta)) / wavelength
    # Nothing scatters along the polarisation (x) at 90°, and a pixel far out is farther away and
    # seen at a slant: all relative to the water ring's average over the azimuth.
    ring_cos = max(1 - (wavelength / model.ring_spacing) ** 2 / 2, 0.1)
    at_ring = ring_cos**3 * (1 + ring_cos**2) / 2
    efficiency = cos_two_theta**3 * (1 - x**2 / distance_sq) / at_ring
    ring, air = background_profiles(experiment, q)

    bad = experiment.bad_pixels
    counts = [round(share * x.size) for share in (bad.hot, bad.noisy, bad.dead)]
    chosen = rng.choice(x.size, sum(counts), replace=False)
    hot, noisy, dead = np.split(chosen, np.cumsum(counts)[:2])
    mask = _edge_mask(detector)
    mask.flat[chosen[rng.random(chosen.size) < bad.masked]] = False
    mask.flags.writeable = False
    return _Scene(
        ring=ring * efficiency,
        air=air * efficiency,
        module_table=table,
        drift_phase=rng.random(),
        structure_seed=int(rng.integers(2**62)),
        hot=hot,
        # The spreads are those of the bad pixels of jf1m_lyso_60.
        hot_level=detector.gain * bad.hot_photons * np.exp(1.06 * rng.standard_normal(hot.size)),
        noisy=noisy,
        noisy_level=detector.gain
        * bad.noisy_photons
        * np.exp(0.25 * rng.standard_normal(noisy.size)),
        dead=dead,
        mask=mask,
    )


def _module_table(experiment: Experiment) -> Floats:
    """Rows of true corner x, y (m) and cosine and sine of the rotation, a module each."""
    detector = experiment.detector
    return np.array(
        [
            (
                module.corner_x * detector.pixel_size + experiment.shift_x,
                module.corner_y * detector.pixel_size + experiment.shift_y,
                math.cos(math.radians(module.rotation)),
                math.sin(math.radians(module.rotation)),
            )
            for module in detector.modules
        ]
    )


def _pixel_positions(detector: Detector, table: Floats) -> tuple[Floats, Floats]:
    """Laboratory x and y of all pixel centres, in metres, flat in the file's order."""
    height, width = detector.module_shape
    ss, fs = (np.mgrid[:height, :width] + 0.5) * detector.pixel_size
    corner_x, corner_y, cos, sin = table.T[:, :, None, None]
    return (corner_x + cos * fs - sin * ss).ravel(), (corner_y + sin * fs + cos * ss).ravel()


def _edge_mask(detector: Detector) -> NDArray[np.bool_]:
    edge, (height, width) = detector.masked_edge, detector.module_shape
    mask = np.zeros((len(detector.modules), height, width), bool)
    mask[:, edge : height - edge, edge : width - edge] = True
    return mask.reshape(detector.shape)


def _diffract(
    experiment: Experiment,
    crystals: Crystals,
    scene: _Scene,
    energy: float,
    photons: NDArray[np.int32],
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats]:
    """Add the Bragg photons of the frame's crystals; return their lattices, spots and scales."""
    detector = experiment.detector
    hit = rng.random() < crystals.hit_fraction
    n_crystals = int(rng.geometric(1 - crystals.multi_fraction)) if hit else 0
    lattices = np.empty((n_crystals, 3, 3))
    spots = [np.empty((0, 3))]
    scales = np.empty(n_crystals)
    wavenumber = energy / HC
    for number, lattice in enumerate(lattices):
        spread = crystals.photons_spread * rng.standard_normal()
        scales[number] = scale = crystals.photons * math.exp(spread)
        rotation = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
        size = 1 + crystals.cell_spread * rng.standard_normal()
        lattice[:] = crystals.cell.reciprocal @ rotation.T / size
        reflections = excited_reflections(
            crystals, lattice, wavenumber, experiment.beam.bandwidth, scale, scene.structure_seed
        )
        spots.append(
            record_spots(
                reflections,
                scene.module_table,
                *detector.module_shape,
                experiment.clen,
                detector.pixel_size,
                detector.point_spread,
                rng,
                photons,
            )
        )
    return lattices, np.concatenate(spots), scales


def _spoil(
    scene: _Scene, detector: Detector, rng: np.random.Generator, data: NDArray[np.int32]
) -> None:
    """Overwrite the bad pixels' values."""
    noise = rng.standard_normal(scene.noisy.size) * scene.noisy_level
    data[scene.noisy] += np.rint(noise).astype(np.int32)
    flicker = 1 + 0.28 * rng.standard_normal(scene.hot.size)
    data[scene.hot] = np.rint(scene.hot_level * flicker)
    data[scene.dead] = 0
    if detector.read_noise == 0:  # a counter has no negative counts
        np.maximum(data, 0, out=data)
