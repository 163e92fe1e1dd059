"""What stands where in the response model's arrays.

The compiled kernels have these numbers built in, and Numba's cache does not notice when they
change: touch `response_limits` and `response_kernel` after an edit.
"""

from __future__ import annotations

from envs.box import POLICY_PARAMETERS

__all__ = ["FRAME_COEFFICIENTS", "LIMIT_COEFFICIENTS", "SCALARS"]

MIN_SNR, THRESHOLD, MIN_PIX_COUNT, CLEN_TRIED, MASK_HOT_SIGMA = range(len(POLICY_PARAMETERS))
"""The settings that the model knows of; all others are as `envs.parameter_space.make_space`'s
base has them."""

SCALARS = (
    "gain", "noise", "hit_fraction", "multi_fraction", "log_photons", "photons_spread",
    "level", "jitter", "n_pixels", "n_hot", "n_noisy", "log_hot_photons", "noisy_photons",
    "clen", "clen_tolerance", "strictness", "cell_spread", "shift_reach", "near_px",
    "radius_px", "crowding", "clen0",
)  # fmt: skip
"""What is known of an experiment, a number each (`ResponseTables.scalars`)."""
(
    GAIN, NOISE, HIT_FRACTION, MULTI_FRACTION, LOG_PHOTONS, PHOTONS_SPREAD,
    BACKGROUND, JITTER, N_PIXELS, N_HOT, N_NOISY, LOG_HOT_PHOTONS, NOISY_PHOTONS,
    CLEN, CLEN_TOLERANCE, STRICTNESS, CELL_SPREAD, SHIFT_REACH, NEAR_PX,
    RADIUS_PX, CROWDING, CLEN0,
) = range(len(SCALARS))  # fmt: skip

PIXELS, PROFILE, SPOT_AREA = range(3)
"""Columns of `ResponseTables.ring`."""

SPOTS, NOISE_PEAKS, INDEXABILITY, FALSE_ACCEPT_PROPENSITY, KNOWN_LEVEL = range(5)
"""What an experiment's random effects are of."""

LIMIT_COEFFICIENTS = (
    "spot_need", "need_per_pixel", "soft", "soft_per_pixel", "snr_need", "blind", "blind_false",
    "false_scale", "false_per_pixel", "hot_scale", "false_effect",
)  # fmt: skip
"""Names of the coefficients that `response_limits.find_limits` takes."""
(
    SPOT_NEED, NEED_PER_PIXEL, SOFT, SOFT_PER_PIXEL, SNR_NEED, BLIND, BLIND_FALSE,
    FALSE_SCALE, FALSE_PER_PIXEL, HOT_SCALE, FALSE_EFFECT,
) = range(len(LIMIT_COEFFICIENTS))  # fmt: skip

FRAME_COEFFICIENTS = (
    "spread", "spots_effect", "enough", "crowded", "misplaced", "steepness", "dilution",
    "enough_effect", "strict_enough", "strict_limit", "strict_power", "strict_effect", "chance",
    "chance_fades", "swamped",
    "explained_own", "explained_reach", "residual_own", "residual_grows",
    "residual_near", "clen_error",
    "per_frame", "per_pixel", "per_list", "per_peak", "per_failure", "strict_per_list",
    "strict_per_peak", "strict_per_failure",
)  # fmt: skip
"""Names of the coefficients that `response_kernel.respond` takes."""
(
    SPREAD, SPOTS_EFFECT, ENOUGH, CROWDED, MISPLACED, STEEPNESS, DILUTION,
    ENOUGH_EFFECT, STRICT_ENOUGH, STRICT_LIMIT, STRICT_POWER, STRICT_EFFECT, CHANCE_OF_ANY,
    CHANCE_FADES, SWAMPED,
    EXPLAINED_OWN, EXPLAINED_REACH, RESIDUAL_OWN, RESIDUAL_GROWS,
    RESIDUAL_NEAR, CLEN_ERROR,
    PER_FRAME, PER_PIXEL, PER_LIST, PER_PEAK, PER_FAILURE, STRICT_PER_LIST,
    STRICT_PER_PEAK, STRICT_PER_FAILURE,
) = range(len(FRAME_COEFFICIENTS))  # fmt: skip
