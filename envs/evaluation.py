"""What one parameter set gives on one sample of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.strata import shares, weights
from wrappers.schema import Count, Measured, Number, hooked
from wrappers.settings import Settings

__all__ = ["Evaluation", "Evaluator", "FrameOutcome", "wilson_interval"]


def wilson_interval(k: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of a rate of which `k` in `n` were seen (Wilson 1927).

    Neither need be a whole number: a weighted sample is worth so many frames of a random one.
    """
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    middle = k + z**2 / 2
    half = z * math.sqrt(k * max(n - k, 0.0) / n + z**2 / 4)
    low, high = ((middle + side * half) / (n + z**2) for side in (-1, 1))
    return 0.0 if k == 0 else low, 1.0 if k >= n else high


@dataclass(frozen=True)
class FrameOutcome:
    """What became of one frame.

    Attributes
    ----------
    frame : int
        Index in the run.
    n_peaks : int
    hit : bool
        Whether it had the peaks that the settings ask for.
    n_lattices : int
        Lattices found by the indexer.
    failure : str
        Why there is no answer (frame unreadable, indexer died …), or "".
    stratum : int
        Place in `Evaluation.stratum_sizes`, where the frame was drawn by its promise.
    """

    frame: Count
    n_peaks: Count
    hit: bool
    n_lattices: Count
    failure: str = ""
    stratum: Count = 0

    @property
    def indexed(self) -> bool:
        """Whether at least one lattice was found."""
        return self.n_lattices > 0


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one parameter set on one sample of frames.

    Attributes
    ----------
    settings : Settings
    outcomes : tuple of FrameOutcome
        One a frame of the sample; a frame without an answer counts as not indexed.
    n_decoys, n_decoys_indexed : int
        Peak lists with scrambled azimuths that were indexed too, and how many of them the
        indexer accepted: each of those is a false lattice.
    explained : float
        Share of the indexed frames' peaks that their lattices explain; NaN without any.
    residual : float
        Median over the indexed frames of the root-mean-square distance between found and
        predicted spots, in pixels; NaN without any.
    scale_deviation : float
        Median over the indexed frames of the refined cells' size against the reference
        cell's, minus 1; NaN without any. A camera length 1 % too short makes it about -0.01.
    refined : mapping of str to (float, float)
        What the indexed frames' own lattices say of ``clen``, ``shift_x`` and ``shift_y``: the
        setting that fits them best and its standard error, in metres. Empty where too few
        are indexed.
    frame_clens : tuple of (int, float, float)
        Index in the run, own ``clen`` and its formal standard error in metres of each indexed
        frame that knows its own; by these a drift within the run is seen.
    seconds, core_seconds : float
        Wall time, and processor time of all processes.
    failure : str
        Why nothing could be measured at all, and then there are no outcomes; or "".
    n_cut : int
        Peak lists, of hits and decoys, that have no answer because of the indexer's time limit.
    stratum_sizes : tuple of int
        Where the frames were drawn by their promise (`envs.strata`): how many frames of the look
        each stratum holds. The rates are then weighted, and remain those of the whole run; counts
        (`n_hits`, `n_indexed` …) are of the frames that were drawn. Empty for a random sample.
    """

    settings: Settings
    outcomes: tuple[FrameOutcome, ...]
    n_decoys: Count = 0
    n_decoys_indexed: Count = 0
    explained: Measured = float("nan")
    residual: Measured = float("nan")
    scale_deviation: Measured = float("nan")
    refined: Mapping[str, tuple[Measured, Measured]] = field(default_factory=dict)
    frame_clens: tuple[tuple[Count, Number, Number], ...] = ()
    seconds: Number = 0.0
    core_seconds: Number = 0.0
    failure: str = ""
    n_cut: Count = 0
    stratum_sizes: tuple[Count, ...] = ()

    @property
    def n_frames(self) -> int:
        """Number of frames in the sample."""
        return len(self.outcomes)

    @property
    def n_hits(self) -> int:
        """Number of frames with enough peaks."""
        return sum(outcome.hit for outcome in self.outcomes)

    @property
    def n_indexed(self) -> int:
        """Number of frames with at least one lattice."""
        return sum(outcome.indexed for outcome in self.outcomes)

    @property
    def n_failed(self) -> int:
        """Number of frames without an answer."""
        return sum(bool(outcome.failure) for outcome in self.outcomes)

    @property
    def unreadable(self) -> bool:
        """Whether not one frame could be searched for peaks: nothing was measured then."""
        return bool(self.outcomes) and all(
            outcome.failure and not outcome.hit for outcome in self.outcomes
        )

    @property
    def remarks(self) -> list[str]:
        """What to say beside the counts: answers that are missing, and why."""
        return [
            *([f"{self.n_failed} without an answer"] if self.n_failed else []),
            *([f"{self.n_cut} cut by the time limit (--timeout)"] if self.n_cut else []),
        ]

    @property
    def weighted_hits(self) -> float:
        """Frames with enough peaks in a random sample of the run of the same size, as estimated."""
        return self._weighted([outcome.hit for outcome in self.outcomes])

    @property
    def weighted_indexed(self) -> float:
        """Indexed frames in a random sample of the run of the same size, as estimated."""
        return self._weighted([outcome.indexed for outcome in self.outcomes])

    def _weighted(self, flags: Sequence[bool]) -> float:
        if not self.stratum_sizes or not flags:
            return sum(flags)
        return float(self.frame_weights @ np.asarray(flags, float))

    @property
    def frame_weights(self) -> NDArray[np.float64]:
        """For how many frames of a random sample of the same size each frame stands."""
        return weights(self.strata, self.stratum_sizes or (self.n_frames,))

    @property
    def strata(self) -> list[int]:
        """Stratum of each frame; 0 in a random sample."""
        return [outcome.stratum for outcome in self.outcomes]

    @property
    def rate(self) -> float:
        """Indexing rate: indexed frames / all frames, estimated for the whole run."""
        return self.weighted_indexed / self.n_frames if self.outcomes else 0.0

    @property
    def hit_rate(self) -> float:
        """Frames with enough peaks / all frames, estimated for the whole run."""
        return self.weighted_hits / self.n_frames if self.outcomes else 0.0

    @property
    def equivalent(self) -> tuple[float, float]:
        """Indexed frames and all frames of a random sample that would say the same of the run."""
        return self._equivalent([outcome.indexed for outcome in self.outcomes])

    def _equivalent(self, flags: Sequence[bool]) -> tuple[float, float]:
        if not self.stratum_sizes or not flags:
            return sum(flags), self.n_frames
        seen = shares(flags, self.strata, self.stratum_sizes)
        return seen.up * seen.n_effective, seen.n_effective

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the rate: Wilson's, of the `equivalent` random sample.

        Frames without an answer may be either: its lower end takes them for not indexed, its
        upper end for indexed.
        """
        low, _ = wilson_interval(*self.equivalent)
        either = [outcome.indexed or bool(outcome.failure) for outcome in self.outcomes]
        _, high = wilson_interval(*self._equivalent(either))
        return low, high

    @property
    def false_rate(self) -> float:
        """Estimated share of all frames that are indexed by chance alone; NaN without decoys.

        Chance is taken to index the hits of all strata alike.
        """
        if not self.n_frames:
            return float("nan")
        if not self.n_decoys:
            return 0.0 if not self.n_hits else float("nan")
        return self.n_decoys_indexed / self.n_decoys * self.weighted_hits / self.n_frames

    @property
    def indexed_frames(self) -> frozenset[int]:
        """Indices in the run of the indexed frames."""
        return frozenset(outcome.frame for outcome in self.outcomes if outcome.indexed)

    def with_cost(self, seconds: float, core_seconds: float) -> Evaluation:
        """Return the same outcome at another cost."""
        return replace(self, seconds=seconds, core_seconds=core_seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return hooked(handler(source), before=_with_current_names, after=_as_read)


def _with_current_names(values: Any) -> Any:
    if not isinstance(values, Mapping) or "asked" not in values:
        return values
    # Until version 0.1 the refined geometry was called "asked".
    return {"refined" if name == "asked" else name: value for name, value in values.items()}


def _as_read(found: Evaluation) -> Evaluation:
    if found.n_decoys_indexed > found.n_decoys:
        raise ValueError(
            f"{found.n_decoys_indexed} of {found.n_decoys} decoys are indexed, which cannot be"
        )
    if len({outcome.frame for outcome in found.outcomes}) < found.n_frames:
        raise ValueError("a frame has two outcomes")
    if found.stratum_sizes and max(found.strata, default=0) >= len(found.stratum_sizes):
        raise ValueError("a frame's stratum is none of those of stratum_sizes")
    if found.stratum_sizes and any(
        found.strata.count(stratum) > size for stratum, size in enumerate(found.stratum_sizes)
    ):
        raise ValueError("more frames were drawn from a stratum than it holds")
    if found.unreadable:  # until version 0.1 such a one passed for a rate of 0
        return replace(found, outcomes=(), failure=found.outcomes[0].failure)
    return found


class Evaluator(Protocol):
    """Measures settings on one fixed sample of frames, always in the same order."""

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        ...

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what the settings give on the first `n_frames` frames, or on all."""
        ...
