"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real and simulated data beside the repository."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the shared data, and {path} does not exist")
    return path


@pytest.fixture(scope="session")
def indexamajig() -> str:
    """Path of the real CrystFEL program."""
    program = os.environ.get("SFX_TUNER_INDEXAMAJIG") or shutil.which("indexamajig")
    if not program:
        pytest.skip("needs CrystFEL: indexamajig is neither on PATH nor in SFX_TUNER_INDEXAMAJIG")
    return program
