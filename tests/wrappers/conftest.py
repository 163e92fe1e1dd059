"""Stills of perfect crystals, as scattering vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.simulation.stills import is_same_lattice, simulate_still, turn_around

Floats = NDArray[np.float64]


@pytest.fixture
def simulate() -> Callable[..., tuple[Floats, Floats]]:
    return simulate_still


@pytest.fixture
def scramble() -> Callable[[Floats, np.random.Generator], Floats]:
    return turn_around


@pytest.fixture
def same_lattice() -> Callable[..., bool]:
    return is_same_lattice
