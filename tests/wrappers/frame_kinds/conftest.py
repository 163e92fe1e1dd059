"""Frames of every kind, rendered once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from envs.simulation.experiment import (
    ODD_KINDS,
    BackgroundModel,
    BadPixels,
    Crystals,
    Experiment,
    OddFrames,
    demo_experiment,
)
from envs.simulation.rendering import render_frame, static_mask
from envs.simulation.simulator import geometry_text
from tests.array_source import ArraySource
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame

N_FRAMES = 90


def experiment_with(shares: dict[str, float], seed: int = 21) -> Experiment:
    return dataclasses.replace(
        demo_experiment(seed=seed),
        crystals=Crystals(hit_fraction=0.5, photons=3000.0, photons_spread=0.4, multi_fraction=0),
        background=BackgroundModel(level=2.0, jitter=0.2),
        bad_pixels=BadPixels(masked=1.0),
        odd=OddFrames(tuple(shares.items())),
    )


def render(experiment: Experiment, n: int, folder: Path) -> tuple[ArraySource, list[str]]:
    """Return a run in memory and the kinds that the simulator says."""
    path = folder / "run.geom"
    path.write_text(geometry_text(experiment))
    frames, kinds = [], []
    for index in range(n):
        data, truth = render_frame(experiment, index)
        mask, length = static_mask(experiment), experiment.written_clen
        frames.append(Frame(data, mask, truth.photon_energy, length, "memory", f"//{index}"))
        ordinary = "blank" if truth.kind == "blank" else "single crystal"
        kinds.append(truth.kind if truth.kind in ODD_KINDS else ordinary)
    return ArraySource(Geometry.read(path), frames), kinds


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> tuple[ArraySource, list[str]]:
    """A run with frames of every kind."""
    experiment = experiment_with(dict.fromkeys(ODD_KINDS, 0.1))
    return render(experiment, N_FRAMES, tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[ArraySource, list[str]]:
    """A run of blank frames and crystals, with the beam off in some."""
    experiment = experiment_with({"beam off": 0.15})
    return render(experiment, N_FRAMES, tmp_path_factory.mktemp("plain"))
