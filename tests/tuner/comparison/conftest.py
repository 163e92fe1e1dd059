"""Recorded frames that look, as the agent needs it, in two halves."""

from __future__ import annotations

import numpy as np
import pytest

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from tuner.comparison.frames import Scored, compare_on_frames

METHODS = ("map-agent", "warm-gp", "defaults")


@pytest.fixture(scope="session")
def halves() -> tuple[RecordedEvaluator, RecordedEvaluator]:
    """The 60 frames of the CrystFEL-simulated run."""
    record = FrameRecord.read(RECORDS / "runs_000.npz")
    order = np.random.default_rng(0).permutation(len(record.counts))
    one, other = (RecordedEvaluator(record, part.tolist()) for part in np.split(order, 2))
    return one, other


@pytest.fixture(scope="session")
def splits(halves: tuple[RecordedEvaluator, RecordedEvaluator]) -> list[Scored]:
    """Three searches of every one of `METHODS`; in the second, the halves change places."""
    return [
        compare_on_frames(
            *halves[:: 1 if seed % 2 == 0 else -1], halves[0].space, None, METHODS,
            budget=12, seed=seed,
        )
        for seed in range(3)
    ]  # fmt: skip
