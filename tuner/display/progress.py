"""How far a running session has come: the same words in a terminal and in a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.session.trial import Trial, tuning_trials

if TYPE_CHECKING:
    from tuner.session.budget import Budget

__all__ = ["Progress", "clock"]


@dataclass(frozen=True)
class Doing:
    """What is under way: `done` of `total`, where that is known, and for how long already."""

    name: str
    done: int
    total: int
    words: str


class Progress:
    """What a session has spent of its budget, and what is under way.

    Parameters
    ----------
    budget : Budget
    earlier : sequence of Trial
        Of the session that is resumed.
    """

    def __init__(self, budget: Budget, earlier: Sequence[Trial] = ()) -> None:
        self._budget = budget
        self.trials = list(earlier)
        self._n_earlier = len(tuning_trials(earlier))
        self._spent_earlier = sum(trial.evaluation.seconds for trial in earlier)
        self._started = self._trial_started = time.monotonic()
        self._done = self._total = 0
        self._what = ""

    def show_trial(self, trial: Trial) -> None:
        """Take a new trial."""
        self.trials.append(trial)
        self._done = self._total = 0
        self._what = ""
        self._trial_started = time.monotonic()

    def show_progress(self, done: int, total: int, what: str = "frames and decoys") -> None:
        """Take how much of what is under way is done."""
        # A later look at more frames begins with what is no hit, again.
        before = self._done if what == self._what else 0
        self._done, self._total, self._what = max(done, before), total, what

    @property
    def doing(self) -> Doing:
        """What is under way."""
        since = clock(time.monotonic() - self._trial_started)
        if self._total:
            words = f"{self._done}/{self._total} {self._what}"
        else:
            words = "finding peaks" if self.trials else "getting ready, compiling at first"
        name = f"evaluation {len(self.trials)}" if self.share < 1 else "confirming, reporting"
        return Doing(name, self._done, self._total, f"{words}, {since}")

    @property
    def share(self) -> float:
        """Of the budget that is spent; may be above 1."""
        return self._budget_spent()[0]

    @property
    def budget(self) -> str:
        """What is spent of the budget, and about how much time is left."""
        return self._budget_spent()[1]

    @property
    def line(self) -> str:
        """All of it in a line, with what is best so far."""
        doing = self.doing
        parts = [f"{doing.name[0].upper()}{doing.name[1:]}: {doing.words}"]
        parts.append(f"budget: {self.budget}")
        leader = self.trials[-1].best if self.trials else -1
        if leader >= 0:
            best = self.trials[leader].evaluation
            parts.append(
                f"best so far: {best.rate:.1%} ({best.n_indexed} of {best.n_frames} frames), "
                f"evaluation {leader}"
            )
        return " · ".join(parts)

    def _budget_spent(self) -> tuple[float, str]:
        running = time.monotonic() - self._started
        spent = self._spent_earlier + running
        n_done = len(tuning_trials(self.trials))
        n_new = n_done - self._n_earlier
        shares, words, seconds = [0.0], [], []
        if self._budget.evaluations is not None:
            shares.append(n_done / self._budget.evaluations)
            words.append(f"{n_done}/{self._budget.evaluations} evaluations")
            if n_new:
                seconds.append((self._budget.evaluations - n_done) * running / n_new)
        if self._budget.minutes is not None:
            shares.append(spent / (60 * self._budget.minutes))
            words.append(f"{spent / 60:.1f}/{self._budget.minutes:g} minutes")
            seconds.append(60 * self._budget.minutes - spent)
        if seconds:
            words.append(f"about {clock(max(min(seconds), 0.0))} left")
        return max(shares), ", ".join(words)


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
