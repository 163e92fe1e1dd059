"""The response model's fitted numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Coefficients"]


@dataclass(frozen=True)
class Coefficients:
    """What is fitted.

    Attributes
    ----------
    spot_need, need_per_pixel : float
        Logarithm of the photons that a spot needs relative to those that put its brightest
        pixel on the limit, for one pixel and for each further one asked for.
    soft, soft_per_pixel : float
        How much less a spot needs on average by the relative variance of its photons, likewise.
    snr_need : float
        Photons that a spot needs at least, in min_snr times the background's sigma.
    blind, blind_false : float
        Share of the spots, and of the noise peaks, that are found where the limit lies below
        one photon, of a photon counter.
    false_scale, false_per_pixel, hot_scale : float
        Logarithm of the noise peaks, relative to theory, for one pixel and for each further one;
        of the bad pixels' peaks.
    spread : float
        Relative standard deviation of a crystal's number of spots.
    enough, steepness : float
        Logarithm of the peaks with which half of the patterns are indexed; slope of the logit.
    crowded, misplaced : float
        What nodes near each other (logarithm of the shortest axis' cube times the cell's volume)
        and an error of the beam's centre (in shortest reciprocal axes) add to the former.
    dilution : float
        How that logarithm grows with ln(1 + other peaks / own peaks).
    strict_enough : float
        What an indexer as strict as CrystFEL's adds to the logarithm of the peaks it needs.
    strict_limit, strict_power : float
        Logarithm of the other peaks, relative to its own, with which such an indexer takes half
        of the patterns; how suddenly.
    chance, chance_fades, swamped : float
        Share of lists without a lattice that are accepted, and the number of peaks over which
        it falls; what a list of 2,048 adds with the strict indexer that accepts most.
    explained_own, explained_reach : float
        Share of its own peaks that a lattice explains; error of the centre that halves it.
    residual_own, residual_grows, residual_near : float
        Residual of own peaks in pixels, the power of their number with which it grows, and that
        of strangers relative to how near they must be.
    clen_error : float
        Scale of a lattice's error of the camera length.
    per_frame, per_pixel, per_list, per_peak, per_failure : float
        Seconds a frame, a million pixels, a list that is given to the indexer; what a list in
        which it finds nothing costs further, for each of its peaks and besides.
    strict_per_list, strict_per_peak, strict_per_failure : float
        The same of a strict indexer.
    spots_effect, false_effect, enough_effect, strict_effect : float
        Standard deviations between experiments of what the model cannot know: of the logarithms
        of the spots' brightness, the noise peaks, the peaks that are enough, and the strict
        indexer's limit.
    """

    spot_need: float = 0.0
    need_per_pixel: float = 0.0
    soft: float = 0.5
    soft_per_pixel: float = 0.0
    snr_need: float = 1.0
    blind: float = 0.2
    blind_false: float = 0.02
    false_scale: float = 0.0
    false_per_pixel: float = 0.0
    hot_scale: float = 0.0
    false_effect: float = 0.4
    spread: float = 0.12
    spots_effect: float = 0.15
    enough: float = 0.6
    steepness: float = 2.8
    crowded: float = 0.38
    misplaced: float = 6.2
    dilution: float = 0.68
    enough_effect: float = 0.25
    strict_enough: float = 0.3
    strict_limit: float = 0.9
    strict_power: float = 4.0
    strict_effect: float = 0.3
    chance: float = 0.012
    chance_fades: float = 60.0
    swamped: float = 0.15
    explained_own: float = 0.99
    explained_reach: float = 0.31
    residual_own: float = 0.1
    residual_grows: float = 0.2
    residual_near: float = 0.6
    clen_error: float = 2.0
    per_frame: float = 0.0005
    per_pixel: float = 0.002
    per_list: float = 0.004
    per_peak: float = 2e-5
    per_failure: float = 0.01
    strict_per_list: float = 0.15
    strict_per_peak: float = 0.0012
    strict_per_failure: float = 0.1

    @classmethod
    def load(cls) -> Coefficients:
        """Return the fitted ones, which are package data."""
        path = files("envs") / "data" / "response_model.json"
        if not path.is_file():
            return cls()
        return cls(**json.loads(path.read_text("utf-8"))["coefficients"])
