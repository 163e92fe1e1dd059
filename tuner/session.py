"""A tuning session: what to measure next, and what to recommend in the end.

Every decision follows from the trials measured so far, so a resumed session goes on where
it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import ParameterSpace
from tuner.searchers import Searcher, make_searcher
from tuner.store import SessionStore, Trial
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = ["Budget", "Outcome", "asked_clen", "best_trial", "corrected_rate", "run_session"]

CLEN_RELATIVE_SE = 0.003
"""How well the cells must know the camera length before the search stops varying it."""

CLEN_CLOSE = 0.0005
"""The recommended camera length is within this, relatively, of the one asked for."""

CLEN_WORTH_A_LOOK = 0.003
"""A change of the camera length by more, relatively, is measured at once."""

CLEN_MISLEADING = 0.015
"""A rate measured this far from the true camera length says little about peak settings."""

COARSE_CLEN = (0.03, -0.03, 0.05, -0.05, 0.015, -0.015)
"""Relative offsets to look at where nothing indexes: an indexer accepts about ± 2 %."""

FEWEST_INDEXED = 3
"""Indexed frames below which their cells are not asked for the camera length."""


@dataclass(frozen=True)
class Budget:
    """When a session has spent enough.

    Attributes
    ----------
    evaluations : int or None
        Evaluations on the tuning sample, the opening looks included.
    minutes : float or None
        Time spent in evaluations, over all resumptions.
    """

    evaluations: int | None = None
    minutes: float | None = None

    def left(self, trials: Sequence[Trial]) -> bool:
        """Whether there is any left after these trials."""
        if self.evaluations is not None and len(trials) >= self.evaluations:
            return False
        spent = sum(trial.evaluation.seconds for trial in trials)
        return self.minutes is None or spent < 60 * self.minutes


@dataclass(frozen=True)
class Outcome:
    """The recommended settings and CrystFEL's defaults, measured on the same frames.

    ``on_fresh_frames`` tells whether those were kept out of the search.
    """

    best: Evaluation
    baseline: Evaluation
    on_fresh_frames: bool


def run_session(
    store: SessionStore,
    evaluator: Evaluator,
    space: ParameterSpace,
    *,
    searcher: str,
    budget: Budget,
    seed: int,
    fresh: Evaluator | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Outcome | None:
    """Spend the budget; return what to recommend, or None if nothing was ever indexed.

    Every evaluation is in the store before the next begins, so an interruption loses only
    the one under way. After the budget the winner is measured once more at the camera length
    that the indexed frames ask for and, where there are fresh frames, it and the baseline on
    those: the best of many noisy rates flatters itself.

    Parameters
    ----------
    store : SessionStore
        New, or of an interrupted session.
    evaluator : Evaluator
        On the tuning sample.
    space : ParameterSpace
    searcher : str
        A name in `tuner.searchers.SEARCHERS`.
    budget : Budget
    seed : int
        Of the searcher.
    fresh : Evaluator, optional
        On frames that the tuning sample does not have.
    on_trial : callable
        Called with each new trial.
    """
    search = _Search(searcher, space, seed)

    def measure(stage: str, settings: Settings, by: Evaluator) -> Evaluation:
        """Evaluate, unless an interrupted session did already."""
        for trial in store.trials:
            if (trial.stage, trial.evaluation.settings) == (stage, settings):
                return trial.evaluation
        trial = store.add(stage, by.evaluate(settings))
        on_trial(trial)
        return trial.evaluation

    while budget.left(tuning := tuning_trials(store.trials)):
        move = opening_move(tuning, space) or search.move(tuning)
        if move is None:
            break
        on_trial(store.add(move[0], evaluator.evaluate(move[1])))

    tuning = tuning_trials(store.trials)
    winner = best_trial(tuning)
    if winner is None:
        return None
    best, baseline = winner.evaluation, tuning[0].evaluation
    final = _at_asked_clen(best.settings, tuning, space)
    if final != best.settings:
        best = measure("confirm", final, evaluator)
    if fresh is not None:
        baseline = measure("fresh", baseline.settings, fresh)
        best = measure("fresh", best.settings, fresh)
    return Outcome(best, baseline, fresh is not None)


def tuning_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that the search goes by."""
    return [trial for trial in trials if trial.stage not in ("confirm", "fresh")]


def corrected_rate(evaluation: Evaluation) -> float:
    """Return the indexing rate less what chance alone would index, where that is known."""
    false_rate = evaluation.false_rate
    return evaluation.rate - (0.0 if math.isnan(false_rate) else false_rate)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the highest corrected rate, or None if none indexed anything.

    Among equals the one whose indexer had the fewest frames and peaks to work on wins: it
    costs least, and its peaks are the surest.
    """
    indexed = [trial for trial in trials if trial.evaluation.n_indexed]

    def merit(trial: Trial) -> tuple[float, int, int]:
        evaluation = trial.evaluation
        peaks = sum(outcome.n_peaks for outcome in evaluation.outcomes)
        return corrected_rate(evaluation), -evaluation.n_hits, -peaks

    return max(indexed, key=merit, default=None)


def asked_clen(trials: Sequence[Trial]) -> float | None:
    """Return the camera length, in metres, that the indexed frames ask for.

    It comes from the evaluation with most indexed frames, since the rate itself is flat over
    ± 2 % and cannot tell. None until some evaluation knows it well enough.
    """

    def known(evaluation: Evaluation) -> bool:
        return (
            evaluation.n_indexed >= FEWEST_INDEXED
            and evaluation.camera_length_se < CLEN_RELATIVE_SE * evaluation.camera_length
        )

    def trust(evaluation: Evaluation) -> tuple[int, float]:
        tried = evaluation.settings.clen or math.inf
        return evaluation.n_indexed, -abs(evaluation.camera_length - tried)

    candidates = [trial.evaluation for trial in trials if known(trial.evaluation)]
    return max(candidates, key=trust).camera_length if candidates else None


def opening_move(trials: Sequence[Trial], space: ParameterSpace) -> tuple[str, Settings] | None:
    """Return the next of the looks that every session begins with, or None when done.

    First CrystFEL's defaults, then the space's base settings; where nothing indexes, a
    coarse look over camera lengths and looser and stricter peaks; once frames index, the
    best settings at the camera length that their cells ask for.
    """
    base = space.base
    if not trials:
        return "baseline", CRYSTFEL_DEFAULTS.replace(
            clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y
        )
    if len(trials) == 1:
        return "start", base
    best = best_trial(trials)
    if best is None:
        tried = {trial.evaluation.settings for trial in trials}
        looks = (look for look in _coarse_looks(trials[1], space) if look not in tried)
        return next((("look", look) for look in looks), None)
    asked = asked_clen(trials) if "clen" in space.names else None
    tried_clens = [trial.evaluation.settings.clen for trial in trials]
    if asked is None or any(_within(CLEN_WORTH_A_LOOK, clen, asked) for clen in tried_clens):
        return None
    return "clen", _at_asked_clen(best.evaluation.settings, trials, space)


def _coarse_looks(start: Trial, space: ParameterSpace) -> list[Settings]:
    """Return what to try where nothing indexes, the likelier mend first."""
    base, peaks, geometry = space.base, [], []
    for min_snr, threshold in ((4.0, base.threshold / 3), (7.0, 3 * base.threshold)):
        values = space.values(base.replace(min_snr=min_snr, threshold=threshold))
        peaks.append(space.settings(values))
    if "clen" in space.names and base.clen is not None:
        for offset in COARSE_CLEN:
            values = space.values(base.replace(clen=base.clen * (1 + offset)))
            geometry.append(space.settings(values))
    enough_hits = start.evaluation.n_hits >= FEWEST_INDEXED
    return geometry + peaks if enough_hits else peaks + geometry


def _at_asked_clen(settings: Settings, trials: Sequence[Trial], space: ParameterSpace) -> Settings:
    asked = asked_clen(trials) if "clen" in space.names else None
    if asked is None or _within(CLEN_CLOSE, settings.clen, asked):
        return settings
    return settings.replace(clen=round(asked, 7))


def _within(tolerance: float, clen: float | None, asked: float) -> bool:
    return clen is not None and abs(clen - asked) < tolerance * asked


class _Search:
    """A searcher that stops varying the camera length once the cells have told it."""

    def __init__(self, name: str, space: ParameterSpace, seed: int) -> None:
        self._name, self._seed = name, seed
        self._space = space
        self._searcher: Searcher | None = None
        self._ingested = 0

    def move(self, trials: Sequence[Trial]) -> tuple[str, Settings] | None:
        """Return the searcher's next proposal, or None if nothing is left to vary."""
        asked = asked_clen(trials)
        clen_now_known = asked is not None and "clen" in self._space.names
        if clen_now_known:
            self._space = self._space.fixed(clen=round(asked or 0.0, 7))
        if not self._space.parameters:
            return None
        if self._searcher is None or clen_now_known:
            # The number of trials keeps a resumed search from repeating its random start.
            self._searcher = make_searcher(self._name, self._space, self._seed + len(trials))
            self._ingested = 0
        for trial in trials[self._ingested :]:
            self._ingest(self._searcher, trial.evaluation, asked)
        self._ingested = len(trials)
        return "search", self._space.settings(self._searcher.suggest())

    def _ingest(self, searcher: Searcher, evaluation: Evaluation, asked: float | None) -> None:
        settings = evaluation.settings
        misleading = asked is not None and not _within(CLEN_MISLEADING, settings.clen, asked)
        values = self._space.values(settings)
        # CrystFEL's defaults, say, differ from the base in more than the tuned parameters.
        inside = self._space.settings(values).replace(clen=None) == settings.replace(clen=None)
        if inside and not misleading:
            searcher.ingest(values, corrected_rate(evaluation))
