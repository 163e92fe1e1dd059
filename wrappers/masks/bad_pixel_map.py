"""The map of the bad pixels, from which the mask at any thresholds follows at once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.schema_arrays import open_hdf5, stored_array
from wrappers.settings import Settings

__all__ = ["KINDS", "BadPixelMap"]

KINDS = ("hot", "noisy", "dead")

GROUP = "/sigma"


@dataclass(frozen=True, eq=False)
class BadPixelMap:
    """How far each pixel is from what its neighbours do, in robust standard deviations.

    From it the mask at any thresholds follows at once. 0 where nothing is known: outside the
    panels and where the geometry masks the pixel.

    Attributes
    ----------
    hot, noisy, dead : float16 array (ss, fs)
        Too bright; too restless; too faint and too still (added in quadrature, because a dead
        pixel is both) or too unresponsive.
    n_frames : int
        Frames that it was made from.
    """

    hot: NDArray[np.float16]
    noisy: NDArray[np.float16]
    dead: NDArray[np.float16]
    n_frames: int

    def beyond(self, kind: str, settings: Settings) -> NDArray[np.bool_]:
        """Return which pixels are bad in one of the `KINDS` at the settings' threshold."""
        sigma: NDArray[np.float16] = getattr(self, kind)
        threshold: float = getattr(settings, f"mask_{kind}_sigma")
        return sigma > threshold if threshold else np.zeros(sigma.shape, bool)

    def save(self, path: Path) -> None:
        """Write an HDF5 file; it appears whole or not at all.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            self.write_into(file)
        write_whole(path, content.getvalue())

    def write_into(self, file: h5py.File) -> None:
        """Write the map into an open HDF5 file, as the group ``/sigma``."""
        for kind in KINDS:
            file.create_dataset(
                f"{GROUP}/{kind}", data=getattr(self, kind), compression="gzip", shuffle=True
            )
        file[GROUP].attrs["n_frames"] = self.n_frames

    @classmethod
    def load(cls, path: Path, geometry: Geometry) -> BadPixelMap:
        """Read the map of a file that `save` or ``sfx-tuner mask`` wrote.

        Raises
        ------
        InputError
            If it cannot be read, holds no map, or that of another detector.
        """
        what, remedy = "the map of bad pixels", "make it anew with sfx-tuner mask"
        with open_hdf5(path, what, remedy) as file:
            if file.get(GROUP, getlink=True) is None:
                raise InputError(
                    f"{path} holds no map of bad pixels ({GROUP}): name a file that sfx-tuner "
                    "mask wrote; other masks belong into the geometry (mask0_file)"
                )
            hot, noisy, dead = (
                stored_array(file, f"{GROUP}/{kind}", "f", (None, None)) for kind in KINDS
            )
            n_frames = np.asarray(file[GROUP].attrs["n_frames"])
            if n_frames.shape or n_frames.dtype.kind not in "iu":
                raise ValueError(f"n_frames of {GROUP} is no number")
            if any(np.isnan(each).any() for each in (hot, noisy, dead)):
                raise ValueError("it holds values that are no numbers")
            found = cls(hot, noisy, dead, int(n_frames))
        if {each.shape for each in (hot, noisy, dead)} != {geometry.slab_shape}:
            raise InputError(
                f"the map of bad pixels {path} has {hot.shape} pixels, but {geometry.path} has "
                f"{geometry.slab_shape}: make one from frames of this detector"
            )
        return found
