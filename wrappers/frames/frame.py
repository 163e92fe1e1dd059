"""One detector image, and what is known of the moment it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Mask"]

Mask = NDArray[np.bool_]
"""Which pixels (ss, fs) are usable."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One detector image.

    Attributes
    ----------
    data : array (ss, fs)
        The slab, in the file's data type.
    mask : bool array (ss, fs)
        True where a pixel is usable. Frames share one array where they can: don't write to it.
    photon_energy : float
        In eV.
    camera_length : float
        Mean over the panels of ``clen`` + ``coffset``, in metres.
    file, event : str
        As CrystFEL names the frame.
    shift_x, shift_y : float
        Shift of the detector in metres, where the geometry takes it from the data.
    """

    data: NDArray[Any]
    mask: Mask
    photon_energy: float
    camera_length: float
    file: str
    event: str
    shift_x: float = 0.0
    shift_y: float = 0.0
