"""What a session has found, gathered for its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from envs.evaluation import Evaluation
from tuner.recommendation import (
    Recommendation,
    drift_of,
    recommend,
    settings_digest,
    shown,
)
from tuner.report.detector import Statement, detector_statements
from tuner.session.nothing import few_peaks, read_nothing
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.statistics import PairedDifference, paired_difference
from wrappers.lattices.geometry_drift import Drift

__all__ = ["Findings", "find"]


NEEDED = ("n_frames", "n_hits", "n_indexed", "indexing_rate", "baseline_rate", "gain")
"""Of the evidence; a file without all of it was not written by a session."""


@dataclass(frozen=True)
class Findings:
    """A session's trials and what they come to.

    Attributes
    ----------
    store : SessionStore
    trials : tuple of Trial
    recommendation : Recommendation or None
        Of an unfinished session: its best so far. None where nothing is indexed.
    best, baseline : Evaluation or None
        The recommended settings' and the default ones', on the same frames.
    incumbents : tuple of int
        For each trial the number of the one that was best after it; -1 for none.
    finished : bool
        Whether the session has ended with a recommendation.
    start : Evaluation or None
        Of what is in use today, on the same frames, where that was measured.
    nothing : str
        Why the session recommends nothing, or "".
    amended : str
        What ``recommended.toml`` holds instead of the session's own set, or "". The
        recommendation here is the session's own in any case.
    """

    store: SessionStore
    trials: tuple[Trial, ...]
    recommendation: Recommendation | None
    best: Evaluation | None
    baseline: Evaluation | None
    incumbents: tuple[int, ...]
    finished: bool
    amended: str = ""
    start: Evaluation | None = None
    nothing: str = ""

    @property
    def bar(self) -> Evaluation | None:
        """What the recommended set has to beat."""
        return self.baseline if self.start is None else self.start

    @property
    def bar_words(self) -> str:
        """What that is, to follow "than" or "of"."""
        return (
            self.store.config.start.get("words", "the set in use")
            if self.start
            else "CrystFEL's defaults"
        )

    @property
    def best_words(self) -> str:
        """What the best set is called: recommended, once the session has ended."""
        return "recommended" if self.finished else "best so far"

    @property
    def best_set(self) -> str:
        """The same, to follow "the"."""
        return "recommended set" if self.finished else "best set so far"

    @property
    def tuned(self) -> list[str]:
        """Names of the tuned settings."""
        return list(self.store.config.tuned)

    @property
    def measured(self) -> list[Trial]:
        """Trials that did not fail as a whole."""
        return [trial for trial in self.trials if trial.evaluation.n_frames]

    @property
    def evidence(self) -> dict[str, Any]:
        """The recommendation's, or nothing."""
        return dict(self.recommendation.evidence) if self.recommendation else {}

    @property
    def gain(self) -> PairedDifference | None:
        """The recommended settings against what they have to beat, frame by frame."""
        if self.best is None or self.bar is None:
            return None
        try:
            return paired_difference(self.best, self.bar)
        except ValueError:
            return None

    @cached_property
    def drift(self) -> Drift | None:
        """How the camera length changes within the run, by the recommended set's frames."""
        return None if self.best is None else drift_of(self.best)

    @property
    def detector(self) -> tuple[Statement, ...]:
        """What is said of the camera length, the beam centre, and frames with too few peaks."""
        if self.recommendation is None or self.best is None:
            return ()
        hint = few_peaks(self.best)
        hints = [Statement(f"{hint[0].upper()}{hint[1:]}.", warning=True)] if hint else []
        statements = detector_statements(
            self.recommendation.settings,
            self.best.refined,
            self.best.n_indexed,
            {**_known_so_far(self.store, self.trials), **self.recommendation.provenance},
            self.drift,
            self.recommendation.evidence.get("cell_check_shift"),
        )
        return *hints, *(
            replace(each, text=each.text.replace("recommended set", self.best_set))
            for each in statements
        )

    def best_value(self, name: str) -> float:
        """Return the recommended value of a setting, or NaN."""
        value = getattr(self.recommendation.settings, name) if self.recommendation else None
        return math.nan if value is None else float(value)


def find(store: SessionStore, recommendation: Recommendation | None) -> Findings:
    """Gather what a session has found.

    Parameters
    ----------
    store : SessionStore
    recommendation : Recommendation or None
        What ``recommended.toml`` holds. Without one, or where it is another session's, the best
        so far takes its place; where it was edited by hand, what it was before.
    """
    trials = tuple(store.trials)
    if recommendation is not None and recommendation.unconfirmed:
        recommendation = None  # the best so far
    incumbents = tuple(trial.best for trial in trials)
    nothing = "" if recommendation is not None else read_nothing(store.directory)
    finished = recommendation is not None or bool(nothing)
    recommendation, amended = _own(trials, recommendation)
    best = baseline = start = None
    if recommendation is not None:
        best, baseline, start = _compared(trials, recommendation)
        if "start_rate" not in recommendation.evidence:
            start = None
    elif not nothing and incumbents and incumbents[-1] >= 0 and trials[0].evaluation.n_frames:
        best = trials[incumbents[-1]].evaluation
        baseline, start = _bars(trials, fresh=False)
        known = _known_so_far(store, trials)
        recommendation = recommend(best, baseline or trials[0].evaluation, known, start=start)
    return Findings(
        *(store, trials, recommendation, best, baseline, incumbents, finished, amended),
        start=start,
        nothing=nothing,
    )


def _known_so_far(store: SessionStore, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return what the provenance of a session that has not ended holds of its geometry."""
    known: dict[str, Any] = {"tuned": list(store.config.tuned)}
    # What is in use may have a camera length of its own; the defaults are at the geometry's.
    first = next((trial for trial in trials if trial.stage == "baseline"), trials[0])
    middle, span = first.evaluation.settings.clen, store.config.clen_range
    if middle is not None:
        found = store.config.found_geometry
        known["geometry_clen"] = (found and found.nominal_clen) or middle
        if "clen" in known["tuned"]:
            known["clen_bounds"] = [
                middle - span * known["geometry_clen"],
                middle + span * known["geometry_clen"],
            ]
    return known


def _own(
    trials: Sequence[Trial], recommendation: Recommendation | None
) -> tuple[Recommendation | None, str]:
    """Return what the session itself recommended, and what stands in the file instead, or ""."""
    if recommendation is None:
        return None, ""
    measured = recommendation.measured
    own = [
        t.evaluation.settings for t in trials if settings_digest(t.evaluation.settings) == measured
    ]
    if not own or not all(recommendation.evidence.get(name) is not None for name in NEEDED):
        return None, (
            "recommended.toml does not come from this session; the rates on this page are those of "
            "the session's own set"
        )
    if not recommendation.edited:
        return recommendation, ""
    now, before = recommendation.settings.as_dict(), own[-1].as_dict()
    changes = ", ".join(
        f"{name} is {_plain(now.get(name))}, was {_plain(value)}"
        for name, value in before.items()
        if value != now.get(name)
    )
    return replace(recommendation, settings=own[-1]), (
        f"recommended.toml was edited by hand since ({changes}), and nobody has measured what it "
        "holds now; the rates on this page are those of the session's own set"
    )


def _plain(value: str | float | None) -> str:
    return "not set" if value is None else shown(value)


def _compared(
    trials: Sequence[Trial], recommendation: Recommendation
) -> tuple[Evaluation | None, Evaluation | None, Evaluation | None]:
    """Return the last evaluations of the recommended set, the defaults, and what is in use."""
    best = [t for t in trials if t.evaluation.settings == recommendation.settings]
    if not best or not best[-1].evaluation.n_frames:
        return None, None, None
    return best[-1].evaluation, *_bars(trials, fresh=best[-1].stage == "fresh")


def _bars(trials: Sequence[Trial], *, fresh: bool) -> tuple[Evaluation | None, Evaluation | None]:
    """Return the evaluations of the defaults and of what is in use, on one of the two samples."""

    def last(stage: str) -> Evaluation | None:
        settings = [t.evaluation.settings for t in trials if t.stage == stage]
        found = [
            trial.evaluation
            for trial in trials
            if trial.evaluation.settings in settings[:1]
            and (trial.stage == "fresh") == fresh
            and trial.evaluation.n_frames
        ]
        return found[-1] if found else None

    start = last("start")
    return last("baseline") or start, start
