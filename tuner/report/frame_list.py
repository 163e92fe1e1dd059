"""The frames of the sample by what became of them, and why those never indexed were not.

This is the one home of what the words mean: gained, lost, blank, too few peaks …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.evaluation import Evaluation, FrameOutcome
from envs.response_map.features import floor_of
from envs.strata import promise
from tuner.report.findings import Findings
from tuner.report.seen_map import SeenMap
from tuner.session.trial import tuning_trials
from wrappers.settings import Settings

__all__ = ["FATES", "FrameFate", "FrameLine", "FrameList", "list_frames"]

FATES = {
    "anyway": ("indexed anyway", "with the {best} and with {bar}"),
    "gained": ("gained", "with the {best}, not with {bar}"),
    "lost": ("lost", "with {bar}, not with the {best}"),
    "elsewhere": ("by other sets only", "with neither of the two, but with another measured set"),
    "few": ("never: too few peaks", "bright peaks, but not as many as a hit has"),
    "noisy": ("never: too many others", "half of its peaks or more are what a blank frame shows"),
    "unsolved": (
        "never: peaks but no lattice",
        "a hit of its own peaks: another cell, several crystals, ice or salt",
    ),
    "blank": ("blank", "never indexed, and no peaks beyond a blank frame's where noise has none"),
    "unreadable": ("not read", "the frame cannot be read, or has no answer"),
}
"""Every frame has one fate: its name, and what that means."""

BLANK = 1.5
"""A frame that stands out by less (`envs.strata.promise`: in units of the blank frames' noise)
among those never indexed holds no crystal that anybody could see."""

FEWEST_ALIKE = 8
"""Frames never indexed from which on they are compared among themselves."""

NOISY = 0.5
"""Share of a frame's peaks that a blank frame shows, too, from which on they drown its own."""

MOST_LINES = 400
"""Frames of a fate that are listed one by one."""


@dataclass(frozen=True)
class FrameLine:
    """One frame.

    Attributes
    ----------
    frame : int
        Index in the run.
    n_peaks : int
        With the recommended set.
    n_indexed, n_tried : int
        Evaluations that indexed it, of those that saw it.
    likely : float
        How likely the map takes the set with which it indexes this frame most readily.
    best : Settings
        That set.
    """

    frame: int
    n_peaks: int
    n_indexed: int
    n_tried: int
    likely: float
    best: Settings

    @property
    def words(self) -> str:
        """The set that the map likes best for it."""
        return (
            f"{self.best.min_snr:g} / {self.best.threshold:g} / {self.best.min_pix_count}"
            if self.likely > 0
            else ""
        )


@dataclass(frozen=True)
class FrameFate:
    """The frames with a fate; `rest` of them are not among the lines."""

    key: str
    name: str
    meaning: str
    share: float
    lines: tuple[FrameLine, ...]
    rest: int = 0

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.lines) + self.rest


@dataclass(frozen=True, eq=False)
class FrameList:
    """All frames of the sample by what became of them, in the order of `FATES`.

    Attributes
    ----------
    fates : tuple of FrameFate
        Those that there are.
    best, bar : Evaluation
        Of the recommended set and of what it is held against, on these frames.
    """

    fates: tuple[FrameFate, ...]
    best: Evaluation
    bar: Evaluation

    def typical(self) -> dict[str, int]:
        """Return a frame of each fate that can be shown: the one in the middle by its peaks.

        And the one with most lattices, where there is one with several.
        """
        chosen = {
            fate.key: sorted(fate.lines, key=lambda line: (line.n_peaks, line.frame))[
                len(fate.lines) // 2
            ].frame
            for fate in self.fates
            if fate.key != "unreadable"
        }
        most = max(self.best.outcomes, key=lambda outcome: outcome.n_lattices)
        if most.n_lattices > 1 and most.frame not in chosen.values():
            chosen["several"] = most.frame
        return chosen


def list_frames(found: Findings, seen: SeenMap) -> FrameList | None:
    """Return the frames by fate, or None where they cannot be told.

    They are those of the search's sample. It takes evaluations of the recommended set and of what
    it is held against on all of them.
    """
    frames = seen.found.look.frames
    trials = [trial.evaluation for trial in found.measured if trial.stage != "fresh"]
    best, bar = _whole(found, trials, frames)
    if best is None or bar is None:
        return None
    ours, theirs = ({o.frame: o for o in each.outcomes} for each in (best, bar))
    peaks = np.array([ours[frame].n_peaks for frame in frames])
    readable = seen.found.look.readable
    weights = seen.found.learnt.weights
    floor = float(floor_of(peaks[readable][:, None], weights[readable])[0])
    times = [{o.frame: o.indexed for o in each.outcomes} for each in trials]
    weight = dict(zip((o.frame for o in best.outcomes), best.frame_weights.tolist(), strict=True))
    fates: dict[str, list[FrameLine]] = {name: [] for name in FATES}
    never: dict[int, FrameLine] = {}
    for row, frame in enumerate(frames):
        seen_in = [each[frame] for each in times if frame in each]
        column = int(np.argmax(seen.forecast.frames[row]))
        line = FrameLine(
            frame,
            ours[frame].n_peaks,
            sum(seen_in),
            len(seen_in),
            float(seen.forecast.frames[row, column]),
            seen.settings[column],
        )
        fate = _fate(ours[frame], theirs[frame], line) if readable[row] else "unreadable"
        if fate:
            fates[fate].append(line)
        else:
            never[row] = line
    for row, score in _promise(seen, [*never]).items():
        line = never[row]
        fates[_why_never(ours[line.frame], floor, score)].append(line)
    total = sum(weight.values())
    return FrameList(
        tuple(
            FrameFate(
                key,
                FATES[key][0],
                FATES[key][1].format(best=found.best_set, bar=found.bar_words),
                sum(weight[line.frame] for line in lines) / total,
                tuple(lines[:MOST_LINES]),
                len(lines[MOST_LINES:]),
            )
            for key, lines in fates.items()
            if lines
        ),
        best,
        bar,
    )


def _fate(ours: FrameOutcome, theirs: FrameOutcome, line: FrameLine) -> str:
    """Return what became of a frame; "" where it was never indexed."""
    if ours.indexed or theirs.indexed:
        return "anyway" if ours.indexed and theirs.indexed else "gained" if ours.indexed else "lost"
    return "elsewhere" if line.n_indexed else "unreadable" if ours.failure else ""


def _why_never(ours: FrameOutcome, floor: float, score: float) -> str:
    """Return why a frame was never indexed.

    Parameters
    ----------
    ours : FrameOutcome
        With the recommended set.
    floor : float
        Peaks of a blank frame with it.
    score : float
        How far the frame stands out from blank ones where peaks are no noise; see `_promise`.
    """
    if ours.hit and floor < NOISY * ours.n_peaks:
        return "unsolved"
    if score < BLANK:
        return "blank"
    return "noisy" if ours.hit else "few"


def _promise(seen: SeenMap, rows: Sequence[int]) -> dict[int, float]:
    """Return how far each of the never indexed frames, by row, stands out from the blank ones.

    Next to all frames of a rich run hold crystals, so they are compared with their like.
    """
    counts = seen.found.learnt.counts[:, : len(seen.found.look.settings)]
    among = [*rows] if len(rows) >= FEWEST_ALIKE else [*range(len(counts))]
    score = dict(zip(among, promise(counts[among]).tolist(), strict=True))
    return {row: score[row] for row in rows}


def _whole(
    found: Findings, trials: Sequence[Evaluation], frames: Sequence[int]
) -> tuple[Evaluation | None, Evaluation | None]:
    """Return the last evaluations of the recommended set and of the bar on all of the frames."""

    def of(settings: Settings | None) -> Evaluation | None:
        same = [
            each
            for each in trials
            if each.settings == settings and {o.frame for o in each.outcomes} >= {*frames}
        ]
        return same[-1] if same else None

    recommended = None if found.recommendation is None else found.recommendation.settings
    first = tuning_trials(found.trials)
    return of(recommended), of(first[0].evaluation.settings if first else None)
