"""Where the pixels are: CrystFEL's detector geometry.

The laboratory frame is CrystFEL's: z along the beam, away from the source; y up; x completes the
right-handed system. Lengths are in metres. Scattering vectors are in 1/Å with k = 1/λ (no 2π).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.detector.geom_parser import parse_geometry
from wrappers.detector.panels import HC, BadRegion, Block, Header, Panel, lay_out
from wrappers.errors import InputError
from wrappers.peaks import PeakList

__all__ = ["Geometry"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """A detector as a CrystFEL geometry file describes it.

    Attributes
    ----------
    path : Path
        The file that it was read from.
    panels : tuple of Panel
    bad_regions : tuple of BadRegion
    blocks : tuple of Block
        How a frame is read from its data sets into the slab.
    slab_shape : tuple of int
        Shape (ss, fs) of a frame.
    photon_energy : float, Header or None
        In eV; None where the file does not say.
    clen_header : Header or None
        Where the camera length is a value of the data file.
    shift_x, shift_y : float
        Shift of the whole detector in metres, as far as the file gives it as a number; the
        positions here contain it.
    shift_headers : tuple of 2 of Header or None
        Where the shift is a value of the data file.
    """

    path: Path
    panels: tuple[Panel, ...]
    bad_regions: tuple[BadRegion, ...]
    blocks: tuple[Block, ...]
    slab_shape: tuple[int, int]
    photon_energy: float | Header | None
    clen_header: Header | None
    shift_x: float = 0.0
    shift_y: float = 0.0
    shift_headers: tuple[Header | None, Header | None] = (None, None)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Geometry:
        """Read a CrystFEL geometry file.

        Raises
        ------
        InputError
            If it cannot be read or makes no sense.
        """
        path = Path(path)
        parsed = parse_geometry(path)
        panels, blocks, shape = lay_out(parsed.panels, str(path))
        x, y = (None if isinstance(shift, Header) else shift for shift in parsed.shifts)
        in_x, in_y = (shift if isinstance(shift, Header) else None for shift in parsed.shifts)
        return cls(
            path=path,
            panels=panels,
            bad_regions=tuple(parsed.bad_regions),
            blocks=blocks,
            slab_shape=shape,
            photon_energy=parsed.photon_energy,
            clen_header=parsed.clen_header,
            shift_x=x or 0.0,
            shift_y=y or 0.0,
            shift_headers=(in_x, in_y),
        )

    @cached_property
    def z_offsets(self) -> Floats:
        """How far downstream of the mean camera length each panel is, in metres (n_panels,)."""
        z = np.array([(panel.clen or 0.0) + panel.coffset for panel in self.panels])
        return z - z.mean()

    def camera_length(self, header: float | None = None) -> float:
        """Return the mean over the panels of ``clen`` + ``coffset``, in metres.

        Parameters
        ----------
        header : float, optional
            The number in the data file, needed where `clen_header` says so.

        Raises
        ------
        InputError
            If the geometry gives no ``clen``, or takes it from the data and no number is given.
        """
        coffset = float(np.mean([panel.coffset for panel in self.panels]))
        if self.clen_header is not None:
            if header is None:
                raise InputError(
                    f"the camera length of {self.path} is in the data, at {self.clen_header.path}: "
                    "open a run with it"
                )
            return self.clen_header.convert(header) + coffset
        if any(panel.clen is None for panel in self.panels):
            raise InputError(
                f"{self.path} gives no camera length: add a line such as 'clen = 0.1 m'"
            )
        return float(np.mean([panel.clen for panel in self.panels])) + coffset

    def adu_per_photon(self, photon_energy: float) -> float | None:
        """Return the data's units per photon, or None where the geometry does not say."""
        panel = self.panels[0]
        if panel.adu_per_ev is not None:
            return panel.adu_per_ev * photon_energy
        return panel.adu_per_photon

    def lab_positions(
        self,
        fs: ArrayLike,
        ss: ArrayLike,
        panel: ArrayLike,
        camera_length: float,
        shift_x: float = 0.0,
        shift_y: float = 0.0,
    ) -> Floats:
        """Return positions in the laboratory.

        Parameters
        ----------
        fs, ss : array_like (n,)
            Slab coordinates in pixels; pixel *i* spans *i* to *i* + 1.
        panel : array_like of int (n,)
            Index of the panel that each point is on.
        camera_length : float
            Mean over the panels of ``clen`` + ``coffset``, in metres.
        shift_x, shift_y : float
            Further shift of the detector, in metres.

        Returns
        -------
        float64 array (n, 3)
            In metres.
        """
        panel = np.asarray(panel, dtype=np.intp)
        corner, fs_step, ss_step = self._frames
        fs = (np.asarray(fs, dtype=np.float64) - self._slab_origin[0][panel])[:, None]
        ss = (np.asarray(ss, dtype=np.float64) - self._slab_origin[1][panel])[:, None]
        position = corner[panel] + fs * fs_step[panel] + ss * ss_step[panel]
        return position + np.array([shift_x, shift_y, camera_length])

    def scattering_vectors(
        self,
        peaks: PeakList,
        photon_energy: float,
        camera_length: float,
        shift_x: float = 0.0,
        shift_y: float = 0.0,
    ) -> Floats:
        """Return the peaks' scattering vectors q = k_out − k_in.

        Parameters
        ----------
        peaks : PeakList
        photon_energy : float
            In eV.
        camera_length, shift_x, shift_y : float
            As for `lab_positions`.

        Returns
        -------
        float64 array (n, 3)
            In 1/Å.
        """
        position = self.lab_positions(
            peaks.fs, peaks.ss, peaks.panel, camera_length, shift_x, shift_y
        )
        position /= np.linalg.norm(position, axis=1)[:, None]
        position[:, 2] -= 1.0
        return position * (photon_energy / HC)

    def pixel_corners(self, index: int) -> tuple[Floats, Floats]:
        """Return lab x and y of the corners of a panel's pixels, in pixel widths (height, width).

        The order of the additions is CrystFEL's, so that truncated values agree with its own.
        """
        panel = self.panels[index]
        fs, ss = np.arange(float(panel.width)), np.arange(float(panel.height))[:, None]
        corners = (
            panel.corner_x + self.shift_x * panel.res,
            panel.corner_y + self.shift_y * panel.res,
        )
        x, y = (
            corner + fs * panel.fs_vector[axis] + ss * panel.ss_vector[axis]
            for axis, corner in enumerate(corners)
        )
        return x, y

    def radius_map(self) -> NDArray[np.float32]:
        """Return each pixel's distance from the beam as peakfinder8 counts it.

        The x and y of the pixel's corner, in pixel widths, are truncated towards zero before
        the root is taken in single precision.

        Returns
        -------
        float32 array (ss, fs)
            Infinite where there is no panel.
        """
        radius = np.full(self.slab_shape, np.inf, np.float32)
        for i, panel in enumerate(self.panels):
            x, y = (np.trunc(corner) for corner in self.pixel_corners(i))
            radius[panel.rectangle] = np.sqrt(x * x + y * y)
        return radius

    def static_mask(self) -> NDArray[np.bool_]:
        """Return the mask of bad panels, bad regions, panel edges and pixels without a panel.

        The masks that are stored in files are `masks.stored_masks`.

        Returns
        -------
        bool array (ss, fs)
            True where a pixel is usable.
        """
        mask = np.zeros(self.slab_shape, bool)
        for i, panel in enumerate(self.panels):
            if panel.no_index:
                continue
            usable = np.ones((panel.height, panel.width), bool)
            if panel.edge:
                usable[: panel.edge] = usable[-panel.edge :] = False
                usable[:, : panel.edge] = usable[:, -panel.edge :] = False
            for region in self.bad_regions:
                if region.panel in ("", panel.name):
                    self._strike(region, i, usable)
            mask[panel.rectangle] = usable
        return mask

    def _strike(self, region: BadRegion, index: int, usable: NDArray[np.bool_]) -> None:
        """Mark a bad region on one panel's mask."""
        low, high, low_2, high_2 = region.limits
        if region.in_lab:
            x, y = self.pixel_corners(index)
            usable[(x > low) & (x < high) & (y > low_2) & (y < high_2)] = False
            return
        panel = self.panels[index]

        def span(first: float, last: float, origin: int) -> slice:
            return slice(max(math.ceil(first) - origin, 0), max(math.floor(last) - origin + 1, 0))

        usable[span(low_2, high_2, panel.min_ss), span(low, high, panel.min_fs)] = False

    @cached_property
    def _slab_origin(self) -> tuple[Floats, Floats]:
        return (
            np.array([panel.slab_fs for panel in self.panels], dtype=np.float64),
            np.array([panel.slab_ss for panel in self.panels], dtype=np.float64),
        )

    @cached_property
    def _frames(self) -> tuple[Floats, Floats, Floats]:
        """Per panel, in metres: its corner (z from the mean camera length), fs step, ss step."""
        shift = (self.shift_x, self.shift_y)

        def rows(row: Callable[[Panel], tuple[float, float, float]]) -> Floats:
            return np.array([np.divide(row(panel), panel.res) for panel in self.panels])

        corner = rows(lambda panel: (panel.corner_x, panel.corner_y, 0.0))
        corner[:, :2] += shift
        corner[:, 2] = self.z_offsets
        return corner, rows(lambda panel: panel.fs_vector), rows(lambda panel: panel.ss_vector)
