"""What one parameter set gives on one sample of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from wrappers.schema import Count, Measured, Number, hooked
from wrappers.settings import Settings

__all__ = ["Evaluation", "Evaluator", "FrameOutcome", "wilson_interval"]


def wilson_interval(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of which `k` in `n` were seen (Wilson 1927)."""
    # Its import takes most of a second.
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    found = binomtest(k, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


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
    """

    frame: Count
    n_peaks: Count
    hit: bool
    n_lattices: Count
    failure: str = ""

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
    def rate(self) -> float:
        """Indexing rate: indexed frames / all frames."""
        return self.n_indexed / self.n_frames if self.outcomes else 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate.

        Frames without an answer may be either: its lower end takes them for not indexed, its
        upper end for indexed.
        """
        low, _ = wilson_interval(self.n_indexed, self.n_frames)
        _, high = wilson_interval(self.n_indexed + self.n_failed, self.n_frames)
        return low, high

    @property
    def false_rate(self) -> float:
        """Estimated share of all frames that are indexed by chance alone; NaN without decoys."""
        if not self.n_frames:
            return float("nan")
        if not self.n_decoys:
            return 0.0 if not self.n_hits else float("nan")
        return self.n_decoys_indexed / self.n_decoys * self.n_hits / self.n_frames

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
