"""Reading the peak lists of CXI files; `wrappers.frames.cxi` has the layout."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.cxi import (
    CAMERA_LENGTH,
    COLUMNS,
    HALF_PIXEL,
    PEAKS,
    PHOTON_ENERGY,
    SOURCE_EVENT,
    SOURCE_FILE,
)
from wrappers.peaks import PeakList

if TYPE_CHECKING:
    from wrappers.detector.geometry import Geometry

__all__ = ["CxiPeaks"]

REQUIRED = ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity")


class CxiPeaks:
    """The peak lists of a CXI file, read one at a time.

    Parameters
    ----------
    path : path
        As written by `CxiWriter`, OM, Cheetah or Psocake.
    geometry : Geometry
        Tells on which panel a peak lies; the positions must be those of its slab.

    Attributes
    ----------
    photon_energy : float64 array (n,) or None
        In eV.
    camera_length : float64 array (n,) or None
        In metres: the encoder's value, which need not be a camera length in a file that
        another program wrote.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no peak lists; on reading a list, if it is
        damaged or a peak of it lies on no panel.
    """

    def __init__(self, path: str | PathLike[str], geometry: Geometry) -> None:
        self.path = Path(path)
        self._panels = [
            (panel.slab_fs, panel.slab_ss, panel.width, panel.height) for panel in geometry.panels
        ]
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read as HDF5: {error}") from error
        missing = [n for n in ("nPeaks", *REQUIRED) if f"{PEAKS}/{n}" not in self._file]
        if missing:
            raise InputError(
                f"{self.path} holds no CXI peak lists: {PEAKS}/{missing[0]} is missing"
            )
        self._n_peaks = self._file[f"{PEAKS}/nPeaks"][:]
        self.photon_energy = self._per_frame(PHOTON_ENERGY, 1.0)
        self.camera_length = self._per_frame(CAMERA_LENGTH, 1e-3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._n_peaks)

    def __getitem__(self, index: int) -> PeakList:
        n = int(self._n_peaks[index])
        row = range(len(self))[index]
        try:
            columns = {
                name: self._file[f"{PEAKS}/{name}"][row, :n]
                if f"{PEAKS}/{name}" in self._file
                else np.zeros(n)
                for name in COLUMNS
            }
        except OSError as error:
            raise InputError(f"peak list {row} of {self.path} is damaged: {error}") from error
        fs = columns["peakXPosRaw"].astype(float) + HALF_PIXEL
        ss = columns["peakYPosRaw"].astype(float) + HALF_PIXEL
        return PeakList(
            fs=fs,
            ss=ss,
            intensity=columns["peakTotalIntensity"].astype(float),
            snr=columns["peakSNR"].astype(float),
            panel=self._panel_of(fs, ss, row),
            n_pixels=columns["peakNPixels"].astype(np.int32),
            max_value=columns["peakMaximumValue"].astype(float),
        )

    def source(self, index: int) -> tuple[str, str] | None:
        """Return the file and event that a frame came from, where the file says it."""
        if SOURCE_FILE not in self._file:
            return None
        file, event = (self._file[name].asstr()[index] for name in (SOURCE_FILE, SOURCE_EVENT))
        return file, event

    def _per_frame(self, name: str, unit: float) -> NDArray[np.float64] | None:
        return self._file[name][:] * unit if name in self._file else None

    def _panel_of(
        self, fs: NDArray[np.float64], ss: NDArray[np.float64], row: int
    ) -> NDArray[np.int32]:
        panel = np.full(len(fs), -1, np.int32)
        for number, (left, bottom, width, height) in enumerate(self._panels):
            inside = (fs >= left) & (fs < left + width) & (ss >= bottom) & (ss < bottom + height)
            panel[inside] = number
        if (panel < 0).any():
            raise InputError(
                f"peak list {row} of {self.path} has peaks that lie on no panel of the geometry, "
                "so it belongs to another detector"
            )
        return panel
