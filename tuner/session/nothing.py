"""When a session has nothing to recommend, why, and where it says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from envs.evaluation import Evaluation
from envs.geometry_rule import FEWEST_INDEXED
from envs.objective import USUAL_MERIT
from tuner.session.trial import Trial, tuning_trials
from tuner.statistics import paired_difference
from wrappers.files import write_whole

if TYPE_CHECKING:
    from tuner.session.outcome import Outcome

__all__ = ["FILE", "few_peaks", "read_nothing", "why_nothing", "write_nothing"]

FILE = "nothing_to_recommend.txt"
"""In a session's directory, instead of ``recommended.toml``."""

FEWEST_PEAKS = 3
"""Peaks that may be a lattice's: crystals of small molecules show 3 to 15."""

CHANCE = 0.05
"""Probability that decoys would be indexed so rarely if hits held no more lattices than they do."""

MOST_HITS = 0.1
"""Of all frames, where the limit of peaks is a suspect ..."""

JUST_ENOUGH = 1.5
"""... and where most indexed frames have less than this times as many peaks as the limit asks for:
they are then the upper end of what the crystals show."""


def why_nothing(trials: Sequence[Trial], outcome: Outcome | None, start: str = "") -> str:
    """Return why nothing is worth recommending, and what to check; "" where something is.

    Parameters
    ----------
    trials : sequence of Trial
        Of a session that has ended.
    outcome : Outcome or None
        What it came to.
    start : str
        What `Outcome.start` is, to follow "than".
    """
    if outcome is None:
        return f"no parameter set indexed any frame. {_what_to_check(trials)}"
    best, bar = outcome.best, outcome.bar
    if not best.n_indexed:
        where = "fresh frames" if outcome.on_fresh_frames else "frames at the geometry's own place"
        before = max((t.evaluation.n_indexed for t in tuning_trials(trials)), default=0)
        few = "" if before >= FEWEST_INDEXED else " Or crystals are rare: take more --frames."
        return (
            f"the best parameter set of the search indexes none of {best.n_frames} {where}, so "
            f"what it indexed before ({before} at most) may be chance. "
            f"{_what_to_check(trials)}{few}"
        )
    if _may_be_chance(best):
        return (
            f"of {best.n_hits} hits {best.n_indexed} are indexed, and of {best.n_decoys} scrambled "
            f"peak lists {best.n_decoys_indexed}: chance alone may have done it. "
            f"{_what_to_check(trials)}"
        )
    if best.n_indexed < FEWEST_INDEXED and USUAL_MERIT(best) < min(0.0, USUAL_MERIT(bar)):
        return (
            f"of {best.n_hits} hits the best parameter set of the search indexes {best.n_indexed}: "
            f"that may be chance. {_what_to_check(trials)}"
        )
    if best.settings == bar.settings:
        return ""
    difference = paired_difference(best, bar)
    if difference.clear and difference.difference < 0:
        kept = start or "CrystFEL's defaults"
        return (
            f"the best parameter set of the search indexes {best.n_indexed} of {best.n_frames} "
            f"frames, fewer than {kept}: {bar.n_indexed} (p = {difference.p_value:.2g}). Keep "
            "those, or tune with more frames (--frames) and evaluations (--evaluations)."
        )
    return ""


def _may_be_chance(evaluation: Evaluation) -> bool:
    """Whether hits are not clearly indexed more often than decoys, where decoys are indexed at all.

    Fisher's exact test, one-sided, at `CHANCE`.
    """
    from scipy.stats import fisher_exact  # takes a while to import

    hits, decoys = evaluation.n_indexed, evaluation.n_decoys_indexed
    if not decoys:
        return False
    table = [[hits, evaluation.n_hits - hits], [decoys, evaluation.n_decoys - decoys]]
    return bool(fisher_exact(table, alternative="greater").pvalue >= CHANCE)


def few_peaks(evaluation: Evaluation) -> str:
    """Return what to do where most frames with peaks have too few for a hit, or "".

    That is where next to none is a hit, or where the indexed ones barely are. Small molecules'
    crystals do; noise does, too, so it is a hint and no more.
    """
    least, hits = evaluation.settings.min_peaks, evaluation.n_hits
    peaks = [outcome.n_peaks for outcome in evaluation.outcomes]
    some = sum(FEWEST_PEAKS <= n < least for n in peaks)
    indexed = sorted(each.n_peaks for each in evaluation.outcomes if each.indexed)
    upper_end = len(indexed) >= FEWEST_INDEXED and (
        indexed[len(indexed) // 2] < JUST_ENOUGH * least and some > hits
    )
    next_to_none = hits <= MOST_HITS * len(peaks) and some > 4 * hits
    if not (upper_end or next_to_none):
        return ""
    have = f"only {hits} of {len(peaks)} frames have" if hits else f"no frame has {least} peaks, so"
    tail = f" {least} peaks or more" if hits else " none is a hit"
    return (
        f"{have}{tail}, and {some} have {FEWEST_PEAKS} to {least - 1}: if your crystals show so "
        f"few (small molecules do), add --set min_peaks={FEWEST_PEAKS}"
    )


def write_nothing(directory: Path, why: str) -> None:
    """Say in a session's directory why it recommends nothing, or no longer, where `why` is ""."""
    if why:
        # First, so that whatever ends this leaves no recommendation that no longer holds.
        (directory / "recommended.toml").unlink(missing_ok=True)
        write_whole(directory / FILE, f"Nothing to recommend: {why}\n")
    else:
        (directory / FILE).unlink(missing_ok=True)


def read_nothing(directory: Path) -> str:
    """Return why a session recommends nothing, or ""."""
    try:
        text = (directory / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.removeprefix("Nothing to recommend:").strip()


def _what_to_check(trials: Sequence[Trial]) -> str:
    richest = max(
        (trial.evaluation for trial in trials if trial.evaluation.settings.min_peaks),
        key=lambda evaluation: evaluation.n_hits,
        default=None,
    )
    hint = "" if richest is None else few_peaks(richest)
    if hint:
        return f"{hint[0].upper()}{hint[1:]}."
    if richest is not None and not richest.n_hits:
        most = max((outcome.n_peaks for outcome in richest.outcomes), default=0)
        return (
            f"No frame has {richest.settings.min_peaks} peaks (the most is {most}): check that the "
            "frames hold diffraction (sfx-tuner peaks), the masks, and the threshold's range."
        )
    return (
        "Check the cell, the camera length (--clen-range looks farther), the beam centre (--tune "
        "shift_x,shift_y) and the photon energy; trials.csv has the peaks and hits."
    )
