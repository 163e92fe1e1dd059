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
from wrappers.frames.hdf5_links import link_fault, pieces, why_unfit
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
        if fault := why_unfit(str(path)):
            raise InputError(f"the map of bad pixels {path} {fault}: name a file of sfx-tuner mask")
        try:
            with h5py.File(path, "r") as file:
                if GROUP not in file:
                    raise InputError(
                        f"{path} holds no map of bad pixels ({GROUP}): name a file that sfx-tuner "
                        "mask wrote; other masks belong into the geometry (mask0_file)"
                    )
                hot, noisy, dead = (_sigma(file, path, kind, geometry) for kind in KINDS)
                n_frames = file[GROUP].attrs["n_frames"]
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a map of bad pixels: {error}") from error
        if not isinstance(n_frames, np.integer | int) or n_frames < 0:
            raise InputError(
                f"{path} cannot be read as a map of bad pixels: its n_frames is no number of frames"
            )
        return cls(hot, noisy, dead, int(n_frames))


def _sigma(file: h5py.File, path: Path, kind: str, geometry: Geometry) -> NDArray[np.float16]:
    """Read how bad the pixels are in one way, once it is clear that it is that."""
    name = f"{GROUP}/{kind}"
    if fault := link_fault(file, str(path), name):
        raise InputError(fault)
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or stored.dtype.kind not in "fiu" or stored.is_virtual:
        raise InputError(
            f"{path} cannot be read as a map of bad pixels: {name} holds no numbers; make one with "
            "sfx-tuner mask"
        )
    if stored.shape != geometry.slab_shape:
        raise InputError(
            f"the map of bad pixels {path} has {stored.shape} pixels, but {geometry.path} has "
            f"{geometry.slab_shape}: make one from frames of this detector"
        )
    if fault := pieces(stored, str(path))[0].fault:
        raise InputError(fault)
    return stored.astype(np.float16)[()]
