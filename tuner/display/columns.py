"""A session's trials in columns, for a terminal and for a log: the same numbers in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from envs.objective import Merit
from tuner.report.words import shown
from tuner.session.trial import Trial

__all__ = ["Column", "remark", "trial_columns"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name : str
    cells : list of str
        One a trial.
    least : int
        Its width in a log, where it is not known what follows.
    expendable : int
        Where there is no room those with the greatest go first; 0 stays.
    left : bool
        Whether it is set to the left.
    """

    name: str
    cells: list[str]
    least: int
    expendable: int = 0
    left: bool = False


def trial_columns(
    trials: Sequence[Trial], tuned: Sequence[str], merit: Merit, leader: int = -1
) -> list[Column]:
    """Return the columns of a table of trials.

    Parameters
    ----------
    trials : sequence of Trial
    tuned : sequence of str
        The tuned settings.
    merit : Merit
    leader : int
        Number of the trial that is best so far.
    """
    evaluations = [trial.evaluation for trial in trials]
    measured = [each.n_frames > 0 for each in evaluations]
    intervals = [(100 * low, 100 * high) for low, high in (each.ci95 for each in evaluations)]

    def of_measured(texts: Sequence[str]) -> list[str]:
        return [text if known else "" for text, known in zip(texts, measured, strict=True)]

    return [
        Column("trial", [f"{'★' * (t.number == leader)}{t.number}" for t in trials], 5),
        Column("stage", [trial.stage for trial in trials], 9, 4, left=True),
        *(
            Column(name, [_value(trial, name) for trial in trials], max(len(name), 9))
            for name in tuned
        ),
        Column(
            "hits",
            # Where no peaks are asked for, each frame is one, which says nothing.
            of_measured([_share(e.hit_rate) if e.settings.min_peaks else "–" for e in evaluations]),
            6,
            3,
        ),
        Column("indexed", of_measured([f"{e.n_indexed}/{e.n_frames}" for e in evaluations]), 9),
        Column("rate", ["failed" if e.failure else _share(e.rate) for e in evaluations], 6),
        Column("95 %", of_measured([f"{low:.0f}–{high:.0f}" for low, high in intervals]), 7, 5),
        Column("merit", of_measured([f"{100 * merit(e):.1f}" for e in evaluations]), 5, 2),
        Column("false", [_share(e.false_rate) for e in evaluations], 6, 6),
        Column("time", [f"{e.seconds:.1f}s" for e in evaluations], 8, 7),
    ]


def remark(trial: Trial) -> str:
    """Return what there is to say of a trial beside its numbers; often ""."""
    evaluation = trial.evaluation
    failed = f"failed: {evaluation.failure}" if evaluation.failure else ""
    return "; ".join(note for note in (*evaluation.remarks, failed, trial.reason) if note)


def _value(trial: Trial, name: str) -> str:
    value = trial.evaluation.settings.as_dict().get(name)
    return "" if value is None else shown(value)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"
