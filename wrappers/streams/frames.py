"""Messages of a stream as frames of a geometry."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Header
from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.header_values import require_plausible
from wrappers.frames.stored import StoredFrames
from wrappers.masks.masks import flag_values
from wrappers.streams.messages import SeriesStart, Shot

__all__ = ["FrameMaker", "OtherFrames", "mask_of_recording"]

SAME_PIXELS = 0.01
"""Relative difference of two pixel sizes that are the same."""
SAME_SERIES = 1e-3
"""Relative difference of two series' energies or distances that are read anew for each."""
_UNFIT = re.compile(r"[^\w.:+-]")
"""What does not stand in the name of a frame, which begins with its series."""
NAMED = "or with -g a geometry that has the name of it in the messages"
"""What else to do where a number is not found that comes with each image."""
SAME_ENERGY, SAME_DISTANCE = 0.005, 0.02
"""Beyond, what the stream says of itself and what the geometry says are said to differ."""


class OtherFrames(InputError):
    """What comes is not of the geometry, or of another series than what came before."""


class FrameMaker:
    """Makes frames of the images of a stream.

    Photon energy and camera length are the geometry's where it gives them as numbers, else the
    stream's. Masked is what the geometry masks by itself and by mask files of its own, what the
    stream masks, and pixels with the type's largest number, which stands for no data.

    Parameters
    ----------
    address : str
        For messages, and for the names of the frames.
    geometry : Geometry
        Both are attributes, too.
    every_series : bool
        Whether a series with another energy or distance is taken like any other.
    before : (float or None, float or None)
        Photon energy (eV) and distance (m) of frames that a program before this one took.

    Attributes
    ----------
    own_mask : bool array (ss, fs)
        What the geometry and its mask files mask, whatever the stream says; True is usable.

    Raises
    ------
    InputError
        If the geometry takes something from the data that a stream does not have.
    """

    def __init__(
        self,
        address: str,
        geometry: Geometry,
        *,
        every_series: bool = False,
        before: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.address, self.geometry, self._every_series = address, geometry, every_series
        if geometry.shifted_by_data:
            raise InputError(
                f"{geometry.path} takes the detector's shift from the data, which a stream does "
                "not have: give detector_shift_x and detector_shift_y as numbers"
            )
        self.own_mask = StoredFrames(geometry).mask_of_own_files()
        self._mask = self.own_mask
        self._series: SeriesStart | None = None
        self._taken: tuple[float | None, float | None] = before

    @property
    def notes(self) -> list[str]:
        """What the geometry says otherwise than the stream, a sentence each."""
        start, geometry, found = self._series, self.geometry, []
        files = {mask.file for panel in geometry.panels for mask in panel.masks}
        names = {Path(file).name for file in files if file is not None}
        if None in files and mask_of_recording(geometry.path).name not in names:
            found.append(
                f"{geometry.path} takes a mask from the data file, which a stream does not have: "
                "the stream's own pixel mask takes its place"
            )
        if start is None:
            return found
        if isinstance(geometry.photon_energy, float) and start.photon_energy:
            given, theirs = geometry.photon_energy, start.photon_energy
            if abs(theirs / given - 1) > SAME_ENERGY:
                found.append(
                    f"the stream says {theirs:.6g} eV, {geometry.path} {given:.6g} eV, which is "
                    "taken"
                )
        if geometry.clen_header is None and start.distance:
            clen = geometry.camera_length()
            if abs(start.distance / clen - 1) > SAME_DISTANCE:
                found.append(
                    f"the stream says that the detector is {start.distance:.6g} m away, "
                    f"{geometry.path} {clen:.6g} m, which is taken"
                )
        return found

    def begin(self, start: SeriesStart) -> str:
        """Take what a series says of itself.

        Returns
        -------
        str
            A sentence, where its frames have another energy or distance than those before, by more
            than 0.1 %; else "". What the geometry gives as a number is that of all series.

        Raises
        ------
        OtherFrames
            If its images are not of the geometry, or it is another series than the one before:
            of another size, and unless `every_series` of another energy or distance.
        """
        shape, geometry = self.geometry.slab_shape, self.geometry
        if start.shape is not None:
            self._require_shape(start.shape)
        pixel = 1 / geometry.panels[0].res
        if start.pixel_size is not None and abs(start.pixel_size / pixel - 1) > SAME_PIXELS:
            raise OtherFrames(
                f"the pixels of {self.address} are {1e6 * start.pixel_size:.4g} µm wide, those of "
                f"{geometry.path} {1e6 * pixel:.4g} µm: give the geometry of this detector"
            )
        energy, distance = self._taken_from(start)
        is_other = self._other_words(energy, distance)
        if is_other and not self._every_series:
            raise OtherFrames(is_other)
        self._taken = energy or self._taken[0], distance or self._taken[1]
        self._series = start
        self._mask = self.own_mask
        if start.mask is not None and start.mask.shape == shape:
            self._mask = self.own_mask & start.mask
        return is_other

    def _taken_from(self, start: SeriesStart) -> tuple[float | None, float | None]:
        """Return the energy and distance that frames have of a series: what geometries leave it."""
        geometry = self.geometry
        return (
            None if isinstance(geometry.photon_energy, float) else start.photon_energy,
            None if geometry.clen_header is None else start.distance,
        )

    def _other_words(self, *now: float | None) -> str:
        found = [
            f"{new:.6g} {unit} instead of {old:.6g} {unit}"
            for new, old, unit in zip(now, self._taken, ("eV", "m"), strict=True)
            if new and old and abs(new / old - 1) > SAME_SERIES
        ]
        if not found:
            return ""
        return (
            f"another series begins on {self.address}, with {' and '.join(found)}: its frames are "
            "not put together with those before"
        )

    def lost_beginning(self, shot: Shot) -> OtherFrames | None:
        """Return what to say of an image whose series' beginning was lost, or None.

        Where none has come yet, frames are taken in the middle of a series.
        """
        if self._series is None or self._series.series == shot.series:
            return None
        return OtherFrames(
            f"the message with which a series of {self.address} begins was lost, and nobody knows "
            "its images' energy, distance and mask"
        )

    def reading(self, shot: Shot) -> Callable[[], Frame]:
        """Return what makes a frame of an image, in any thread, also once another series began.

        That raises OtherFrames where the image is not of the geometry's size, or nobody says its
        energy or camera length, and InputError where it cannot be unpacked.
        """
        return partial(self._frame, shot, self._series, self._mask)

    def _frame(self, shot: Shot, series: SeriesStart | None, mask: Mask) -> Frame:
        data = shot.unpack()
        if data.ndim != 2:
            raise InputError(f"an image of {self.address} has not two dimensions")
        self._require_shape((data.shape[0], data.shape[1]))
        mask = _valued(data, mask, series)
        energy, length = self._energy(shot, series), self._camera_length(shot, series)
        name = f"{_UNFIT.sub('_', shot.series.strip('/'))}//{shot.number}"
        require_plausible(energy, "photon energy", f"{self.address} {name}")
        require_plausible(length, "camera length (clen + coffset)", f"{self.address} {name}")
        return Frame(
            data=data,
            mask=flag_values(self.geometry, data, mask),
            photon_energy=energy,
            camera_length=length,
            file=self.address,
            event=name,
        )

    def _require_shape(self, shape: tuple[int, int]) -> None:
        ours = self.geometry.slab_shape
        if shape != ours:
            raise OtherFrames(
                f"the images of {self.address} have {shape[0]} x {shape[1]} pixels (ss x fs), "
                f"those of {self.geometry.path} {ours[0]} x {ours[1]}: give the geometry of this "
                "detector"
            )

    def _energy(self, shot: Shot, series: SeriesStart | None) -> float:
        if isinstance(self.geometry.photon_energy, float):
            return self.geometry.photon_energy
        header = self.geometry.photon_energy
        stored = self._stored(header, shot) if isinstance(header, Header) else None
        found = (
            header.convert(stored) if isinstance(header, Header) and stored is not None else None
        )
        if found is None and series is not None:
            found = series.photon_energy
        if not found:
            raise OtherFrames(
                f"neither {self.address} nor {self.geometry.path} gives the photon energy as a "
                f"number: add a line such as 'photon_energy = 9500 eV', {NAMED}"
            )
        return found

    def _camera_length(self, shot: Shot, series: SeriesStart | None) -> float:
        if self.geometry.clen_header is None:
            return self.geometry.camera_length()
        stored = self._stored(self.geometry.clen_header, shot)
        if stored is not None:
            return self.geometry.camera_length(stored)
        found = series and series.distance
        if not found:
            raise OtherFrames(
                f"{self.address} does not say the detector's distance, and "
                f"{self.geometry.path} takes it from the data: give clen as a number, {NAMED}"
            )
        return found

    def _stored(self, header: Header, shot: Shot) -> float | None:
        """Return the number of a header's name that came with an image.

        In a file it may stand in a group, in a message it does not: the last part of the path is
        taken, too, unless two headers of the geometry have it in common.
        """
        path = header.path.lstrip("/")
        stored = shot.values.get(path)
        headers = (self.geometry.photon_energy, self.geometry.clen_header)
        lasts = [_last_part(each) for each in headers if isinstance(each, Header)]
        if stored is None and lasts.count(_last_part(header)) == 1:
            stored = shot.values.get(_last_part(header))
        return stored


def mask_of_recording(geometry: Path) -> Path:
    """Return where a recording has the mask of its stream's geometry, by its own geometry's name.

    The mask in its data file is that, and what was masked in each of its frames besides.
    """
    return geometry.with_suffix(".mask.h5")


def _last_part(header: Header) -> str:
    return header.path.rpartition("/")[2]


def _valued(data: np.ndarray, mask: Mask, series: SeriesStart | None) -> Mask:
    """Return the mask, without pixels that have no value; shared where all have one."""
    nothing = series.error_value if series is not None else None
    if nothing is None and data.dtype.kind == "u":
        nothing = int(np.iinfo(data.dtype).max)
    if nothing is None:
        return mask
    empty = data == nothing
    return mask & ~empty if (empty & mask).any() else mask
