"""The response model's frames, compiled: what peak finding and indexing make of each.

A frame is a handful of random numbers, made from the experiment's seed and the frame's own
number, so that every parameter set sees the same frames. Its spots and false peaks follow from
`envs.response.limits`; what the indexer and the lattices' fit make of them from coefficients.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from envs.response import columns as at
from envs.response.limits import LEVEL_EDGES, N_LEVELS
from wrappers.lattices.geometry_refinement import NEAR

__all__ = [
    "COUNTS",
    "LATENTS",
    "NORMAL",
    "OUTPUTS",
    "PARTS",
    "go_through",
    "respond",
]

COUNTS = ("n_peaks", "hit", "indexed", "decoy")
"""Columns of a frame's outcome; a decoy is 1 where it was tried, 2 where it was indexed."""

PARTS = ("n_peaks", "own", "other", "found", "by_chance")
"""A frame's peaks; those of its best lattice, all others; chances that this is found, or any."""

OUTPUTS = (
    "n_hits", "n_indexed", "n_decoys", "n_decoys_indexed", "median_peaks", "explained",
    "residual", "scale_deviation", "refined_clen", "refined_clen_se", "seconds", "true_rate",
    "true_hit_rate",
)  # fmt: skip

LATENTS = 11
"""Random numbers of a frame, in this order; some normal, the others even in (0, 1)."""
(CRYSTAL, LEVEL, BRIGHT, COUNT, FALSE, INDEX, MULTI, BRIGHT2, CHANCE, DECOY, SIZE) = range(LATENTS)
NORMAL = (LEVEL, BRIGHT, COUNT, FALSE, BRIGHT2, SIZE)

MOST_PEAKS = 2048.0  # of a frame's list
FALSE_SPREAD = 0.1  # relative standard deviation of noise peaks beyond Poisson's
LOOKED_AT = 600.0  # peaks of a list beyond which the embedded indexer takes no longer
STRICT_LOOKED_AT = 300.0  # the same of a strict indexer, about
LENIENCE = 2.0  # logarithm of the foreign peaks that the least strict indexer takes beyond
NEAR_A_NODE = 4 / 3 * math.pi * NEAR**3  # share of a cubic lattice's space that counts as near
FALSELY_EXPLAINED = 0.3  # share of the peaks that a lattice found by chance explains
FEWEST_EXPLAINED = 6.0  # peaks of a lattice that can tell its geometry


@njit(cache=True, nogil=True)
def _draw_latents(seed, draw, frame, latents):
    """Fill in the random numbers of one frame: splitmix64 of its coordinates, Box-Muller."""
    state = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(draw) * np.uint64(0xD1B54A32D192ED03)
    state ^= np.uint64(frame + 1) * np.uint64(0x8CB92BA72F3D8DD7)
    for i in range(LATENTS):
        state += np.uint64(0x9E3779B97F4A7C15)
        z = state
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        latents[i] = (float(z >> np.uint64(11)) + 0.5) / 2.0**53
    for k in range(0, len(NORMAL), 2):
        i, j = NORMAL[k], NORMAL[k + 1]
        radius, angle = math.sqrt(-2 * math.log(latents[i])), 2 * math.pi * latents[j]
        latents[i], latents[j] = radius * math.cos(angle), radius * math.sin(angle)


@njit(cache=True, nogil=True)
def _n_reflections(log_scale, low, high, seen, reflections, brightest, step):
    """Return how many of a crystal's spots are found."""
    n_steps = reflections.shape[1]
    total = 0.0
    for z in range(len(low)):
        for side in range(2):
            place = (brightest - ((low[z] if side == 0 else high[z]) - log_scale)) / step
            if place <= 0:
                continue
            i = int(place)
            if i >= n_steps - 1:
                n = reflections[z, n_steps - 1]
            else:
                n = reflections[z, i] + (place - i) * (reflections[z, i + 1] - reflections[z, i])
            total += seen[z] * n if side == 0 else -seen[z] * n
    return max(total, 0.0)


class Limits(NamedTuple):
    """What a parameter set lets through, of B experiments: see `envs.response.limits`."""

    low: Any
    high: Any
    seen: Any
    false: Any


class Experiments(NamedTuple):
    """The arrays of P experiments; see `envs.response.tables.ResponseTables`."""

    scalars: Any
    reflections: Any
    effects: Any
    seeds: Any


class Constants(NamedTuple):
    """The scale of the reflections' brightness, and the model's coefficients."""

    brightest: float
    step: float
    coefficients: Any


@njit(cache=True, nogil=True)
def _work_out(experiments, r, limits, b, constants, u, crystal, error, out):
    """Work out one frame of experiment `r`: fill `out` with its `PARTS`."""
    s, effects, reflections = (
        experiments.scalars[r],
        experiments.effects[r],
        experiments.reflections[r],
    )
    low, high, seen, false = limits.low[b], limits.high[b], limits.seen[b], limits.false[b]
    brightest, step, c = constants
    i = 0
    while i < N_LEVELS - 1 and u[LEVEL] > LEVEL_EDGES[i]:
        i += 1
    n_false = false[i, 0]
    n_false += math.sqrt(n_false + (FALSE_SPREAD * n_false) ** 2) * u[FALSE]
    n_false = max(n_false, 0.0) + false[i, 1]
    own = other = 0.0
    if crystal:
        median = s[at.LOG_PHOTONS] + c[at.SPOTS_EFFECT] * effects[at.SPOTS]
        scale = median + s[at.PHOTONS_SPREAD] * u[BRIGHT]
        own = _n_reflections(scale, low[i], high[i], seen[i], reflections, brightest, step)
        if u[MULTI] < s[at.MULTI_FRACTION]:
            scale = median + s[at.PHOTONS_SPREAD] * u[BRIGHT2]
            other = _n_reflections(scale, low[i], high[i], seen[i], reflections, brightest, step)
        own, other = max(own, other), min(own, other)
        own = max(0.0, own + math.sqrt(own + (c[at.SPREAD] * own) ** 2) * u[COUNT])
    kept = min(1.0, MOST_PEAKS / max(own + other + n_false, 1.0))
    own, other = own * kept, (other + n_false) * kept
    n_peaks = math.floor(own + other + 0.5)
    found = 0.0
    if own > 1:
        enough = c[at.ENOUGH] + c[at.CROWDED] * s[at.CROWDING] + c[at.MISPLACED] * s[at.SHIFT_REACH]
        enough += c[at.ENOUGH_EFFECT] * effects[at.INDEXABILITY] + c[at.DILUTION] * math.log(
            1 + other / own
        )
        enough += c[at.STRICT_ENOUGH] * s[at.STRICTNESS]
        found = 1 / (1 + math.exp(-c[at.STEEPNESS] * (math.log(own) - enough)))
        if s[at.STRICTNESS] > 0:
            limit = c[at.STRICT_LIMIT] + LENIENCE * (1 - s[at.STRICTNESS])
            limit -= c[at.STRICT_EFFECT] * effects[at.INDEXABILITY]
            found /= 1 + (other / own / math.exp(limit)) ** c[at.STRICT_POWER]
        found /= 1 + (abs(error) / s[at.CLEN_TOLERANCE]) ** 8
    out[0], out[1], out[2], out[3] = n_peaks, own, other, found
    false_accept_propensity = (
        c[at.SWAMPED] * s[at.STRICTNESS] * max(effects[at.FALSE_ACCEPT_PROPENSITY], 0.0)
    )
    chance = c[at.CHANCE_OF_ANY] * math.exp(-n_peaks / c[at.CHANCE_FADES])
    out[4] = min(0.5, chance + false_accept_propensity * (n_peaks / MOST_PEAKS) ** 2)


@njit(cache=True, nogil=True)
def go_through(rows, settings, latents, limits, experiments, constants, parts):
    """Work out given frames, `latents` (B, F, LATENTS): fill `parts` (B, F, len(PARTS))."""
    for b in range(len(rows)):
        r = rows[b]
        s = experiments.scalars[r]
        error = settings[b, at.CLEN_TRIED] / s[at.CLEN] - 1
        for f in range(latents.shape[1]):
            u = latents[b, f]
            crystal = u[CRYSTAL] < s[at.HIT_FRACTION]
            _work_out(experiments, r, limits, b, constants, u, crystal, error, parts[b, f])


@njit(cache=True, nogil=True)
def respond(
    rows, settings, n_frames, draws, min_peaks, most_decoys,
    limits, experiments, constants, given, nodes, results, outcomes,
):  # fmt: skip
    """Evaluate settings (B, 5) on experiments `rows` (B,); fill `results` (B, len(OUTPUTS)).

    Frames are drawn, unless their latent numbers are `given` (B, F, LATENTS). `nodes`
    (n, LATENTS) stand for all frames there could be: the true rates are averages over them.
    `outcomes` (B, F, len(COUNTS)) is filled as far as it reaches.
    """
    c = constants.coefficients
    u, out = np.empty(LATENTS), np.empty(len(PARTS))
    most = n_frames.max() if len(n_frames) else 0
    peaks, explained, residuals = np.empty(most), np.empty(most), np.empty(most)
    for b in range(len(rows)):
        r = rows[b]
        s, result = experiments.scalars[r], results[b]
        error = settings[b, at.CLEN_TRIED] / s[at.CLEN] - 1
        by_accident = NEAR_A_NODE * math.exp(s[at.CROWDING])
        n_hits = n_indexed = n_decoys = n_decoys_indexed = 0
        weights = weighted = squares = squares_off = squares_off_twice = scale = 0.0
        n_fitted = 0
        # A centre that is off by much of a reciprocal axis leaves the nodes without their peaks.
        own_share = c[at.EXPLAINED_OWN] / (1 + (s[at.SHIFT_REACH] / c[at.EXPLAINED_REACH]) ** 6)
        per_list = c[at.STRICT_PER_LIST] if s[at.STRICTNESS] > 0 else c[at.PER_LIST]
        per_peak = c[at.STRICT_PER_PEAK] if s[at.STRICTNESS] > 0 else c[at.PER_PEAK]
        looked_at = STRICT_LOOKED_AT if s[at.STRICTNESS] > 0 else LOOKED_AT
        per_failure = c[at.STRICT_PER_FAILURE] if s[at.STRICTNESS] > 0 else c[at.PER_FAILURE]
        seconds = n_frames[b] * (c[at.PER_FRAME] + c[at.PER_PIXEL] * s[at.N_PIXELS] * 1e-6)
        for f in range(n_frames[b]):
            if given.shape[1]:
                u[:] = given[b, f]
            else:
                _draw_latents(experiments.seeds[r], draws[b], f, u)
            crystal = u[CRYSTAL] < s[at.HIT_FRACTION]
            _work_out(experiments, r, limits, b, constants, u, crystal, error, out)
            n_peaks, own, others, found, by_chance = out[0], out[1], out[2], out[3], out[4]
            hit = n_peaks >= min_peaks
            right = hit and u[INDEX] < found
            indexed = right or (hit and u[CHANCE] < by_chance)
            decoy = 0
            if hit:
                peaks[n_hits] = n_peaks
                n_hits += 1
                lists, failures = 1, 1 - indexed
                if n_decoys < most_decoys:
                    decoy = 1 + (u[DECOY] < by_chance)
                    n_decoys += 1
                    n_decoys_indexed += decoy - 1
                    lists, failures = 2, failures + 2 - decoy
                listed = min(n_peaks, looked_at)
                seconds += lists * per_list + failures * (per_failure + per_peak * listed)
                n_indexed += indexed
            mine = own_share * own if right else FALSELY_EXPLAINED * n_peaks
            stray = by_accident * others
            if indexed and mine + stray >= FEWEST_EXPLAINED:
                explained[n_fitted] = (mine + stray) / n_peaks
                near = c[at.RESIDUAL_NEAR] * s[at.NEAR_PX]
                # many spots are faint spots, whose centroids scatter
                residual = (c[at.RESIDUAL_OWN] * mine ** c[at.RESIDUAL_GROWS]) ** 2
                residual += stray / (mine + stray) * near**2
                residuals[n_fitted] = math.sqrt(residual)
                n_fitted += 1
                # To the camera length each crystal's own size of cell is an error as well, but
                # not to the lattices' weights.
                own_error = (
                    c[at.CLEN_ERROR] * math.sqrt(residual / (mine + stray)) / s[at.RADIUS_PX]
                )
                deviation = math.sqrt(own_error**2 + s[at.CELL_SPREAD] ** 2) * u[SIZE]
                weight = 1 / own_error**2
                weights += weight
                weighted += weight * deviation
                squares += weight**2
                squares_off += weight**2 * deviation
                squares_off_twice += (weight * deviation) ** 2
                scale += error + deviation
            if f < outcomes.shape[1]:
                outcomes[b, f, 0], outcomes[b, f, 1] = n_peaks, hit
                outcomes[b, f, 2], outcomes[b, f, 3] = indexed, decoy
        result[:4] = n_hits, n_indexed, n_decoys, n_decoys_indexed
        result[4:10] = np.nan
        if n_hits:
            result[4] = np.median(peaks[:n_hits])
        if n_fitted:
            change = weighted / weights
            pull = squares_off_twice - 2 * change * squares_off + change**2 * squares
            sandwich = math.sqrt(max(pull, 0.0) * n_fitted / max(n_fitted - 1, 1)) / weights
            result[5] = np.median(explained[:n_fitted])
            result[6] = np.median(residuals[:n_fitted])
            result[7] = scale / n_fitted
            result[8] = s[at.CLEN] * (1 + change)
            result[9] = s[at.CLEN] * max(sandwich, 1 / math.sqrt(weights))
        result[10] = seconds
        result[11:13] = 0
        for k in range(len(nodes)):
            for blank in range(2):
                _work_out(
                    experiments, r, limits, b, constants, nodes[k], not blank, error, out
                )  # fmt: skip
                if out[0] >= min_peaks:
                    share = 1 - s[at.HIT_FRACTION] if blank else s[at.HIT_FRACTION]
                    result[11] += share * out[3] / len(nodes)
                    result[12] += share / len(nodes)
