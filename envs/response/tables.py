"""What the response model knows of an experiment, worked out once.

The detector is cut into rings of equal width. Of each ring count the pixels, the background, the
shape of a spot, and how many reflections of one crystal are brighter than so many photons. These
follow from the experiment's description by the same physics as in `envs.simulation.rendering` and
`envs.simulation.diffraction`, averaged over orientations; nothing here is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.response.columns import KNOWN_LEVEL, SCALARS
from envs.response.limits import mixture_quantiles
from envs.simulation.diffraction import FWHM
from envs.simulation.experiment import Detector, Experiment
from envs.simulation.rendering import HC, background_profiles
from envs.simulation.spot_shape import pixel_shares
from wrappers.lattices.geometry_refinement import NEAR

__all__ = [
    "BRIGHTEST",
    "N_BRIGHTNESS",
    "N_RINGS",
    "STEP",
    "ResponseTables",
    "Task",
    "make_tables",
    "photons_for",
]

Floats = NDArray[np.float64]

N_RINGS = 10
FINE = 3  # finer rings, over which each is averaged
N_BRIGHTNESS = 40
BRIGHTEST = math.log(12.0)
"""Logarithm of the largest tabulated brightness, in an average low-angle reflection's."""
STEP = 0.45
"""Between tabulated brightnesses, logarithmic; they go down from `BRIGHTEST`."""


class Task(Protocol):
    """What of `envs.simulation.families.Draw` counts."""

    @property
    def experiment(self) -> Experiment:
        """The beamtime."""
        ...

    @property
    def strictness(self) -> float:
        """Of the indexer, from 0 to 1."""
        ...

    @property
    def clen_tolerance(self) -> float:
        """Of the indexer."""
        ...

    @property
    def random_effects(self) -> tuple[float, ...]:
        """What the model cannot know, in standard deviations."""
        ...


@dataclass(frozen=True, eq=False)
class ResponseTables:
    """Of P experiments; what they are hides from any searcher, but for `known`.

    Attributes
    ----------
    scalars : float64 array (P, len(SCALARS))
    ring : float64 array (P, N_RINGS, 3)
        Pixels; photons of background a pixel relative to the water ring's top; pixels that a
        spot covers (2 pi times its standard deviations' product).
    shares : float64 array (P, N_RINGS, 4)
        Share of a spot's photons in its brightest pixel, its second brightest …
    reflections : float32 array (P, N_RINGS, N_BRIGHTNESS)
        Expected number of one crystal's reflections that are brighter than so much.
    random_effects : float64 array (P, 5)
    seeds : uint64 array (P,)
    photon_energy, pixel_size, radius : float64 array (P,)
        In eV, metres, pixels.
    background : float64 array (P, 2)
        Median and 99.9th percentile of the pixels of typical frames, in ADU.
    """

    scalars: Floats
    ring: Floats
    shares: Floats
    reflections: NDArray[np.float32]
    random_effects: Floats
    seeds: NDArray[np.uint64]
    photon_energy: Floats
    pixel_size: Floats
    radius: Floats
    background: Floats

    def __len__(self) -> int:
        return len(self.seeds)

    def column(self, name: str) -> Floats:
        """Return one of the `SCALARS` of every experiment."""
        return self.scalars[:, SCALARS.index(name)]


def make_tables(draws: Sequence[Task]) -> ResponseTables:
    """Work out the tables of some experiments."""
    rows = [_row(draw) for draw in draws]
    return ResponseTables(
        **{f.name: np.array([row[f.name] for row in rows]) for f in fields(ResponseTables)}
    )


def photons_for(experiment: Experiment, n_spots: float) -> float:
    """Return how bright crystals must be to show so many spots at ordinary settings.

    These are min_snr 5 and two pixels. The answer is `Crystals.photons`, at most 4,000; where
    the cell has few reflections, half of them will do.
    """
    lattice = _lattice(experiment)
    noise = experiment.detector.read_noise / experiment.detector.gain
    background = experiment.background.level * lattice["ring"][:, 1]
    limit = 5 * np.sqrt(background + noise**2)
    need = np.log(np.maximum(limit, 1.0) / lattice["shares"][:, 1])
    counts = lattice["reflections"]
    n_spots = min(n_spots, 0.5 * float(counts[:, -1].sum()))
    log_photons = np.linspace(0, math.log(4e3), 200)
    place = np.clip((BRIGHTEST - need + log_photons[:, None]) / STEP, 0, N_BRIGHTNESS - 1)
    shown = np.sum(
        [np.interp(place[:, z], np.arange(N_BRIGHTNESS), counts[z]) for z in range(N_RINGS)], axis=0
    )
    return float(np.exp(log_photons[min(int(np.searchsorted(shown, n_spots)), 199)]))


def _lattice(experiment: Experiment) -> dict[str, NDArray[Any]]:
    """Return what `ResponseTables` has of rings, spots and reflections, and facts of the cell."""
    detector, crystals, clen = experiment.detector, experiment.crystals, experiment.clen
    edges, pixels, coverage, largest = _radial_histogram(detector)
    middle = (edges[1:] + edges[:-1]) / 2
    wavelength = HC / experiment.beam.photon_energy
    two_theta = np.arctan(middle * detector.pixel_size / clen)
    q = 2 * np.sin(two_theta / 2) / wavelength
    q_edges = 2 * np.sin(np.arctan(edges * detector.pixel_size / clen) / 2) / wavelength

    # The polarisation averaged over the azimuth is what the profiles are relative to.
    ring, air = background_profiles(experiment, q)
    slant = np.cos(two_theta) ** 3 * (1 + np.cos(two_theta) ** 2) / 2
    at_ring = max(1 - (wavelength / experiment.background.ring_spacing) ** 2 / 2, 0.1)
    slant /= at_ring**3 * (1 + at_ring**2) / 2
    background = (ring + air) * slant

    point_width = 0.886 / crystals.domain_size / FWHM
    mosaicity = math.radians(crystals.mosaicity)
    bandwidth = experiment.beam.bandwidth / FWHM
    distance = clen / np.cos(two_theta) / detector.pixel_size
    block = point_width * wavelength
    tangential = np.hypot(block, mosaicity * np.sin(two_theta)) * distance
    radial = np.hypot(block, np.sin(two_theta) * bandwidth) * distance / np.cos(two_theta)
    sigma_t = np.hypot(detector.point_spread, tangential)
    sigma_r = np.hypot(detector.point_spread, radial)

    primitive = np.linalg.inv(crystals.cell.primitive_axes).T @ crystals.cell.reciprocal
    volume = 1 / abs(float(np.linalg.det(primitive)))
    shortest = float(np.linalg.norm(primitive, axis=1).min())
    reflections = _count_reflections(
        q, q_edges, coverage, np.cos(two_theta), 1 / wavelength, volume, 1 / crystals.resolution,
        point_width, mosaicity, bandwidth, crystals.wings, crystals.b_factor,
    )  # fmt: skip

    coarse = np.repeat(np.arange(N_RINGS), FINE)
    per_ring = np.bincount(coarse, pixels, N_RINGS)
    weight = pixels / np.maximum(per_ring, 1)[coarse]

    def average(values: Floats) -> Floats:
        return np.bincount(coarse, values * weight, N_RINGS).astype(float)

    sigma_t, sigma_r = (np.sqrt(average(s**2)) for s in (sigma_t, sigma_r))
    sigma_t, sigma_r = (np.maximum(s, 0.05) for s in (sigma_t, sigma_r))
    return {
        "ring": np.stack([per_ring, average(background), 2 * np.pi * sigma_t * sigma_r], axis=1),
        "shares": pixel_shares(sigma_t, sigma_r),
        "reflections": np.add.reduceat(
            reflections, np.arange(0, N_RINGS * FINE, FINE), axis=0
        ).astype(np.float32),
        "cell": np.array([shortest, volume]),
        "radius": np.array([largest, math.sqrt(float((pixels * middle**2).sum() / pixels.sum()))]),
    }


def _row(draw: Task) -> dict[str, object]:
    experiment = draw.experiment
    detector, crystals, clen = experiment.detector, experiment.crystals, experiment.clen
    lattice = _lattice(experiment)
    shortest, volume = lattice["cell"]
    pixels, profile = lattice["ring"][:, 0], lattice["ring"][:, 1]
    bad = experiment.bad_pixels
    shift = math.hypot(experiment.shift_x, experiment.shift_y)
    per_pixel = detector.pixel_size / clen * experiment.beam.photon_energy / HC  # 1/Å, low angle
    values = {
        "gain": detector.gain,
        # rounding to whole ADU is noise as well, but counts are whole already
        "noise": math.hypot(detector.read_noise, 12**-0.5) / detector.gain
        if detector.read_noise > 0
        else 0.0,
        "hit_fraction": crystals.hit_fraction,
        "multi_fraction": crystals.multi_fraction,
        "log_photons": math.log(crystals.photons),
        "photons_spread": crystals.photons_spread,
        "level": experiment.background.level,
        # a sinusoidal drift, as if it were scatter
        "jitter": math.hypot(
            experiment.background.jitter, experiment.background.drift / math.sqrt(2)
        ),
        "n_pixels": pixels.sum(),
        "n_hot": bad.hot * (1 - bad.masked) * pixels.sum(),
        "n_noisy": bad.noisy * (1 - bad.masked) * pixels.sum(),
        "log_hot_photons": math.log(bad.hot_photons),
        "noisy_photons": bad.noisy_photons,
        "clen": clen,
        "clen_tolerance": draw.clen_tolerance,
        "cell_spread": crystals.cell_spread,
        "shift_reach": shift / detector.pixel_size * per_pixel / shortest,
        "near_px": NEAR * shortest / per_pixel,
        "radius_px": lattice["radius"][1],
        "crowding": math.log(shortest**3 * volume),
        "clen0": experiment.written_clen,
        "strictness": draw.strictness,
    }
    return {
        "scalars": np.array([values[name] for name in SCALARS]),
        **{name: lattice[name] for name in ("ring", "shares", "reflections")},
        "random_effects": np.array(draw.random_effects),
        "seeds": np.uint64(experiment.seed),
        "photon_energy": experiment.beam.photon_energy,
        "pixel_size": detector.pixel_size,
        "radius": lattice["radius"][0],
        "background": _background_level(values, pixels, profile, detector, draw),
    }


def _background_level(
    values: dict[str, float], pixels: Floats, profile: Floats, detector: Detector, draw: Task
) -> Floats:
    """Return what `envs.evaluators.live.background_level` would tell, of five typical frames."""
    scatter = values["jitter"] * 1.25 / math.sqrt(5)
    level = values["level"] * math.exp(scatter * draw.random_effects[KNOWN_LEVEL])
    quantiles = mixture_quantiles(profile * level, values["noise"], pixels, np.array([0.5, 1e-3]))
    adu = quantiles * detector.gain
    return np.asarray(np.rint(adu), float)


@lru_cache(maxsize=64)
def _histogram_of(
    corners: tuple[tuple[float, float], ...], shape: tuple[int, int], edge: int
) -> tuple[Floats, Floats, Floats, float]:
    """Return edges (px), pixels and covered share of the fine rings, and the largest radius."""
    height, width = shape
    ss, fs = np.mgrid[edge : height - edge, edge : width - edge] + 0.5
    radius = np.concatenate([np.hypot(x + fs, y + ss).ravel() for x, y in corners])
    edges = np.linspace(0, radius.max() + 1e-6, N_RINGS * FINE + 1)
    pixels = np.histogram(radius, edges)[0].astype(float)
    return edges, pixels, pixels / (np.pi * np.diff(edges**2)), float(radius.max())


def _radial_histogram(detector: Detector) -> tuple[Floats, Floats, Floats, float]:
    corners = tuple((module.corner_x, module.corner_y) for module in detector.modules)
    return _histogram_of(corners, detector.module_shape, detector.masked_edge)


@njit(cache=True, nogil=True)
def _count_reflections(
    q, q_edges, coverage, cos_two_theta, wavenumber, volume, q_max,
    point_width, mosaicity, bandwidth, wings, b_factor,
):  # fmt: skip
    """Return the expected number (fine ring, brightness) of reflections that are brighter.

    The nodes near the Ewald sphere at q are 2 pi q dq d(eps) times the primitive cell's volume;
    how bright they are follows `envs.simulation.diffraction`, with Wilson's exponential
    distribution.
    """
    n_steps, farthest = 24, 40.0
    counts = np.zeros((len(q), N_BRIGHTNESS))
    # steps even in the angle whose tangent is eps in widths: dense where reflections are bright
    last = math.atan(farthest)
    for z in range(len(q)):
        if q[z] > q_max:
            continue
        from_spectrum = wavenumber * bandwidth * (1 - cos_two_theta[z])
        from_mosaic_sq = mosaicity**2 * q[z] ** 2 * (1 + cos_two_theta[z]) / 2
        width = math.sqrt(point_width**2 + from_mosaic_sq + from_spectrum**2)
        polarisation = (1 + cos_two_theta[z] ** 2) / 2
        peak = polarisation * point_width / width * math.exp(-b_factor * q[z] ** 2 / 2)
        nodes = volume * 2 * math.pi * q[z] * (q_edges[z + 1] - q_edges[z]) * coverage[z]
        for s in range(n_steps):
            angle = (s + 0.5) / n_steps * last
            t = math.tan(angle)
            share = (1 - wings) * math.exp(-t * t / 2) + wings / (1 + t * t)
            mean = peak * share
            n = nodes * 2 * width * (1 + t * t) * last / n_steps
            for b in range(N_BRIGHTNESS):
                ratio = math.exp(BRIGHTEST - b * STEP) / mean
                if ratio < 30:
                    counts[z, b] += n * math.exp(-ratio)
    return counts
