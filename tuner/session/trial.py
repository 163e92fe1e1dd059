"""A session's trials, and the order of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.evaluation import Evaluation

__all__ = ["STAGES", "Trial", "tuning_trials"]

STAGES = ("baseline", "start", "coarse", "geometry", "initial", "search", "confirm", "fresh")
"""Why a trial is made; see docs/method.md. ``start``, what is in use today, comes first where it
is known, ``baseline`` otherwise."""


@dataclass(frozen=True)
class Trial:
    """One evaluation of a session.

    Attributes
    ----------
    number : int
        From 0, in order.
    stage : str
        Why it was made, of `STAGES`.
    evaluation : Evaluation
    reason : str
        Why this parameter set, in words, where the searcher can say it.
    best : int
        Number of the trial that is best so far, this one included: what the session would recommend
        if it ended here. -1 while nothing is indexed.
    """

    number: int
    stage: str
    evaluation: Evaluation
    reason: str = ""
    best: int = -1


def tuning_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that the search goes by."""
    return [trial for trial in trials if trial.stage not in ("confirm", "fresh")]
