"""What a session measures before its searcher is asked.

First CrystFEL's defaults, then the space's base; where nothing indexes, a coarse search over
camera lengths and looser and stricter peaks; once frames index, the best so far at the geometry
that the lattices fix, then the three parameter sets of the initial design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.geometry_rule import FEWEST_INDEXED, WORTH_MEASURING, near_geometry
from envs.parameter_space import ParameterSpace
from tuner.session.trial import Trial
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = ["baseline", "next_initial"]

COARSE_CLEN = (0.03, -0.03, 0.05, -0.05, 0.015, -0.015)
"""Relative offsets that are tried where nothing indexes: an indexer accepts about ± 2 %."""

INITIAL_DESIGN = ((0.85, 0.3, 2), (0.8, 0.3, 3), (1.2, 0.3, 2))
"""Parameter sets that are often good: min_snr and threshold relative to the base's,
min_pix_count. They are the ridge of CrystFEL's rates on a simulated run."""


def baseline(space: ParameterSpace) -> Settings:
    """Return CrystFEL's defaults at the geometry of the space's base: the first trial of all."""
    base = space.base
    return CRYSTFEL_DEFAULTS.replace(clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y)


def next_initial(
    trials: Sequence[Trial], space: ParameterSpace, best: Trial | None, fixed: Mapping[str, float]
) -> tuple[str, Settings] | None:
    """Return the next stage and parameter set after the baseline, or None when done.

    Parameters
    ----------
    trials : sequence of Trial
        Of the tuning sample, the baseline first.
    space : ParameterSpace
    best : Trial or None
        The best so far.
    fixed : mapping
        The geometry that the lattices fix, by name.
    """
    if len(trials) == 1:
        return "start", space.base
    if best is None:
        tried = {trial.evaluation.settings for trial in trials}
        left = (each for each in _coarse(trials[1], space) if each not in tried)
        return next((("coarse", each) for each in left), None)
    measured = (trial.evaluation.settings for trial in trials)
    if not any(near_geometry(each, fixed, space, WORTH_MEASURING) for each in measured):
        return "geometry", best.evaluation.settings.replace(**fixed)
    n_done = sum(trial.stage == "initial" for trial in trials)
    design = _design(space)
    return ("initial", design[n_done].replace(**fixed)) if n_done < len(design) else None


def _design(space: ParameterSpace) -> list[Settings]:
    base = space.base
    points = [
        _within(
            space,
            base.replace(
                min_snr=snr * base.min_snr,
                threshold=threshold * base.threshold,
                min_pix_count=min_pix_count,
            ),
        )
        for snr, threshold, min_pix_count in INITIAL_DESIGN
    ]
    return list(dict.fromkeys(point for point in points if point != base))


def _coarse(start: Trial, space: ParameterSpace) -> list[Settings]:
    """Return what to try where nothing indexes, the likelier mend first."""
    base = space.base
    peaks = [
        _within(
            space, base.replace(min_snr=snr * base.min_snr, threshold=threshold * base.threshold)
        )
        for snr, threshold in ((0.8, 1 / 3), (1.4, 3.0))
    ]
    geometry = []
    if "clen" in space.names and base.clen is not None:
        geometry = [
            _within(space, base.replace(clen=base.clen * (1 + offset))) for offset in COARSE_CLEN
        ]
    enough_hits = start.evaluation.n_hits >= FEWEST_INDEXED
    return geometry + peaks if enough_hits else peaks + geometry


def _within(space: ParameterSpace, settings: Settings) -> Settings:
    return space.settings(space.values(settings))
