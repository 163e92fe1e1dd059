"""Frames as pictures: the panels in their places, and spots that stay when it is shrunk."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Frame

__all__ = ["assemble", "data_address", "placed", "powder_address", "shrink"]

FAINT, BRIGHT = 2.0, 12.0
"""In standard deviations above the mean of the pixels as far from the beam: drawn white, black."""

QUALITY, POWDER_QUALITY = 55, 75

MASKED = (236, 178, 128)
"""Colour of masked pixels."""


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
    (image, usable), _, origin = placed(geometry, (flat, frame.mask))
    return image, usable.astype(bool), origin


def placed(
    geometry: Geometry, slabs: Sequence[NDArray[Any]]
) -> tuple[list[NDArray[np.float32]], NDArray[np.bool_], tuple[int, int]]:
    """Put the panels of slabs where they are in the laboratory, to the nearest pixel.

    Returns
    -------
    images : list of float32 array (height, width)
        One a slab; 0 where there is no panel. Rows go up along y, columns along x.
    there : bool array (height, width)
        Where there is a panel.
    origin : (int, int)
        x and y of the first column and row, in pixel widths from the beam.
    """
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
    there = np.zeros((top - bottom + 1, right - left + 1), bool)
    images = [np.zeros(there.shape, np.float32) for _ in slabs]
    for panel, (columns, rows) in zip(geometry.panels, places, strict=True):
        there[rows - bottom, columns - left] = True
        for image, slab in zip(images, slabs, strict=True):
            image[rows - bottom, columns - left] = slab[panel.rectangle]
    return images, there, (left, bottom)


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


def powder_address(
    values: NDArray[np.float32],
    usable: NDArray[np.bool_],
    there: NDArray[np.bool_],
    step: int,
    *,
    brightest: bool,
) -> str:
    """Return pixel values as a ``data:`` address, dark where they are large, shrunk by `step`.

    Masked pixels are coloured, and white is where there is no panel. The darkest value is one that
    one pixel in a thousand exceeds.

    Parameters
    ----------
    values : float array (height, width)
    usable, there : bool array (height, width)
        Which pixels are not masked, and where there are panels.
    step : int
    brightest : bool
        Whether each block keeps its brightest pixel, or the mean.
    """
    from PIL import Image

    largest, seen = shrink(values, usable, step)
    panel = shrink(there.astype(np.float32), there, step)[1]
    if brightest:
        small = largest
    else:
        sums, counts = (_block_sums(each, step) for each in (np.where(usable, values, 0), usable))
        small = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    known = small[seen]
    low, high = np.quantile(known, (0.02, 0.999)) if len(known) else (0.0, 1.0)
    shade = np.sqrt(np.clip((small - low) / max(float(high - low), 1e-6), 0, 1))
    picture = np.repeat((255 * (1 - 0.92 * shade)).astype(np.uint8)[..., None], 3, axis=2)
    picture[panel & ~seen] = MASKED
    picture[~panel] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=POWDER_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _block_sums(values: NDArray[Any], step: int) -> NDArray[np.float32]:
    height, width = values.shape
    pad = [(0, -height % step), (0, -width % step)]
    whole = np.pad(values.astype(np.float32), pad)
    blocks = whole.reshape(whole.shape[0] // step, step, whole.shape[1] // step, step)
    return np.asarray(blocks.sum(axis=(1, 3)), np.float32)


def data_address(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> str:
    """Return an image as a ``data:`` address, dark where it is bright."""
    from PIL import Image

    shade = np.sqrt(np.clip((image - FAINT) / (BRIGHT - FAINT), 0, 1))
    grey = np.where(usable, 255 * (1 - shade), 225).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
