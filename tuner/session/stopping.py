"""When a session may end before its budget is spent: nothing that was tried can be much better."""

from __future__ import annotations

from collections.abc import Sequence

from envs.evaluation import Evaluation
from tuner.session.racing import FRUITLESS, INDIFFERENCE, separated
from tuner.session.trial import Trial

__all__ = ["why_stop"]

LOOSER = 1.2
"""A set that finds so many times the winner's peaks, on the same frames, is a looser one."""

FEWEST_LOOSER = 2
"""Looser sets that gained nothing, from which on there is nothing to gain by more peaks."""


def why_stop(winner: Trial, trials: Sequence[Trial], *, raced: bool = True) -> str:
    """Return why a session may stop, to follow "stopped: ", or "".

    It may where next to every frame is indexed; where next to every hit is, and sets that find more
    peaks index no further frames; and where the winner is `racing.separated` from all others.

    Parameters
    ----------
    winner : Trial
        Measured on every frame.
    trials : sequence of Trial
        All of the search, in order.
    raced : bool
        Whether what was measured on a part of the frames has lost; else it may yet be the best.
    """
    best = winner.evaluation
    n = best.n_frames
    if best.rate > 1 - INDIFFERENCE:
        return f"{best.n_indexed} of {n} frames are indexed: there is nothing to gain"
    if best.hit_rate - best.rate < INDIFFERENCE:
        seen = [t.evaluation for t in trials if raced or t.evaluation.n_frames == n]
        looser = [each for each in seen if _is_looser(each, best)]
        gained = {frame for each in looser for frame in each.indexed_frames} - best.indexed_frames
        if len(looser) >= FEWEST_LOOSER and len(gained) < INDIFFERENCE * n:
            return (
                f"{best.n_indexed} of {best.n_hits} hits are indexed, and {len(looser)} sets that "
                f"find more peaks index {len(gained) or 'no'} frames beyond those: there is "
                "nothing to gain"
            )
    if raced and separated(winner, trials):
        return (
            f"{FRUITLESS} proposals in a row brought nothing better, and nothing that was tried is "
            f"likely to index {100 * INDIFFERENCE:.0f} % of the frames more"
        )
    return ""


def _is_looser(candidate: Evaluation, best: Evaluation) -> bool:
    """Whether a set finds more peaks than the best on the frames of both, and indexes them, too."""
    theirs = {outcome.frame: outcome for outcome in candidate.outcomes}
    both = [(o, theirs[o.frame]) for o in best.outcomes if o.frame in theirs]
    peaks = [sum(pair[i].n_peaks for pair in both) for i in range(2)]
    indexed = [sum(pair[i].indexed for pair in both) for i in range(2)]
    # Noise, or a wrong camera length, says nothing of more peaks.
    return peaks[1] >= LOOSER * peaks[0] > 0 and 2 * indexed[1] >= indexed[0]
