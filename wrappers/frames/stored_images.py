"""Images as HDF5 files hold them: chunks that are copied without being unpacked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5p

from wrappers.frames.hdf5 import Selection, reading
from wrappers.frames.source import FrameSource
from wrappers.frames.whole_chunks import chunk_corners, in_whole_chunks

__all__ = ["ImageForm", "OwnImages", "StoredImage", "StoredImages"]

_FILTERS = {1: 0, 2: 1, 3: 0, 32000: 3, 32001: 0, 32004: 0, 32008: 3, 32015: 0}
"""HDF5's numbers of the filters that can be asked for again, and how many values each puts before
those that it is given: deflate, shuffle, Fletcher's checksum, LZF, Blosc (which wants room for its
own), LZ4, bitshuffle, zstd."""
_VERSIONS = {32000: 2, 32001: 2, 32008: 2}
"""So many of a filter's first values are versions of its own, which do not tell how to unpack."""

_Filter = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class ImageForm:
    """How images are stored.

    Attributes
    ----------
    dtype : dtype
        Of the pixels, byte order included.
    chunk : (int, int)
        Rows and columns of a chunk; images consist of whole chunks.
    filters : tuple
        Each filter's number, and what it was given.
    """

    dtype: np.dtype[Any]
    chunk: tuple[int, int]
    filters: tuple[_Filter, ...]

    @classmethod
    def of(cls, dataset: h5py.Dataset, chunk: tuple[int, int]) -> Self | None:
        """Return the form of a data set's images; None where another one cannot have the same."""
        plist = dataset.id.get_create_plist()
        filters = _filters(plist)
        if any(code not in _FILTERS for code, _ in filters):
            return None
        given = tuple((code, values[_FILTERS[code] :]) for code, values in filters)
        form = cls(dataset.dtype, chunk, given)
        try:
            with h5py.File(io.BytesIO(), "w") as trial:
                made = form.create(trial, "trial", chunk)
                same = _telling(_filters(made.id.get_create_plist())) == _telling(filters)
        except (OSError, RuntimeError, ValueError):  # a filter that can only unpack
            return None
        return form if same else None

    def create(self, file: h5py.File, name: str, shape: tuple[int, int]) -> h5py.Dataset:
        """Create a data set for images of this form, with none in it."""
        plist = h5p.create(h5p.DATASET_CREATE)
        for code, values in self.filters:
            plist.set_filter(code, 0, values)
        return file.create_dataset(
            name,
            (0, *shape),
            self.dtype,
            maxshape=(None, *shape),
            chunks=(1, *self.chunk),
            dcpl=plist,
        )


def _filters(plist: Any) -> list[_Filter]:
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return [(code, tuple(values)) for code, _, values, _ in found]


def _telling(filters: list[_Filter]) -> list[_Filter]:
    return [(code, values[_VERSIONS.get(code, 0) :]) for code, values in filters]


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image in an HDF5 data set, as some of its chunks.

    Attributes
    ----------
    dataset : Dataset
    form : ImageForm
    shape : (int, int)
        Rows and columns of the image.
    pieces : tuple
        Of each chunk its place in the data set, and its first row and column in the image.
    where : (str, str)
        File and name of the data set, for messages.
    """

    dataset: h5py.Dataset
    form: ImageForm
    shape: tuple[int, int]
    pieces: tuple[tuple[tuple[int, ...], tuple[int, int]], ...]
    where: tuple[str, str]

    def copy_to(self, images: h5py.Dataset, row: int) -> None:
        """Write the image, as it is packed, to a row of a data set of `form`.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        with reading(*self.where):
            for place, corner in self.pieces:
                filters, chunk = self.dataset.id.read_direct_chunk(place)
                images.id.write_direct_chunk((row, *corner), chunk, filters)


class OwnImages:
    """Images in a file of the program's own, one above the other.

    Parameters
    ----------
    dataset : Dataset
        As `ImageForm.create` or `cxi.create_images` makes it.

    Raises
    ------
    ValueError
        If it is another one.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset, self._shape = dataset, dataset.shape[1:]
        if dataset.ndim != 3 or (chunk := _chunk_in_image(dataset, self._place(0))) is None:
            raise ValueError(f"{dataset.name} holds no images")
        form = ImageForm.of(dataset, chunk)
        if form is None:
            raise ValueError(f"{dataset.name} is packed in an unknown way")
        self._form, self._where = form, (dataset.file.filename, dataset.name)
        self._n = len(dataset)

    def __getitem__(self, row: int) -> StoredImage:
        if not 0 <= row < self._n:
            raise ValueError(f"{self._where[1]} has no image {row}")
        pieces = tuple(_pieces(self._dataset, self._place(row)))
        return StoredImage(self._dataset, self._form, self._shape, pieces, self._where)

    def _place(self, row: int) -> Selection:
        return (row, *(slice(0, size) for size in self._shape))


class StoredImages:
    """Finds the images of a source's frames, where HDF5 files hold them in whole chunks.

    Parameters
    ----------
    source : FrameSource
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._last: tuple[h5py.Dataset, ImageForm | None, tuple[str, str]] | None = None

    def find(self, index: int) -> StoredImage | None:
        """Return a frame's slab as it is stored; None where it is not so stored.

        Raises
        ------
        InputError
            If the frame is not where it should be.
        """
        places = self._source.places(index)
        if places is None or len(places) != 1:
            return None
        ((block, dataset, selection),) = places
        shape = self._source.geometry.slab_shape
        if (block.modules * block.height, block.width) != shape:
            return None
        chunk = _chunk_in_image(dataset, selection)
        if chunk is None:
            return None
        if self._last is None or self._last[0] is not dataset:
            where = dataset.file.filename, dataset.name
            self._last = dataset, ImageForm.of(dataset, chunk), where
        _, form, where = self._last
        if form is None:
            return None
        return StoredImage(dataset, form, shape, tuple(_pieces(dataset, selection)), where)


def _chunk_in_image(dataset: h5py.Dataset, selection: Selection) -> tuple[int, int] | None:
    """Return rows and columns of a chunk in an image that consists of whole ones."""
    if dataset.chunks is None or dataset.is_virtual:
        return None
    if not in_whole_chunks(selection, dataset.chunks):
        return None
    sizes = [
        (place.stop, chunk)
        for place, chunk in zip(selection, dataset.chunks, strict=True)
        if isinstance(place, slice)
    ]
    if len(sizes) == 2:
        return sizes[0][1], sizes[1][1]
    if len(sizes) == 3:
        (_, modules), (height, rows), (_, columns) = sizes
        # Rows of several modules follow each other only where they are whole.
        return (modules * rows, columns) if modules == 1 or rows == height else None
    return None


def _pieces(
    dataset: h5py.Dataset, selection: Selection
) -> Iterator[tuple[tuple[int, ...], tuple[int, int]]]:
    """Yield the place of each chunk of an image, and its first row and column there."""
    sizes = {d: place.stop for d, place in enumerate(selection) if isinstance(place, slice)}
    *module, row, column = sizes
    for corner in chunk_corners(selection, dataset.chunks):
        first = sum(corner[d] for d in module) * sizes[row]
        yield corner, (first + corner[row], corner[column])
