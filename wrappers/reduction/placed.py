"""A frame that was searched, and what the settings make of it."""

from __future__ import annotations

from dataclasses import dataclass

from wrappers.frame_kinds import Told
from wrappers.frames.frame import Frame
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Placed", "place"]


@dataclass(frozen=True, eq=False)
class Placed:
    """A frame that was searched, and where the settings put its detector.

    Attributes
    ----------
    frame : Frame
        With the mask that it was searched with.
    pattern : Pattern
        What was found in it.
    is_hit : bool
        Whether that is as much as the settings ask for.
    beside : Placed or None
        What another set makes of the frame, where it was searched with that, too.
    told : Told or None
        Its kind, where that was told.
    """

    frame: Frame
    pattern: Pattern
    is_hit: bool
    beside: Placed | None = None
    told: Told | None = None


def place(frame: Frame, peaks: PeakList, settings: Settings, clen_change: float) -> Placed:
    """Return a frame with its peaks, where the settings put the detector."""
    pattern = Pattern(
        peaks,
        frame.photon_energy,
        frame.camera_length + clen_change,
        frame.shift_x + settings.shift_x,
        frame.shift_y + settings.shift_y,
    )
    return Placed(frame, pattern, len(peaks) >= settings.min_peaks)
