"""Peak lists, in CrystFEL's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_N_PEAKS", "PeakList"]

MAX_N_PEAKS = 2048
"""CrystFEL's own limit of a frame's peaks."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PeakList:
    """The Bragg peaks found in one frame.

    Attributes
    ----------
    fs, ss : float64 array (n,)
        Centroids in the frame's own array, where pixel *i* spans *i* to *i* + 1 as in a
        CrystFEL stream (a CXI file holds 0.5 less).
    intensity : float64 array (n,)
        Background-subtracted sum, in the data's units (ADU).
    snr : float64 array (n,)
        Intensity over the standard deviation of the local background's pixels.
    panel : int32 array (n,)
        Index of the panel in the geometry.
    n_pixels : int32 array (n,)
        Number of pixels above the limits.
    max_value : float64 array (n,)
        Largest background-subtracted pixel, in ADU.
    """

    fs: Floats
    ss: Floats
    intensity: Floats
    snr: Floats
    panel: NDArray[np.int32]
    n_pixels: NDArray[np.int32]
    max_value: Floats

    def __len__(self) -> int:
        return len(self.fs)

    @classmethod
    def empty(cls) -> PeakList:
        """Return a list without peaks."""
        floats, ints = np.empty(0), np.empty(0, np.int32)
        return cls(floats, floats, floats, floats, ints, ints, floats)
