"""Runs of frames in HDF5 files, read lazily, frame by frame.

A run is one HDF5 file with any number of frames (multi-event HDF5, CXI, an NXmx master with
linked or virtual data), or a CrystFEL list of such files. Where the frames are in a file is for
the geometry to say, as for CrystFEL: ``data``, and ``dim0 = %`` and so on.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Header
from wrappers.errors import InputError
from wrappers.frames.events import find_events, read_list
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.hdf5 import is_hdf5
from wrappers.frames.hdf5_links import why_unfit
from wrappers.frames.header_values import require_plausible
from wrappers.frames.source import FrameSource
from wrappers.frames.stored import Place, StoredFrames
from wrappers.masks.masks import flag_values

__all__ = ["HDF5_SUFFIXES", "Run"]

LARGEST_SHIFT = 2.0
"""In metres."""

SOME = 64
"""So many pixels are compared before all are."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs", ".nexus")


class Run(FrameSource):
    """The frames of a run; `Run.open` makes one.

    ``len(run)`` is their number and ``run[i]`` reads one of them. A run can be pickled, and used
    after a fork: each process opens the files for itself.

    Parameters
    ----------
    geometry : Geometry
    names : sequence of (file, event)
    growing : bool
        Whether the files may be written meanwhile; the frames are those of the moment.
    """

    def __init__(
        self, geometry: Geometry, names: Sequence[tuple[str, str]], growing: bool = False
    ) -> None:
        self.geometry = geometry
        self._names = tuple(names)
        self._stored = StoredFrames(geometry, growing)
        self._notes = geometry.notes

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        geometry: Geometry,
        events: Sequence[str] | None = None,
        growing: bool = False,
    ) -> Run:
        """Open a run.

        Parameters
        ----------
        path : path
            An HDF5 file, or a list: a text file of lines ``file`` or ``file //event``. Relative
            names in it count from the working directory, as for CrystFEL, else from the list's
            own folder.
        geometry : Geometry
        events : sequence of str, optional
            Only these events of an HDF5 file, such as "//3".
        growing : bool, optional
            Whether the files may be written meanwhile; the frames are those of the moment.

        Raises
        ------
        InputError
            If a file is missing or damaged, if it does not hold what the geometry says, or if
            there is no frame.
        """
        path = Path(path)
        if fault := why_unfit(str(path)):
            raise InputError(f"{path} {fault}: give an HDF5 file, or a list of files")
        if is_hdf5(path) or path.suffix.lower() in HDF5_SUFFIXES:
            wanted = [
                (str(path.absolute()), event) for event in ([""] if events is None else events)
            ]
        else:
            wanted = read_list(path)
        run = cls(geometry, (), growing)
        expanded: dict[str, list[str]] = {}
        notes = list(geometry.notes)
        for file in dict.fromkeys(file for file, event in wanted if not event):
            expanded[file], missing = find_events(run._stored.files, file, geometry)
            notes += missing
        names: list[tuple[str, str]] = []
        for file, event in wanted:
            names += [(file, each) for each in ([event] if event else expanded[file])]
        if not names:
            raise InputError(f"{path} holds no frame: give a run with at least one")
        run._names, run._notes = tuple(names), tuple(notes)
        for name in sorted({name for name in wanted if name[1]} | {names[0]}):
            run._stored.places(*name)
        run.photon_energy(0)
        run.camera_length(0)
        run._stored.static_mask(*names[0])
        run._notes += tuple(run._stored.idle_masks(*names[0]))
        return run

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the geometry and the files, a sentence each."""
        return self._notes

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self._names)

    def __getitem__(self, index: int) -> Frame:
        """Read a frame.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        file, event = self._names[index]
        data = self._stored.slab(file, event)
        if data.size > 1 and (data.flat[0] == data.flat[:SOME]).all() and _is_one_value(data):
            raise InputError(
                f"{file} {event} was never written: all its pixels are {data.flat[0]:g}"
            )
        shift_x, shift_y = self.shift(index)
        mask = self._stored.mask(file, event, (shift_x, shift_y))
        return Frame(
            data=data,
            mask=flag_values(self.geometry, data, mask),
            photon_energy=self.photon_energy(index),
            camera_length=self.camera_length(index),
            file=file,
            event=event,
            shift_x=shift_x,
            shift_y=shift_y,
        )

    def shift(self, index: int) -> tuple[float, float]:
        """Return a frame's shift of the detector along x and y, in metres.

        That is what the data says; a shift that the geometry states is not in it.

        Raises
        ------
        InputError
            If the file has no sensible one.
        """
        file, event = self._names[index]
        x, y = (
            0.0 if header is None else self._header(file, event, header, "detector_shift")
            for header in self.geometry.shift_headers
        )
        for value in (x, y):
            if not abs(value) <= LARGEST_SHIFT:
                raise InputError(
                    f"the detector shift of {file} {event} is {value:g} m, but no detector moves "
                    f"by {LARGEST_SHIFT:g} m: check the unit of detector_shift_x and _y in "
                    f"{self.geometry.path}"
                )
        return x, y

    def places(self, index: int) -> list[Place]:
        """Return where a frame is stored: for each block the data set, and the index into it.

        Raises
        ------
        InputError
            If it is not where the geometry says.
        """
        return self._stored.places(*self._names[index])

    def name(self, index: int) -> tuple[str, str]:
        """Return a frame's file and event, as CrystFEL writes them."""
        return self._names[index]

    def static_mask(self, index: int) -> Mask:
        """Return what holds for all frames of a frame's file (ss, fs): don't write to it.

        That is all that the geometry masks, but for masks that are stored for each event and
        for pixels flagged by their value.

        Raises
        ------
        InputError
            If a mask cannot be read.
        """
        return self._stored.static_mask(*self._names[index])[0]

    @property
    def files(self) -> list[Path]:
        """The different files that the frames are named in."""
        return [Path(file) for file in dict.fromkeys(file for file, _ in self._names)]

    def select(self, indices: Sequence[int]) -> Run:
        """Return a run of some of the frames, in the order given."""
        run = copy.copy(self)
        run.__dict__.pop("nominal_clen", None)
        run._names = tuple(self._names[i] for i in indices)
        return run

    def close(self) -> None:
        """Close the files; a frame that is read later opens them again."""
        self._stored.files.close()

    def photon_energy(self, index: int) -> float:
        """Return a frame's photon energy in eV.

        Raises
        ------
        InputError
            If neither the geometry nor the file has a sensible one.
        """
        file, event = self._names[index]
        energy = self.geometry.photon_energy
        if energy is None:
            raise InputError(
                f"{self.geometry.path} gives no photon energy: add a line such as "
                "'photon_energy = 9500 eV'"
            )
        if isinstance(energy, Header):
            value = self._header(file, event, energy, "photon_energy or wavelength")
            require_plausible(value, "photon energy", f"{energy.path} of {file} {event}")
            return value
        require_plausible(energy, "photon energy", str(self.geometry.path))
        return energy

    def camera_length(self, index: int) -> float:
        """Return a frame's camera length in metres: mean over the panels of clen + coffset.

        Raises
        ------
        InputError
            If neither the geometry nor the file has a sensible one.
        """
        file, event = self._names[index]
        header = self.geometry.clen_header
        place = str(self.geometry.path)
        if header is None:
            value = self.geometry.camera_length()
        else:
            value = self.geometry.camera_length(self._stored.number(file, event, header, "clen"))
            place += f" (with {header.path} of {file} {event})"
        require_plausible(value, "camera length (clen + coffset)", place)
        return value

    def _header(self, file: str, event: str, header: Header, field: str) -> float:
        return header.convert(self._stored.number(file, event, header, field))


def _is_one_value(data: NDArray[Any]) -> bool:
    return bool((data == data.flat[0]).all())
