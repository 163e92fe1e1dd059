"""The free look: peak counts of many frames over a design of parameter sets, indexing nothing.

Peaks cost some hundredth of what indexing does, and say much of what it would (`docs/method.md`).
So a session looks once, at more frames than it will index, before it chooses what to index.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from envs.parameter_space import Parameter, ParameterSpace
from wrappers.errors import InputError, Note
from wrappers.files import write_whole
from wrappers.peak_finders import usually_tuned_peaks
from wrappers.peakfinding.peak_batch import FrameCounts
from wrappers.peaks import MAX_N_PEAKS
from wrappers.schema_arrays import read_arrays
from wrappers.settings import Settings

__all__ = [
    "LOOK_FILE",
    "FrameLook",
    "LatticeCounts",
    "Looks",
    "look_design",
    "strict_sets",
    "take_look",
    "wide_frames",
]

LOOK_FILE = "look.npz"
"""Its name in a session's folder."""

WIDTH = 20
"""A look has at most so many frames for each frame of the sample."""

FRAMES_AT_ONCE = 64
"""What an interruption costs at most."""

AXES = ("min_snr", "threshold", "min_probability", "min_pix_count")
"""What a design varies, of what is tuned."""

STANDS_OUT = 6.0
"""A count so many standard deviations above those of the other frames is no noise."""

Counts = NDArray[np.uint16]


class CountsPeaks(Protocol):
    """What counts peaks: a pool, or an evaluator that has one."""

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        """Return, by frame, the number of peaks for each parameter set."""
        ...


class LatticeCounts(NamedTuple):
    """Own and other peaks of the frames whose lattices are known.

    Attributes
    ----------
    frames : tuple of int
        K indices in the run.
    own, other : uint16 array (K, n_settings)
        Peaks on a node of one of the frame's lattices, and beside them.
    """

    frames: tuple[int, ...]
    own: Counts
    other: Counts


@dataclass(frozen=True, eq=False)
class FrameLook:
    """The peak counts of some frames with each parameter set of a design.

    Attributes
    ----------
    settings : tuple of Settings
        The design.
    frames : tuple of int
        Indices in the run.
    counts : uint16 array (n_frames, n_settings)
        0 in the rows of frames that cannot be read.
    failures : mapping of int to str
        Why frames cannot be read, by frame.
    weights : tuple of float
        How many frames of the run each frame stands for, up to a factor; empty: they are alike.
    """

    settings: tuple[Settings, ...]
    frames: tuple[int, ...]
    counts: Counts
    failures: Mapping[int, str]
    weights: tuple[float, ...] = ()

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which frames (n_frames,) could be read."""
        return np.array([frame not in self.failures for frame in self.frames], bool)

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Which counts (n_frames, n_settings) are as high as peakfinder8 counts."""
        return self.counts >= MAX_N_PEAKS

    @property
    def blank(self) -> str:
        """A sentence where the frames look as if none of them had a crystal's peaks, or "".

        It is said where no frame has the peaks of a hit with any of the stricter half of the
        sets, and with no set a frame stands out from the others.
        """
        counts = self.counts[self.readable].astype(float)
        n = len(counts)
        if not n:
            why = next(iter(self.failures.values()), "there is none")
            return f"none of the {len(self.frames)} frames can be read: {why}"
        typical = np.median(counts, axis=0)
        stands_out = (counts - typical > STANDS_OUT * np.sqrt(typical + 1)).any()
        strict, words = strict_sets(self.settings)
        most = int(counts[:, strict].max(initial=0))
        if stands_out or most >= max(min(each.min_peaks for each in self.settings), 1):
            return ""
        return (
            f"none of {n} frames has more than {most} peaks from {words} on, "
            "and none has more than the others below: the run looks blank. Look at some frames, "
            "and whether beam and sample were there"
        )


@runtime_checkable
class Looks(Protocol):
    """An evaluator that can say more of its frames than how many are indexed."""

    @property
    def embedded(self) -> bool:
        """Whether it indexes with the embedded indexer, so that its lattices are evaluations."""
        ...

    @property
    def primitive_volume(self) -> float:
        """Of the cell whose lattices are sought, in Å³."""
        ...

    def look(self, settings: Sequence[Settings]) -> FrameLook:
        """Return the peak counts of the sample; what was counted before is not counted again."""
        ...

    def lattice_counts(
        self, measured: Settings, settings: Sequence[Settings], frames: Sequence[int] | None = None
    ) -> LatticeCounts:
        """Return how many peaks of each set are on the lattices that `measured` leads to."""
        ...


@functools.lru_cache(maxsize=128)
def look_design(space: ParameterSpace) -> tuple[Settings, ...]:
    """Return the parameter sets of a look: a grid over the box of what decides the peaks most.

    Ten values of ``min_snr``, six of ``threshold`` and up to four of ``min_pix_count`` (eight, six
    and five where it has more), or twelve of ``min_probability``, evenly spread on the scales of
    the box; where one is not tuned it keeps the base's value, as everything else does. Sets with
    equal limits follow one another.
    """
    pixels = [
        value
        for value in _values(space, "min_pix_count", 5)
        if value <= space.base.max_pix_count or "max_pix_count" in space.names
    ]
    levels = (
        _values(space, "min_snr", 10 if len(pixels) <= 4 else 8),
        _values(space, "threshold", 6),
        _values(space, "min_probability", 12),
        pixels or [space.base.min_pix_count],
    )
    return tuple(
        space.base.replace(
            **dict(zip(AXES, values, strict=True)),
            max_pix_count=max(space.base.max_pix_count, int(values[-1])),
        )
        for values in itertools.product(*levels)
    )


def strict_sets(settings: Sequence[Settings]) -> tuple[NDArray[np.bool_], str]:
    """Return which of a design's sets are of its stricter half, and from which value on."""
    name = usually_tuned_peaks(settings[0].peak_finder)[0]
    values = np.array([getattr(each, name) for each in settings])
    strict = values >= np.median(values)
    return strict, f"{name} {values[strict].min():g}"


def _values(space: ParameterSpace, name: str, most: int) -> list[float]:
    """Return different values of a parameter, from end to end of its range."""
    if name not in space.names:
        return [getattr(space.base, name)]
    parameter: Parameter = space[name]
    units = np.linspace(0.0, 1.0, most)
    return sorted({parameter.from_unit(float(unit)) for unit in units})


def wide_frames(n_run: int | None, sample: Sequence[int]) -> list[int]:
    """Return the frames of a wide look: the sample's, then others evenly spread over the run.

    Parameters
    ----------
    n_run : int or None
        Frames of the run; of a stream, where it is None, only the sample's are taken.
    sample : sequence of int
    """
    chosen = {*sample}
    others = [frame for frame in range(n_run or 0) if frame not in chosen]
    n = min(len(others), (WIDTH - 1) * len(sample))
    places = (np.arange(n) * len(others) + len(others) // 2) // max(n, 1)
    return [*sample, *(others[place] for place in places)]


def take_look(
    counter: CountsPeaks,
    frames: Sequence[int],
    settings: Sequence[Settings],
    *,
    stored: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FrameLook:
    """Count the peaks of frames with a design, some frames at a time.

    Parameters
    ----------
    counter : CountsPeaks
    frames : sequence of int
        Different indices in the run.
    settings : sequence of Settings
    stored : Path, optional
        A file in which the counts are kept as they come, such as `LOOK_FILE` in a session's
        folder. What it holds of these frames with the same design is not counted again; a damaged
        one is dropped with a note. Frames that could not be read are tried again.
    progress : callable
        Called with the number of frames that are done, and with that of all.

    Raises
    ------
    InputError
        If `stored` cannot be written.
    ProgramError
        If the counter has no processes left.
    """
    design = _digest(settings)
    known = {} if stored is None else _read(stored, design, len(settings))
    wanted = {*frames}
    known = {frame: counts for frame, counts in known.items() if frame in wanted}
    failures: dict[int, str] = {}
    for some in _parts([frame for frame in frames if frame not in known]):
        progress(len(known) + len(failures), len(frames))
        for frame, each in counter.count(some, settings).items():
            if each.counts is None:
                failures[frame] = each.failure
            else:
                known[frame] = each.counts
        if stored is not None:
            _write(stored, design, known, len(settings))
    progress(len(frames), len(frames))
    nothing = np.zeros(len(settings), np.uint16)
    counts = np.array([known.get(frame, nothing) for frame in frames], np.uint16)
    return FrameLook(
        tuple(settings), tuple(frames), counts.reshape(len(frames), len(settings)), failures
    )


def _parts(frames: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        yield frames[first : first + FRAMES_AT_ONCE]


def _digest(settings: Sequence[Settings]) -> NDArray[np.uint8]:
    """Return what tells a design from others: only what decides the peaks counts."""
    keys = [(*each.peak_key, *each.mask_key) for each in settings]
    digest = hashlib.blake2b(json.dumps(keys).encode(), digest_size=16).digest()
    return np.frombuffer(digest, np.uint8)


def _write(path: Path, design: NDArray[np.uint8], known: Mapping[int, Counts], n_sets: int) -> None:
    content = io.BytesIO()
    frames = np.array([*known], np.int64)
    counts = np.array([*known.values()], np.uint16).reshape(len(frames), n_sets)
    np.savez_compressed(content, allow_pickle=False, design=design, frames=frames, counts=counts)
    write_whole(path, content.getvalue())


def _read(path: Path, design: NDArray[np.uint8], n_sets: int) -> dict[int, Counts]:
    """Return the counts by frame that a file holds; none where it has another design."""
    if not path.exists():
        return {}
    remedy = "it is dropped, and the frames are looked at again"
    try:
        arrays = read_arrays(path, "the look", remedy)
        stored, frames, counts = (arrays.get(name) for name in ("design", "frames", "counts"))
        if stored is not None and stored.shape == design.shape and (stored != design).any():
            return {}
        if (
            stored is None
            or frames is None
            or counts is None
            or (frames.dtype, counts.dtype) != (np.dtype(np.int64), np.dtype(np.uint16))
            or stored.shape != design.shape
            or counts.shape != (len(np.atleast_1d(frames)), n_sets)
            or frames.ndim != 1
            or len(np.unique(frames)) != len(frames)
        ):
            raise InputError(f"the look {path} is damaged (its arrays are others): {remedy}")
    except InputError as error:
        warnings.warn(Note(str(error)), stacklevel=3)
        return {}
    return dict(zip(frames.tolist(), counts, strict=True))
