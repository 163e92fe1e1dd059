"""Which reflections a still crystal gives, how many photons, and where they go.

The diffraction is kinematic. A reciprocal-lattice point q is excited by the wavenumber k of the
pulse as far as the distance of q from the Ewald sphere, eps = |q + k z| - k, is small against
the width of the point (domain size, mosaicity) and of the sphere (bandwidth). With Gaussians for
all three the diffracted share has a closed form, as has the mean of the wavenumbers that excite
the point, which decides where the spot lies. The model is the one behind CrystFEL's predictions
(White et al., Acta Cryst. D75 (2019) 219), with a Lorentzian share beside the Gaussian for the
1/eps² wings of a block's shape transform; intensities are Wilson's (Acta Cryst. 2 (1949) 318).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.simulation.experiment import Crystals

__all__ = ["excited_reflections"]

Floats = NDArray[np.float64]

FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
FARTHEST = 40.0  # distance from the Ewald sphere, in widths, beyond which a point gives nothing


def excited_reflections(
    crystals: Crystals,
    lattice: Floats,
    wavenumber: float,
    bandwidth: float,
    scale: float,
    seed: int,
) -> Floats:
    """Return the reflections of one crystal that give at least a hundredth of a photon.

    Parameters
    ----------
    crystals : Crystals
    lattice : float64 array (3, 3)
        Rows a*, b*, c* in 1/Å of this crystal.
    wavenumber : float
        1 / wavelength, in 1/Å.
    bandwidth : float
        Relative full width at half maximum.
    scale : float
        Photons of an average reflection at low angle in exact Bragg condition.
    seed : int
        Decides the structure factors.

    Returns
    -------
    float64 array (n, 6)
        Direction of the diffracted beam (x/z and y/z); photons; standard deviations of its angle,
        tangential and radial, in radians; cosine of 2 theta.
    """
    # Points of the primitive lattice are just those that the centring leaves.
    primitive = np.linalg.inv(crystals.cell.primitive_axes).T @ lattice
    return _find_excited(
        primitive,
        np.linalg.norm(np.linalg.inv(primitive), axis=0),
        wavenumber,
        1 / crystals.resolution,
        # The Gaussian of the width of a block's diffraction peak, 0.886 / size at half height.
        0.886 / crystals.domain_size / FWHM,
        math.radians(crystals.mosaicity),
        bandwidth / FWHM,
        crystals.wings,
        scale,
        crystals.b_factor,
        seed,
    )


@njit(cache=True, nogil=True)
def _uniform_of_point(i: int, j: int, k: int, seed: int) -> float:
    """Return a number in (0, 1] that is fixed for a Friedel pair (splitmix64 of its indices)."""
    if i < 0 or (i == 0 and (j < 0 or (j == 0 and k < 0))):
        i, j, k = -i, -j, -k
    packed = ((i + 2048) << 24) | ((j + 2048) << 12) | (k + 2048)
    z = np.uint64(seed) + np.uint64(packed) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 1) / 2.0**53


@njit(cache=True, nogil=True)
def _find_excited(
    lattice: Floats,
    edges: Floats,
    wavenumber: float,
    q_max: float,
    point_width: float,
    mosaicity: float,
    bandwidth: float,
    wings: float,
    scale: float,
    b_factor: float,
    seed: int,
) -> Floats:
    """Do the work of `excited_reflections`, on a primitive lattice with such edges."""
    found = []
    i_max, j_max, k_max = int(q_max * edges[0]), int(q_max * edges[1]), int(q_max * edges[2])
    for i in range(-i_max, i_max + 1):
        for j in range(-j_max, j_max + 1):
            for k in range(-k_max, k_max + 1):
                x = i * lattice[0, 0] + j * lattice[1, 0] + k * lattice[2, 0]
                y = i * lattice[0, 1] + j * lattice[1, 1] + k * lattice[2, 1]
                z = i * lattice[0, 2] + j * lattice[1, 2] + k * lattice[2, 2]
                q_sq = x * x + y * y + z * z
                if q_sq > q_max * q_max or q_sq == 0:
                    continue
                radius = math.sqrt(x * x + y * y + (z + wavenumber) ** 2)
                eps = radius - wavenumber
                cos_two_theta = (z + wavenumber) / radius
                if cos_two_theta <= 0.05:  # backwards, or all but along the detector's plane
                    continue
                # d eps / d wavenumber is cos(2 theta) - 1; turning q moves eps by q cos(theta).
                from_spectrum = wavenumber * bandwidth * (1 - cos_two_theta)
                cos_theta_sq = (1 + cos_two_theta) / 2
                from_mosaic_sq = mosaicity**2 * q_sq * cos_theta_sq
                width_sq = point_width**2 + from_mosaic_sq + from_spectrum**2
                distance_sq = eps * eps / width_sq
                if distance_sq > FARTHEST * FARTHEST:
                    continue
                core = (1 - wings) * math.exp(-distance_sq / 2)
                share = core + wings / (1 + distance_sq)
                wilson = -math.log(_uniform_of_point(i, j, k, seed))
                polarisation = 1 - (x / radius) ** 2
                peak = scale * point_width / math.sqrt(width_sq) * math.exp(-b_factor * q_sq / 2)
                photons = peak * wilson * share * polarisation
                if photons < 0.01:
                    continue
                # Reflections far from the sphere are excited by the whole spectrum alike.
                shift = eps * from_spectrum * wavenumber * bandwidth / width_sq * core / share
                along = z + wavenumber + shift
                # What the point lets through of the spectrum smears the spot along its radius.
                spectrum_left = bandwidth * math.sqrt(1 - from_spectrum**2 / width_sq)
                sin_two_theta = math.sqrt(1 - cos_two_theta**2)
                tangential_sq = (point_width / wavenumber) ** 2 + (mosaicity * sin_two_theta) ** 2
                radial_sq = (point_width / wavenumber) ** 2 + (sin_two_theta * spectrum_left) ** 2
                found.append(
                    (
                        x / along,
                        y / along,
                        photons,
                        math.sqrt(tangential_sq),
                        math.sqrt(radial_sq),
                        cos_two_theta,
                    )
                )
    reflections = np.empty((len(found), 6))
    for n, row in enumerate(found):
        for column in range(6):
            reflections[n, column] = row[column]
    return reflections
