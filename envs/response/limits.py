"""What peakfinder8's limits let through, compiled: spots bright enough, and noise.

The limits of a parameter set are worked out once, in a few classes of background and in each
ring of the detector. Pixels are Poisson draws with Gaussian read noise, as
`envs.simulation.rendering` makes them; how the peak finder clips the ring's statistics is followed
pass by pass.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from envs.response import columns as at

__all__ = ["LEVEL_EDGES", "N_LEVELS", "find_limits", "mixture_quantiles"]

N_LEVELS = 6
LEVEL_EDGES = np.array([-0.9674216, -0.4307273, 0.0, 0.4307273, 0.9674216])
"""Where classes of equally many frames meet, in standard deviations of the log background."""
LEVEL_MIDDLES = np.array([-1.3829941, -0.6744898, -0.2104284, 0.2104284, 0.6744898, 1.3829941])

CLUSTERS = np.array([1.0, 4.0, 20.0, 110.0])  # shapes of n touching pixels, a pixel
MOST_IN_A_PEAK = 50.0  # pixels, the base settings' max_pix_count
NEIGHBOURHOOD = 105.0  # pixels of a peak's local background, at the base settings' radius
SOFTEST = 4.0  # relative variance of a pixel's photons, at most
HOT_SPREAD = 1.06  # as `envs.simulation.rendering` draws them


@njit(cache=True, nogil=True)
def _normal_tail(x):
    return 0.5 * math.erfc(x * 0.7071067811865476)


@njit(cache=True, nogil=True)
def _tail(b, noise, limit):
    """Return the chance that a pixel with b photons expected exceeds a limit, in photons."""
    if noise >= 1.0 or b > 60.0:
        return _smooth_tail(b, noise, limit)
    if noise <= 0:
        m = math.floor(limit) + 1
        window = m
    else:
        m = math.floor(limit - 5 * noise)
        window = math.ceil(limit + 5 * noise)
    m = max(m, 0)
    term = math.exp(-b + m * math.log(b + 1e-300) - math.lgamma(m + 1.0))
    total = 0.0
    for _ in range(200):
        weight = _normal_tail((limit - m) / noise) if m < window else 1.0
        total += term * weight
        m += 1
        term *= b / m
        if m > b and term < 1e-4 * total and m >= window:
            break
        if term < 1e-18 and m > b:
            break
    return min(total, 1.0)


@njit(cache=True, nogil=True)
def _smooth_tail(b, noise, limit):
    """Return it where photons no longer show one by one (Lugannani and Rice's saddle point)."""
    variance = b + noise * noise
    x = limit - b
    if x <= 0.3 * math.sqrt(variance):
        return _normal_tail(x / math.sqrt(variance))
    t = x / variance
    for _ in range(6):
        e = b * math.exp(t)
        t -= (e + noise * noise * t - limit) / (e + noise * noise)
    e = b * math.exp(t)
    cumulant = e - b + noise * noise * t * t / 2
    w = math.sqrt(max(2 * (t * limit - cumulant), 1e-12))
    u = t * math.sqrt(e + noise * noise)
    tail = _normal_tail(w) + math.exp(-w * w / 2) * 0.3989422804014327 * (1 / u - 1 / w)
    return min(max(tail, 0.0), 1.0)


@njit(cache=True, nogil=True)
def mixture_quantiles(levels, noise, weights, upper_shares):
    """Return the values, in photons, that such shares of the pixels exceed.

    `levels` (n,) are the photons expected in groups of pixels of such `weights` (n,).
    """
    found = np.empty(len(upper_shares))
    total = weights.sum()
    for k in range(len(found)):
        low, high = -6 * noise - 1e-3, 10.0 + 2 * levels.max() + 8 * noise
        for _ in range(30):
            middle = (low + high) / 2
            share = 0.0
            for i in range(len(levels)):
                share += weights[i] * _tail(levels[i], noise, middle)
            if share > upper_shares[k] * total:
                low = middle
            else:
                high = middle
        found[k] = high
    return found


@njit(cache=True, nogil=True)
def _clipped(b, noise, min_snr, threshold):
    """Return standard deviation and upper limit as peakfinder8's five passes leave them."""
    mean, sigma = b, math.sqrt(b + noise * noise)
    upper = max(mean + min_snr * sigma, threshold)
    if b > 8.0 or (noise > 0.5 and b > 0.5):
        return sigma, upper
    most = int(b + 8 * math.sqrt(b)) + 3
    for _ in range(4):
        lower = mean - min_snr * sigma
        term = math.exp(-b)
        n = s = ss = 0.0
        for m in range(most):
            if noise > 0:
                weight = 0.0
                if lower - 4 * noise < m < upper + 4 * noise:
                    weight = _normal_tail((m - upper) / noise) - _normal_tail((m - lower) / noise)
            else:
                weight = 1.0 if lower < m < upper else 0.0
            n += term * weight
            s += term * weight * m
            ss += term * weight * m * m
            term *= b / (m + 1)
        if n < 1e-9:
            break
        mean = s / n
        sigma = math.sqrt(max(ss / n - mean * mean, 0.0) + noise * noise)
        new = max(mean + min_snr * sigma, threshold)
        if abs(new - upper) < 1e-3 * upper:
            upper = new
            break
        upper = new
    return sigma, upper


@njit(cache=True, nogil=True)
def _seen(b, noise, upper, blind):
    """Return the chance that a peak has a local background at all.

    A photon counter's may be all zeros, and peakfinder8 takes no peak on such. Where every single
    photon counts as part of a peak it nearly always is; `blind` is the share that is left.
    """
    if noise > 0:
        return 1.0
    if upper < 1:
        return blind
    return 1 - math.exp(-NEIGHBOURHOOD * (1 - math.exp(-b)))


@njit(cache=True, nogil=True)
def find_limits(
    rows, settings, scalars, rings, shares, random_effects, coefficients, low, high, seen, false
):  # fmt: skip
    """Work out what settings (B, 5) let through on experiments `rows` (B,).

    `low` and `high` (B, levels, rings) are filled with the logarithms of the fewest and the most
    photons of a spot that is found, `seen` (B, levels, rings) with the share of such spots that
    have a background; `false` (B, levels, 2) with the expected noise peaks and peaks of bad
    pixels.
    """
    c = coefficients
    for k in range(len(rows)):
        r = rows[k]
        s, ring = scalars[r], rings[r]
        noise = s[at.NOISE]
        min_snr, threshold = settings[k, at.MIN_SNR], settings[k, at.THRESHOLD]
        masked = settings[k, at.MASK_HOT_SIGMA] > 0
        rank = int(min(max(settings[k, at.MIN_PIX_COUNT], 1), len(CLUSTERS))) - 1
        needed = c[at.SPOT_NEED] + c[at.NEED_PER_PIXEL] * rank
        softness = c[at.SOFT] + c[at.SOFT_PER_PIXEL] * rank
        excess = c[at.FALSE_SCALE] + c[at.FALSE_PER_PIXEL] * rank
        excess = math.exp(excess + c[at.FALSE_EFFECT] * random_effects[r, at.NOISE_PEAKS])
        for i in range(N_LEVELS):
            photons = s[at.BACKGROUND] * math.exp(s[at.JITTER] * LEVEL_MIDDLES[i])
            noise_peaks = bad_peaks = 0.0
            for z in range(len(ring)):
                n_pixels, b = ring[z, at.PIXELS], photons * ring[z, at.PROFILE]
                sigma, upper = _clipped(b, noise, min_snr, threshold / s[at.GAIN])
                seen[k, i, z] = _seen(b, noise, upper, c[at.BLIND])
                need = max(upper - b, 0.3)
                # Faint spots are many, so that fluctuations lift more than they drown.
                variance = min((upper + noise**2) / need**2, SOFTEST)
                fewest = need / shares[r, z, rank] * math.exp(needed - softness * variance)
                low[k, i, z] = math.log(max(fewest, c[at.SNR_NEED] * min_snr * sigma))
                high[k, i, z] = (
                    math.log(need / shares[r, z, 0]) + MOST_IN_A_PEAK / ring[z, at.SPOT_AREA]
                )
                p = _tail(b, noise, upper)
                taken = _seen(b, noise, upper, c[at.BLIND_FALSE])
                alone = (1 - min(p, 0.5)) ** 8 * taken
                noise_peaks += n_pixels * CLUSTERS[rank] * p ** (rank + 1) * alone
                # a bad pixel makes a peak with as many bright neighbours as are asked for
                company = 1.0 if rank == 0 else min(1.0, 8 * p) * min(1.0, 12 * p) ** (rank - 1)
                hot = 0.0 if masked else s[at.N_HOT]
                hot *= _normal_tail((math.log(upper + 1e-9) - s[at.LOG_HOT_PHOTONS]) / HOT_SPREAD)
                restless = _normal_tail(upper / math.hypot(s[at.NOISY_PHOTONS], noise))
                bad = (hot + s[at.N_NOISY] * restless) * n_pixels / s[at.N_PIXELS]
                bad_peaks += company * bad * taken
            false[k, i, 0] = noise_peaks * excess
            false[k, i, 1] = bad_peaks * math.exp(c[at.HOT_SCALE])
