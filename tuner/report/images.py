"""Frames as pictures: the panels in their places, and spots that stay when it is shrunk."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Frame

__all__ = ["assemble", "data_address", "shrink"]

FAINT, BRIGHT = 2.0, 12.0
"""In standard deviations above the mean of the pixels as far from the beam: drawn white, black."""

QUALITY = 55


def assemble(
    geometry: Geometry, frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    """Put a frame's panels where they are in the laboratory, to the nearest pixel.

    Returns
    -------
    image : float32 array (height, width)
        Standard deviations above the mean of the usable pixels as far from the beam. Rows go up
        along y, columns along x.
    usable : bool array (height, width)
        False for masked pixels and where there is no panel.
    origin : (int, int)
        x and y of the first column and row, in pixel widths from the beam.
    """
    radius = geometry.moved(frame.shift_x, frame.shift_y).radius_map()
    flat = _flattened(frame.data, frame.mask, radius)
    places = []
    for i, panel in enumerate(geometry.panels):
        x, y = geometry.pixel_corners(i)
        scale = geometry.panels[0].res / panel.res
        middle = [
            (panel.fs_vector[axis] + panel.ss_vector[axis]) / 2 for axis in range(2)
        ]  # of a pixel, from its corner
        places.append(
            tuple(
                np.floor((corner + half) * scale).astype(np.intp)
                for corner, half in zip((x, y), middle, strict=True)
            )
        )
    left, bottom = (min(int(place[axis].min()) for place in places) for axis in range(2))
    right, top = (max(int(place[axis].max()) for place in places) for axis in range(2))
    image = np.zeros((top - bottom + 1, right - left + 1), np.float32)
    usable = np.zeros(image.shape, bool)
    for panel, (columns, rows) in zip(geometry.panels, places, strict=True):
        image[rows - bottom, columns - left] = flat[panel.rectangle]
        usable[rows - bottom, columns - left] = frame.mask[panel.rectangle]
    return image, usable, (left, bottom)


def _flattened(
    data: NDArray[Any], mask: NDArray[np.bool_], radius: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return each usable pixel's distance from its ring's mean in standard deviations; else 0."""
    ring = radius[mask].astype(np.intp)
    values = data[mask].astype(np.float64)
    inlier = np.ones(len(values), bool)
    for _ in range(3):  # without the bright ones, which are to stand out
        n = np.maximum(np.bincount(ring[inlier], minlength=ring.max(initial=0) + 1), 1)
        mean = np.bincount(ring[inlier], values[inlier], len(n)) / n
        square = np.bincount(ring[inlier], (values - mean[ring])[inlier] ** 2, len(n)) / n
        deviation = (values - mean[ring]) / np.maximum(np.sqrt(square), 1e-3)[ring]
        inlier = np.abs(deviation) < 4
    flat = np.zeros(data.shape, np.float32)
    flat[mask] = deviation
    return flat


def shrink(
    image: NDArray[np.float32], usable: NDArray[np.bool_], step: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Shrink by `step`: each block's brightest usable pixel stays, and so do spots."""
    height, width = (-(-n // step) * step for n in image.shape)
    pad = [(0, height - image.shape[0]), (0, width - image.shape[1])]
    blocks = height // step, step, width // step, step
    lowest = np.where(usable, image, -np.inf).astype(np.float32)
    brightest = np.pad(lowest, pad, constant_values=-np.inf).reshape(blocks).max(axis=(1, 3))
    seen = np.isfinite(brightest)
    return np.where(seen, brightest, 0), seen


def data_address(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> str:
    """Return an image as a ``data:`` address, dark where it is bright."""
    from PIL import Image

    shade = np.sqrt(np.clip((image - FAINT) / (BRIGHT - FAINT), 0, 1))
    grey = np.where(usable, 255 * (1 - shade), 225).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
