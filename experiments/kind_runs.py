"""Simulated runs with frames of every kind, and what is really in each frame.

A run of a family (`envs.simulation.families`) has some of the odd kinds, each in 3 to 20 % of its
frames, on top of its crystals and blank frames. What is in a frame is what can be seen in it: a
crystal counts with `FEWEST_SPOTS` spots, as many as a hit has, each of `FEWEST_PHOTONS` and more
and `STANDS_OUT` standard deviations of the background in 3 x 3 pixels. A frame with a ring, a
streak or salt is of that kind whatever else it shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.simulation.diffraction import excited_reflections
from envs.simulation.experiment import ODD_KINDS, Experiment, OddFrames
from envs.simulation.families import Draw, draw_experiments
from envs.simulation.rendering import (
    HC,
    FrameTruth,
    background_profiles,
    render_frame,
    static_mask,
    structure_seed,
)
from envs.simulation.simulator import geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame

__all__ = ["FEWEST_SPOTS", "KindRun", "kind_runs", "visible_spots"]

FEWEST_SPOTS = 10
STANDS_OUT, FEWEST_PHOTONS = 5.0, 8.0
MOST_PIXELS = 550_000
PRESENT = 0.6
"""Share of the runs in which an odd kind occurs at all."""
SHARES = (0.03, 0.2)


@dataclass(frozen=True)
class KindRun:
    """A run with frames of several kinds.

    Attributes
    ----------
    name : str
    draw : Draw
        With the odd frames in its experiment.
    """

    name: str
    draw: Draw

    @property
    def experiment(self) -> Experiment:
        """What the frames are rendered of."""
        return self.draw.experiment

    def geometry(self, folder: Path) -> Geometry:
        """Write the run's geometry into a folder, and read it."""
        path = folder / f"{self.name}.geom"
        path.write_text(geometry_text(self.experiment))
        return Geometry.read(path)

    def frame(self, index: int) -> Frame:
        """Render one frame."""
        return self._render(index)[0]

    def _render(self, index: int) -> tuple[Frame, FrameTruth]:
        data, truth = render_frame(self.experiment, index)
        mask, length = static_mask(self.experiment), self.experiment.written_clen
        frame = Frame(data, mask, truth.photon_energy, length, self.name, f"//{index}")
        return frame, truth

    def frames(self, n: int) -> Iterator[tuple[Frame, str, FrameTruth]]:
        """Render frames; yield each with its kind and the whole truth."""
        for index in range(n):
            frame, truth = self._render(index)
            yield frame, _kind(self.experiment, truth), truth


def kind_runs(family: str, n: int, seed: int = 21) -> list[KindRun]:
    """Draw runs of a family with odd frames among the others."""
    runs = []
    for number, draw in enumerate(draw_experiments(family, n, seed, most_pixels=MOST_PIXELS)):
        generator = np.random.default_rng([draw.experiment.seed, 6])
        shares = tuple(
            (kind, float(np.exp(generator.uniform(*np.log(SHARES)))))
            for kind in ODD_KINDS
            if generator.random() < PRESENT
        )
        experiment = dataclasses.replace(draw.experiment, odd=OddFrames(shares))
        runs.append(
            KindRun(f"{family}_{number:03d}", dataclasses.replace(draw, experiment=experiment))
        )
    return runs


def _kind(experiment: Experiment, truth: FrameTruth) -> str:
    if truth.kind in ODD_KINDS:
        return truth.kind
    seen = sum(each >= FEWEST_SPOTS for each in visible_spots(experiment, truth))
    return ("blank", "single crystal", "several crystals")[min(seen, 2)]


def visible_spots(experiment: Experiment, truth: FrameTruth) -> list[int]:
    """Return how many spots of each crystal stand out from the background."""
    if not len(truth.spots):
        return [0] * len(truth.reciprocal)
    q = _q_of_spots(experiment, truth)
    background = truth.background * sum(background_profiles(experiment, q))
    detector = experiment.detector
    background = background + (detector.read_noise / detector.gain) ** 2
    photons = truth.spots[:, 2]
    visible = photons > np.maximum(STANDS_OUT * np.sqrt(9 * background), FEWEST_PHOTONS)
    counts = []
    for lattice, scale in zip(truth.reciprocal, truth.photons, strict=True):
        reflections = excited_reflections(
            experiment.crystals,
            lattice,
            truth.photon_energy / HC,
            experiment.beam.bandwidth,
            scale,
            structure_seed(experiment),
        )
        # The truth lists expected photons as the reflections have them, to the last bit.
        counts.append(int(np.count_nonzero(visible & np.isin(photons, reflections[:, 2]))))
    return counts


def _q_of_spots(experiment: Experiment, truth: FrameTruth) -> NDArray[np.float64]:
    detector = experiment.detector
    height, _ = detector.module_shape
    fs, ss = truth.spots[:, 0], truth.spots[:, 1]
    number = (ss // height).astype(int)
    table = np.array(
        [
            (m.corner_x, m.corner_y, np.cos(np.radians(m.rotation)), np.sin(np.radians(m.rotation)))
            for m in detector.modules
        ]
    )[number]
    ss = ss - number * height
    x = table[:, 0] + table[:, 2] * fs - table[:, 3] * ss
    y = table[:, 1] + table[:, 3] * fs + table[:, 2] * ss
    two_theta = np.arctan2(np.hypot(x, y) * detector.pixel_size, experiment.clen)
    return 2 * np.sin(two_theta / 2) * truth.photon_energy / HC
