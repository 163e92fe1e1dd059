"""What a session measures before its searcher is asked.

First what is in use today, where that is known, and CrystFEL's defaults; then the space's base.
Where next to nothing indexes follows a coarse search over looser and stricter peaks and over the
whole range of camera lengths, but only with peaks that make hits; once frames index, the best so
far at the geometry that the lattices fix, then the rest of the initial design.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from envs.evaluation import Evaluation
from envs.geometry_rule import FEWEST_INDEXED, GEOMETRY, WORTH_MEASURING, near_geometry
from envs.parameter_space import ParameterSpace
from tuner.session.trial import Trial
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = ["baseline", "convincing", "next_initial", "opening"]

COARSE_STEP = 0.03
"""Of the camera length, where nothing indexes: an indexer accepts about ± 2 %."""

APART = 0.01
COMPANY = 1 / 3
CONTRADICTING = 0.25
"""Share of the indexed frames that are alone with the camera length that they know, from which on
their lattices contradict each other: less than so many of the others are within `APART` of it. A
run with two lengths, or whose length drifts, has company everywhere. At a camera length 12 % off,
15 of 120 frames had lattices; 14 knew their own length, and 13 of these were alone."""

INITIAL_DESIGN = ((0.85, 0.3, 2, 0.5), (0.8, 0.3, 3, 1.6), (1.2, 0.3, 2, 0.2))
"""Parameter sets that are often good, beside the base: min_snr and threshold relative to the
base's, min_pix_count, and for the learned peak finder min_probability relative to the base's. What
is not tuned stays. The first three are the ridge of CrystFEL's rates on a simulated run."""


def baseline(space: ParameterSpace) -> Settings:
    """Return CrystFEL's defaults at the geometry of the space's base."""
    base = space.base
    return CRYSTFEL_DEFAULTS.replace(clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y)


def opening(space: ParameterSpace, start: Settings | None) -> list[tuple[str, Settings]]:
    """Return the first stages and parameter sets of any session: what its result is held against.

    Parameters
    ----------
    space : ParameterSpace
    start : Settings or None
        What is in use today.
    """
    defaults = baseline(space)
    first = [] if start is None else [("start", start)]
    return first if start == defaults else [*first, ("baseline", defaults)]


def next_initial(
    trials: Sequence[Trial], space: ParameterSpace, best: Trial | None, fixed: Mapping[str, float]
) -> tuple[str, Settings] | None:
    """Return the next stage and parameter set after the opening, or None when done.

    Parameters
    ----------
    trials : sequence of Trial
        Of the tuning sample, those of the opening first.
    space : ParameterSpace
    best : Trial or None
        The best so far.
    fixed : mapping
        The geometry that the lattices fix, by name.
    """
    base = space.base
    measured = {trial.evaluation.settings: trial.evaluation for trial in trials}
    if base not in measured:
        return "initial", base
    if best is None or not convincing(best.evaluation):
        left = (each for each in _coarse(measured, space) if each not in measured)
        coarse = next(left, None)
        if coarse is not None or best is None:
            return None if coarse is None else ("coarse", coarse)
    if not any(near_geometry(each, fixed, space, WORTH_MEASURING) for each in measured):
        return "geometry", best.evaluation.settings.replace(**fixed)
    n_done = sum(trial.stage == "initial" and trial.evaluation.settings != base for trial in trials)
    design = _design(space)
    if n_done == len(design):
        return None
    # Where nothing indexes at the geometry file's camera length, the best one's is the better.
    own = {
        name: getattr(best.evaluation.settings, name) for name in GEOMETRY if name in space.names
    }
    found = {**(own if convincing(best.evaluation) else {}), **fixed}
    return "initial", design[n_done].replace(**found)


def convincing(evaluation: Evaluation) -> bool:
    """Whether more is indexed than one or two lattices, or twice what chance would.

    At a wrong camera length lattices fit here and there, each with a length of its own: lattices
    that contradict each other do not count.
    """
    chance = 0.0 if math.isnan(evaluation.false_rate) else evaluation.false_rate
    by_chance = 2 * chance * evaluation.n_frames
    enough = evaluation.n_indexed >= FEWEST_INDEXED and evaluation.n_indexed > by_chance
    return enough and not _contradict_each_other(evaluation)


def _contradict_each_other(evaluation: Evaluation) -> bool:
    clens = np.array([own for _, own, _ in evaluation.frame_clens])
    if len(clens) < FEWEST_INDEXED:
        return False
    others = (np.abs(clens[:, None] - clens) <= APART * clens).sum(axis=0) - 1
    alone = others < COMPANY * (len(clens) - 1)
    return bool(alone.sum() > CONTRADICTING * evaluation.n_indexed)


def _design(space: ParameterSpace) -> list[Settings]:
    base = space.base
    points = [
        _within(
            space,
            base.replace(
                min_snr=snr * base.min_snr,
                threshold=threshold * base.threshold,
                min_pix_count=min_pix_count,
                min_probability=min(probability * base.min_probability, 1.0),
            ),
        )
        for snr, threshold, min_pix_count, probability in INITIAL_DESIGN
    ]
    return list(dict.fromkeys(point for point in points if point != base))


def _coarse(measured: Mapping[Settings, Evaluation], space: ParameterSpace) -> list[Settings]:
    """Return what to try where nothing indexes, the likelier mend first.

    Parameters
    ----------
    measured : mapping of Settings to Evaluation
        Holds that of the base.
    space : ParameterSpace
    """
    base = space.base
    peaks = [
        _within(
            space,
            base.replace(
                min_snr=snr * base.min_snr,
                threshold=threshold * base.threshold,
                min_probability=min(probability * base.min_probability, 1.0),
            ),
        )
        for snr, threshold, probability in ((0.8, 1 / 3, 0.4), (1.4, 3.0, 1.7))
    ]
    if measured[base].n_hits >= FEWEST_INDEXED:
        return [*_camera_lengths(base, space), *peaks]
    hits = {each: measured[each].n_hits for each in (base, *peaks) if each in measured}
    richest = max(hits, key=lambda each: hits[each])
    # Without hits no camera length can show anything.
    lengths = _camera_lengths(richest, space) if hits[richest] >= FEWEST_INDEXED else []
    return [*peaks, *lengths]


def _camera_lengths(peaks: Settings, space: ParameterSpace) -> list[Settings]:
    """Return a parameter set at camera lengths all over the range, the nearest first."""
    clen = space.base.clen
    if "clen" not in space.names or clen is None:
        return []
    parameter = space["clen"]
    span = max(parameter.high / clen - 1, 1 - parameter.low / clen)
    n_steps = max(math.ceil(span / COARSE_STEP - 1e-9), 1)
    steps = [min(COARSE_STEP * n, span) for n in range(1, n_steps + 1)]
    offsets = [sign * step for step in (*steps, COARSE_STEP / 2) for sign in (1, -1)]
    return [_within(space, peaks.replace(clen=clen * (1 + offset))) for offset in offsets]


def _within(space: ParameterSpace, settings: Settings) -> Settings:
    return space.settings(space.values(settings))
