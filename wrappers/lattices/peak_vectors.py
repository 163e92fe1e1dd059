"""The peaks of one frame as scattering vectors, as the search for an unknown cell takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PeakVectors"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PeakVectors:
    """The peaks of one frame.

    Attributes
    ----------
    q : float64 array (n, 3)
        Scattering vectors in 1/Å.
    strength : float64 array (n,)
        Their intensities.
    wavenumber : float
        1/λ in 1/Å.
    """

    q: Floats
    strength: Floats
    wavenumber: float
