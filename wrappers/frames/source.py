"""Where frames come from: the contract that files, arrays and streams keep."""

from __future__ import annotations

import copy
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.stored import Place
from wrappers.masks.bad_pixel_map import BadPixelMap

__all__ = ["FrameSource"]


class FrameSource(Protocol):
    """Frames of one detector, read when they are asked for.

    A source subclasses this. It must give `geometry`, `n_frames`, ``source[i]`` and `name`; the
    rest has a definition here, to be replaced where a source knows better or quicker.
    `wrappers.frames.opening` opens a source by its name, and is where kinds of sources register.

    A source can be pickled: worker processes get a copy, which opens for itself what it needs.
    It is used by one thread at a time. ``with source:`` closes it in the end.

    Attributes
    ----------
    geometry : Geometry
        Of every frame: whoever has the source needs no other.
    bad_pixels : BadPixelMap or None
        What is known of the detector's pixels, of `with_bad_pixels`. The frames' own masks do not
        have it: settings say what to make of it.
    """

    geometry: Geometry
    bad_pixels: BadPixelMap | None = None

    @property
    @abstractmethod
    def n_frames(self) -> int | None:
        """Number of frames, or None for a stream, whose end nobody knows."""

    @abstractmethod
    def __getitem__(self, index: int) -> Frame:
        """Read a frame; the same index gives the same frame.

        Raises
        ------
        InputError
            If this frame cannot be read.
        IndexError
            If there is no frame of this index.
        """

    @abstractmethod
    def name(self, index: int) -> tuple[str, str]:
        """Return a frame's file (or address) and event, as CrystFEL writes them."""

    def __len__(self) -> int:
        """Return the number of frames.

        Raises
        ------
        InputError
            If the source is a stream.
        """
        if self.n_frames is None:
            raise InputError(
                f"{self.name(0)[0]} is a stream without an end: take some of its frames, or name "
                "a file"
            )
        return self.n_frames

    def photon_energy(self, index: int) -> float:
        """Return a frame's photon energy in eV; raises what reading the frame does."""
        return self[index].photon_energy

    def camera_length(self, index: int) -> float:
        """Return a frame's camera length in metres; raises what reading the frame does."""
        return self[index].camera_length

    def shift(self, index: int) -> tuple[float, float]:
        """Return what the data says of the detector's shift along x and y, in metres."""
        frame = self[index]
        return frame.shift_x, frame.shift_y

    @cached_property
    def nominal_clen(self) -> float:
        """Median of the frames' camera lengths, in metres: a set's ``clen`` is beside this one.

        See `wrappers.settings.Settings.clen_change`.
        """
        if self.geometry.clen_header is None:
            return self.geometry.camera_length()
        return float(np.median([self.camera_length(i) for i in range(len(self))]))

    def static_mask(self, index: int) -> Mask:
        """Return the mask (ss, fs) that a frame shares with others: don't write to it."""
        return self.geometry.static_mask()

    def places(self, index: int) -> list[Place] | None:
        """Return where HDF5 files hold a frame: for each block the data set, and the index into it.

        None where the frames are in no HDF5 file.
        """
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the geometry and the frames, a sentence each."""
        return self.geometry.notes

    @property
    def files(self) -> list[Path]:
        """The different files that the frames are read from; none where they come otherwise.

        A session notes what they hold, and is not resumed with others.
        """
        return []

    def with_bad_pixels(self, bad_pixels: BadPixelMap | None) -> Self:
        """Return the same source with a map of the bad pixels, for settings that need one."""
        other = copy.copy(self)
        other.bad_pixels = bad_pixels
        return other

    def close(self) -> None:
        """Let go of files and connections; a frame that is read later opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
