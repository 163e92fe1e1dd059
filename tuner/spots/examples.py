"""Candidates with labels: of rendered frames, whose spots are known."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from envs.simulation.artefacts import Artefacts
from envs.simulation.experiment import Experiment
from envs.simulation.families import draw_experiments, family_of
from envs.simulation.simulator import read_truth, simulate_run
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.spots.candidates import CandidateFinder
from wrappers.spots.patches import FEATURES

__all__ = ["FAINT", "NEAR", "TRAINED_ON", "Examples", "label", "rendered_examples"]

TRAINED_ON = "train"
"""The only family that anything is learnt from."""

NEAR = 2.0
"""Pixels between a peak and the true spot that it is."""

FAINT = 3.0
"""Expected photons below which a spot counts neither as right nor as wrong."""

MOST_PIXELS = 1.1e6
HIT_FRACTION = 0.85
"""Of the frames, in place of the experiment's: frames without a crystal have no spot to show."""

KEPT = 700
"""Of a frame's candidates without a spot so many are kept, drawn at random."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Candidates with labels.

    Attributes
    ----------
    features : float32 array (n, len(FEATURES))
    label : float32 array (n,)
        1 for a Bragg spot, 0 for anything else.
    weight : float32 array (n,)
        How many candidates each stands for.
    group : int32 array (n,)
        The frame, or the experiment, that each is of.
    """

    features: NDArray[np.float32]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    group: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """Return all examples of some."""
        none = np.empty(0, np.float32)
        every = [cls(none.reshape(0, len(FEATURES)), none, none, none.astype(np.int32)), *parts]
        return cls(
            np.concatenate([each.features for each in every]),
            np.concatenate([each.label for each in every]),
            np.concatenate([each.weight for each in every]),
            np.concatenate([each.group for each in every]),
        )

    def of(self, chosen: NDArray[np.generic]) -> Examples:
        """Return some of them."""
        return Examples(
            self.features[chosen], self.label[chosen], self.weight[chosen], self.group[chosen]
        )


def label(
    places: NDArray[np.float64], spots: NDArray[np.float64], doubtful: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which candidates are spots, and of which nobody can say it.

    Each spot has one candidate at most, the nearest.

    Parameters
    ----------
    places : float64 array (n, 2)
        Of the candidates, in pixels.
    spots : float64 array (m, 2)
    doubtful : float64 array (k, 2)
        Further places, where a candidate is neither right nor wrong.
    """
    right, unclear = np.zeros(len(places), bool), np.zeros(len(places), bool)
    if len(spots) and len(places):
        distance, nearest = cKDTree(spots).query(places)
        found = np.zeros(len(spots), bool)
        for i in np.argsort(distance):
            if distance[i] > NEAR:
                break
            if not found[nearest[i]]:
                right[i] = found[nearest[i]] = True
    if len(doubtful) and len(places):
        unclear = (cKDTree(doubtful).query(places)[0] <= NEAR) & ~right
    return right, unclear


def rendered_examples(
    n_experiments: int,
    n_frames: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Return the candidates of rendered frames of the train family, artefacts among them.

    Parameters
    ----------
    n_experiments, n_frames : int
        Experiments, and frames of each; their candidates have the experiment's number as group.
    seed : int
    progress : callable
        Called with the experiments that are done, and with all.
    """
    parts = []
    draws = draw_experiments(TRAINED_ON, n_experiments, seed, most_pixels=MOST_PIXELS)
    for number, draw in enumerate(draws):
        rng = np.random.default_rng([seed, 7, number])
        crystals = dataclasses.replace(draw.experiment.crystals, hit_fraction=HIT_FRACTION)
        edge = draw.experiment.detector.masked_edge if rng.random() < 0.5 else 0
        detector = dataclasses.replace(draw.experiment.detector, masked_edge=edge)
        experiment = dataclasses.replace(draw.experiment, crystals=crystals, detector=detector)
        parts += _of_experiment(experiment, n_frames, number, rng)
        progress(number + 1, n_experiments)
    return Examples.joined(parts)


def _of_experiment(
    experiment: Experiment, n_frames: int, number: int, rng: np.random.Generator
) -> list[Examples]:
    if family_of(experiment) != TRAINED_ON:
        raise ValueError(f"the experiment is of the {family_of(experiment)} family")
    artefacts = Artefacts(experiment)
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate_run(experiment, Path(folder) / "run", n_frames)
        truths = read_truth(paths.truth)
        geometry = Geometry.read(paths.geometry)
        finder = CandidateFinder(geometry)
        with Run.open(paths.data, geometry) as run:
            for index, truth in enumerate(truths):
                frame = run[index]
                data, doubtful = artefacts.add(frame.data, truth.spots, rng)
                spoilt = dataclasses.replace(frame, data=data)
                candidates = finder.find(spoilt)
                is_clear = truth.spots[:, 2] >= FAINT
                clear, faint = truth.spots[is_clear, :2], truth.spots[~is_clear, :2]
                places = np.column_stack([candidates.peaks.fs, candidates.peaks.ss])
                right, unclear = label(places, clear, np.concatenate([faint, doubtful]))
                parts.append(_thinned(candidates.features, right, unclear, number, rng))
    return parts


def _thinned(
    features: NDArray[np.float32],
    right: NDArray[np.bool_],
    unclear: NDArray[np.bool_],
    group: int,
    rng: np.random.Generator,
) -> Examples:
    """Return all true spots of a frame, and some of what is none, with the weight of all of it."""
    wrong = np.flatnonzero(~right & ~unclear)
    kept = wrong if len(wrong) <= KEPT else rng.choice(wrong, KEPT, replace=False)
    chosen = np.concatenate([np.flatnonzero(right), kept])
    weight = np.ones(len(chosen), np.float32)
    weight[right.sum() :] = len(wrong) / max(len(kept), 1)
    return Examples(
        features[chosen],
        right[chosen].astype(np.float32),
        weight,
        np.full(len(chosen), group, np.int32),
    )
