"""Which candidates are worth describing: those that a filter for a small spot suits best."""

from __future__ import annotations

import math

import numpy as np

from wrappers.peakfinding.vectors import prefetch
from wrappers.spots.compiling import inner_kernel, kernel, part_of_caller
from wrappers.spots.image import RING, value_at

__all__ = ["best_of_neighbours", "rank", "split"]

FILTER = ((0.3, 0.55, 0.3), (0.55, 1.0, 0.55), (0.3, 0.55, 0.3))
"""The matched filter: a spot of about a pixel's width."""
FAINTEST = 1.5
"""Standard deviations that a candidate's brightest pixel must have to be worth ranking."""

LARGE = 6
"""Pixels from which on a region may be several spots that touch."""
AROUND, APART = 5, 3
"""Pixels around a region's centre where its spots are sought, and between two of them at least."""
CLEAR = 5.0
"""Standard deviations that the matched filter must have at each of them."""
MOST = 16
"""Spots of a region."""

AHEAD = 12
"""A candidate's memory is asked for so many candidates before it is needed."""


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
    width, n = image.width, peaks.shape[1]
    for k in range(n):
        if k + AHEAD < n:
            p = int(peaks[1, k + AHEAD]) * width + int(peaks[0, k + AHEAD])
            for row in range(p - width, p + width + 1, width):
                prefetch(image.data, row)
            prefetch(image.usable, p)
            prefetch(image.radius, p)
        first_ss, last_ss, first_fs, last_fs = image.panels[int(peaks[4, k])]
        n_pixels = peaks[5, k]
        reach = 0 if n_pixels < 2 else 1 if n_pixels < 4 else 2
        row = min(max(int(peaks[1, k]), first_ss), last_ss)
        column = min(max(int(peaks[0, k]), first_fs), last_fs)
        best, place = -np.inf, -1
        for i in range(max(row - reach, first_ss), min(row + reach, last_ss) + 1):
            for j in range(max(column - reach, first_fs), min(column + reach, last_fs) + 1):
                value, good = value_at(image, i * width + j)
                if good and value > best:
                    best, place = value, i * width + j
        pixel[k], score[k] = place, -np.inf
        if place < 0:
            continue
        level, sigma = _background_of(image, peaks, k, place)
        if sigma > 0 and best - level > FAINTEST * sigma:
            bounds = first_ss, last_ss, first_fs, last_fs
            score[k] = _matched(image, bounds, place, level, sigma)


@kernel
def split(image, peaks, score, pixel, region, more_score, more_pixel):
    """Find the spots of regions that are several: local maxima some pixels apart.

    Parameters
    ----------
    image, peaks
        As for `rank`.
    score, pixel
        Of `rank`; those of a region with several spots are now one of them.
    region : int32 array (m,)
        Written: the candidate that each further spot is of, while there is room.
    more_score : float32 array (m,)
    more_pixel : int32 array (m,)
        Written: as `score` and `pixel`.

    Returns
    -------
    int
        Number of further spots.
    """
    places, scores = np.empty(MOST, np.int64), np.empty(MOST, np.float32)
    n_more = 0
    for k in range(peaks.shape[1]):
        if peaks[5, k] < LARGE or not score[k] > CLEAR:
            continue
        first_ss, last_ss, first_fs, last_fs = image.panels[int(peaks[4, k])]
        bounds = first_ss, last_ss, first_fs, last_fs
        level, sigma = _background_of(image, peaks, k, pixel[k])
        n = _maxima(image, bounds, peaks[1, k], peaks[0, k], level, sigma, places, scores)
        if n < 2:
            continue
        pixel[k], score[k] = places[0], scores[0]
        for spot in range(1, n):
            if n_more < len(region):
                region[n_more] = k
                more_pixel[n_more], more_score[n_more] = places[spot], scores[spot]
                n_more += 1
    return n_more


@inner_kernel
def _maxima(image, bounds, ss, fs, level, sigma, places, scores):
    """Write the clear maxima around a place; return how many there are."""
    first_ss, last_ss, first_fs, last_fs = bounds
    n = 0
    for row in range(max(int(ss) - AROUND, first_ss), min(int(ss) + AROUND, last_ss) + 1):
        for column in range(max(int(fs) - AROUND, first_fs), min(int(fs) + AROUND, last_fs) + 1):
            p = row * image.width + column
            value, good = value_at(image, p)
            if not (good and value - level > FAINTEST * sigma):
                continue
            is_largest = True
            for i in range(max(row - 1, first_ss), min(row + 1, last_ss) + 1):
                for j in range(max(column - 1, first_fs), min(column + 1, last_fs) + 1):
                    q = i * image.width + j
                    other, there = value_at(image, q)
                    is_largest &= not there or other < value or (other == value and q >= p)
            matched = _matched(image, bounds, p, level, sigma) if is_largest else -np.inf
            if not matched > CLEAR:
                continue
            same = 0
            while same < n and not (
                abs(places[same] // image.width - row) < APART
                and abs(places[same] % image.width - column) < APART
            ):
                same += 1
            if (same < n and scores[same] >= matched) or same == len(places):
                continue
            places[same], scores[same] = p, matched
            n = max(n, same + 1)
    return n


@part_of_caller
def _background_of(image, peaks, k, brightest):
    """Return level and standard deviation of the background of a candidate."""
    ring = int(image.radius[brightest]) // RING
    sigma = max(peaks[2, k] / peaks[3, k], image.ring_sigma[ring])
    return max(image.data[brightest] - peaks[6, k], image.ring_mean[ring]), sigma


@part_of_caller
def _matched(image, bounds, p, level, sigma):
    """Return what the matched filter has at a pixel, in standard deviations."""
    first_ss, last_ss, first_fs, last_fs = bounds
    row, column = p // image.width, p % image.width
    total = squares = 0.0
    for i in range(max(row - 1, first_ss), min(row + 1, last_ss) + 1):
        for j in range(max(column - 1, first_fs), min(column + 1, last_fs) + 1):
            value, good = value_at(image, i * image.width + j)
            weight = FILTER[i - row + 1][j - column + 1] if good else 0.0
            total += weight * (value - level) if good else 0.0
            squares += weight * weight
    return total / (sigma * math.sqrt(squares))


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
