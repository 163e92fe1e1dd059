"""Fixtures that more than one test module needs."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.parameter_space import ParameterSpace, make_space
from wrappers.settings import Settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and cases beside the repository, or beside a folder that holds it."""
    for folder in ROOT.parents:
        if (folder / "shared" / "data").is_dir():
            return folder / "shared"
    pytest.skip(f"needs the shared data, and no folder above {ROOT} has shared/data")


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """The real and simulated data."""
    return shared / "data"


@pytest.fixture(scope="session")
def indexamajig() -> str:
    """Path of the real CrystFEL program."""
    program = os.environ.get("SFX_TUNER_INDEXAMAJIG") or shutil.which("indexamajig")
    if not program:
        pytest.skip("needs CrystFEL: indexamajig is neither on PATH nor in SFX_TUNER_INDEXAMAJIG")
    return program


class KnownLandscape:
    """A made-up run, evaluated by formula: best at min_snr 4.3, threshold 40 ADU, min_pix_count 2.

    Frames have fixed difficulties, so that more generous settings index a superset. Like a
    real indexer it takes any camera length within 2 % and nothing beyond 3 %.
    """

    def __init__(self, true_clen: float = 0.08, frames: int = 200, first: int = 0) -> None:
        self.true_clen = true_clen
        self.frames = range(first, first + frames)
        self.calls: list[Settings] = []

    def goodness(self, settings: Settings) -> float:
        assert settings.clen is not None
        off = abs(settings.clen / self.true_clen - 1)
        geometry = 1.0 if off < 0.02 else max(0.0, 1 - (off - 0.02) / 0.01)
        peaks = math.exp(
            -0.3 * (settings.min_snr - 4.3) ** 2 - 0.3 * math.log(settings.threshold / 40) ** 2
        )
        return geometry * peaks * (1.0 if settings.min_pix_count == 2 else 0.7)

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        self.calls.append(settings)
        frames = self.frames[:n_frames]
        difficulty = [(frame * 0.6180339887) % 1 / 0.8 for frame in frames]
        goodness = self.goodness(settings)
        outcomes = tuple(
            FrameOutcome(frame, 50, True, int(hard < goodness))
            for frame, hard in zip(frames, difficulty, strict=True)
        )
        n_indexed = sum(outcome.n_lattices for outcome in outcomes)
        known = n_indexed >= 3
        assert settings.clen is not None
        return Evaluation(
            settings,
            outcomes,
            n_decoys=20,
            scale_deviation=settings.clen / self.true_clen - 1 if known else math.nan,
            refined={"clen": (self.true_clen * 1.0001, 1e-5 / np.sqrt(n_indexed))} if known else {},
            seconds=0.1,
        )


@pytest.fixture
def landscape() -> KnownLandscape:
    return KnownLandscape()


@pytest.fixture
def space() -> ParameterSpace:
    return make_space(
        ("min_snr", "threshold", "min_pix_count", "clen"),
        background=(12.0, 60.0),
        camera_length=0.0784,
        pixel_size=75e-6,
        largest_radius=725.0,
    )


@pytest.fixture
def make_landscape() -> type[KnownLandscape]:
    return KnownLandscape
