"""What is bright in a frame and no Bragg spot of its crystals: for those who learn to tell them.

Cosmic-like tracks, streaks of the jet, powder and ice rings, split spots, clusters of hot pixels,
noisy chips, bright panel edges, pixels that saturate early. A frame gets some of them, at random;
the renderer's own bad pixels come beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.simulation.experiment import Experiment
from envs.simulation.rendering import pixel_positions

__all__ = ["Artefacts"]

Floats = NDArray[np.float64]


class Artefacts:
    """Adds artefacts to the frames of an experiment.

    Parameters
    ----------
    experiment : Experiment
    """

    def __init__(self, experiment: Experiment) -> None:
        self._detector = experiment.detector
        x, y = pixel_positions(experiment)
        size = experiment.detector.pixel_size
        self._x, self._y = x / size, y / size
        self._radius = np.hypot(self._x, self._y)

    def add(
        self, frame: NDArray[np.generic], spots: Floats, rng: np.random.Generator
    ) -> tuple[NDArray[np.generic], Floats]:
        """Return a frame with artefacts, and the places that are neither right nor wrong.

        Parameters
        ----------
        frame : array (ss, fs)
            In ADU, of `envs.simulation.rendering.render_frame`.
        spots : float64 array (n, 3)
            The truth's fs, ss and expected photons.
        rng : numpy.random.Generator

        Returns
        -------
        frame : array (ss, fs)
            Of the same data type.
        doubtful : float64 array (m, 2)
            fs and ss of split spots' second maxima.
        """
        photons = np.zeros(frame.size)
        doubtful = np.empty((0, 2))
        makers: tuple[tuple[float, Callable[[Floats, np.random.Generator], None]], ...] = (
            (0.35, self._tracks),
            (0.25, self._streak),
            (0.3, self._rings),
            (0.3, self._clusters),
        )
        for chance, make in makers:
            if rng.random() < chance:
                make(photons, rng)
        if rng.random() < 0.25 and len(spots):
            doubtful = self._split(photons, spots, rng)
        gain = self._detector.gain
        data = frame.astype(np.float64).reshape(-1) + gain * rng.poisson(photons)
        if rng.random() < 0.2:
            self._noisy_chip(data, rng)
        if rng.random() < 0.3:
            self._bright_edges(data, rng)
        most = self._detector.saturation
        if rng.random() < 0.2:
            most = min(most, gain * math.exp(rng.uniform(math.log(20), math.log(400))))
        low = 0.0 if self._detector.read_noise == 0 else float(np.iinfo(self._detector.dtype).min)
        clipped = np.clip(np.rint(data), low, math.floor(most))
        return clipped.astype(frame.dtype).reshape(frame.shape), doubtful

    def _tracks(self, photons: Floats, rng: np.random.Generator) -> None:
        """Add what cosmic rays and stray electrons leave: dots and short straight tracks."""
        height, width = self._detector.shape
        for _ in range(int(rng.geometric(0.05))):
            ss, fs, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, math.pi)
            steps = np.arange(0, 1 + rng.exponential(3), 0.7)
            rows = (ss + steps * math.sin(angle)).astype(int)
            columns = (fs + steps * math.cos(angle)).astype(int)
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            level = math.exp(rng.uniform(math.log(5), math.log(300)))
            energy = level * rng.exponential(1, inside.sum())
            np.add.at(photons, rows[inside] * width + columns[inside], energy)

    def _streak(self, photons: Floats, rng: np.random.Generator) -> None:
        """Add what the jet's edge scatters: a line through the beam."""
        angle, wide = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 2.5)
        along = self._x * math.cos(angle) + self._y * math.sin(angle)
        across = self._y * math.cos(angle) - self._x * math.sin(angle)
        length = math.exp(rng.uniform(math.log(40), math.log(400)))
        level = math.exp(rng.uniform(math.log(0.5), math.log(40)))
        line = level * np.exp(-np.abs(along) / length - (across / wide) ** 2 / 2)
        if rng.random() < 0.5:
            line[along < 0] = 0
        photons += line

    def _rings(self, photons: Floats, rng: np.random.Generator) -> None:
        """Add powder or ice rings, smooth or of grains."""
        for _ in range(int(rng.integers(1, 5))):
            radius, wide = rng.uniform(0.1, 1) * self._radius.max(), rng.uniform(0.8, 5)
            level = math.exp(rng.uniform(math.log(0.2), math.log(10)))
            ring = level * np.exp(-(((self._radius - radius) / wide) ** 2) / 2)
            if rng.random() < 0.5:
                azimuth = np.arctan2(self._y, self._x) / (2 * math.pi) + 0.5
                n_grains = int(2 * math.pi * radius / rng.uniform(1.5, 12)) + 1
                grains = rng.gamma(0.3, 1 / 0.3, n_grains)
                ring *= grains[np.minimum((azimuth * n_grains).astype(int), n_grains - 1)]
            photons += ring

    def _clusters(self, photons: Floats, rng: np.random.Generator) -> None:
        """Add neighbouring hot pixels."""
        height, width = self._detector.shape
        for _ in range(int(rng.geometric(0.05))):
            row, column = int(rng.integers(height)), int(rng.integers(width))
            level = math.exp(rng.uniform(math.log(5), math.log(150)))
            for _ in range(int(rng.integers(1, 5))):
                photons[row * width + column] += level * rng.uniform(0.3, 1)
                row = min(max(row + int(rng.integers(-1, 2)), 0), height - 1)
                column = min(max(column + int(rng.integers(-1, 2)), 0), width - 1)

    def _split(self, photons: Floats, spots: Floats, rng: np.random.Generator) -> Floats:
        """Add a second maximum to most spots, as a cracked crystal has; return where they are."""
        (height, width), spread = self._detector.module_shape, self._detector.point_spread + 0.2
        angle, apart = rng.uniform(0, 2 * math.pi), rng.uniform(1.5, 5)
        second = spots[rng.random(len(spots)) < 0.7].copy()
        second[:, 0] += apart * math.cos(angle)
        second[:, 1] += apart * math.sin(angle)
        module = second[:, 1] // height
        inside = (second[:, 0] >= 0) & (second[:, 0] < width) & (second[:, 1] >= 0)
        inside &= second[:, 1] < self._detector.shape[0]
        second, module = second[inside], module[inside]
        for (fs, ss, expected), of in zip(second, module, strict=True):
            n = int(rng.poisson(min(expected, 1e5) * rng.uniform(0.2, 1)))
            columns = np.floor(fs + spread * rng.standard_normal(n)).astype(int)
            rows = np.floor(ss + spread * rng.standard_normal(n)).astype(int)
            on = (columns >= 0) & (columns < width) & (rows // height == of)
            np.add.at(photons, rows[on] * width + columns[on], 1)
        return second[:, :2]

    def _noisy_chip(self, data: Floats, rng: np.random.Generator) -> None:
        """Make a part of the detector noisier, or brighter."""
        height, width = self._detector.shape
        side = int(rng.integers(16, 128))
        top, left = int(rng.integers(height)), int(rng.integers(width))
        part = data.reshape(height, width)[top : top + side, left : left + side]
        gain = self._detector.gain
        part += gain * rng.uniform(0, 3) + gain * rng.uniform(0, 2) * rng.standard_normal(
            part.shape
        )

    def _bright_edges(self, data: Floats, rng: np.random.Generator) -> None:
        """Make the pixels along the modules' rims brighter, as larger ones are."""
        height, width = self._detector.module_shape
        by = rng.uniform(1.2, 3)
        modules = data.reshape(-1, height, width)
        modules[:, [0, -1]] *= by
        modules[:, 1:-1, [0, -1]] *= by
