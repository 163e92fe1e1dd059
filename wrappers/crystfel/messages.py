"""Frames as CrystFEL's ``indexamajig`` takes them over ZeroMQ, and the geometry that reads them.

A message is a map in MessagePack.
CrystFEL takes a key for another that begins with it, and numbers of peaks only as doubles.
"""

from __future__ import annotations

import math

import numpy as np

from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.indexing import Pattern

__all__ = ["image_entry", "message_geometry_text", "pattern_entries"]

PEAKS, IMAGE = "peaks", "image"
_OF_FILES = ("peak_list", "data =", "dim")
"""Beginnings of lines that say where in a file something is."""


def message_geometry_text(geometry: Geometry, *, images: bool) -> str:
    """Return a geometry whose place, and image if there is one, are those of each message."""
    text = slab_geometry_text(
        geometry,
        clen="clen_mm mm",
        photon_energy="energy_eV eV",
        shift_x="shift_x m",
        shift_y="shift_y m",
    )
    lines = [line for line in text.splitlines() if not line.startswith(_OF_FILES)]
    saturation = [
        f"{panel.name}/max_adu = {panel.max_adu!r}"
        for panel in geometry.panels
        if math.isfinite(panel.max_adu)
    ]
    where = [f"peak_list = {PEAKS}", *([f"data = {IMAGE}"] if images else [])]
    return "\n".join([*where, *lines, *saturation, ""])


def pattern_entries(pattern: Pattern) -> dict[str, object]:
    """Return the entries of a message that say where a frame was taken and what was found in it."""
    peaks = pattern.peaks
    return {
        "clen_mm": pattern.camera_length * 1e3,
        "energy_eV": float(pattern.photon_energy),
        "shift_x": float(pattern.shift_x),
        "shift_y": float(pattern.shift_y),
        PEAKS: {
            "fs": _single(peaks.fs - 0.5),
            "ss": _single(peaks.ss - 0.5),
            "intensity": _single(peaks.intensity),
        },
    }


def image_entry(frame: Frame) -> dict[str, object]:
    """Return the entry with a frame's image, as CrystFEL works with it: floats, NaN is masked."""
    image = frame.data.astype("<f4")
    image[~frame.mask] = np.nan
    return {IMAGE: {"type": "<f4", "shape": image.shape, "data": image.tobytes()}}


def _single(values: np.ndarray) -> list[float]:
    """Round as a CXI file does, so that both ways give the very same peaks."""
    return np.asarray(values, np.float32).astype(float).tolist()
