"""The kernels of the learned peak finder: what they make of borders, masks and odd values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrappers.spots.image import LEVELS, RING, Image, ring_background
from wrappers.spots.patches import BLOCKS, FEATURES, MEASURED, PATCH, describe
from wrappers.spots.ranking import best_of_neighbours, rank

HEIGHT, WIDTH = 40, 50
PANELS = np.array([[0, 19, 0, WIDTH - 1], [20, HEIGHT - 1, 0, WIDTH - 1]])


def image_of(data, usable=None) -> Image:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(rows - 19.5, columns - 24.5).astype(np.float32)
    usable = np.ones(data.shape, bool) if usable is None else usable
    max_adu = np.array([200.0, np.inf])
    flat = np.ascontiguousarray(data, np.float32).ravel()
    n_rings = int(radius.max()) // RING + 1
    image = Image(
        *(flat, usable.ravel(), WIDTH, PANELS, max_adu, radius.ravel(), float(radius.max())),
        *(np.empty(n_rings), np.empty(n_rings)),
    )
    ring_background(image, False)
    return image


def described(image, *places):
    pixel = np.array([ss * WIDTH + fs for ss, fs in places], np.int32)
    panel = (pixel // WIDTH >= 20).astype(np.int32)
    n = len(places)
    features, measured = np.zeros((n, len(FEATURES)), np.float32), np.empty((n, len(MEASURED)))
    snr, n_pixels = np.full(n, 10.0), np.full(n, 3, np.int32)
    describe(image, pixel, panel, snr, n_pixels, np.full(n, 5, np.float32), features, measured)
    return features, measured


def named(features, name):
    return features[..., FEATURES.index(name)]


def background(seed=0):
    return np.random.default_rng(seed).poisson(25, (HEIGHT, WIDTH)).astype(float)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    seed=st.integers(0, 2**32 - 1),
    level=st.sampled_from([0.0, 0.02, 3.0, 1e4, 1e30]),
    masked=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    odd=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -1e9]),
    n_odd=st.integers(0, 200),
)
def test_whatever_a_frame_holds_the_features_are_finite(seed, level, masked, odd, n_odd):
    rng = np.random.default_rng(seed)
    data = rng.poisson(min(level, 1e6), (HEIGHT, WIDTH)) * max(level / 1e6, 1.0)
    data.flat[rng.integers(data.size, size=n_odd)] = odd
    image = image_of(data, rng.random(data.shape) >= masked)
    n = 30
    fs, ss = rng.uniform(0, WIDTH, n), rng.uniform(0, HEIGHT, n)
    panel = (ss >= 20).astype(np.int32)
    n_pixels = rng.integers(1, 40, n).astype(np.int32)
    snr = rng.uniform(0.1, 9, n)
    peaks = np.array([fs, ss, rng.uniform(-1, 100, n), snr, panel, n_pixels, np.ones(n)])
    score, pixel = np.empty(n, np.float32), np.empty(n, np.int32)
    rank(image, peaks, score, pixel)
    there = np.flatnonzero(pixel >= 0)
    usable = image.usable[pixel[there]] & np.isfinite(image.data[pixel[there]])
    assert usable.all()
    assert (np.abs(pixel[there] // WIDTH + 0.5 - ss[there]) <= 3).all()
    assert (np.abs(pixel[there] % WIDTH + 0.5 - fs[there]) <= 3).all()
    there = there[np.isfinite(score[there])]
    features = np.zeros((len(there), len(FEATURES)), np.float32)
    measured = np.empty((len(there), len(MEASURED)))
    known = (panel[there], snr[there], n_pixels[there], score[there])
    describe(image, pixel[there], *known, features, measured)
    assert np.isfinite(features).all() and np.isfinite(measured).all()
    place = measured[:, 1], measured[:, 0]
    assert (np.abs(place[0] - pixel[there] // WIDTH - 0.5) <= 2).all()
    assert (np.abs(place[1] - pixel[there] % WIDTH - 0.5) <= 2).all()


def test_the_patch_is_in_standard_deviations_of_the_background_around():
    data = background()
    data[10, 20] = 25 + 5 * 40
    (features,), _ = described(image_of(data), (10, 20))
    patch = features[: PATCH**2].reshape(PATCH, PATCH)
    u = np.array([(data[10, 20] - 25) / 5, (data[9, 20] - 25) / 5])
    expected = u / (1 + abs(u)) ** 0.75
    assert patch[4, 4] == pytest.approx(expected[0], rel=0.05)
    assert patch[3, 4] == pytest.approx(expected[1], abs=0.15)
    assert np.argmax(patch) == 40
    # The spot itself is not in the background that it is measured against.
    (again,), _ = described(image_of(np.where(data == data.max(), 1e6, data)), (10, 20))
    assert again[0] == pytest.approx(features[0], abs=1e-6)


def test_scale_and_level_of_the_data_do_not_matter():
    data = background()
    data[9:12, 19:22] += [[20, 60, 20], [60, 250, 60], [20, 60, 20]]
    image = image_of(data)._replace(max_adu=np.full(2, np.inf))
    other = image._replace(
        data=(image.data * 40 - 1000).astype(np.float32),
        ring_mean=40 * image.ring_mean - 1000,
        ring_sigma=40 * image.ring_sigma,
    )
    features, measured = described(image, (10, 20))
    scaled, moved = described(other, (10, 20))
    level = [FEATURES.index(name) for name in ("background_level",)]
    np.testing.assert_allclose(
        np.delete(scaled, level, 1), np.delete(features, level, 1), atol=2e-4
    )
    assert moved[0, :2] == pytest.approx(measured[0, :2], abs=1e-3)
    assert moved[0, 2] == pytest.approx(40 * measured[0, 2], rel=1e-3)


@pytest.mark.parametrize("place", [(0, 0), (0, 49), (19, 25), (20, 25), (39, 49), (10, 2)])
def test_nothing_is_read_beyond_the_panel(place):
    data = background()
    data[place] = 400
    (features,), _ = described(image_of(data), place)
    other = data.copy()
    on_first = place[0] < 20
    other[20:] = 9999 if on_first else other[20:]
    other[:20] = 9999 if not on_first else other[:20]
    (same,), _ = described(image_of(other), place)
    np.testing.assert_array_equal(same, features)
    rows = [r for r in range(place[0] - 4, place[0] + 5) if 0 <= r < 40 and (r < 20) == on_first]
    columns = [c for c in range(place[1] - 4, place[1] + 5) if 0 <= c < 50]
    assert named(features, "usable_9") == pytest.approx(len(rows) * len(columns) / PATCH**2)
    edge = min(place[0] % 20, 19 - place[0] % 20, place[1], 49 - place[1])
    assert named(features, "panel_edge") == pytest.approx(min(edge, 10) / 10)


def test_masked_pixels_count_as_background():
    data, usable = background(), np.ones((HEIGHT, WIDTH), bool)
    data[10, 20], data[10, 21], usable[10, 21] = 200, 5000, False
    (features,), measured = described(image_of(data, usable), (10, 20))
    patch = features[: PATCH**2].reshape(PATCH, PATCH)
    assert patch[4, 5] == 0 and named(features, "usable_3") == pytest.approx(8 / 9)
    data[10, 21] = np.nan
    usable[10, 21] = True
    (same,), moved = described(image_of(data, usable), (10, 20))
    np.testing.assert_array_equal(same, features)
    np.testing.assert_array_equal(moved, measured)


def test_blocks_are_in_their_place():
    data = background()
    data[10, 20] = 300
    data[0:3, 10:13] += 100  # the block in the upper left corner of the wide patch
    (features,), _ = described(image_of(data), (10, 20))
    blocks = features[PATCH**2 : PATCH**2 + BLOCKS**2].reshape(BLOCKS, BLOCKS)
    rest = np.delete(blocks.ravel(), [0, 24])
    assert blocks[0, 0] > 2 and blocks[3, 3] > 1 and np.abs(rest).max() < 1.6


def test_the_longer_axis_is_known_to_be_radial_or_not():
    data = background()
    data[6:15, 24] += 300
    radial, _ = described(image_of(data), (10, 24))
    data = background()
    data[10, 20:29] += 300
    across, _ = described(image_of(data), (10, 24))
    assert named(radial, "along_radius") > 0.7 and named(across, "along_radius") < -0.7
    assert named(radial, "long_axis") > 2 * named(radial, "short_axis")


def test_saturated_pixels_are_counted_by_the_panels_own_limit():
    data = background()
    data[10, 20:22], data[30, 20:22] = 201, 201
    features, _ = described(image_of(data), (10, 20), (30, 20))
    assert named(features, "saturated") == pytest.approx([2 / 9, 0])


def test_a_centroid_is_where_the_spot_is():
    rng = np.random.default_rng(3)
    for _ in range(20):
        data, (ss, fs) = background(), rng.uniform(9.2, 10.8, 2)
        photons = rng.normal((ss, fs), 0.6, (4000, 2)).astype(int)
        np.add.at(data, tuple(photons.T), 1)
        place = np.unravel_index(data.argmax(), data.shape)
        _, measured = described(image_of(data), place)
        assert measured[0, :2] == pytest.approx((fs, ss), abs=0.15)


def test_of_neighbours_the_best_is_kept():
    pixel = np.array([5 * WIDTH + 5, 5 * WIDTH + 6, 5 * WIDTH + 8, 6 * WIDTH + 9], np.int32)
    score = np.array([3, 4, 9, 8], np.float32)
    one = np.zeros(4, np.int32)
    assert best_of_neighbours(pixel, one, score, WIDTH).tolist() == [False, True, True, False]
    two = np.array([0, 1, 1, 1], np.int32)
    assert best_of_neighbours(pixel, two, score, WIDTH).tolist() == [True, True, True, False]
    same = np.array([7, 7, 7], np.int32)
    scores = np.array([5, 4, 4], np.float32)
    assert best_of_neighbours(same, one[:3], scores, WIDTH).sum() == 1


def test_a_ring_is_known_by_a_sample_of_its_pixels():
    rng = np.random.default_rng(5)
    geometry_like = np.hypot(*(np.mgrid[:400, :500] - np.array([199.5, 249.5])[:, None, None]))
    radius = geometry_like.astype(np.float32).ravel()
    data = rng.normal(50 + radius / 10, 3).astype(np.float32)
    data[rng.integers(data.size, size=200)] = 1e6
    n_rings = int(radius.max()) // RING + 1
    image = Image(
        *(data, np.ones(data.size, bool), 500, np.array([[0, 399, 0, 499]]), np.array([np.inf])),
        *(radius, float(radius.max()), np.empty(n_rings), np.empty(n_rings)),
    )
    above = ring_background(image, False)
    rings = radius.astype(int) // RING
    well_known = np.bincount(rings) > 2000
    expected = 50 + (np.arange(n_rings) + 0.5) * RING / 10
    np.testing.assert_allclose(image.ring_mean[well_known], expected[well_known], atol=1.0)
    np.testing.assert_allclose(image.ring_sigma[well_known], 3, rtol=0.25)
    excess = (data - image.ring_mean[rings]) / image.ring_sigma[rings]
    true = [np.count_nonzero(excess > level) for level in LEVELS]
    np.testing.assert_allclose(above, true, rtol=0.35)
    assert (np.diff(above) <= 0).all()


def test_single_photons_are_background_and_not_winsorised_away():
    data = np.random.default_rng(6).poisson(0.02, (HEIGHT, WIDTH)).astype(float)
    image = image_of(data)
    ring_background(image, True)
    assert image.ring_sigma.max() > 0.05
