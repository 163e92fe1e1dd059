"""Which frames of a run a session indexes: at random, or by what a look at them promises."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from envs.look import (
    LOOK_FILE,
    CountsPeaks,
    FrameLook,
    look_design,
    strict_sets,
    take_look,
    wide_frames,
)
from envs.parameter_space import ParameterSpace
from envs.strata import (
    CUTS,
    POOR,
    Sample,
    draw,
    promise,
    promising_share,
    share_standing_out,
    strata_by_promise,
)
from tuner.session.config import REMEDY, Sampling
from wrappers.errors import InputError, Note
from wrappers.files import write_whole
from wrappers.schema import read_json

__all__ = ["SAMPLE_FILE", "Drawn", "choose_frames"]

SAMPLE_FILE = "sample.json"
"""In a session's directory: the frames that were drawn."""

ENOUGH = 3
"""Frames of a run, for each of the sample, from which on it pays to choose."""


@dataclass(frozen=True)
class Drawn:
    """The frames of a session.

    Attributes
    ----------
    tuning, fresh : Sample
        Those of the search, and those that are held back.
    words : str
        How they were drawn, for people.
    """

    tuning: Sample
    fresh: Sample
    words: str = ""


def choose_frames(
    sampling: Sampling,
    random: tuple[Sequence[int], Sequence[int]],
    n_run: int,
    space: ParameterSpace,
    seed: int,
    directory: Path,
    counter: Callable[[], CountsPeaks],
    progress: Callable[[int, int], None] = lambda done, total: None,
    without_anything: Callable[[Sequence[int]], Set[int]] = lambda frames: set(),
) -> Drawn:
    """Return the frames of a session, which are kept in its directory.

    With "auto" the random sample is looked at first; where fewer than `POOR` of its frames stand
    out, the look is made wider and the frames are drawn from it by strata.

    Parameters
    ----------
    sampling : str
        See `tuner.session.config.Sampling`.
    random : (sequence of int, sequence of int)
        A random sample of the run, and others.
    n_run : int
        Frames of the run.
    space : ParameterSpace
    seed : int
    directory : Path
        Of the session; an interrupted look is gone on with, and what was drawn stays.
    counter : callable
        Returns what counts peaks. It is called where there is something to look at.
    progress : callable
        Called with the frames that were looked at, and with all that are to be.
    without_anything : callable
        Says which of some frames hold nothing to be indexed, whatever their counts promise: the
        beam was off, the detector at fault, or it is salt. They are drawn as seldom as blank ones.

    Raises
    ------
    InputError
        If the directory's record of the frames is damaged.
    ProgramError
        If the counter has no processes left.
    """
    at_random = Drawn(Sample(tuple(random[0])), Sample(tuple(random[1])))
    if sampling == "random" or (sampling == "auto" and n_run < ENOUGH * len(random[0])):
        return at_random
    kept = directory / SAMPLE_FILE
    if kept.exists():
        return _read(kept, n_run)
    counts = counter()

    def look(frames: Sequence[int]) -> FrameLook:
        design = look_design(space)
        return take_look(counts, frames, design, stored=directory / LOOK_FILE, progress=progress)

    chosen = at_random
    if sampling == "strata" or _is_poor(look(random[0])):
        wide = look(wide_frames(n_run, random[0]))
        if wide.readable.any():
            chosen = _by_strata(wide, len(random[0]), seed, without_anything)
        else:
            warnings.warn(Note("no frame could be looked at: the sample is random"), stacklevel=2)
    write_whole(kept, json.dumps(asdict(chosen)) + "\n")
    return chosen


def _is_poor(look: FrameLook) -> bool:
    strict, _ = strict_sets(look.settings)
    counts = look.counts[look.readable]
    return bool(len(counts)) and share_standing_out(counts, strict) < POOR


def _by_strata(
    look: FrameLook,
    n: int,
    seed: int,
    without_anything: Callable[[Sequence[int]], Set[int]],
) -> Drawn:
    score = _score(look)
    promising = [frame for frame, each in zip(look.frames, score, strict=True) if each >= CUTS[0]]
    empty = without_anything(promising)
    score[[frame in empty for frame in look.frames]] = 0.0
    strata = strata_by_promise(look.frames, score)
    tuning, fresh = draw(strata, n, seed)
    counts = np.bincount(tuning.strata, minlength=len(strata.sizes))
    each = ", ".join(f"{k} of {size}" for k, size in zip(counts, strata.sizes, strict=True))
    left = f", and {len(empty)} show salt, a faulty detector or no light" if empty else ""
    words = (
        f"frames are drawn by promise: {promising_share(score):.1%} of {len(look.frames)} that "
        f"were looked at are promising{left}; from the least promising on {each} are indexed. "
        "Rates are weighted, and of the whole run"
    )
    return Drawn(tuning, fresh, words)


def _score(look: FrameLook) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the promise of each frame; NaN where it could not be read."""
    score = np.full(len(look.frames), np.nan)
    if look.readable.any():
        score[look.readable] = promise(look.counts[look.readable])
    return score


def _read(path: Path, n_run: int) -> Drawn:
    found = read_json(path, Drawn, "the session's frames", REMEDY)
    for sample in (found.tuning, found.fresh):
        n, places = len(sample.frames), set(sample.strata)
        weighted = len(sample.strata) == n and places <= {*range(len(sample.sizes))}
        if (sample.sizes and not weighted) or len({*sample.frames}) < n:
            raise InputError(f"{path} is damaged: its strata are not those of its frames; {REMEDY}")
        if max(sample.frames, default=0) >= n_run:
            raise InputError(f"{path} is damaged: it names a frame that is not there; {REMEDY}")
    return found
