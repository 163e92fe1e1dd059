"""Families of experiments: whole beamtimes drawn at random, one description for every fidelity.

Train is drawn wider than what is plausible, so that what is learnt on it holds for what is;
validation and test are plausible; shifted has detectors, cells and backgrounds that train lacks.
The families' random streams never meet: an experiment's seed says which family it is of.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from envs.response.tables import photons_for
from envs.simulation.experiment import (
    BackgroundModel,
    BadPixels,
    Beam,
    Crystals,
    Detector,
    Experiment,
    tiled,
)
from envs.simulation.family_ranges import (
    BEYOND,
    ELSEWHERE,
    KINDS,
    LATTICES,
    PLAUSIBLE,
    POINTS,
    SHIFTS,
    DetectorKind,
    Ranges,
)
from envs.simulation.rendering import HC
from wrappers.cell import Cell

__all__ = ["FAMILIES", "KINDS", "Draw", "draw_experiments", "family_of"]

FAMILIES = ("train", "validation", "test", "shifted")
"""The families; a seed belongs to the family whose place here is its remainder."""

SPACING = 5.0
"""Fewest pixels between neighbouring spots, in the train family a third less."""

N_RANDOM_EFFECTS = 5

USUAL = ("JUNGFRAU", "AGIPD", "EIGER", "ePix10k", "CSPAD", "Rayonix")
UNUSUAL = ("PILATUS", "ePix100", "JUNGFRAU", "EIGER")


@dataclass(frozen=True)
class Draw:
    """One experiment of a family, and what no frame of it shows.

    Attributes
    ----------
    kind : str
        Make of the detector, a key of `KINDS`.
    experiment : Experiment
    strictness : float
        How the indexer takes to lists full of other peaks: 0 as the embedded one does, 1 as
        CrystFEL's xgandalf.
    clen_tolerance : float
        Relative error of the camera length at which the indexer finds half as much. The
        embedded one is flat over ± 5 %, CrystFEL's xgandalf falls off beyond 2 to 3.
    random_effects : tuple of float
        What the response model cannot know of an experiment, in standard deviations; in the
        order of `envs.response.columns`.
    """

    kind: str
    experiment: Experiment
    strictness: float
    clen_tolerance: float
    random_effects: tuple[float, ...]

    @property
    def n_pixels(self) -> int:
        """Pixels of a frame."""
        return math.prod(self.experiment.detector.shape)


def draw_experiments(
    family: str, n: int, seed: int, *, most_pixels: float = math.inf
) -> list[Draw]:
    """Draw whole experiments.

    Parameters
    ----------
    family : {"train", "validation", "test", "shifted"}
    n : int
    seed : int
        Equal seeds give equal experiments, and more of them go on where fewer ended.
    most_pixels : float
        Detectors are built up of fewer modules where the drawn one has more pixels.

    Returns
    -------
    list of Draw
    """
    if family not in FAMILIES:
        raise ValueError(f"the family is {family!r}, but must be one of {', '.join(FAMILIES)}")
    place = FAMILIES.index(family)
    return [
        _draw(family, np.random.default_rng([place, seed, number]), most_pixels)
        for number in range(n)
    ]


def family_of(experiment: Experiment) -> str:
    """Return the family that a drawn experiment is of, told by its seed."""
    return FAMILIES[experiment.seed % len(FAMILIES)]


def _draw(family: str, rng: np.random.Generator, most_pixels: float) -> Draw:
    ranges = _ranges(family, rng)
    value = {name: _one(rng, *span) for name, span in ranges.items()}
    kinds = UNUSUAL if family == "shifted" else USUAL
    kind = str(rng.choice(kinds))
    stretch = 1.4 if family == "train" else 1.0
    detector = _detector(KINDS[kind], rng, most_pixels, stretch)

    rim = _rim(detector)
    wavelength = HC / value["photon_energy"]
    sine = min(wavelength / (2 * value["resolution_at_edge"]), math.sin(math.radians(32)))
    clen = rim / math.tan(2 * math.asin(sine))

    spacing = SPACING / 1.5 if family == "train" else SPACING
    longest = clen * wavelength / (spacing * detector.pixel_size)
    cell = _cell(value["volume_edge"], value["axial_ratio"], longest, rng)
    angle = rng.uniform(0, 2 * math.pi)
    shift = value["shift"] * detector.pixel_size
    bad = BadPixels(
        value["hot"], value["noisy"], value["dead"],
        # half of the beamlines know nearly all their bad pixels, the others some
        masked=0.97 if rng.random() < 0.5 else 0.8 * value["known_bad"],
        hot_photons=value["hot_photons"], noisy_photons=value["noisy_photons"],
    )  # fmt: skip
    background = BackgroundModel(
        level=value["background"], drift_period=float(rng.uniform(100, 1000)),
        **{name: value[name] for name in
           ("jitter", "drift", "ring_spacing", "ring_width", "air", "floor")},
    )  # fmt: skip
    # Crystals whose spots run over many pixels are indexed by nobody: such are not measured.
    angle_px = clen / detector.pixel_size / value["smear"]
    smear = rim / 2 / clen * angle_px
    value["domain_size"] = max(value["domain_size"], 0.376 * wavelength * angle_px)
    value["mosaicity"] = min(value["mosaicity"], math.degrees(1 / smear))
    bandwidth = min(value["bandwidth"], 2.355 / smear)
    crystals = Crystals(
        cell=cell, cell_spread=float(10 ** rng.uniform(-3.5, -2.5)),
        **{name: value[name] for name in
           ("hit_fraction", "multi_fraction", "photons_spread", "b_factor",
            "resolution", "domain_size", "mosaicity", "wings")},
    )  # fmt: skip
    experiment = Experiment(
        detector=detector,
        beam=Beam(value["photon_energy"], float(10 ** rng.uniform(-4, -2.7)), bandwidth),
        crystals=crystals,
        background=background,
        bad_pixels=bad,
        clen=clen,
        clen_error=value["clen_error"],
        shift_x=shift * math.cos(angle),
        shift_y=shift * math.sin(angle),
        seed=int(rng.integers(2**40)) * len(FAMILIES) + FAMILIES.index(family),
    )
    # Crystals too small to show anything are not measured; a bright one is one of six.
    photons = photons_for(experiment, value["n_spots"]) / math.exp(crystals.photons_spread)
    crystals = dataclasses.replace(crystals, photons=max(photons, 1.0))
    experiment = dataclasses.replace(experiment, crystals=crystals)
    strictness, tolerance = _indexer(rng, stretch)
    # The train family is also less sure of what the response model cannot know.
    unsure = 2.0 if family == "train" else 1.0
    random_effects = tuple((unsure * rng.standard_normal(N_RANDOM_EFFECTS)).tolist())
    return Draw(kind, experiment, strictness, tolerance, random_effects)


def _indexer(rng: np.random.Generator, stretch: float) -> tuple[float, float]:
    """Draw an indexer's strictness and tolerance: the embedded one, or one like CrystFEL's."""
    if rng.random() < 0.5:
        return 0.0, float(rng.uniform(0.06, 0.1))
    return float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.024 / stretch, 0.035 * stretch))


def _rim(detector: Detector) -> float:
    """Return the distance of the detector's farther rim, not its corners, from the beam, in m."""
    height = np.ptp([module.corner_y for module in detector.modules]) + detector.module_shape[0]
    width = np.ptp([module.corner_x for module in detector.modules]) + detector.module_shape[1]
    return float(max(height, width)) / 2 * detector.pixel_size


def _ranges(family: str, rng: np.random.Generator) -> Ranges:
    if family == "train":
        return BEYOND
    if family != "shifted":
        return PLAUSIBLE
    chosen = rng.permutation(len(SHIFTS))[: rng.integers(2, 4)]
    names = [name for i in chosen for name in SHIFTS[i]]
    return PLAUSIBLE | {name: ELSEWHERE[name] for name in names}


def _one(rng: np.random.Generator, scale: str, low: float, high: float) -> float:
    if scale == "log":
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))
    return float(rng.uniform(low, high))


def _detector(
    kind: DetectorKind, rng: np.random.Generator, most_pixels: float, stretch: float
) -> Detector:
    """Draw a detector of a kind; `stretch` widens the ranges."""
    layouts = [one for one in kind.layouts if math.prod(one[:4]) <= most_pixels]
    drawn = int(rng.integers(len(kind.layouts)))
    layout = layouts[min(drawn, len(layouts) - 1)] if layouts else kind.layouts[0]
    rows, columns, height, width, gap = layout

    def between(low: float, high: float) -> float:
        if low == high:
            return low
        return float(np.exp(rng.uniform(math.log(low / stretch), math.log(high * stretch))))

    gain, noise = between(*kind.gain), between(*kind.noise)
    most = {"int16": 2**15 - 1, "int32": 2**31 - 1}[kind.dtype]
    return Detector(
        tiled(rows, columns, (height, width), (gap, gap)),
        (height, width),
        pixel_size=kind.pixel_size,
        gain=gain,
        read_noise=noise * gain,
        saturation=min(math.floor(kind.saturation * gain), most),
        dtype=kind.dtype,
        point_spread=between(*kind.point_spread),
    )


def _cell(edge: float, ratio: float, longest: float, rng: np.random.Generator) -> Cell:
    """Draw a cell whose primitive cell has a volume of edge³, no edge being too long."""
    lattice, centring, axis, equal, angles = LATTICES[rng.integers(len(LATTICES))]
    al, be, ga = (angle or float(rng.uniform(93, 110)) for angle in angles)
    second = math.exp(rng.uniform(-0.3, 0.3)) if equal == "abc" else 1.0
    third = 1.0 if equal == "aaa" else ratio
    shape = Cell(100.0, 100.0 * second, 100.0 * third, al, be, ga, lattice, centring, axis)
    scale = (POINTS[centring] * edge**3 / shape.volume) ** (1 / 3)
    scale = min(scale, longest / max(shape.a, shape.b, shape.c))
    return dataclasses.replace(shape, a=shape.a * scale, b=shape.b * scale, c=shape.c * scale)
