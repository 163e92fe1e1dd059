"""Dropping a losing candidate before it has cost its share, and stopping when one has won."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envs.evaluation import Evaluation, Evaluator
from tuner.session.trial import Trial
from tuner.statistics import chance_of_less, upper_limit
from wrappers.settings import Settings

__all__ = ["INDIFFERENCE", "Race", "separated"]

INDIFFERENCE = 0.03
"""A difference of indexing rates, in all frames, that nobody would spend beamtime on."""

FRUITLESS = 8
"""Proposals of the searcher without a new winner before a session may end early."""


@dataclass(frozen=True)
class Race:
    """When a candidate has lost against the incumbent on the frames seen so far.

    Candidates see the same frames in the same random order: a first chunk, then as many
    again, and so on. At each interim look those frames are counted that only one of the two
    has indexed; the candidate is dropped when it won so few of them that a fair coin would do
    so with a probability below `error_rate` / number of interim looks (exact one-sided McNemar
    test, Bonferroni over the looks). A candidate that is as good as the incumbent or better is
    therefore dropped with a probability of at most `error_rate`. Where frames were drawn by their
    promise the test is weighted, and every chunk is a stratified sample itself.

    Attributes
    ----------
    first_look : int
        Frames of the first chunk.
    error_rate : float
        See above.
    """

    first_look: int = 25
    error_rate: float = 0.05

    def run(
        self, evaluator: Evaluator, settings: Settings, incumbent: Evaluation | None
    ) -> Evaluation:
        """Evaluate settings on all frames, or on as many as it takes to see that they lose."""
        if incumbent is None:
            return evaluator.evaluate(settings)
        ends = list(self._ends(evaluator.n_frames))
        seconds = core_seconds = 0.0
        for end in [*ends, evaluator.n_frames]:
            evaluation = evaluator.evaluate(settings, end)
            seconds += evaluation.seconds
            core_seconds += evaluation.core_seconds
            if end in ends and self.lost(evaluation, incumbent, len(ends)):
                break
        return evaluation.with_cost(seconds, core_seconds)

    def lost(self, candidate: Evaluation, incumbent: Evaluation, n_looks: int) -> bool:
        """Whether the candidate may be dropped at one of so many looks."""
        return chance_of_less(candidate, incumbent) < self.error_rate / n_looks

    def _ends(self, n_frames: int) -> Iterator[int]:
        """Yield the number of frames at each interim look."""
        end = self.first_look
        while 4 * end <= 3 * n_frames:
            yield end
            end *= 2


def separated(winner: Trial, trials: Sequence[Trial], error_rate: float = 0.05) -> bool:
    """Whether no candidate tried so far is likely to be much better than the winner.

    The searcher's last `FRUITLESS` proposals must have brought no new winner. Every other
    candidate must either have lost its race or be better by less than `INDIFFERENCE`: one-sided
    upper limits of the paired differences, at `error_rate` / number of candidates. A winner that
    is worse than one of them by the indifference or more is then declared with a probability of
    at most `error_rate` (verified by simulation in the tests).

    Parameters
    ----------
    winner : Trial
        Measured on every frame.
    trials : sequence of Trial
        All of the search, in order.
    error_rate : float
    """
    others = [t.evaluation for t in trials if t is not winner and not t.evaluation.failure]
    proposals = [trial for trial in trials if trial.stage == "search"]
    if sum(trial.number > winner.number for trial in proposals) < FRUITLESS:
        return False
    best = winner.evaluation
    finalists = [other for other in others if other.n_frames == best.n_frames]
    return all(
        upper_limit(other, best, error_rate / len(finalists)) < INDIFFERENCE for other in finalists
    )
