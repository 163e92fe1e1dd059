"""Dropping a losing candidate before it has cost its share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scipy.stats import binom

from envs.evaluation import Evaluation, Evaluator
from wrappers.settings import Settings

__all__ = ["Race"]


@dataclass(frozen=True)
class Race:
    """When a candidate has lost against the incumbent on the frames seen so far.

    Candidates see the same frames in the same random order: a first chunk, then as many
    again, and so on. At each interim look those frames are counted that only one of the two
    has indexed; the candidate is dropped when it won so few of them that a fair coin would do
    so with a probability below `error_rate` / number of interim looks (exact one-sided McNemar
    test, Bonferroni over the looks). A candidate that is as good as the incumbent or better is
    therefore dropped with a probability of at most `error_rate`.

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
        seen = {outcome.frame for outcome in candidate.outcomes}
        ours, theirs = candidate.indexed_frames, incumbent.indexed_frames & seen
        won, contested = len(ours - theirs), len(ours ^ theirs)
        return bool(binom.cdf(won, contested, 0.5) < self.error_rate / n_looks)

    def _ends(self, n_frames: int) -> Iterator[int]:
        """Yield the number of frames at each interim look."""
        end = self.first_look
        while 4 * end <= 3 * n_frames:
            yield end
            end *= 2
