"""Which candidates are worth describing: those that a filter for a small spot suits best."""

from __future__ import annotations

import math

import numpy as np

from wrappers.spots.compiling import kernel
from wrappers.spots.image import RING, value_at

__all__ = ["best_of_neighbours", "rank"]

FILTER = ((0.3, 0.55, 0.3), (0.55, 1.0, 0.55), (0.3, 0.55, 0.3))
"""The matched filter: a spot of about a pixel's width."""
FAINTEST = 1.5
"""Standard deviations that a candidate's brightest pixel must have to be worth ranking."""


@kernel
def rank(image, peaks, score, pixel):
    """Find each candidate's brightest pixel, and how well a small spot there stands out.

    Parameters
    ----------
    image : Image
    peaks : float64 array (7, n)
        Of peakfinder8, with `wrappers.peakfinding.peak_measurement.PEAK_ROWS`; they tell level and
        spread of the background that it saw.
    score : float32 array (n,)
        Written: what a matched filter has there, in standard deviations; -inf where nothing.
    pixel : int32 array (n,)
        Written: the brightest pixel, flat; -1 where there is none.
    """
    for k in range(peaks.shape[1]):
        first_ss, last_ss, first_fs, last_fs = image.panels[int(peaks[4, k])]
        intensity, snr, n_pixels, max_value = peaks[2, k], peaks[3, k], peaks[5, k], peaks[6, k]
        reach = 0 if n_pixels < 2 else 1 if n_pixels < 4 else 2
        row = min(max(int(peaks[1, k]), first_ss), last_ss)
        column = min(max(int(peaks[0, k]), first_fs), last_fs)
        best, place = -np.inf, -1
        for i in range(max(row - reach, first_ss), min(row + reach, last_ss) + 1):
            for j in range(max(column - reach, first_fs), min(column + reach, last_fs) + 1):
                value, good = value_at(image, i * image.width + j)
                if good and value > best:
                    best, place = value, i * image.width + j
        pixel[k], score[k] = place, -np.inf
        if place < 0:
            continue
        ring = int(image.radius[place]) // RING
        sigma = max(intensity / snr, image.ring_sigma[ring])
        level = max(best - max_value, image.ring_mean[ring])
        if not (sigma > 0 and best - level > FAINTEST * sigma):
            continue
        row, column = place // image.width, place % image.width
        total = squares = 0.0
        for i in range(max(row - 1, first_ss), min(row + 1, last_ss) + 1):
            for j in range(max(column - 1, first_fs), min(column + 1, last_fs) + 1):
                value, good = value_at(image, i * image.width + j)
                weight = FILTER[i - row + 1][j - column + 1] if good else 0.0
                total += weight * (value - level) if good else 0.0
                squares += weight * weight
        score[k] = total / (sigma * math.sqrt(squares))


@kernel
def best_of_neighbours(pixel, panel, score, width):
    """Return which candidates have no better one in the eight pixels around theirs.

    Panels that are neighbours in the slab are seldom neighbours on the detector.

    Parameters
    ----------
    pixel : int32 array (n,)
        Flat, ascending; of equal ones the first is kept.
    panel : int32 array (n,)
    score : float32 array (n,)
    width : int
        Of the slab.

    Returns
    -------
    bool array (n,)
    """
    kept = np.ones(len(pixel), np.bool_)
    for i in range(len(pixel)):
        row, column = pixel[i] // width, pixel[i] % width
        for j in range(i + 1, len(pixel)):
            other_row, other_column = pixel[j] // width, pixel[j] % width
            if other_row > row + 1 or (other_row == row + 1 and other_column > column + 1):
                break
            if panel[j] == panel[i] and abs(other_column - column) <= 1:
                kept[j if score[j] <= score[i] else i] = False
    return kept
