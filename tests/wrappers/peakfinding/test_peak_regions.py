"""Regions of bright pixels against SciPy's labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from wrappers.peakfinding.peak_regions import join_pixels, no_bits, pack_outside

HEIGHT = 30


def panels_of(width):
    """Return the whole slab, or a panel above two others: first and last ss, first and last fs."""
    last, middle, right = HEIGHT - 1, width // 3, width - 1
    return (
        [(0, last, 0, right)],
        [(0, 19, 0, right), (20, last, 0, middle), (20, last, middle + 1, right)],
    )


def expected_regions(bright, panels, least, most):
    """Return panel and pixels of each region, in the order of panels and first inner pixels."""
    regions = []
    for index, (top, bottom, left, right) in enumerate(panels):
        labels, _ = label(bright[top : bottom + 1, left : right + 1], np.ones((3, 3)))
        height, width = labels.shape
        ss, fs = np.nonzero(labels)
        owner = labels[ss, fs]
        order = np.argsort(owner, kind="stable")
        found = []
        for pixels in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
            y, x = ss[pixels], fs[pixels]
            inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
            if inner.any() and least <= len(y) <= most:
                first = min(zip(y[inner], x[inner], strict=True))
                flat = (y + top) * bright.shape[1] + x + left
                found.append((first, index, {*flat.tolist()}))
        regions += [(index, pixels) for _, index, pixels in sorted(found, key=lambda each: each[0])]
    return regions


@pytest.mark.parametrize("width", [5, 64, 65, 127, 128, 300, 4095, 4200])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("least", [1, 2, 3, 4])
def test_regions_are_those_of_scipy(width, density, least):
    rng = np.random.default_rng(width)
    for panels in panels_of(width):
        bright = rng.random((HEIGHT, width)) < density
        free = no_bits(bright.size)
        pixels = rng.permutation(np.flatnonzero(bright)).astype(np.int32)
        start, pixel, panel = join_pixels(pixels, width, np.array(panels), least, 20, free)
        found = [
            (owner, {*pixel[first:stop].tolist()})
            for owner, first, stop in zip(panel.tolist(), start[:-1], start[1:], strict=True)
        ]
        assert found == expected_regions(bright, panels, least, 20)


def test_pixels_outside_of_two_radii_are_marked():
    radius = np.array([0, 1, 2, 3, np.inf] * 30, np.float32)
    bits = no_bits(radius.size)
    bits[:] = 5
    pack_outside(radius, 1.0, np.inf, bits)
    flags = np.unpackbits(bits.view(np.uint8), bitorder="little")[: radius.size].astype(bool)
    assert flags.tolist() == [True, True, False, False, True] * 30
