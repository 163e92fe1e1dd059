"""What every indexer takes and gives, whichever program does the work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Done", "Indexer", "Indexing", "Lattice", "Pattern", "counting_on", "unheard"]

Done = Callable[[int], None]
"""Called, now and then, with the number of patterns that are done so far."""


def unheard(n: int) -> None:
    """Ignore how many patterns are done."""


def counting_on(done: Done, already: int) -> Done:
    """Return what tells `done` of a part, when so many others are done already."""
    return lambda n: done(already + n)


@dataclass(frozen=True, eq=False)
class Pattern:
    """One frame as an indexer sees it: its peaks, and where the detector stood.

    Attributes
    ----------
    peaks : PeakList
    photon_energy : float
        In eV.
    camera_length : float
        Mean over the panels of ``clen`` + ``coffset``, in metres, as tried.
    shift_x, shift_y : float
        Further shift of the detector, in metres.
    """

    peaks: PeakList
    photon_energy: float
    camera_length: float
    shift_x: float = 0.0
    shift_y: float = 0.0

    def digest(self, context: bytes = b"") -> bytes:
        """Return a key of 16 bytes that equal peaks with an equal detector share.

        Parameters
        ----------
        context : bytes
            Whatever else an answer depends on.
        """
        digest = hashlib.blake2b(context, digest_size=16)
        peaks = self.peaks
        for values in (peaks.fs, peaks.ss, peaks.intensity):
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        digest.update(np.ascontiguousarray(peaks.panel, np.int32).tobytes())
        place = (self.photon_energy, self.camera_length, self.shift_x, self.shift_y)
        digest.update(np.array(place, np.float64).tobytes())
        return digest.digest()

    def placed(self, settings: Settings, nominal_clen: float) -> Pattern:
        """Return the pattern with the detector where settings put it.

        Parameters
        ----------
        settings : Settings
        nominal_clen : float
            Of the run, in metres; see `Settings.clen_change`.
        """
        return replace(
            self,
            camera_length=self.camera_length + settings.clen_change(nominal_clen),
            shift_x=self.shift_x + settings.shift_x,
            shift_y=self.shift_y + settings.shift_y,
        )


@dataclass(frozen=True, eq=False)
class Lattice:
    """One crystal lattice found in a frame.

    Attributes
    ----------
    reciprocal : float64 array (3, 3)
        Rows are a*, b*, c* in 1/Å in CrystFEL's laboratory frame (z along the beam).
    """

    reciprocal: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Indexing:
    """An indexer's answer for one frame.

    Attributes
    ----------
    lattices : tuple of Lattice
        Empty where nothing was found.
    failure : str
        Why there is no answer at all (the program died, ran out of time …), or "".
    out_of_time : bool
        Whether it is a time limit that kept the answer back.
    """

    lattices: tuple[Lattice, ...] = ()
    failure: str = ""
    out_of_time: bool = False

    @property
    def indexed(self) -> bool:
        """Whether at least one lattice was found."""
        return bool(self.lattices)


class Indexer(Protocol):
    """Finds lattices of a known cell in lists of peaks.

    An indexer is built for one geometry and one cell. It must give the same answer for the
    same pattern, whatever else is in the batch.
    """

    @property
    def name(self) -> str:
        """Name and version, as recorded in the provenance."""
        ...

    @property
    def parallel(self) -> bool:
        """Whether it uses several cores by itself, so that it is called with all frames at once.

        Any other indexer is pickled to worker processes.
        """
        ...

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index each pattern; the answers come in the patterns' order."""
        ...

    def close(self) -> None:
        """End whatever runs for it; the next call would start it again."""
        ...
