"""Parts of a reduction: a batch of frames, searched and written by one process.

A part is an HDF5 file that says, in `FRAMES` and `HITS`, what became of every frame of the batch.
It has the hits' peaks and masks, but their images only where those cannot be copied from the run
as they are stored there. It appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.frame_kinds import KindTeller, Told
from wrappers.frames.cxi import create_images
from wrappers.frames.source import FrameSource
from wrappers.frames.stored_images import ImageForm, OwnImages, StoredImage, StoredImages
from wrappers.frames.whole_hdf5 import WholeHDF5
from wrappers.indexing import Pattern
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peakfinding.kernel_arguments import peak_lists
from wrappers.peakfinding.peak_batch import FindsPeaks
from wrappers.peakfinding.peak_measurement import PEAK_ROWS
from wrappers.reduction.placed import Placed, place
from wrappers.schema import Count, read_json_text
from wrappers.schema_arrays import open_hdf5, own_dataset, stored_array, stored_text
from wrappers.settings import Settings

__all__ = [
    "FRAMES",
    "HITS",
    "UNREADABLE",
    "Batch",
    "Hit",
    "Part",
    "Reducer",
    "SettingsSet",
    "hits_of_part",
    "peaks_of_frames",
    "read_part",
]

FRAMES = "/sfx_tuner/frames"
"""Group of data sets with a row for each frame, in the run's order."""
HITS = "/sfx_tuner/hits"
"""Group of data sets with a row for each hit; in a part one data set."""
DOCUMENT = "/part"
PEAKS, IMAGES, MASKS = "/peaks", "/images", "/masks"
"""The peaks of all hits (see `PEAK_ROWS`); images that are not the run's as stored; different
masks."""
COLUMNS = (
    "frame",
    "shift_x",
    "shift_y",
    "photon_energy",
    "camera_length",
    "n_peaks",
    "mask",
    "image",
)
"""Of `HITS` in a part, where it is one table of numbers, each as in `Hit`; of mask and image, which
one of the part's it is."""

UNREADABLE = -1
"""In place of a number of peaks."""
AS_STORED = -1
"""In place of an image's number: it is in the run."""
WHOLE = {"frame": 0, "n_peaks": 0, "mask": 0, "image": AS_STORED}
"""The columns of whole numbers, and the least of each."""


@dataclass(frozen=True)
class SettingsSet:
    """Settings, and the name under which they are recorded."""

    settings: Settings
    name: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"name": self.name, "settings": self.settings.as_dict()}


@dataclass(frozen=True)
class Batch:
    """Frames `first` to `stop` - 1 of a run, the batch of that number."""

    number: int
    first: int
    stop: int

    def path(self, folder: Path) -> Path:
        """Return where its part file belongs."""
        return folder / f"{self.number:06d}.cxi"


@dataclass(frozen=True)
class Part:
    """What a part file says of its batch.

    Attributes
    ----------
    n_frames, n_hits : int
        Frames that were read, and those of them with enough peaks.
    failures : tuple of str
        Why others could not be read.
    used : SettingsSet
        What all its frames were searched with.
    told : tuple of Told
        The kinds of the frames that were read, where they were to be told.
    """

    n_frames: Count
    n_hits: Count
    failures: tuple[str, ...]
    used: SettingsSet
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, eq=False)
class Hit:
    """A hit of a part.

    Attributes
    ----------
    frame : int
        Of the run.
    pattern : Pattern
        Its peaks, and where the detector was.
    mask : StoredImage
    image : StoredImage or None
        None where it is the run's, as stored there, or left there.
    """

    frame: int
    pattern: Pattern
    mask: StoredImage
    image: StoredImage | None


class Reducer:
    """Turns batches of frames into part files, one after the other.

    Parameters
    ----------
    run : FrameSource
    finder : FindsPeaks
        Of the run's geometry.
    folder : Path
        Where the parts go.
    images : bool
        Whether the hits' images are wanted, or left where they are.
    form : ImageForm or None
        Images that the run stores in this form are copied later; others are stored in it here, or
        compressed where there is none.
    teller : KindTeller, optional
        Tells the frames' kinds.
    veto : bool
        Whether frames are left out by their kinds.
    """

    def __init__(
        self,
        run: FrameSource,
        finder: FindsPeaks,
        folder: Path,
        images: bool,
        form: ImageForm | None,
        teller: KindTeller | None = None,
        veto: bool = False,
    ) -> None:
        self._run, self._finder, self._folder = run, finder, folder
        self._teller, self._veto = teller, veto
        self._images, self._form = images, form
        self._stored = StoredImages(run)
        self._fits: dict[tuple[str, str], bool] = {}
        self._masks: dict[Path | None, SettingsMask] = {}

    def reduce(self, batch: Batch, used: SettingsSet, bad_pixels: Path | None) -> Part:
        """Search a batch's frames and write its part.

        Parameters
        ----------
        batch : Batch
        used : SettingsSet
        bad_pixels : Path or None
            The map of bad pixels that the settings' masks are made of.

        Raises
        ------
        InputError
            If the part cannot be written.
        """
        settings, mask = used.settings, self._mask(bad_pixels)
        clen_change = settings.clen_change(self._run.nominal_clen)
        n_peaks, failures, told = [], [], []
        with _PartWriter(batch.path(self._folder), self._form) as writer:
            for index in range(batch.first, batch.stop):
                try:
                    frame = self._run[index]
                except InputError as error:
                    n_peaks.append(UNREADABLE)
                    failures.append(str(error))
                    continue
                if self._teller is not None:
                    told.append(self._teller.tell(frame, index))
                    if self._veto and told[-1].dropped:
                        n_peaks.append(0)
                        continue
                frame = replace(frame, mask=mask.on(frame.mask, settings))
                placed = place(frame, self._finder.find(frame, settings), settings, clen_change)
                n_peaks.append(len(placed.pattern.peaks))
                if placed.is_hit:
                    writer.append(index, placed, with_image=self._wants_image(index))
            n_read = len(n_peaks) - len(failures)
            part = Part(n_read, len(writer), tuple(failures), used, tuple(told))
            writer.finish(part, n_peaks)
        return part

    def _wants_image(self, index: int) -> bool:
        """Whether a hit's image must be in the part."""
        if not self._images or self._form is None:
            return self._images
        file, event = self._run.name(index)
        # Frames of one data set are stored alike.
        dataset = file, event.rpartition("//")[0]
        if dataset not in self._fits:
            stored = self._stored.find(index)
            self._fits[dataset] = stored is not None and stored.form == self._form
        return not self._fits[dataset]

    def _mask(self, bad_pixels: Path | None) -> SettingsMask:
        if bad_pixels not in self._masks:
            geometry = self._run.geometry
            found = None if bad_pixels is None else BadPixelMap.load(bad_pixels, geometry)
            self._masks = {bad_pixels: SettingsMask(geometry, found)}
        return self._masks[bad_pixels]


class _PartWriter:
    """Writes a part; if the ``with`` block is left without `finish`, nothing remains of it."""

    def __init__(self, path: Path, form: ImageForm | None) -> None:
        self._form = form
        self._whole = WholeHDF5(path)
        self._rows: list[list[float]] = []
        self._peaks: list[NDArray[np.float64]] = []
        self._mask: NDArray[np.bool_] | None = None
        self._stored: dict[str, h5py.Dataset] = {}
        self._n = {MASKS: 0, IMAGES: 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._whole.discard()

    def __len__(self) -> int:
        return len(self._peaks)

    def append(self, index: int, placed: Placed, *, with_image: bool) -> None:
        """Add a hit."""
        frame, pattern = placed.frame, placed.pattern
        # Frames share a mask as a rule: it is compressed once.
        if frame.mask is not self._mask:
            self._mask = frame.mask
            self._store(MASKS, (~frame.mask).view(np.uint8), None)
        if with_image:
            self._store(IMAGES, frame.data, self._form)
        values = {
            "frame": index,
            "shift_x": pattern.shift_x,
            "shift_y": pattern.shift_y,
            "photon_energy": pattern.photon_energy,
            "camera_length": pattern.camera_length,
            "n_peaks": len(pattern.peaks),
            "mask": self._n[MASKS] - 1,
            "image": self._n[IMAGES] - 1 if with_image else AS_STORED,
        }
        self._rows.append([values[name] for name in COLUMNS])
        self._peaks.append(np.array([getattr(pattern.peaks, name) for name in PEAK_ROWS], float))

    def _store(self, name: str, image: NDArray[Any], form: ImageForm | None) -> None:
        file = self._whole.file
        if name not in self._stored:
            self._stored[name] = (
                create_images(file, name, 0, image.shape, image.dtype)
                if form is None
                else form.create(file, name, image.shape)
            )
        images = self._stored[name]
        if not np.can_cast(image.dtype, images.dtype, "safe"):
            raise InputError(
                f"the images are {images.dtype} in some frames and {image.dtype} in others: take "
                "the files one by one"
            )
        images.resize(self._n[name] + 1, axis=0)
        images[self._n[name]] = image
        self._n[name] += 1
        self._whole.check()

    def finish(self, part: Part, n_peaks: list[int]) -> None:
        """Write the rest, and let the file appear."""
        file = self._whole.file
        file.create_dataset(f"{FRAMES}/n_peaks", data=n_peaks, dtype="i4")
        file.create_dataset(HITS, data=np.array(self._rows, float).reshape(-1, len(COLUMNS)))
        peaks = np.concatenate([np.empty((len(PEAK_ROWS), 0)), *self._peaks], axis=1)
        file.create_dataset(PEAKS, data=peaks)
        document = {
            "n_frames": part.n_frames,
            "n_hits": part.n_hits,
            "failures": part.failures,
            "used": part.used.as_dict(),
            "told": [asdict(each) for each in part.told],
        }
        file.create_dataset(DOCUMENT, data=json.dumps(document))
        self._whole.finish()


def read_part(path: Path) -> Part | None:
    """Return what a part file says, or None if there is none or it is damaged."""
    remedy = "it is made anew"
    try:
        with open_hdf5(path, "the part", remedy) as file:
            (text,) = stored_text(file, DOCUMENT)
            part = read_json_text(text, Part, str(path), remedy)
            for _ in hits_of_part(file, part):
                pass
    except InputError:
        return None
    return part


def peaks_of_frames(file: h5py.File, part: Part) -> NDArray[np.int32]:
    """Return the number of peaks of each frame of a part, `UNREADABLE` for some."""
    return stored_array(file, f"{FRAMES}/n_peaks", "i", (part.n_frames + len(part.failures),))


def hits_of_part(file: h5py.File, part: Part) -> Iterator[Hit]:
    """Yield the hits of an open part, in their order.

    Raises
    ------
    ValueError
        If the file is damaged; `open_hdf5` makes an InputError of it.
    """
    peaks_of_frames(file, part)
    if not part.n_hits:
        return
    table = stored_array(file, HITS, "f", (part.n_hits, len(COLUMNS)))
    columns = dict(zip(COLUMNS, table.T, strict=True))
    for name, least in WHOLE.items():
        for value in columns[name].tolist():
            if not (value.is_integer() and least <= value < 2**53):
                raise ValueError(f"{HITS} has {value} for {name}")
    n_peaks = columns.pop("n_peaks").astype(int)
    rows = stored_array(file, PEAKS, "f", (len(PEAK_ROWS), int(n_peaks.sum())))
    lists = peak_lists(rows, np.cumsum(n_peaks).tolist())
    masks, packed = OwnImages(own_dataset(file, MASKS)), columns["image"] != AS_STORED
    images = OwnImages(own_dataset(file, IMAGES)) if packed.any() else None
    for peaks, *values in zip(lists, *(each.tolist() for each in columns.values()), strict=True):
        frame, shift_x, shift_y, photon_energy, camera_length, mask, image = values
        yield Hit(
            frame=int(frame),
            pattern=Pattern(peaks, photon_energy, camera_length, shift_x, shift_y),
            mask=masks[int(mask)],
            image=images[int(image)] if images and image != AS_STORED else None,
        )
