"""What a simulated beamtime is made of: detector, beam, crystals, background, bad pixels.

Everything here is a frozen, hashable description; :mod:`envs.simulation.rendering` turns it into
frames and :mod:`envs.simulation.simulator` into files. Lengths are in metres where the name does
not say otherwise, reciprocal lengths in 1/Å, and "pixels" are the detector's own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from wrappers.cell import Cell
from wrappers.errors import InputError

__all__ = [
    "JUNGFRAU_1M",
    "LYSOZYME",
    "ODD_KINDS",
    "SMALL_DETECTOR",
    "BackgroundModel",
    "BadPixels",
    "Beam",
    "Crystals",
    "Detector",
    "Experiment",
    "Module",
    "OddFrames",
    "demo_experiment",
    "tiled",
]


def _require_positive(part: object, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        _require(value > 0, f"{name} is {value}, but must be above 0")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)


@dataclass(frozen=True)
class Module:
    """Where one module of the detector stands, looking along the beam.

    Parameters
    ----------
    corner_x, corner_y : float
        Laboratory position of the corner of the module's first pixel, relative to the beam, in
        pixels.
    rotation : float
        Rotation of the module's fast axis from x towards y, in degrees.
    """

    corner_x: float
    corner_y: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Detector:
    """Equal flat modules in one plane across the beam, stacked along ss in the file.

    Parameters
    ----------
    modules : tuple of Module
    module_shape : (int, int)
        Pixels of one module along (ss, fs).
    pixel_size : float
        In metres.
    gain : float
        ADU per photon.
    read_noise : float
        Standard deviation of a dark pixel, in ADU; 0 for a photon counter.
    saturation : float
        Largest value a pixel can hold, in ADU.
    dtype : str
        "int16" or "int32".
    point_spread : float
        Standard deviation of a photon's recorded position around its true one, in pixels: the
        beam's and crystal's size and the sensor together.
    masked_edge : int
        Width of the border of each module that the mask leaves out, in pixels.
    """

    modules: tuple[Module, ...]
    module_shape: tuple[int, int]
    pixel_size: float = 75e-6
    gain: float = 10.0
    read_noise: float = 1.0
    saturation: float = 32767.0
    dtype: str = "int16"
    point_spread: float = 0.5
    masked_edge: int = 1

    def __post_init__(self) -> None:
        _require(bool(self.modules), "a detector needs at least one module")
        _require(min(self.module_shape) >= 3, "module_shape must be at least 3 x 3 pixels")
        _require_positive(self, "pixel_size", "gain", "saturation")
        _require(self.read_noise >= 0, "read_noise must not be negative")
        limits = {"int16": 2**15 - 1, "int32": 2**31 - 1}
        _require(self.dtype in limits, f"dtype is {self.dtype!r}, but must be int16 or int32")
        _require(
            self.saturation <= limits[self.dtype],
            f"saturation ({self.saturation:g} ADU) does not fit into {self.dtype}",
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(ss, fs) of a whole frame in the file."""
        return len(self.modules) * self.module_shape[0], self.module_shape[1]


def tiled(
    rows: int, columns: int, module_shape: tuple[int, int], gap: tuple[float, float]
) -> tuple[Module, ...]:
    """Return modules in a rectangular grid centred on the beam, the topmost row first.

    Parameters
    ----------
    rows, columns : int
    module_shape : (int, int)
        Pixels of one module along (ss, fs), which here are y and x.
    gap : (float, float)
        Space between modules along (y, x), in pixels.
    """
    pitch_y, pitch_x = module_shape[0] + gap[0], module_shape[1] + gap[1]
    first_x = -(columns * pitch_x - gap[1]) / 2
    first_y = -(rows * pitch_y - gap[0]) / 2
    return tuple(
        Module(first_x + column * pitch_x, first_y + row * pitch_y)
        for row in reversed(range(rows))
        for column in range(columns)
    )


JUNGFRAU_1M = Detector(tiled(2, 1, (512, 1024), (20, 0)), (512, 1024))
"""Two JUNGFRAU modules with a horizontal gap, as in CrystFEL-simulated ``jf1m_lyso_60``."""

SMALL_DETECTOR = Detector(
    tiled(2, 1, (256, 512), (10, 0)), (256, 512), pixel_size=150e-6, point_spread=0.5
)
"""The same solid angle in a quarter of the pixels, for demonstrations and tests."""


@dataclass(frozen=True)
class Beam:
    """X-ray pulses along z, polarised along x.

    Parameters
    ----------
    photon_energy : float
        Mean over the run, in eV.
    energy_jitter : float
        Relative standard deviation of a pulse's mean energy, which is recorded for each frame.
    bandwidth : float
        Relative full width at half maximum of one pulse's spectrum.
    """

    photon_energy: float = 9300.0
    energy_jitter: float = 0.001
    bandwidth: float = 0.001

    def __post_init__(self) -> None:
        _require_positive(self, "photon_energy")
        _require(0 <= self.energy_jitter < 0.1, "energy_jitter must lie between 0 and 0.1")
        _require(0 <= self.bandwidth < 0.2, "bandwidth must lie between 0 and 0.2")


LYSOZYME = Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0, "tetragonal", "P", "c")
"""Hen egg-white lysozyme, the field's standard sample."""


@dataclass(frozen=True)
class Crystals:
    """The crystals that the beam may hit.

    Parameters
    ----------
    cell : Cell
    cell_spread : float
        Relative standard deviation of a crystal's size of cell.
    hit_fraction : float
        Share of the frames with at least one crystal.
    multi_fraction : float
        Share of the hits with a second crystal (of those, a third, and so on).
    photons : float
        Median over the crystals of the photons in a reflection of average intensity at low angle
        in exact Bragg condition. It grows with the crystal's size and the pulse energy.
    photons_spread : float
        Standard deviation of its natural logarithm.
    b_factor : float
        Debye-Waller factor B, in Å²: intensities fall as exp(-B q² / 2).
    resolution : float
        No reflection beyond it, in Å.
    domain_size : float
        Width of a coherently diffracting block, in Å; it sets the width of a reciprocal-lattice
        point.
    mosaicity : float
        Standard deviation of the blocks' orientation, in degrees.
    wings : float
        Share of the Lorentzian, the rest being Gaussian, in how a reflection dims with its
        distance from the Bragg condition: many faint spots or few.
    """

    cell: Cell = LYSOZYME
    cell_spread: float = 0.001
    hit_fraction: float = 0.75
    multi_fraction: float = 0.15
    photons: float = 150.0
    photons_spread: float = 1.8
    b_factor: float = 28.0
    resolution: float = 1.5
    domain_size: float = 2500.0
    mosaicity: float = 0.02
    wings: float = 0.8

    def __post_init__(self) -> None:
        _require(0 <= self.cell_spread < 0.1, "cell_spread must lie between 0 and 0.1")
        _require(0 <= self.hit_fraction <= 1, "hit_fraction must lie between 0 and 1")
        _require(0 <= self.multi_fraction < 1, "multi_fraction must be at least 0 and below 1")
        _require_positive(self, "photons", "resolution", "domain_size")
        _require(self.photons_spread >= 0, "photons_spread must not be negative")
        _require(self.mosaicity >= 0, "mosaicity must not be negative")
        _require(0 <= self.wings <= 1, "wings must lie between 0 and 1")


@dataclass(frozen=True)
class BackgroundModel:
    """Scattering of water and air, fluctuating from frame to frame.

    The defaults describe the background of ``jf1m_lyso_60``.

    Parameters
    ----------
    level : float
        Median over the frames of the photons that the water ring adds to a pixel at its top.
    jitter : float
        Standard deviation of its natural logarithm between frames.
    drift, drift_period : float
        Amplitude of a slow sinusoidal change of its logarithm, and its period in frames.
    ring_spacing, ring_width : float
        Position of the water ring as a spacing d in Å; its standard deviation in 1/Å.
    air, air_width : float
        Low-angle scattering at the beam, relative to the ring, and the q in 1/Å over which it
        falls to 1/e. The former varies by itself with a log standard deviation of 0.25.
    floor : float
        Even part, relative to the ring.
    """

    level: float = 2.0
    jitter: float = 0.5
    drift: float = 0.2
    drift_period: float = 400.0
    ring_spacing: float = 3.27
    ring_width: float = 0.041
    air: float = 3.1
    air_width: float = 0.056
    floor: float = 0.11

    def __post_init__(self) -> None:
        _require_positive(self, "drift_period", "ring_spacing", "ring_width", "air_width")
        for name in ("level", "jitter", "drift", "air", "floor"):
            _require(getattr(self, name) >= 0, f"{name} of the background must not be negative")


@dataclass(frozen=True)
class BadPixels:
    """Pixels that do not measure, the same ones throughout a run.

    Parameters
    ----------
    hot, noisy, dead : float
        Shares of all pixels: always bright; with much more noise; always zero.
    masked : float
        Share of them that the mask knows of.
    hot_photons, noisy_photons : float
        Median brightness of a hot pixel and median noise of a noisy one, as if photons.
    """

    hot: float = 9e-5
    noisy: float = 1.5e-4
    dead: float = 2.5e-4
    masked: float = 0.0
    hot_photons: float = 38.0
    noisy_photons: float = 1.9

    def __post_init__(self) -> None:
        for name in ("hot", "noisy", "dead", "masked"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1")
        _require(self.hot + self.noisy + self.dead <= 1, "more bad pixels than pixels")


ODD_KINDS = ("powder or ice ring", "salt", "jet streak", "beam off", "detector fault")
"""Frames that are no ordinary ones, see `envs.simulation.odd_frames`."""


@dataclass(frozen=True)
class OddFrames:
    """Frames that are no ordinary ones.

    Parameters
    ----------
    shares : tuple of (str, float)
        Kinds, of `ODD_KINDS`, and which share of the frames is of each.
    first : int
        The first frame of a run that may be one.
    """

    shares: tuple[tuple[str, float], ...] = ()
    first: int = 0

    def __post_init__(self) -> None:
        for kind, share in self.shares:
            _require(kind in ODD_KINDS, f"{kind!r} is none of {', '.join(ODD_KINDS)}")
            _require(0 <= share <= 1, f"the share of {kind} must lie between 0 and 1")
        _require(sum(share for _, share in self.shares) <= 1, "the shares sum to more than 1")
        _require(self.first >= 0, "first must not be negative")


@dataclass(frozen=True)
class Experiment:
    """One beamtime, complete: what happens, and what the beamline believes.

    Parameters
    ----------
    detector, beam, crystals, background, bad_pixels, odd
        The parts.
    clen : float
        True distance of the detector from the crystals, in metres.
    clen_error : float
        Relative error of the written geometry: it says ``clen * (1 + clen_error)``.
    shift_x, shift_y : float
        What the written geometry lacks: the true position of every module is the written one
        plus this, in metres (CrystFEL's sign of ``detector_shift_x`` and ``_y``).
    seed : int
        Decides everything random; a frame depends on the seed and its own index alone.
    """

    detector: Detector = JUNGFRAU_1M
    beam: Beam = field(default_factory=Beam)
    crystals: Crystals = field(default_factory=Crystals)
    background: BackgroundModel = field(default_factory=BackgroundModel)
    bad_pixels: BadPixels = field(default_factory=BadPixels)
    odd: OddFrames = field(default_factory=OddFrames)
    clen: float = 0.08
    clen_error: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(self, "clen")
        _require(abs(self.clen_error) < 0.5, "clen_error must lie between -0.5 and 0.5")
        _require(self.seed >= 0, "seed must not be negative")

    @property
    def written_clen(self) -> float:
        """The distance that the geometry file gives, in metres."""
        return self.clen * (1 + self.clen_error)


def demo_experiment(seed: int = 0) -> Experiment:
    """Return a small experiment whose geometry is 1.5 % off, to show what tuning is for."""
    return dataclasses.replace(Experiment(), detector=SMALL_DETECTOR, clen_error=-0.015, seed=seed)
