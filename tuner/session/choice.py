"""Which trial is best so far: one answer for the loop, the live table, the report and the end.

It is decided when a trial is made, and stands in the trial (`tuner.session.trial.Trial.best`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.geometry_rule import GeometryLock, near_geometry
from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import Parameter, ParameterSpace
from tuner.session.trial import Trial, tuning_trials
from wrappers.settings import Settings

__all__ = ["best_trial", "cross_validated_rate", "recommended_settings", "with_best"]

FOLDS = 10


def best_trial(
    trials: Sequence[Trial], space: ParameterSpace, merit: Merit = USUAL_MERIT
) -> Trial | None:
    """Return the trial with the highest merit, or None if none indexed anything.

    Trials that have not seen every frame do not count. Of several equal
    ones the one nearest the middle of their extent in the unit cube wins: the middle of a plateau
    is the farthest from its cliffs. (Their mean or medoid would be where the search crowds.)
    """
    n_frames = max((trial.evaluation.n_frames for trial in trials), default=0)
    indexed = [
        trial
        for trial in trials
        if trial.evaluation.n_indexed and trial.evaluation.n_frames == n_frames
    ]
    if not indexed:
        return None
    merits = [merit(trial.evaluation) for trial in indexed]
    equal = [
        trial for trial, each in zip(indexed, merits, strict=True) if each > max(merits) - 1e-9
    ]
    points = np.array([space.encode(trial.evaluation.settings) for trial in equal])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return equal[int(np.argmin(np.linalg.norm(points - middle, axis=1)))]


def recommended_settings(
    trials: Sequence[Trial], space: ParameterSpace, merit: Merit = USUAL_MERIT
) -> Settings:
    """Return what a session recommends that ends after these trials of the tuning sample.

    It is the best so far, at the geometry that the lattices fix; the first trial's parameter set
    where nothing is indexed.
    """
    winner = trials[max(trials[-1].best, 0)].evaluation
    best = winner.settings
    lock = GeometryLock(space)
    for trial in trials:
        lock.observe(trial.evaluation, merit(trial.evaluation))
    geometry = lock.recommended(winner)
    near = near_geometry(best, geometry, space, resolutions=1)
    return best if near else best.replace(**geometry)


def cross_validated_rate(trials: Sequence[Trial], merit: Merit = USUAL_MERIT) -> float:
    """Return the rate of what a session recommends, as frames tell that had no say in the choice.

    For each tenth of the frames the trial is taken that has the highest merit on the nine others,
    and what it indexes of that tenth is counted. NaN without trials of every frame.

    Parameters
    ----------
    trials : sequence of Trial
        Those on the tuning sample count, with all of its frames.
    merit : Merit
    """
    there = [trial.evaluation for trial in trials if trial.stage != "fresh"]
    n = max((each.n_frames for each in there), default=0)
    whole = [each for each in there if each.n_frames == n]
    if not n:
        return math.nan
    n_indexed = 0.0
    for fold in range(min(FOLDS, n)):
        rest = [
            replace(
                each, outcomes=tuple(o for i, o in enumerate(each.outcomes) if i % FOLDS != fold)
            )
            for each in whole
        ]
        taken = whole[int(np.argmax([merit(each) for each in rest]))]
        counted = [outcome.indexed for outcome in taken.outcomes[fold::FOLDS]]
        n_indexed += float(taken.frame_weights[fold::FOLDS] @ np.asarray(counted, float))
    return n_indexed / n


def with_best(
    trials: Sequence[Trial], tuned: Sequence[str], merit: Merit = USUAL_MERIT
) -> list[Trial]:
    """Return the trials of a session that did not record which was best so far, with that.

    The box that was searched is not known any more; the extent of the trials takes its place.
    """
    space = _extent([trial.evaluation.settings for trial in trials], tuned)
    found: list[Trial] = []
    for trial in trials:
        if trial.stage == "confirm":
            best = trial.number
        elif trial.stage == "fresh":
            best = found[-1].best if found else -1
        else:
            leader = best_trial([*tuning_trials(found), trial], space, merit)
            best = -1 if leader is None else leader.number
        found.append(replace(trial, best=best))
    return found


def _extent(settings: Sequence[Settings], tuned: Sequence[str]) -> ParameterSpace:
    """Return the box that parameter sets span."""
    parameters = []
    for name in tuned:
        values = [float(getattr(each, name) or 0.0) for each in settings]
        if min(values) < max(values):
            parameters.append(Parameter(name, min(values), max(values), digits=12))
    return ParameterSpace(tuple(parameters), Settings())
