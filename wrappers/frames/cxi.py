"""Writing CXI files: peak lists with or without the frames that they belong to.

The layout is that of Cheetah and OM, which CrystFEL reads with ``--peaks=cxi``
(`nPeaks`, `peakXPosRaw`, `peakYPosRaw` and `peakTotalIntensity` are all it looks at). In a CXI
file the first pixel's centre is at 0; in a `PeakList`, as in CrystFEL, it is at 0.5.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frames.filters import COMPRESSION
from wrappers.frames.stored_images import ImageForm, StoredImage
from wrappers.frames.whole_hdf5 import WholeHDF5
from wrappers.peaks import PeakList

__all__ = [
    "GEOMETRY_MARK",
    "CxiWriter",
    "create_images",
    "geometry_mark",
    "is_geometry_of",
    "is_peak_list",
    "stored_peaks",
]

DATA = "/entry_1/data_1/data"
MASK = "/entry_1/data_1/mask"
PEAKS = "/entry_1/result_1"
PHOTON_ENERGY = "/LCLS/photon_energy_eV"
CAMERA_LENGTH = "/LCLS/detector_1/EncoderValue"
SOURCE_FILE, SOURCE_EVENT = f"{PEAKS}/sourceFile", f"{PEAKS}/sourceEvent"
COLUMNS = {
    "peakXPosRaw": np.float32,
    "peakYPosRaw": np.float32,
    "peakTotalIntensity": np.float32,
    "peakSNR": np.float32,
    "peakMaximumValue": np.float32,
    "peakNPixels": np.int32,
}
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""For lists and masks: the only filter that every HDF5 reader has."""
HALF_PIXEL = 0.5
CREATOR = "sfx-tuner"
"""Attribute of the root, as NeXus has it."""
GEOMETRY_MARK = "geometry_sha256"
"""Attribute of the peaks: a digest of the geometry that is written beside them."""
BUFFERED_FRAMES = 64


def create_images(
    file: h5py.File, name: str, n: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5py.Dataset:
    """Create a data set of `n` images or more: a chunk each, bitshuffled, LZ4-compressed."""
    return file.create_dataset(
        name,
        (n, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(1, *shape),
        **COMPRESSION,
    )


def is_peak_list(path: Path) -> bool:
    """Whether a file is a `CxiWriter`'s, of peaks without images: it is soon made again."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("creator") == CREATOR and DATA not in file
    except (OSError, ValueError, RuntimeError):
        return False


def stored_peaks(file: h5py.File, row: int) -> PeakList:
    """Return the peaks of a frame of a `CxiWriter`'s file; their panels are not in it."""
    n = int(file[f"{PEAKS}/nPeaks"][row])
    x, y, *others = (file[f"{PEAKS}/{name}"][row, :n].astype(float) for name in COLUMNS)
    intensity, snr, largest, n_pixels = others
    panel = np.full(n, -1, np.int32)
    return PeakList(
        *(x + HALF_PIXEL, y + HALF_PIXEL, intensity, snr, panel),
        *(n_pixels.astype(np.int32), largest),
    )


def geometry_mark(text: str) -> str:
    """Return what a peak list notes of the geometry that is written beside it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def is_geometry_of(path: Path, peaks: Path) -> bool:
    """Whether a geometry is the one that was written beside a peak list, and not edited since."""
    try:
        with h5py.File(peaks, "r") as file:
            mark = file[PEAKS].attrs.get(GEOMETRY_MARK)
        return mark is not None and mark == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, RuntimeError, KeyError):
        return False


class CxiWriter:
    """Writes peak lists frame by frame; the file appears when all is well.

    It is written under a temporary name in the same folder and renamed by `close`; if the
    ``with`` block is left by an exception, nothing remains of it and an older file of that
    name stays as it was. At most 64 frames' peak lists are held in memory.

    Parameters
    ----------
    path : path
    attributes : mapping, optional
        Written as attributes of ``/entry_1/result_1``; None values are left out.
    sources : bool, optional
        Whether the file says which file and event each frame came from.

    Attributes
    ----------
    file : File
        For what else belongs into it.

    Raises
    ------
    InputError
        If the file cannot be created.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        attributes: Mapping[str, object] | None = None,
        sources: bool = False,
    ) -> None:
        self.path = Path(path)
        self._n = 0
        self._width = 0
        self._pending: list[tuple[PeakList, float, float, tuple[str, str]]] = []
        self._whole = WholeHDF5(self.path)
        self.file = self._whole.file
        self._images: dict[str, h5py.Dataset] = {}
        self._forms: dict[str, ImageForm] = {}
        self._last_mask: NDArray[np.bool_] | None = None
        self._create_lists(dict(attributes or {}), sources)

    def __len__(self) -> int:
        return self._n + len(self._pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def append(
        self,
        peaks: PeakList,
        photon_energy: float,
        camera_length: float,
        *,
        source: tuple[str, str] = ("", ""),
        image: NDArray[np.generic] | StoredImage | None = None,
        mask: NDArray[np.bool_] | StoredImage | None = None,
    ) -> None:
        """Add one frame.

        Parameters
        ----------
        peaks : PeakList
        photon_energy : float
            In eV.
        camera_length : float
            In metres (the file has it in millimetres).
        source : (str, str), optional
            File and event that the frame came from.
        image : array (ss, fs) or StoredImage, optional
            The frame itself. Either all frames have one or none has. A stored one is copied as it
            is; they must be of one form.
        mask : bool array (ss, fs) or StoredImage, optional
            True is usable; the file has 0 for that, 1 for bad, and so has a stored mask. All
            frames have one or none has. The same array again is taken to hold the same values.

        Raises
        ------
        InputError
            If the file cannot be written, for want of space say, if a stored image cannot be
            read, or if images differ in type.
        """
        if image is not None:
            self._write_image(DATA, image)
        if isinstance(mask, StoredImage):
            self._write_image(MASK, mask)
        elif mask is not None:
            self._write_mask(mask)
        self._pending.append((peaks, photon_energy, camera_length, source))
        if len(self._pending) == BUFFERED_FRAMES:
            self._flush()
        self._whole.check()

    def add(self, name: str, values: object, dtype: str | None = None) -> None:
        """Write a further data set: a string, or numbers of the type given."""
        self.file.create_dataset(name, data=values, dtype=dtype)
        self._whole.check()

    def complete(self) -> None:
        """Write all to the disk; only the name is missing then.

        Raises
        ------
        InputError
            If something could not be written.
        """
        if self.file:
            self._flush()
            for images in self._images.values():
                images.resize(len(self), axis=0)
        self._whole.close()

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            self.complete()
            self._whole.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop what was written; after `close` there is nothing to drop."""
        self._pending.clear()
        self._whole.discard()

    def _create_lists(self, attributes: dict[str, object], sources: bool) -> None:
        def column(name: str, dtype: object) -> h5py.Dataset:
            return self.file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1024,))

        self.file["cxi_version"] = 140
        self.file.attrs["creator"] = CREATOR
        self._tables = {
            name: self.file.create_dataset(
                f"{PEAKS}/{name}",
                (0, 0),
                dtype,
                maxshape=(None, None),
                chunks=(BUFFERED_FRAMES, 64),
                **PACKED,
            )
            for name, dtype in COLUMNS.items()
        }
        self._n_peaks = column(f"{PEAKS}/nPeaks", np.int32)
        self._photon_energy = column(PHOTON_ENERGY, np.float64)
        self._camera_length = column(CAMERA_LENGTH, np.float64)
        names = (SOURCE_FILE, SOURCE_EVENT) if sources else ()
        self._sources = [column(name, h5py.string_dtype()) for name in names]
        for name, value in attributes.items():
            if value is not None:
                self.file[PEAKS].attrs[name] = value

    def _write_image(self, name: str, values: NDArray[np.generic] | StoredImage) -> None:
        if name not in self._images:
            self._images[name] = (
                values.form.create(self.file, name, values.shape)
                if isinstance(values, StoredImage)
                else create_images(self.file, name, 0, values.shape, values.dtype)
            )
            if isinstance(values, StoredImage):
                self._forms[name] = values.form
        images, row = self._row(name)
        if not isinstance(values, StoredImage):
            images[row] = values
        elif values.form == self._forms.get(name):
            values.copy_to(images, row)
        else:
            raise InputError(
                f"the images for {self.path} are {images.dtype} and {values.form.dtype}, or packed "
                "in different ways: take the runs one by one"
            )

    def _row(self, name: str) -> tuple[h5py.Dataset, int]:
        """Return a data set of images, and the row of the next one, for which there is room."""
        images, row = self._images[name], len(self)
        if row % BUFFERED_FRAMES == 0:
            images.resize(row + BUFFERED_FRAMES, axis=0)  # `complete` takes back what is not used
        return images, row

    def _write_mask(self, mask: NDArray[np.bool_]) -> None:
        if mask is not self._last_mask:
            self._last_mask = mask
            self._write_image(MASK, (~mask).view(np.uint8))
            return
        # Frames share a mask as a rule: it is compressed once.
        dataset, row = self._row(MASK)
        filters, chunk = dataset.id.read_direct_chunk((row - 1, 0, 0))
        dataset.id.write_direct_chunk((row, 0, 0), chunk, filters)

    def _flush(self) -> None:
        if not self._pending:
            return
        lists = [peaks for peaks, *_ in self._pending]
        rows = slice(self._n, self._n + len(lists))
        self._width = max(self._width, *(len(peaks) for peaks in lists))
        for name, table in self._tables.items():
            block = np.zeros((len(lists), self._width), COLUMNS[name])
            for line, peaks in zip(block, lists, strict=True):
                line[: len(peaks)] = _column(peaks, name)
            table.resize((rows.stop, self._width))
            table[rows] = block
        _, energies, lengths, sources = zip(*self._pending, strict=True)
        _extend(self._n_peaks, rows, [len(peaks) for peaks in lists])
        _extend(self._photon_energy, rows, energies)
        _extend(self._camera_length, rows, np.asarray(lengths) * 1e3)
        for dataset, values in zip(self._sources, zip(*sources, strict=True), strict=False):
            # As bytes: names may be in another code than UTF-8.
            _extend(dataset, rows, [os.fsencode(value) for value in values])
        self._n = rows.stop
        self._pending.clear()


def _column(peaks: PeakList, name: str) -> NDArray:
    match name:
        case "peakXPosRaw":
            return peaks.fs - HALF_PIXEL
        case "peakYPosRaw":
            return peaks.ss - HALF_PIXEL
        case "peakTotalIntensity":
            return peaks.intensity
        case "peakSNR":
            return peaks.snr
        case "peakMaximumValue":
            return peaks.max_value
        case _:
            return peaks.n_pixels


def _extend(dataset: h5py.Dataset, rows: slice, values: object) -> None:
    dataset.resize((rows.stop,))
    dataset[rows] = values
