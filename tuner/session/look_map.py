"""The response map of a session that has looked at its frames, where its searcher keeps none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.geometry_rule import MISLEADING, GeometryLock, near_geometry
from envs.look import LOOK_FILE, FrameLook, look_design, take_look
from envs.parameter_space import ParameterSpace
from envs.response_map.session_map import ResponseMap
from envs.response_map.stored import MAP_FILE, write_map
from tuner.searchers import SEARCHERS
from tuner.session.store import SessionStore
from tuner.session.trial import tuning_trials

__all__ = ["keep_look_map"]


def keep_look_map(live: LiveEvaluator, store: SessionStore, space: ParameterSpace) -> None:
    """Write the map that the session's look and outcomes give, for its report; nothing without.

    A searcher that goes by the map keeps its own. No frame is indexed for this one, so that it
    knows no lattices.

    Parameters
    ----------
    live : LiveEvaluator
        Of the session's sample.
    store : SessionStore
    space : ParameterSpace
    """
    looked = store.directory / LOOK_FILE
    trials = [trial.evaluation for trial in tuning_trials(store.trials)]
    whole = [each for each in trials if each.n_frames == live.n_frames]
    if SEARCHERS.get(store.config.searcher).looks or not looked.exists() or not whole:
        return
    look = _of_the_sample(live, looked, space, whole[0])
    if not look.readable.any():
        return
    found = ResponseMap.begun(look, live)
    lock = GeometryLock(space)
    for each in trials:
        lock.observe(each, store.config.merit(each))
    for each in whole:
        if near_geometry(each.settings, lock.fixed, space, MISLEADING):
            _learn(found, each)
    write_map(store.directory / MAP_FILE, found)


def _of_the_sample(
    live: LiveEvaluator, looked: Path, space: ParameterSpace, evaluation: Evaluation
) -> FrameLook:
    """Return what was counted in the frames of an evaluation, with what each stands for."""
    frames = [outcome.frame for outcome in evaluation.outcomes]
    look = take_look(live, frames, look_design(space), stored=looked)
    weights = tuple(evaluation.frame_weights.tolist())
    return FrameLook(look.settings, look.frames, look.counts, look.failures, weights)


def _learn(found: ResponseMap, evaluation: Evaluation) -> None:
    """Take an evaluation's outcomes; its peaks, too, where the map has no such set."""
    column = found.column(evaluation.settings)
    if column is None:
        peaks = {outcome.frame: outcome.n_peaks for outcome in evaluation.outcomes}
        most = np.iinfo(np.uint16).max
        counts = np.array([[min(peaks[frame], most)] for frame in found.look.frames], np.uint16)
        look = found.look
        found.extend(FrameLook((evaluation.settings,), look.frames, counts, {}, look.weights))
        column = len(found.settings) - 1
    answered = [outcome for outcome in evaluation.outcomes if not outcome.failure]
    found.learn_outcomes(
        column, [each.frame for each in answered], [each.indexed for each in answered]
    )
