"""What the experiments of the families are drawn from: detectors, cells, and ranges."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BEYOND",
    "ELSEWHERE",
    "KINDS",
    "LATTICES",
    "PLAUSIBLE",
    "POINTS",
    "SHIFTS",
    "DetectorKind",
    "Ranges",
]

Ranges = dict[str, tuple[str, float, float]]


@dataclass(frozen=True)
class DetectorKind:
    """What detectors of one make have in common; pairs are ranges.

    Attributes
    ----------
    layouts : tuple of (rows, columns, module height, module width, gap)
        From small to large, in pixels.
    pixel_size : float
        In metres.
    gain : (float, float)
        ADU per photon.
    noise : (float, float)
        Read noise in photons; 0 for a photon counter.
    point_spread : (float, float)
        In pixels.
    saturation : float
        In photons.
    dtype : str
    """

    layouts: tuple[tuple[int, int, int, int, int], ...]
    pixel_size: float
    gain: tuple[float, float]
    noise: tuple[float, float]
    point_spread: tuple[float, float]
    saturation: float
    dtype: str = "int16"


KINDS: dict[str, DetectorKind] = {
    "JUNGFRAU": DetectorKind(
        ((1, 1, 512, 1024, 0), (2, 1, 512, 1024, 30), (4, 2, 512, 1024, 30)),
        75e-6, (6, 40), (0.02, 0.15), (0.35, 0.8), 1e4, "int32",
    ),
    "AGIPD": DetectorKind(
        ((8, 2, 128, 512, 12),), 200e-6, (40, 120), (0.1, 0.45), (0.25, 0.6), 5e3, "int32",
    ),
    "EIGER": DetectorKind(
        ((1, 1, 514, 1030, 0), (2, 1, 514, 1030, 37), (4, 2, 514, 1030, 37)),
        75e-6, (1, 1), (0, 0), (0.35, 0.8), 1e5, "int32",
    ),
    "ePix10k": DetectorKind(
        ((2, 2, 352, 384, 20), (4, 4, 352, 384, 20)),
        100e-6, (10, 160), (0.03, 0.2), (0.3, 0.7), 90, "int16",
    ),
    "CSPAD": DetectorKind(
        ((4, 4, 185, 194, 8), (8, 8, 185, 194, 8)),
        110e-6, (20, 36), (0.12, 0.5), (0.3, 0.7), 350, "int16",
    ),
    "Rayonix": DetectorKind(
        ((1, 1, 960, 960, 0), (1, 1, 1920, 1920, 0)),
        177e-6, (0.8, 3), (0.6, 2.5), (0.6, 1.3), 2e4, "int32",
    ),
    "PILATUS": DetectorKind(
        ((3, 1, 195, 487, 17), (5, 2, 195, 487, 17)),
        172e-6, (1, 1), (0, 0), (0.25, 0.5), 1e6, "int32",
    ),
    "ePix100": DetectorKind(
        ((1, 1, 704, 768, 0), (2, 1, 704, 768, 20)),
        50e-6, (15, 30), (0.1, 0.3), (0.5, 1.3), 100, "int16",
    ),
}  # fmt: skip
"""By name. The last two are found in the shifted family only."""

PLAUSIBLE: Ranges = {
    "photon_energy": ("log", 6500, 14000),
    "bandwidth": ("log", 5e-4, 4e-3),
    "resolution_at_edge": ("log", 1.7, 3.5),
    "volume_edge": ("log", 40, 140),  # cube root of the volume of the primitive cell, Å
    "axial_ratio": ("log", 0.5, 2.0),
    "hit_fraction": ("log", 0.06, 0.85),
    "multi_fraction": ("linear", 0.0, 0.3),
    "n_spots": ("log", 25, 300),  # of a bright crystal, at ordinary settings
    "photons_spread": ("linear", 0.7, 1.9),
    "b_factor": ("linear", 12, 50),
    "resolution": ("log", 1.4, 3.0),
    "domain_size": ("log", 900, 4000),
    "mosaicity": ("log", 0.01, 0.15),
    "wings": ("linear", 0.3, 0.9),
    "background": ("log", 0.05, 6.0),
    "jitter": ("linear", 0.1, 0.6),
    "drift": ("linear", 0.0, 0.4),
    "ring_spacing": ("linear", 3.15, 3.45),
    "ring_width": ("linear", 0.035, 0.06),
    "air": ("log", 0.5, 5.0),
    "floor": ("log", 0.05, 0.3),
    "hot": ("log", 3e-6, 2e-4),
    "noisy": ("log", 3e-6, 2e-4),
    "dead": ("log", 1e-5, 5e-4),
    "hot_photons": ("log", 10, 80),
    "noisy_photons": ("log", 0.8, 3.0),
    "known_bad": ("linear", 0.0, 1.0),
    "clen_error": ("linear", -0.03, 0.03),
    "shift": ("linear", 0.0, 2.0),  # of the beam's centre, in pixels
    "smear": ("linear", 1.2, 1.2),  # the most that a spot is widened at half the rim, in pixels
}
"""How each quantity of an experiment is drawn: scale and range."""

BEYOND: Ranges = {
    "photon_energy": ("log", 5500, 17000),
    "bandwidth": ("log", 3e-4, 8e-3),
    "resolution_at_edge": ("log", 1.5, 4.2),
    "volume_edge": ("log", 28, 175),
    "axial_ratio": ("log", 0.4, 2.5),
    "hit_fraction": ("log", 0.04, 0.97),
    "multi_fraction": ("linear", 0.0, 0.45),
    "n_spots": ("log", 15, 500),
    "photons_spread": ("linear", 0.5, 2.2),
    "b_factor": ("linear", 8, 70),
    "resolution": ("log", 1.3, 3.8),
    "domain_size": ("log", 600, 5500),
    "mosaicity": ("log", 0.006, 0.25),
    "wings": ("linear", 0.15, 0.95),
    "background": ("log", 0.02, 12.0),
    "jitter": ("linear", 0.05, 0.8),
    "drift": ("linear", 0.0, 0.6),
    "ring_spacing": ("linear", 3.0, 3.6),
    "ring_width": ("linear", 0.03, 0.08),
    "air": ("log", 0.3, 8.0),
    "floor": ("log", 0.03, 0.45),
    "hot": ("log", 1e-6, 4e-4),
    "noisy": ("log", 1e-6, 4e-4),
    "dead": ("log", 1e-5, 1e-3),
    "hot_photons": ("log", 6, 150),
    "noisy_photons": ("log", 0.5, 4.0),
    "known_bad": ("linear", 0.0, 1.0),
    "clen_error": ("linear", -0.042, 0.042),
    "shift": ("linear", 0.0, 3.0),
    "smear": ("linear", 1.2, 2.2),
}
"""The train family's ranges."""

ELSEWHERE: Ranges = PLAUSIBLE | {
    "volume_edge": ("log", 180, 260),
    "background": ("log", 10.0, 30.0),
    "ring_spacing": ("linear", 4.2, 4.8),  # lipid rather than water
    "bandwidth": ("log", 8e-3, 2e-2),
    "smear": ("linear", 2.0, 2.0),
    "domain_size": ("log", 1500, 5000),
}
"""Ranges of the shifted family; each experiment takes two or three of these, else plausible."""

SHIFTS = (
    ("background",),
    ("ring_spacing",),
    ("bandwidth", "smear"),
    ("volume_edge", "domain_size"),
)
"""Quantities that are shifted together."""

LATTICES = (
    # type, centring, unique axis, which edges are equal, angles
    ("tetragonal", "P", "c", "aac", (90, 90, 90)),
    ("orthorhombic", "P", "*", "abc", (90, 90, 90)),
    ("orthorhombic", "C", "*", "abc", (90, 90, 90)),
    ("orthorhombic", "I", "*", "abc", (90, 90, 90)),
    ("hexagonal", "P", "c", "aac", (90, 90, 120)),
    ("monoclinic", "P", "b", "abc", (90, 0, 90)),
    ("monoclinic", "C", "b", "abc", (90, 0, 90)),
    ("cubic", "P", "*", "aaa", (90, 90, 90)),
    ("tetragonal", "I", "c", "aac", (90, 90, 90)),
    ("triclinic", "P", "*", "abc", (0, 0, 0)),
)
POINTS = {"P": 1, "C": 2, "I": 2}  # lattice points of a cell
