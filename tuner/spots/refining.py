"""Further training on a session's frames, whose spots are those that its lattices predict."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.evaluators.live import LiveEvaluator
from tuner.apply.applying import session_indexer
from tuner.recommendation import applied_settings, read_recommendation
from tuner.report.frames import open_run
from tuner.report.prediction import detector_pixels, predict
from tuner.session.store import SessionStore
from tuner.spots.examples import Examples, label
from tuner.spots.networks import Schedule, fit, log_loss
from tuner.threads import single_threaded_algebra
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.source import FrameSource
from wrappers.indexers import make_indexer
from wrappers.indexing import Lattice, Pattern
from wrappers.lattices.own_peaks import FrameLattices
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import Settings
from wrappers.spots.candidates import STRONG, CandidateFinder, Candidates
from wrappers.spots.model import SHIPPED, SpotModel

__all__ = ["FEWEST_FRAMES", "Refined", "label_by_lattices", "refine_spots"]

FEWEST_FRAMES = 10
"""Indexed frames that a session must have."""

HELD_OUT = 3
"""Every third frame is held out."""

SCHEDULE = Schedule(epochs=12, rate=3e-4, pull=1e-4)

VISIBLE, FAINT = 3.0, 5.0
"""A matched filter's standard deviations from which a candidate on a predicted reflection is taken
for it, and not for noise; and below which one beside all reflections is taken for no spot."""

WIDE = 2.0
"""So many times as far from a node as an explained peak nothing is a reflection."""

MOST_OTHERS = 1 / 3
"""Share of a frame's strong candidates that may lie beside its lattices: with more there is
another crystal, or something that nobody knows."""

PROBABILITIES = (0.3, 0.5, 0.7)
CUSTOMARY = PROBABILITIES.index(0.5)
"""Values of ``min_probability`` with which held-out frames are indexed, and the place of the one
that is used where nothing is tuned."""


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes
    ----------
    model : SpotModel
        The refined one, or, where that is not better, the one that was begun with.
    n_learnt, n_held_out : int
        Frames that are indexed, and frames of any kind.
    loss : (float, float)
        Mean loss of a candidate of the indexed held-out frames, before and after.
    gain, error : float
        By how much it fell, in the mean of the frames, and the standard error of that.
    hits, indexed : (tuple of int, tuple of int)
        Held-out frames with each of `PROBABILITIES`, before and after.
    """

    model: SpotModel
    n_learnt: int
    n_held_out: int
    loss: tuple[float, float]
    gain: float
    error: float
    hits: tuple[tuple[int, ...], tuple[int, ...]]
    indexed: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def kept(self) -> bool:
        """Whether the refined one is better on the held-out frames.

        Not one frame fewer is indexed, neither with the customary probability nor with each
        model's best, and the loss falls by more than its standard error.
        """
        before, after = self.indexed
        indexes = after[CUSTOMARY] >= before[CUSTOMARY] and max(after) >= max(before)
        return indexes and self.gain > self.error


def refine_spots(
    session: Path, output: Path, begun: Path | None = None, *, seed: int = 0, jobs: int = 1
) -> Refined:
    """Refine a model on a session's frames, and write it: refined only where that is better.

    Parameters
    ----------
    session : Path
        Directory of a session that has a recommendation.
    output : Path
        Directory for ``spots.json`` and ``spots.safetensors``.
    begun : Path, optional
        Directory of the model that is begun with; by default the one that the recommended set
        finds its peaks with, or else the shipped one.
    seed : int
        Of the training.
    jobs : int
        Processes that find peaks and index.

    Raises
    ------
    InputError
        If there is no such session or model, its run is not what it was, or too few frames index.
    """
    with _opened(session, jobs) as (evaluator, run, cell, settings):
        begun = begun or PEAK_FINDERS.get(settings.peak_finder).model or SHIPPED
        model = SpotModel.load(begun)
        examples, others = _session_examples(evaluator, run, cell, settings)
        frames = np.unique(examples.group)
        if len(frames) < FEWEST_FRAMES:
            raise InputError(
                f"{len(frames)} frames of the session {session} are indexed, and at least "
                f"{FEWEST_FRAMES} are needed to refine the spot model: tune on more frames "
                "(--frames)"
            )
        single_threaded_algebra()
        first = HELD_OUT - 1
        is_judged = np.isin(examples.group, frames[first::HELD_OUT])
        learnt, judged = examples.of(~is_judged), examples.of(is_judged)
        judged = judged.of(~np.isnan(judged.label))
        if not len(judged.label):
            raise InputError(
                f"the lattices of the session {session} say of no candidate of the held-out frames "
                "what it is: tune on more frames (--frames)"
            )
        # What nobody can say of is to be judged as before.
        known = np.where(np.isnan(learnt.label), model.judge(learnt.features)[0], learnt.label)
        refined = fit(model, replace(learnt, label=known.astype(np.float32)), SCHEDULE, seed)
        held_out = sorted([*frames[first::HELD_OUT].tolist(), *others[first::HELD_OUT]])
        counts = [_indexed(evaluator, settings, each, held_out) for each in (model, refined)]
    before, after = (_frame_losses(each, judged) for each in (model, refined))
    gains = before - after
    found = Refined(
        refined,
        len(np.unique(learnt.group)),
        len(held_out),
        (float(before.mean()), float(after.mean())),
        float(gains.mean()),
        float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.inf,
        (counts[0][0], counts[1][0]),
        (counts[0][1], counts[1][1]),
    )
    if found.kept:
        note = {
            "session": str(session.resolve()),
            "begun_with": dict(model.provenance),
            "frames": [found.n_learnt, found.n_held_out],
            "held_out_loss": [round(loss, 5) for loss in found.loss],
            "held_out_indexed": [list(each) for each in found.indexed],
        }
        model = replace(refined, provenance={"refined": note})
    model.save(output)
    return replace(found, model=model)


@contextmanager
def _opened(
    session: Path, jobs: int
) -> Iterator[tuple[LiveEvaluator, FrameSource, Cell, Settings]]:
    """Open a session's frames to be searched and indexed, with its recommended set."""
    store = SessionStore.open(session)
    recommendation = read_recommendation(session)
    run, cell = open_run(store)
    settings = applied_settings(recommendation, run.nominal_clen)
    frames = sorted({each.frame for t in store.trials for each in t.evaluation.outcomes})
    choice, cache = session_indexer(recommendation), session / "indexed"
    with (
        closing(run),
        closing(make_indexer(choice, run.geometry, cell, jobs=jobs)) as indexer,
        LiveEvaluator(run, cell, indexer, frames, jobs=jobs, memory=0, cache=cache) as evaluator,
    ):
        yield evaluator, run, cell, settings


def _session_examples(
    evaluator: LiveEvaluator, run: FrameSource, cell: Cell, settings: Settings
) -> tuple[Examples, list[int]]:
    """Return the candidates of the indexed frames, and which frames are not indexed.

    A candidate has the frame's index as group, and NaN as label where nobody can say what it is.
    """
    finder, parts, others = CandidateFinder(run.geometry), [], []
    evaluation, patterns, answers = evaluator.inspect(settings, max_decoys=0)
    for frame in sorted(outcome.frame for outcome in evaluation.outcomes):
        answer = answers.get(frame)
        if answer is None or not answer.indexed:
            others.append(frame)
            continue
        candidates = finder.find(run[frame])
        labels = label_by_lattices(candidates, patterns[frame], answer.lattices, run.geometry, cell)
        n = len(labels)
        weight, group = np.ones(n, np.float32), np.full(n, frame, np.int32)
        parts.append(Examples(candidates.features, labels, weight, group))
    return Examples.joined(parts), others


def label_by_lattices(
    candidates: Candidates,
    pattern: Pattern,
    lattices: Sequence[Lattice],
    geometry: Geometry,
    cell: Cell,
) -> NDArray[np.float32]:
    """Return what an indexed frame's candidates are: spots 1, none 0, and NaN where nobody knows.

    Spots are those that stand out where the lattices predict a reflection. They say little of
    where there is none: crystals diffract further than their bright spots, and a frame may hold
    other crystals than were found. So a candidate is none where it is faint and lies far from
    every node, excited or not, and none is where much else stands out.

    Parameters
    ----------
    candidates : Candidates
    pattern : Pattern
        The peaks that were indexed, and where the detector stood.
    lattices : sequence of Lattice
    geometry : Geometry
    cell : Cell
    """
    peaks = candidates.peaks
    places = detector_pixels(geometry, peaks.fs, peaks.ss, peaks.panel)
    predicted = np.concatenate([predict(each, pattern, geometry, cell) for each in lattices])
    known = FrameLattices.of(0, pattern, lattices, cell)
    seen = replace(pattern, peaks=peaks)
    own = known.own(seen, geometry)
    possible = replace(known, near=WIDE * known.near).own(seen, geometry)
    strong = candidates.score > STRONG
    if np.count_nonzero(strong & ~possible) > MOST_OTHERS * np.count_nonzero(strong):
        possible[:] = True
    unknown = possible | (candidates.score > FAINT)
    right, unclear = label(places, predicted, np.concatenate([predicted, places[unknown]]))
    unclear |= right & ~(own & (candidates.score > VISIBLE))
    labels = right.astype(np.float32)
    labels[unclear] = np.nan
    return labels


def _indexed(
    evaluator: LiveEvaluator, settings: Settings, model: SpotModel, frames: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many frames are hits and how many are indexed, with each of `PROBABILITIES`."""
    hits, indexed = [], []
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        usual = PEAK_FINDERS.get("learned").usual(math.nan)
        asked = settings.replace(peak_finder=f"learned:{folder}", **usual)
        for probability in PROBABILITIES:
            evaluation, _, _ = evaluator.inspect(
                asked.replace(min_probability=probability), frames, max_decoys=0
            )
            hits.append(evaluation.n_hits)
            indexed.append(evaluation.n_indexed)
    return tuple(hits), tuple(indexed)


def _frame_losses(model: SpotModel, examples: Examples) -> NDArray[np.float64]:
    """Return the mean loss of each frame's candidates."""
    loss = log_loss(model.judge(examples.features)[0], examples)
    _, frame = np.unique(examples.group, return_inverse=True)
    return np.asarray(np.bincount(frame, loss) / np.bincount(frame), np.float64)
