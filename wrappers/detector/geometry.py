"""Where the pixels are: CrystFEL's detector geometry.

The laboratory frame is CrystFEL's: z along the beam, away from the source; y up; x completes the
right-handed system. Lengths are in metres. Scattering vectors are in 1/Å with k = 1/λ (no 2π).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wrappers.detector.bad_regions import covered, pixel_corners
from wrappers.detector.geom_parser import parse_geometry
from wrappers.detector.panel_checks import check_panels
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
    notes : tuple of str
        What the file says without effect, or with another than its writer may have thought.
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
    notes: tuple[str, ...] = ()

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
        notes = [*parsed.notes, *check_panels(panels, str(path))]
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
            notes=tuple(notes),
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
        if self.clen_header is not None:
            if header is None:
                raise InputError(
                    f"the camera length of {self.path} is in the data, at {self.clen_header.path}: "
                    "open a run with it"
                )
            return self.clen_header.convert(header) + self._mean_coffset
        return self._own_camera_length

    @cached_property
    def _mean_coffset(self) -> float:
        return float(np.mean([panel.coffset for panel in self.panels]))

    @cached_property
    def _own_camera_length(self) -> float:
        if any(panel.clen is None for panel in self.panels):
            raise InputError(
                f"{self.path} gives no camera length: add a line such as 'clen = 0.1 m'"
            )
        return float(np.mean([panel.clen for panel in self.panels])) + self._mean_coffset

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
        """Return lab x and y of a panel's pixel corners, in pixel widths (height, width)."""
        return pixel_corners(self.panels[index], self.shift_x, self.shift_y)

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

    @property
    def reach(self) -> float:
        """Largest distance of a pixel from the beam, in metres."""
        radius = self.radius_map()
        return float(radius[np.isfinite(radius)].max()) / self.panels[0].res

    def static_mask(self) -> NDArray[np.bool_]:
        """Return the mask of what is the same in all frames, as far as this geometry says.

        These are bad panels, bad regions, panel edges and pixels without a panel. Where the
        data says how the detector is shifted, the regions in the laboratory are `lab_mask`'s. The
        masks that are stored in files are `masks.stored_masks`.

        Returns
        -------
        bool array (ss, fs)
            True where a pixel is usable.

        Raises
        ------
        InputError
            If a bad region covers no pixel.
        """
        mask = np.zeros(self.slab_shape, bool)
        for panel in self.panels:
            usable = np.full((panel.height, panel.width), not panel.no_index)
            if panel.edge:
                usable[: panel.edge] = usable[-panel.edge :] = False
                usable[:, : panel.edge] = usable[:, -panel.edge :] = False
            mask[panel.rectangle] = usable
        for region in self.bad_regions:
            if region.in_lab and self.shifted_by_data:
                continue
            if not self._strike(region, mask):
                raise InputError(
                    f"the bad region {region.name} of {self.path} covers no pixel: correct its "
                    "limits, or remove it"
                )
        return mask

    @property
    def shifted_by_data(self) -> bool:
        """Whether the data says, perhaps for each frame, how the detector is shifted."""
        return any(self.shift_headers)

    def lab_mask(self) -> NDArray[np.bool_] | None:
        """Return the mask of the bad regions in the laboratory that `static_mask` leaves out.

        Returns
        -------
        bool array (ss, fs) or None
            True where a pixel is usable; None if there is no such region.
        """
        regions = [region for region in self.bad_regions if region.in_lab]
        if not regions or not self.shifted_by_data:
            return None
        mask = np.ones(self.slab_shape, bool)
        for region in regions:
            self._strike(region, mask)
        return mask

    def moved(self, shift_x: float, shift_y: float) -> Geometry:
        """Return the geometry of a detector that is shifted further, by metres."""
        if not (shift_x or shift_y):
            return self
        return dataclasses.replace(
            self, shift_x=self.shift_x + shift_x, shift_y=self.shift_y + shift_y
        )

    def _strike(self, region: BadRegion, mask: NDArray[np.bool_]) -> bool:
        """Mark a bad region on a mask of the slab; return whether it covers any pixel."""
        found = False
        for panel in self.panels:
            bad = covered(region, panel, self.shift_x, self.shift_y)
            if bad.any():
                mask[panel.rectangle] &= ~bad
                found = True
        return found

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
