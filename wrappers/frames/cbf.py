"""Single images in CBF files (PILATUS, older EIGER), packed with gzip or not, and lists of them.

What the geometry says of data sets and dimensions has no meaning there: a file is a frame, as for
CrystFEL. Decoding is fabio's.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import MODULE
from wrappers.errors import InputError
from wrappers.extras import require
from wrappers.frames.events import read_list
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.hdf5_links import why_unfit
from wrappers.frames.header_values import require_plausible
from wrappers.frames.source import FrameSource
from wrappers.frames.stored import StoredFrames
from wrappers.masks.masks import flag_values

__all__ = ["CBF_SUFFIXES", "CBFFrames"]

CBF_SUFFIXES = (".cbf", ".gz")
EVENT = "//"
MOST_PIXELS = 2**27
_HEADER = 1 << 16
"""Bytes before the image that hold its sizes."""
_SIZE = re.compile(rb"X-Binary-Size(|-Fastest-Dimension|-Second-Dimension):\s*(\d{1,12})")
_MARKER = b"\x0c\x1a\x04\xd5"
"""Between the sizes and the image."""
LARGEST_FILE = 2**29
"""Bytes, unpacked."""


class CBFFrames(FrameSource):
    """Frames in files of one image each; `CBFFrames.open` makes them.

    Parameters
    ----------
    geometry : Geometry
    names : sequence of str
        The files.
    """

    def __init__(self, geometry: Geometry, names: Sequence[str]) -> None:
        self.geometry = geometry
        self._names = tuple(names)
        self._stored = StoredFrames(geometry)
        self._notes = geometry.notes

    @classmethod
    def open(cls, path: str | os.PathLike[str], geometry: Geometry) -> CBFFrames:
        """Open a file, or a list of files.

        Raises
        ------
        InputError
            If a file is missing, the first one cannot be read, or the geometry wants what such
            files do not hold.
        """
        path = Path(path)
        if fault := why_unfit(str(path)):
            raise InputError(f"{path} {fault}: give a CBF file, or a list of such files")
        if path.suffix.lower() in CBF_SUFFIXES:
            names = [str(path.absolute())]
        else:
            names = [file for file, _ in read_list(path)]
        block = geometry.blocks[0]
        if len(geometry.blocks) > 1 or MODULE in block.dims:
            raise InputError(
                f"{geometry.path} has panels in several data sets, but a CBF file holds one image: "
                "give all panels their places in that image"
            )
        headers = (geometry.photon_energy, geometry.clen_header, *geometry.shift_headers)
        if any(hasattr(each, "path") for each in headers):
            raise InputError(
                f"{geometry.path} takes the photon energy, clen or shift from headers, which are "
                "not read from CBF files: give numbers"
            )
        if any(mask.file is None for panel in geometry.panels for mask in panel.masks):
            raise InputError(
                f"{geometry.path} names a mask without a file, but a CBF file holds none: add "
                "mask0_file, or use flag_lessthan = 0"
            )
        frames = cls(geometry, names)
        frames.photon_energy(0)
        frames.camera_length(0)
        frames[0]
        frames._notes += tuple(frames._stored.idle_masks(names[0], EVENT))
        return frames

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the geometry and its masks, a sentence each."""
        return self._notes

    @property
    def n_frames(self) -> int:
        """Number of files."""
        return len(self._names)

    @property
    def files(self) -> list[Path]:
        """The files, each once."""
        return [Path(name) for name in dict.fromkeys(self._names)]

    def name(self, index: int) -> tuple[str, str]:
        """Return a frame's file, and the event that CrystFEL gives it."""
        return self._names[index], EVENT

    def __getitem__(self, index: int) -> Frame:
        """Read a frame.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        file = self._names[index]
        image = _read_image(file)
        block = self.geometry.blocks[0]
        if image.shape[0] < block.height or image.shape[1] < block.width:
            raise InputError(
                f"{file} has {image.shape[0]} x {image.shape[1]} pixels (ss x fs), but "
                f"{self.geometry.path} needs {block.height} x {block.width}: give the geometry of "
                "this detector"
            )
        data = np.ascontiguousarray(image[: block.height, : block.width])
        return Frame(
            data=data,
            mask=flag_values(self.geometry, data, self.static_mask(index)),
            photon_energy=self.photon_energy(index),
            camera_length=self.camera_length(index),
            file=file,
            event=EVENT,
        )

    def static_mask(self, index: int) -> Mask:
        """Return the mask that all frames share: don't write to it."""
        return self._stored.static_mask(self._names[index], EVENT)[0]

    def photon_energy(self, index: int) -> float:
        """Return the geometry's photon energy in eV."""
        energy = self.geometry.photon_energy
        if not isinstance(energy, float | int):
            raise InputError(
                f"{self.geometry.path} gives no photon energy: add a line such as "
                "'photon_energy = 12400 eV'"
            )
        require_plausible(energy, "photon energy", str(self.geometry.path))
        return energy

    def camera_length(self, index: int) -> float:
        """Return the geometry's camera length in metres."""
        length = self.geometry.camera_length()
        require_plausible(length, "camera length (clen + coffset)", str(self.geometry.path))
        return length

    def shift(self, index: int) -> tuple[float, float]:
        """Return no shift: such files say of none."""
        return 0.0, 0.0


def _read_image(file: str) -> NDArray[Any]:
    """Return the image of a CBF file."""
    require("cbf", f"{file}, a CBF file,")
    import fabio.cbfimage

    if fault := why_unfit(file):
        raise InputError(f"{file} {fault}: correct its name")
    try:
        with gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({error}): copy it again") from None
    head, marker, image_and_rest = content.partition(_MARKER)
    sizes = {key: int(size) for key, size in _SIZE.findall(head[-_HEADER:])}
    if not content.startswith(b"###CBF: VERSION") or not marker or len(sizes) != 3:
        raise InputError(f"{file} is no CBF file with an image: check its name")
    shape = sizes[b"-Second-Dimension"], sizes[b"-Fastest-Dimension"]
    if shape[0] * shape[1] > MOST_PIXELS or len(content) > LARGEST_FILE:
        raise InputError(f"{file} declares {shape[0]} x {shape[1]} pixels: it is damaged")
    if len(image_and_rest) < sizes[b""]:
        raise InputError(f"{file} is cut short: it is damaged, copy it again")
    try:
        data = np.asarray(fabio.cbfimage.CbfImage().read(io.BytesIO(content)).data)
    except Exception as error:  # fabio raises whatever its decoders do
        raise InputError(
            f"{file} cannot be decoded ({str(error)[:200] or type(error).__name__}): copy it again"
        ) from None
    if data.ndim != 2 or data.dtype.kind not in "iuf" or data.shape != shape:
        raise InputError(f"{file} cannot be decoded: it is damaged, copy it again")
    return data
