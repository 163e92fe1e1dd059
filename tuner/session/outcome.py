"""What a session comes to: the set to recommend, and what it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.evaluation import Evaluation
from tuner.session.trial import Trial

__all__ = ["Outcome", "outcome_so_far"]


@dataclass(frozen=True)
class Outcome:
    """The recommended parameter set and what it is held against, measured on the same frames.

    Attributes
    ----------
    best, baseline : Evaluation
        Of the recommended set and of CrystFEL's defaults.
    on_fresh_frames : bool
        Whether those were kept out of the search.
    ended_by_failure : str
        What kept the session from going on with its budget, or "".
    choice : str
        Why it is not the trial with the highest merit that is recommended, or "".
    start : Evaluation or None
        Of what is in use today, where that was given.
    stopped : str
        Why the session ended before its budget was spent, where nothing failed, or "".
    """

    best: Evaluation
    baseline: Evaluation
    on_fresh_frames: bool
    ended_by_failure: str = ""
    choice: str = ""
    start: Evaluation | None = None
    stopped: str = ""

    @property
    def bar(self) -> Evaluation:
        """What the recommended set has to beat."""
        return self.baseline if self.start is None else self.start


def outcome_so_far(trials: Sequence[Trial]) -> Outcome | None:
    """Return what a session would come to that ended now, with nothing confirmed.

    None while nothing is indexed, or what the result is held against is not measured yet.
    """
    stages = {trial.stage: trial.evaluation for trial in reversed(trials)}
    bars = [stages.get("baseline"), stages.get("start")]
    if not trials or trials[-1].best < 0 or bars[0] is None or not bars[0].n_frames:
        return None
    return Outcome(trials[trials[-1].best].evaluation, bars[0], False, start=bars[1])
