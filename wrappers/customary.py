"""What people use, by detector: the parameter sets that a session's result is held against.

From public command lines. A detector is told by its pixels' size and by whether the frames are
counts of photons, because names are not in geometry files and ``adu_per_photon`` is often wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wrappers.errors import InputError
from wrappers.settings import Settings

if TYPE_CHECKING:
    from wrappers.frames.source import FrameSource

__all__ = ["DETECTORS", "Detector", "counts_photons", "detector_of"]

TOLERANCE = 0.015
"""Of a pixel's size: 75 and 72.6 µm are two detectors."""

FRAMES = 3
"""That are read to tell counts from charges."""


@dataclass(frozen=True)
class Detector:
    """A detector, and the settings that people use with it.

    Attributes
    ----------
    name : str
    pixel_size : float
        In metres.
    counts : bool or None
        Whether its frames are counts of photons; None where that does not tell it from others.
    sets : tuple of mapping
        Settings by field; the first is what a session without ``--start`` is held against.
    """

    name: str
    pixel_size: float
    counts: bool | None
    sets: tuple[Mapping[str, float], ...]

    @property
    def settings(self) -> Settings:
        """The first set; what it does not say is as usual."""
        return Settings().replace(**self.sets[0])


def _set(
    threshold: float,
    min_snr: float,
    pixels: tuple[int, int | None],
    local_bg_radius: int | None = None,
    resolution: tuple[int | None, int | None] = (None, None),
) -> dict[str, float]:
    """Return a row of the table; None is what nobody said."""
    values = {
        "threshold": threshold,
        "min_snr": min_snr,
        "min_pix_count": pixels[0],
        "max_pix_count": pixels[1],
        "local_bg_radius": local_bg_radius,
        "min_res": resolution[0],
        "max_res": resolution[1],
    }
    return {name: value for name, value in values.items() if value is not None}


DETECTORS = (
    Detector(
        "AGIPD",
        200e-6,
        None,
        (
            _set(800, 5, (1, 2), 3, (None, 1200)),
            _set(120, 8, (1, 30), None, (20, None)),
            _set(300, 6, (1, 30), None, (30, 700)),
        ),
    ),
    Detector(
        "JUNGFRAU",
        75e-6,
        False,
        (
            _set(50, 5, (2, 200), 3),
            _set(50, 5, (2, None), 4, (85, 3000)),
            _set(250, 6, (2, 30), 4, (10, 1000)),
            _set(200, 5, (3, 200), 4, (100, 1665)),
        ),
    ),
    Detector(
        "EIGER (photons)",
        75e-6,
        True,
        (
            _set(20, 5, (2, 200), 3),
            _set(4, 5, (2, 50), 3, (50, None)),
            _set(8, 5, (2, 50), 3, (50, None)),
            _set(5, 8, (1, 10), 3, (10, 1200)),
        ),
    ),
    Detector(
        "CSPAD",
        110e-6,
        None,
        (_set(250, 7, (2, 300), 4, (0, 900)), _set(150, 8, (2, 40), None, (0, 1300))),
    ),
    Detector("ePix10k2M", 100e-6, None, (_set(100, 5, (1, 30), 4, (80, 800)),)),
    Detector("PILATUS", 172e-6, None, (_set(25, 5, (2, 40), 3, (150, 1250)),)),
    Detector("CITIUS", 72.6e-6, None, (_set(100, 5, (2, None), 3, (None, 3000)),)),
)
"""In the order of the table in docs/settings.md, which a test compares with this."""


LIKE_OTHERS = {True: "EIGER (photons)", False: "JUNGFRAU"}
"""What a detector that counts, or charges, is taken for where no pixel size is known."""


def detector_of(pixel_size: float, counts: bool) -> tuple[Detector, bool]:
    """Return the detector with such pixels and True; or the one most like it, and False.

    Parameters
    ----------
    pixel_size : float
        In metres.
    counts : bool
        Whether the frames are counts of photons; see `counts_photons`.
    """
    fit = [
        each
        for each in DETECTORS
        if abs(pixel_size / each.pixel_size - 1) < TOLERANCE and each.counts in (None, counts)
    ]
    if fit:
        return min(fit, key=lambda each: abs(each.pixel_size - pixel_size)), True
    return next(each for each in DETECTORS if each.name == LIKE_OTHERS[counts]), False


def counts_photons(run: FrameSource, frames: Sequence[int]) -> bool:
    """Whether frames hold counts of photons: whole numbers, none below zero, no gain given.

    Parameters
    ----------
    run : FrameSource
    frames : sequence of int
        The first few that can be read are looked at.
    """
    gain = run.geometry.adu_per_photon(run.photon_energy(frames[0]))
    if gain is not None and gain > 2:
        return False
    n_read = 0
    for index in frames:
        try:
            frame = run[index]
        except InputError:
            continue
        values = frame.data[frame.mask]
        values = values[np.isfinite(values)]
        if values.size and (values.min() < 0 or (values != np.round(values)).any()):
            return False
        n_read += 1
        if n_read == FRAMES:
            break
    return n_read > 0
