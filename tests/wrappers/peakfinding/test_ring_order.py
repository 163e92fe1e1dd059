"""Values in ring order, frame after frame with whatever masks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wrappers.peakfinding.peak_regions import no_bits
from wrappers.peakfinding.ring_order import sort_into_rings
from wrappers.peakfinding.vectors import LANES


@given(
    n_pixels=st.integers(70, 3000),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0]), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_usable_values_are_in_their_places_and_nothing_else(n_pixels, shares, seed):
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(rng.random(n_pixels) < 0.9)
    place = np.full(n_pixels, len(inside), np.int32)
    place[rng.permutation(inside)] = np.arange(len(inside), dtype=np.int32)
    unusable, target = no_bits(n_pixels), place.copy()
    values = np.full(len(inside) + LANES, np.nan, np.float32)
    for share in shares:
        data = rng.integers(-9, 9, n_pixels).astype(np.int16)
        mask = rng.random(n_pixels) >= share
        sort_into_rings(data, mask, place, unusable, target, values)
        expected = np.full(len(inside), np.nan, np.float32)
        good = mask & (place < len(inside))
        expected[place[good]] = data[good]
        np.testing.assert_array_equal(values[: len(inside)], expected)
        bits = np.unpackbits(unusable.view(np.uint8), bitorder="little")[:n_pixels]
        np.testing.assert_array_equal(bits == 0, mask)
        values[rng.integers(0, len(inside), 5)] = np.nan  # as a search does at unsuitable radii
