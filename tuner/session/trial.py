"""A session's trials, and the order of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.evaluation import Evaluation
from wrappers.schema import Count, hooked
from wrappers.settings import Settings

__all__ = ["FORMER_BEST", "STAGES", "Trial", "frames_spent", "tuning_trials"]

STAGES = ("baseline", "start", "coarse", "geometry", "initial", "search", "confirm", "fresh")
"""Why a trial is made; see docs/method.md. ``start``, what is in use today, comes first where it
is known, ``baseline`` otherwise."""


FORMER_STAGES = {"look": "coarse", "portfolio": "initial"}
"""Stages by the names that they had until version 0.1."""

FORMER_BEST = -2
"""In place of `Trial.best` where a session of the first version does not say."""


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

    number: Count
    stage: str
    evaluation: Evaluation
    reason: str = ""
    best: int = -1

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return hooked(handler(source), before=_with_current_names)


def _with_current_names(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    stage = values.get("stage")
    if isinstance(stage, str):
        stage = FORMER_STAGES.get(stage, stage)
        if stage == "start" and values.get("number"):
            # So a session called the first point of its initial design, before it had a set to
            # beat, which is always the first trial.
            stage = "initial"
        if stage not in STAGES:
            raise ValueError(f"stage is {stage!r}, but must be one of {', '.join(STAGES)}")
    return {"best": FORMER_BEST, **values, "stage": stage}


def tuning_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that the search goes by."""
    return [trial for trial in trials if trial.stage not in ("confirm", "fresh")]


def frames_spent(trials: Sequence[Trial]) -> list[int]:
    """Return how many frames were indexed up to each trial, that one included.

    A parameter set that is measured again costs only the frames that it had not seen: nobody
    indexes a peak list twice.
    """
    seen: dict[Settings, int] = {}
    spent = []
    for trial in trials:
        evaluation = trial.evaluation
        seen[evaluation.settings] = max(seen.get(evaluation.settings, 0), evaluation.n_frames)
        spent.append(sum(seen.values()))
    return spent
