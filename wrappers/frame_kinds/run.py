"""The kinds of a run's frames, measured by processes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, UnreadableError
from wrappers.frame_kinds.features import Reference, features
from wrappers.frame_kinds.kinds import FrameKinds
from wrappers.frame_kinds.measures import Measurer, Measures
from wrappers.frame_kinds.naming import KINDS, drops
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource
from wrappers.schema import Count, Number
from wrappers.workers.worker_processes import Processes

__all__ = ["KindTeller", "KindsOfFrames", "Told", "run_digest", "tell_kinds"]

Floats = NDArray[np.float64]

FOR_REFERENCE = 200
"""Frames that say what is usual, at most."""


@dataclass(frozen=True)
class Told:
    """What is told of a frame.

    Attributes
    ----------
    frame : int
        Index in the run.
    name : str
        Its kind, of `naming.KINDS`.
    dropped : bool
        Whether the veto leaves it out.
    point : tuple of float
        Its features.
    """

    frame: Count
    name: str
    dropped: bool
    point: tuple[Number, ...]


class KindTeller:
    """Tells the kinds of frames one by one, in any thread.

    Parameters
    ----------
    kinds : FrameKinds
        They may be replaced by ones with the same reference, which have learnt more.
    geometry : Geometry
        Of the frames.

    Raises
    ------
    InputError
        If the kinds are of another detector.
    """

    def __init__(self, kinds: FrameKinds, geometry: Geometry) -> None:
        kinds.require_detector(geometry)
        self.kinds = kinds
        self._measurer = Measurer(geometry)

    def tell(self, frame: Frame, index: int = 0) -> Told:
        """Return the kind of the frame of that index."""
        point = features(self._measurer.measure(frame), self.kinds.reference)
        (name,) = self.kinds.assign(point[None])
        return Told(index, name, drops(name, point.tolist()), tuple(point.tolist()))


@dataclass(frozen=True, eq=False)
class KindsOfFrames:
    """Some frames of a run by kind.

    Attributes
    ----------
    kinds : FrameKinds
        With these frames learnt.
    frames : tuple of int
        Indices in the run, of those that could be read.
    names : tuple of str
        Kind of each.
    points : float64 array (n_frames, n_features)
    failures : dict of int to str
        Why others could not be read.
    new : tuple of str
        Kinds that the earlier frames did not have; none where there were no earlier ones.
    """

    kinds: FrameKinds
    frames: tuple[int, ...]
    names: tuple[str, ...]
    points: Floats
    failures: dict[int, str]
    new: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Frames of each kind that there is, in the order of `naming.KINDS`."""
        found = Counter(self.names)
        return {name: found[name] for name in KINDS if found[name]}

    @property
    def dropped(self) -> tuple[int, ...]:
        """The frames that the veto leaves out."""
        told = zip(self.frames, self.names, self.points.tolist(), strict=True)
        return tuple(frame for frame, name, point in told if drops(name, point))

    def of(self, name: str) -> list[int]:
        """Return the frames of a kind, the most typical first."""
        rows = np.flatnonzero([each == name for each in self.names])
        if not len(rows):
            return []
        points = self.points[rows]
        off = np.abs(points - np.median(points, axis=0)).sum(axis=1)
        return [self.frames[row] for row in rows[np.argsort(off, kind="stable")]]


def tell_kinds(
    run: FrameSource,
    frames: Sequence[int],
    known: FrameKinds | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> KindsOfFrames:
    """Measure frames, and tell their kinds.

    Parameters
    ----------
    run : FrameSource
    frames : sequence of int
        Different indices in the run.
    known : FrameKinds, optional
        Of earlier frames of the detector; by default the kinds are found in these frames. A run
        that they have learnt is not learnt again.
    jobs : int
        Processes.
    progress : callable
        Called with the number of frames that are done.

    Raises
    ------
    InputError
        If the known kinds are of another detector.
    UnreadableError
        If no frame can be read.
    """
    if known is not None:
        known.require_detector(run.geometry)
    reference = None if known is None else known.reference
    points: dict[int, Floats] = {}
    failures: dict[int, str] = {}
    with Processes(functools.partial(_Worker, run), jobs) as processes:
        if reference is None:
            some = [frames[i] for i in _spread(len(frames), FOR_REFERENCE)]
            measured: dict[int, Measures] = {}
            for index, answer in zip(some, processes.stream(_Worker.measure, some), strict=True):
                if isinstance(answer, str):
                    failures[index] = answer
                else:
                    measured[index] = answer
                progress(len(measured) + len(failures))
            if measured:
                reference = Reference.of([*measured.values()])
                points = {i: features(each, reference) for i, each in measured.items()}
        left = [index for index in frames if index not in points and index not in failures]
        tasks = [(index, reference) for index in left]
        for index, found in zip(left, processes.stream(_Worker.features, tasks), strict=True):
            if isinstance(found, str):
                failures[index] = found
            else:
                points[index] = found
            progress(len(points) + len(failures))
    read = tuple(index for index in frames if index in points)
    if not read:
        why = next(iter(failures.values()), "there is none")
        raise UnreadableError(f"none of the {len(frames)} frames can be read: {why}")
    assert reference is not None
    table = np.array([points[index] for index in read])
    new: tuple[str, ...] = ()
    if known is None:
        kinds = FrameKinds.of_run(table, reference, run.geometry, run_digest(run))
    else:
        kinds, new = known.learn(table, run_digest(run))
    return KindsOfFrames(kinds, read, tuple(kinds.assign(table)), table, failures, new)


def run_digest(run: FrameSource) -> str:
    """Return what tells a run from others: its files, their sizes, and how many frames it has.

    "" of frames that come from no file.
    """
    if not run.files:
        return ""
    files = [(str(path.absolute()), _size(path)) for path in run.files]
    return hashlib.sha256(repr((len(run), files)).encode()).hexdigest()[:16]


def _size(path: os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _spread(n: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round()).astype(int).tolist()


class _Worker:
    """Measures frames of a run one by one."""

    def __init__(self, run: FrameSource) -> None:
        self._run, self._measurer = run, Measurer(run.geometry)

    def measure(self, index: int) -> Measures | str:
        """Return what is measured of a frame, in short numbers, or why it cannot be read."""
        try:
            found = self._measurer.measure(self._run[index])
        except InputError as error:
            return str(error)
        short = {
            name: getattr(found, name).astype(np.float32)
            for name in ("cells", "box_level", "box_noise", "box_off", "box_pixels")
        }
        return dataclasses.replace(found, **short)

    def features(self, task: tuple[int, Reference | None]) -> Floats | str:
        """Return a frame's features, or why it cannot be read."""
        index, reference = task
        assert reference is not None
        try:
            return features(self._measurer.measure(self._run[index]), reference)
        except InputError as error:
            return str(error)
