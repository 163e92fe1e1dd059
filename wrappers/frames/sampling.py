"""Which frames of a run stand for all of it, and how bright they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wrappers.errors import InputError
from wrappers.frames.first_look import no_data, spread
from wrappers.frames.source import FrameSource

__all__ = ["background_level", "sample_frames"]


def sample_frames(run: FrameSource, n_frames: int | None, seed: int) -> tuple[list[int], list[int]]:
    """Return a random sample of a run's frames and, as many where there are, others.

    Both are in random order, so that the first frames of a sample are a sample themselves.

    Parameters
    ----------
    run : FrameSource
    n_frames : int or None
        Size of the sample; None takes every frame.
    seed : int
    """
    order = np.random.default_rng(seed).permutation(len(run))
    n = len(run) if n_frames is None else min(n_frames, len(run))
    return order[:n].tolist(), order[n : 2 * n].tolist()


def background_level(run: FrameSource, frames: Sequence[int]) -> tuple[float, float]:
    """Return the median and the 99.9th percentile of the usable pixels of some frames, in ADU.

    Pixels that stand for no data, masked or not, are left out.

    Parameters
    ----------
    run : FrameSource
    frames : sequence of int
        Up to five of them, evenly spread, are read.

    Raises
    ------
    InputError
        If none of them can be read, or all their pixels are masked.
    """
    chosen = [frames[i] for i in spread(len(frames))]
    levels, problem = [], "all their pixels are masked"
    found = []
    for index in chosen:
        try:
            found.append(run[index])
        except InputError as error:
            problem = str(error)
    empty = np.zeros(run.geometry.slab_shape, bool)
    for each in no_data(found):
        empty |= each.pixels
    for frame in found:
        values = frame.data[frame.mask & ~empty]
        if values.size:
            levels.append(np.percentile(values, (50, 99.9)))
    if not levels:
        raise InputError(f"no frame of {run.name(chosen[0])[0]} can be used: {problem}")
    median, bright = np.median(levels, axis=0)
    return float(median), float(bright)
