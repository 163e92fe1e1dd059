"""Runs of frames in HDF5 files, read lazily, frame by frame.

A run is one HDF5 file with any number of frames (multi-event HDF5, CXI, an NXmx master with
linked or virtual data), or a CrystFEL list of such files. Where the frames are in a file is for
the geometry to say, as for CrystFEL: ``data``, and ``dim0 = %`` and so on.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Header
from wrappers.errors import InputError
from wrappers.frames.events import find_events, read_list
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.hdf5 import is_hdf5
from wrappers.frames.source import FrameSource
from wrappers.frames.stored import Place, StoredFrames
from wrappers.masks.masks import flag_values

__all__ = ["HDF5_SUFFIXES", "Run"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs", ".nexus")


class Run(FrameSource):
    """The frames of a run; `Run.open` makes one.

    ``len(run)`` is their number and ``run[i]`` reads one of them. A run can be pickled, and used
    after a fork: each process opens the files for itself.

    Parameters
    ----------
    geometry : Geometry
    names : sequence of (file, event)
    """

    def __init__(self, geometry: Geometry, names: Sequence[tuple[str, str]]) -> None:
        self.geometry = geometry
        self._names = tuple(names)
        self._stored = StoredFrames(geometry)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        geometry: Geometry,
        events: Sequence[str] | None = None,
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

        Raises
        ------
        InputError
            If a file is missing or damaged, if it does not hold what the geometry says, or if
            there is no frame.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path} does not exist: check its name")
        if path.is_dir():
            raise InputError(f"{path} is a folder: give an HDF5 file in it, or a list of files")
        if is_hdf5(path) or path.suffix.lower() in HDF5_SUFFIXES:
            wanted = [
                (str(path.absolute()), event) for event in ([""] if events is None else events)
            ]
        else:
            wanted = read_list(path)
        run = cls(geometry, ())
        expanded = {
            file: find_events(run._stored.files, file, geometry)
            for file in dict.fromkeys(file for file, event in wanted if not event)
        }
        names: list[tuple[str, str]] = []
        for file, event in wanted:
            names += [(file, each) for each in ([event] if event else expanded[file])]
        if not names:
            raise InputError(f"{path} holds no frame: give a run with at least one")
        run._names = tuple(names)
        for name in sorted({name for name in wanted if name[1]} | {names[0]}):
            run._stored.places(*name)
        run.photon_energy(0)
        run.camera_length(0)
        run._stored.static_mask(*names[0])
        return run

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
        shift_x, shift_y = (
            0.0 if header is None else self._header(file, event, header, "detector_shift")
            for header in self.geometry.shift_headers
        )
        return Frame(
            data=data,
            mask=flag_values(self.geometry, data, self._stored.mask(file, event)),
            photon_energy=self.photon_energy(index),
            camera_length=self.camera_length(index),
            file=file,
            event=event,
            shift_x=shift_x,
            shift_y=shift_y,
        )

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
            _require_positive(value, "photon energy", "eV", f"{energy.path} of {file} {event}")
            return value
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
        _require_positive(value, "camera length (clen + coffset)", "m", place)
        return value

    def _header(self, file: str, event: str, header: Header, field: str) -> float:
        return header.convert(self._stored.number(file, event, header, field))


def _require_positive(value: float, name: str, unit: str, place: str) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"the {name} in {place} is {value:g} {unit}, but must be above 0")
