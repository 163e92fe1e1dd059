"""The mask that a parameter set puts on top of the geometry's: bad pixels and panel edges."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.settings import MASK_SIGMAS, Settings

__all__ = ["BITS", "SettingsMask", "needs_map"]

BITS = {"geometry": 1, "hot": 2, "noisy": 4, "dead": 8, "edge": 16}
"""The bit of each kind of bad pixel in a mask file; several may be set, 0 is good."""

KEPT = 4
"""Masks of different settings that are kept."""

Mask = NDArray[np.bool_]


def needs_map(settings: Settings) -> bool:
    """Whether a parameter set can only be applied with a map of the bad pixels."""
    return any(getattr(settings, name) for name in MASK_SIGMAS)


class SettingsMask:
    """Masks pixels as settings say.

    Parameters
    ----------
    geometry : Geometry
    bad_pixels : BadPixelMap or None
        None where only settings that need no map are used.
    """

    def __init__(self, geometry: Geometry, bad_pixels: BadPixelMap | None) -> None:
        self._geometry, self._bad_pixels = geometry, bad_pixels
        self._own: OrderedDict[tuple[float, ...], Mask] = OrderedDict()
        self._last: tuple[tuple[float, ...], Mask, Mask] | None = None

    def bits(self, settings: Settings) -> NDArray[np.uint8]:
        """Return the `BITS` (ss, fs) of the pixels that the settings mask; 0 for the others.

        Raises
        ------
        ValueError
            If the settings need a map and there is none.
        """
        bits = np.zeros(self._geometry.slab_shape, np.uint8)
        if needs_map(settings):
            if self._bad_pixels is None:
                raise ValueError("settings with a mask_*_sigma need a map of the bad pixels")
            for kind in ("hot", "noisy", "dead"):
                bits[self._bad_pixels.beyond(kind, settings)] |= BITS[kind]
        if settings.mask_edge:
            edge = ~_inner_pixels(self._geometry, settings.mask_edge)
            bits[edge] |= BITS["edge"]
        return bits

    def on(self, mask: Mask, settings: Settings) -> Mask:
        """Return a frame's mask (ss, fs; True where usable) with the settings' own on top.

        It is the mask given where the settings mask nothing. Frames that share a mask share
        the result: don't write to it.
        """
        key = settings.mask_key
        if not any(key):
            return mask
        if self._last is not None and self._last[0] == key and self._last[1] is mask:
            return self._last[2]
        if key not in self._own:
            self._own[key] = self.bits(settings) == 0
            if len(self._own) > KEPT:
                self._own.popitem(last=False)
        self._own.move_to_end(key)
        combined = mask & self._own[key]
        self._last = key, mask, combined
        return combined


def _inner_pixels(geometry: Geometry, width: int) -> Mask:
    """Return which pixels are at least `width` from their panel's rim; True beside panels."""
    inner = np.ones(geometry.slab_shape, bool)
    for panel in geometry.panels:
        usable = np.zeros((panel.height, panel.width), bool)
        usable[width : panel.height - width, width : panel.width - width] = True
        inner[panel.rectangle] &= usable
    return inner
