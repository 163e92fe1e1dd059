"""Further training on a session's frames, whose spots are those that its lattices predict."""

from __future__ import annotations

import dataclasses
import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from envs.evaluators.live import LiveEvaluator
from tuner.apply.applying import session_indexer
from tuner.recommendation import applied_settings, read_recommendation
from tuner.report.frames import open_run
from tuner.report.prediction import detector_pixels, predict
from tuner.session.store import SessionStore
from tuner.spots.examples import NEAR, Examples
from tuner.spots.networks import Schedule, fit, log_loss
from tuner.threads import single_threaded_algebra
from wrappers.errors import InputError
from wrappers.indexers import make_indexer
from wrappers.spots.candidates import CandidateFinder
from wrappers.spots.model import SHIPPED, SpotModel

__all__ = ["FEWEST_FRAMES", "Refined", "refine_spots", "session_examples"]

FEWEST_FRAMES = 10
"""Indexed frames that a session must have."""

HELD_OUT = 3
"""Every third indexed frame is held out."""

FAR = 2 * NEAR
"""Pixels from every predicted reflection beyond which a candidate is none."""

SCHEDULE = Schedule(epochs=12, rate=3e-4, pull=1e-4)


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes
    ----------
    model : SpotModel
        The refined one, or, where that is not better, the one that was begun with.
    n_learnt, n_held_out : int
        Frames.
    loss : (float, float)
        Mean loss of a candidate of the held-out frames, before and after.
    gain, error : float
        By how much it fell, in the mean of the frames, and the standard error of that.
    """

    model: SpotModel
    n_learnt: int
    n_held_out: int
    loss: tuple[float, float]
    gain: float
    error: float

    @property
    def kept(self) -> bool:
        """Whether the refined one is better on the held-out frames, by more than its error."""
        return self.gain > self.error


def refine_spots(
    session: Path, output: Path, begun: Path = SHIPPED, *, seed: int = 0, jobs: int = 1
) -> Refined:
    """Refine a model on a session's frames, and write it: refined only where that is better.

    Parameters
    ----------
    session : Path
        Directory of a session that has a recommendation.
    output : Path
        Directory for ``spots.json`` and ``spots.safetensors``.
    begun : Path
        Directory of the model that is begun with.
    seed : int
        Of the training.
    jobs : int
        Processes that find peaks and index.

    Raises
    ------
    InputError
        If there is no such session or model, its run is not what it was, or too few frames index.
    """
    model = SpotModel.load(begun)
    examples = session_examples(session, jobs)
    frames = np.unique(examples.group)
    if len(frames) < FEWEST_FRAMES:
        raise InputError(
            f"{len(frames)} frames of the session {session} are indexed, and at least "
            f"{FEWEST_FRAMES} are needed to refine the spot model: tune on more frames (--frames)"
        )
    single_threaded_algebra()
    held_out = np.isin(examples.group, frames[HELD_OUT - 1 :: HELD_OUT])
    learnt, judged = examples.of(~held_out), examples.of(held_out)
    refined = fit(model, learnt, SCHEDULE, seed)
    before, after = (_frame_losses(each, judged) for each in (model, refined))
    gains = before - after
    found = Refined(
        refined,
        len(frames) - len(gains),
        len(gains),
        (float(before.mean()), float(after.mean())),
        float(gains.mean()),
        float(gains.std(ddof=1) / math.sqrt(len(gains))),
    )
    note = {
        "session": str(session.resolve()),
        "begun_with": dict(model.provenance),
        "frames": [found.n_learnt, found.n_held_out],
        "held_out_loss": [round(loss, 5) for loss in found.loss],
        "kept": found.kept,
    }
    kept = refined if found.kept else model
    found = dataclasses.replace(
        found, model=dataclasses.replace(kept, provenance={"refined": note})
    )
    found.model.save(output)
    return found


def session_examples(session: Path, jobs: int = 1) -> Examples:
    """Return the candidates of a session's indexed frames, by what its lattices predict.

    A candidate within `NEAR` pixels of a predicted reflection is a spot, one that is `FAR` from
    all of them is none, and the others are left out. The frame's index is the group.

    Raises
    ------
    InputError
        As `refine_spots`.
    """
    store = SessionStore.open(session)
    recommendation = read_recommendation(session)
    run, cell = open_run(store)
    settings = applied_settings(recommendation, run.nominal_clen)
    frames = sorted({each.frame for t in store.trials for each in t.evaluation.outcomes})
    finder, geometry = CandidateFinder(run.geometry), run.geometry
    parts = []
    choice = session_indexer(recommendation)
    with (
        closing(run),
        closing(make_indexer(choice, geometry, cell, jobs=jobs)) as indexer,
        LiveEvaluator(
            run, cell, indexer, frames, jobs=jobs, memory=0, cache=session / "indexed"
        ) as evaluator,
    ):
        _, patterns, answers = evaluator.inspect(settings, max_decoys=0)
        for frame, answer in answers.items():
            if not answer.indexed:
                continue
            pattern = patterns[frame]
            predicted = [predict(each, pattern, geometry, cell) for each in answer.lattices]
            candidates = finder.find(run[frame])
            peaks = candidates.peaks
            places = detector_pixels(geometry, peaks.fs, peaks.ss, peaks.panel)
            right, unclear = _by_prediction(places, np.concatenate(predicted))
            chosen = np.flatnonzero(~unclear)
            parts.append(
                Examples(
                    candidates.features[chosen],
                    right[chosen].astype(np.float32),
                    np.ones(len(chosen), np.float32),
                    np.full(len(chosen), frame, np.int32),
                )
            )
    return Examples.joined(parts)


def _by_prediction(
    places: NDArray[np.float64], predicted: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which places (n, 2) are on a predicted reflection (m, 2), and which neither way."""
    if not len(places) or not len(predicted):
        return np.zeros(len(places), bool), np.ones(len(places), bool)
    distance = cKDTree(predicted).query(places)[0]
    return distance <= NEAR, (distance > NEAR) & (distance < FAR)


def _frame_losses(model: SpotModel, examples: Examples) -> NDArray[np.float64]:
    """Return the mean loss of each frame's candidates."""
    loss = log_loss(model.judge(examples.features)[0], examples)
    _, frame = np.unique(examples.group, return_inverse=True)
    return np.asarray(np.bincount(frame, loss) / np.bincount(frame), np.float64)
